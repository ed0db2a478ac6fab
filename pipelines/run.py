"""One run: plan, the stages, commit."""

import secrets
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from actors.records import Provenance
from actors.storage import Storage
from actors.svd.checkpoint import is_on_hub
from pipelines import card
from pipelines.cluster import check_machine, connected
from pipelines.commit import Committer
from pipelines.config import Config, to_yaml
from pipelines.plan import WORK_ROWS, Plan, Retry, WorkFile, make_plan, model_revisions, read_holdings
from pipelines.progress import Progress
from pipelines.report import Summary, print_plan


def plan_only(config: Config, retry: Retry | None) -> Plan:
    """What `run` would do, without starting Ray or a model and without writing anything."""
    storage = Storage(config.storage.options)
    holdings = read_holdings(storage.absolute(config.output), storage)
    return make_plan(config, storage, holdings, model_revisions(config), retry=retry)


def run(config: Config, console: Console, retry: Retry | None) -> Summary:
    """Make every clip that the dataset does not hold yet, or those that failed before and that `retry` takes.

    Raises:
        StillreelError: the configuration, the manifest or a checkpoint cannot be used; nothing was made.
        KeyboardInterrupt: after everything that had arrived was committed.
    """
    check_machine(config)
    started = datetime.now(UTC)
    storage = Storage(config.storage.options)
    config = _with_absolute_paths(config)
    revisions = model_revisions(config)
    if is_on_hub(config.model.source, config.model.revision):  # a branch may move before the last worker has started
        config = config.model_copy(update={"model": config.model.model_copy(update={"revision": revisions[0]})})
    run_id = f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    folder = storage.join(config.output, "_runs", run_id)
    holdings = read_holdings(config.output, storage)
    work_folder = storage.join(folder, "work")
    plan = make_plan(config, storage, holdings, revisions, work_folder=work_folder, retry=retry)
    summary = Summary(run_id, config.output, plan)
    print_plan(plan, console)
    if not plan.to_do:
        return summary
    storage.put_bytes(storage.join(folder, "config.yaml"), to_yaml(config).encode())
    provenance = Provenance(
        model=config.model.source,
        model_revision=revisions[0],
        precision=config.model.precision,
        num_inference_steps=config.generation.num_inference_steps,
        fit=config.image.fit,
    )
    with ExitStack() as last:
        scratch = Path(last.enter_context(tempfile.TemporaryDirectory(prefix="stillreel-")))
        ray_log = scratch / "ray.log"
        ray_log.touch()
        last.callback(lambda: storage.put_file(storage.join(folder, "ray.log"), ray_log))
        last.callback(lambda: storage.put_bytes(storage.join(folder, "summary.json"), summary.to_json().encode()))
        last.callback(lambda: summary.stop_clock(started))
        for file in plan.work:  # they repeat the manifest, image bytes included, and the next plan writes its own
            last.callback(storage.remove, file.uri)
        with connected(config, console, ray_log) as resources:
            _make(config, storage, plan, provenance, summary, resources, console)
    return summary


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
    plan: Plan,
    provenance: Provenance,
    summary: Summary,
    resources: tuple[float, float],
    console: Console,
) -> None:
    # Ray Data, torch and diffusers take seconds to import: a run that has nothing to do, and `plan`, go without.
    from pipelines.graph import Graph, size_pools

    pools = size_pools(config, *resources)
    committer = Committer(config.output, storage, plan.extras, plan.rows_per_part, lambda: None)
    card.write(config.output, storage)
    with (
        Progress(plan.to_do, console, config.run.log_interval_s) as progress,
        Graph(config, provenance, storage, pools) as graph,
    ):
        for work in _executions(plan.work):
            committer.begin(work)
            try:
                for outcome in graph.outcomes(work):
                    committer.add(outcome)
                    summary.add(outcome)
                    progress.advance(summary.made, summary.failed)
                    committer.flush_if_older(config.run.flush_s)
            finally:
                committer.flush()


def _executions(work: Sequence[WorkFile]) -> list[list[WorkFile]]:
    """Work files put together into executions of at most `WORK_ROWS` rows."""
    executions: list[list[WorkFile]] = []
    room = 0
    for file in work:
        if file.rows > room:
            executions.append([])
            room = WORK_ROWS
        executions[-1].append(file)
        room -= file.rows
    return executions
