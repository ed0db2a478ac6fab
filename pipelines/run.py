"""One run: plan, the stages, commit."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from actors import scratch
from actors.errors import ConfigError
from actors.records import Provenance
from actors.settings import describe_tier
from actors.storage import Storage
from actors.svd.checkpoint import is_on_hub
from pipelines import card
from pipelines.cluster import Cluster, check_machine, connected
from pipelines.commit import Committer
from pipelines.config import Config, to_yaml
from pipelines.interruption import Interruption
from pipelines.lease import held
from pipelines.plan import Plan, Retry, make_plan, model_revisions, read_holdings
from pipelines.progress import Progress
from pipelines.recover import recover
from pipelines.report import Summary, print_plan

if TYPE_CHECKING:
    from pipelines.graph import Stages


def plan_only(config: Config, retry: Retry | None) -> Plan:
    """What `run` would do, without starting Ray or a model and without writing anything."""
    storage = _storage(config)
    holdings = read_holdings(storage.absolute(config.output), storage)
    return make_plan(config, storage, holdings, model_revisions(config), retry=retry)


def run(
    config: Config,
    console: Console,
    retry: Retry | None,
    *,
    break_lease: bool = False,
    stages: "Stages | None" = None,
) -> Summary:
    """Make every clip that the dataset does not hold yet, or those that failed before and that `retry` takes.

    `stages` stand in for the real ones (benchmarks of the pipeline alone).

    Raises:
        StillreelError: the configuration, the manifest or a checkpoint cannot be used, or another run is writing.
        KeyboardInterrupt: by a second signal, or before the first clip was begun; what had arrived was committed.
    """
    check_machine(config)
    started = datetime.now(UTC)
    storage = _storage(config)
    config = _with_absolute_paths(config)
    _check_output(config.output, storage)
    revisions = model_revisions(config)
    if is_on_hub(config.model.source, config.model.revision):  # a branch may move before the last worker has started
        config = config.model_copy(update={"model": config.model.model_copy(update={"revision": revisions[0]})})
    run_id = f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    folder = storage.join(config.output, "_runs", run_id)
    with (
        held(config.output, storage, run_id=run_id, lease_s=config.run.lease_s, break_lease=break_lease) as lease,
        _ray_log(folder, storage) as ray_log,
    ):
        if recovered := recover(config.output, storage, lease.check):
            console.print(f"Recovered {recovered:,} finished clips of an interrupted run", highlight=False)
        saved_config = storage.join(folder, "config.yaml")  # before the work files, with which the next run reads it
        storage.put_bytes(saved_config, to_yaml(config).encode())
        holdings = read_holdings(config.output, storage)
        work_folder = storage.join(folder, "work")
        plan = make_plan(config, storage, holdings, revisions, work_folder=work_folder, retry=retry)
        summary = Summary(run_id, config.output, plan, is_retry=retry is not None, recovered=recovered)
        print_plan(plan, console)
        if not plan.to_do:
            storage.remove(saved_config)  # a schedule would fill the dataset with runs that made nothing
            storage.prune(folder)
            summary.status = "done"
            return summary
        committer = Committer(config.output, storage, plan.extras, plan.rows_per_part, lease.check)
        try:
            with connected(config, console, ray_log) as cluster:
                _make(config, storage, committer, _provenance(config, revisions), summary, cluster, console, stages)
            if summary.ended == plan.to_do:
                summary.status = "done"
                for file in plan.work:  # else the next run looks in them for clips whose rows did not arrive
                    storage.remove(file.uri)
                storage.prune(work_folder)
        finally:
            summary.stop_clock(started)
            storage.put_bytes(storage.join(folder, "summary.json"), summary.to_json().encode())
    return summary


@contextmanager
def _ray_log(folder: str, storage: Storage) -> Iterator[Path]:
    """A local file that ends up in the run's folder, where anything was written into it."""
    with scratch.folder() as temporary:
        log = temporary / "ray.log"
        log.touch()
        try:
            yield log
        finally:
            if log.stat().st_size:
                storage.put_file(storage.join(folder, log.name), log)


def _provenance(config: Config, revisions: tuple[str, str]) -> Provenance:
    return Provenance(
        model=config.model.source,
        model_revision=revisions[0],
        precision=config.model.precision,
        tier=describe_tier(config.model.tier, config.fast),
        num_inference_steps=config.generation.num_inference_steps,
        fit=config.image.fit,
    )


def _storage(config: Config) -> Storage:
    return Storage(config.storage.options, attempts=config.storage.attempts)


def _check_output(output: str, storage: Storage) -> None:
    """Raise ConfigError for a local folder that cannot be one; what a store allows is known when it is written to."""
    if storage.is_local(output):
        folder = Path(storage.native_path(output))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"output={output} cannot be a folder ({error.strerror}): name one that can be written to"
            ) from error


def _with_absolute_paths(config: Config) -> Config:
    """Local paths made absolute: a worker's current folder is not ours."""
    absolute = Storage.absolute
    model = config.model
    if Path(model.source).expanduser().is_dir():
        model = model.model_copy(update={"source": absolute(model.source)})
    if model.cache_dir is not None:
        model = model.model_copy(update={"cache_dir": absolute(model.cache_dir)})
    interpolation = config.interpolation
    if interpolation.weights is not None:
        interpolation = interpolation.model_copy(update={"weights": absolute(interpolation.weights)})
    changes = {"output": absolute(config.output), "model": model, "interpolation": interpolation}
    return config.model_copy(update=changes)


def _make(
    config: Config,
    storage: Storage,
    committer: Committer,
    provenance: Provenance,
    summary: Summary,
    cluster: Cluster,
    console: Console,
    stages: "Stages | None",
) -> None:
    """Drain the stages into the dataset until all rows have ended, or the run is to stop."""
    # Ray Data takes seconds to import: a run that has nothing to do, and `plan`, go without.
    from pipelines.graph import Graph, Stages, size_pools

    max_failed_share = config.run.max_failed_share
    pools = size_pools(config, cluster.gpus, cluster.cpus)
    card.write(config.output, storage)
    with (
        Progress(summary.plan.to_do, console, config.run.log_interval_s) as progress,
        Graph(config, provenance, storage, pools, stages or Stages()) as graph,
        Interruption(graph, config.run.grace_s, console) as interruption,
        cluster.watched(lambda: interruption.end_now("broke off")),
    ):
        committer.begin(summary.plan.work)
        try:
            with interruption.drawing():
                for outcome in graph.outcomes(summary.plan.work):
                    committer.add(outcome)
                    summary.add(outcome)
                    progress.advance(summary.made, summary.failed)
                    committer.flush_if_older(config.run.flush_s)
                    # What failed before may well fail again, and is planned in the same order each time.
                    if not summary.is_retry and summary.fails_too_often(max_failed_share, graph.num_begun):
                        interruption.ask("stopped")
        except KeyboardInterrupt:
            if not interruption.is_over:
                raise
        finally:
            committer.flush()
        if interruption.reason is not None:
            summary.status = interruption.reason
