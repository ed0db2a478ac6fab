"""One run: plan, the stages, commit; with progress on the way and a summary at the end."""

import json
import logging
import os
import secrets
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from actors import __version__
from actors.errors import ConfigError
from actors.records import Outcome, Provenance
from actors.storage import Storage
from pipelines import card
from pipelines.commit import Committer
from pipelines.config import Config, to_yaml
from pipelines.plan import WORK_ROWS, Plan, WorkFile, make_plan, model_revisions, read_holdings
from pipelines.progress import Progress

# Columns of a record that say where a clip's seconds went, in the order of the stages.
STAGE_SECONDS = ("load_s", "generate_s", "interpolate_s", "encode_s", "upload_s")
# Of each kind of failure, so many are shown in full.
_EXAMPLES = 3


@dataclass(slots=True)
class Summary:
    """What a run did."""

    run_id: str
    output: str
    plan: Plan
    made: int = 0
    failed: int = 0
    elapsed_s: float = 0.0
    stage_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGE_SECONDS, 0.0))
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        if outcome.clip is not None:
            self.made += 1
            for name in STAGE_SECONDS:
                self.stage_s[name] += outcome.clip[name]
            return
        assert outcome.failure is not None
        self.failed += 1
        kind = (outcome.failure.stage, outcome.failure.error_type)
        self.failures[kind] += 1
        examples = self.examples.setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            examples.append(f"{outcome.image_uri}: {outcome.failure.error}")

    @property
    def failed_share(self) -> float:
        """Failed rows of those that ended, 0..1."""
        ended = self.made + self.failed
        return self.failed / ended if ended else 0.0

    def to_json(self) -> str:
        """What `summary.json` holds."""
        return json.dumps(
            {
                "run_id": self.run_id,
                "stillreel_version": __version__,
                "images": self.plan.images,
                "clips_wanted": self.plan.wanted,
                "already_there": self.plan.already_there,
                "failed_before": self.plan.failed_before,
                "duplicates": self.plan.duplicates,
                "made": self.made,
                "failed": self.failed,
                "elapsed_s": round(self.elapsed_s, 3),
                "mean_stage_s": {name: round(total / max(self.made, 1), 3) for name, total in self.stage_s.items()},
                "failures": [
                    {"stage": stage, "error_type": kind, "count": count, "examples": self.examples[stage, kind]}
                    for (stage, kind), count in self.failures.most_common()
                ],
            },
            indent=2,
            ensure_ascii=False,
        )


def plan_only(config: Config, *, retry_failed: bool) -> Plan:
    """What `run` would do, without starting Ray or a model and without writing anything."""
    storage = Storage(config.storage.options)
    output = storage.absolute(config.output)
    revisions = model_revisions(config)
    return make_plan(config, storage, read_holdings(output, storage), revisions, retry_failed=retry_failed)


def run(config: Config, console: Console, *, retry_failed: bool) -> Summary:
    """Make every clip that the dataset does not hold yet.

    Raises:
        StillreelError: the configuration, the manifest or a checkpoint cannot be used; nothing was made.
        KeyboardInterrupt: after everything that had arrived was committed.
    """
    started = datetime.now(UTC)
    config = config.model_copy(update={"output": Storage(config.storage.options).absolute(config.output)})
    storage = Storage(config.storage.options)
    revisions = model_revisions(config)
    run_id = f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    folder = storage.join(config.output, "_runs", run_id)
    plan = make_plan(
        config,
        storage,
        read_holdings(config.output, storage),
        revisions,
        work_folder=storage.join(folder, "work"),
        retry_failed=retry_failed,
    )
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
    try:
        _make(config, storage, plan, provenance, summary, console)
    finally:
        summary.elapsed_s = (datetime.now(UTC) - started).total_seconds()
        storage.put_bytes(storage.join(folder, "summary.json"), summary.to_json().encode())
    for file in plan.work:  # they repeat the manifest, image bytes included
        storage.remove(file.uri)
    return summary


def _make(
    config: Config, storage: Storage, plan: Plan, provenance: Provenance, summary: Summary, console: Console
) -> None:
    # Ray Data takes seconds to import: a run that has nothing to do, and `plan`, go without.
    from pipelines.graph import outcomes, size_pools

    pools = size_pools(config, start_ray(config, console))
    committer = Committer(config.output, storage, plan.extras, dict(plan.rows_per_part))
    card.write(config.output, storage)
    with Progress(plan.to_do, console, config.run.log_interval_s) as progress:
        for work in _executions(plan.work):
            committer.begin(work)
            try:
                for outcome in outcomes(work, config, provenance, storage, pools):
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


def start_ray(config: Config, console: Console) -> float:
    """Connect to the cluster, or start a local one, and return the number of its GPUs.

    Raises:
        ConfigError: the configuration needs a GPU and there is none.
    """
    address = config.ray.address or os.environ.get("RAY_ADDRESS")
    if address is None and config.needs_gpu:
        _require_gpu(_local_gpus(), "this machine has none", config)
    console.print(f"Starting Ray ({address or 'on this machine'}) ...", highlight=False)
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
    import ray

    if address is not None:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    else:
        store = config.ray.object_store_mb
        ray.init(
            address="local",
            num_cpus=config.ray.num_cpus,
            object_store_memory=store * 1024**2 if store else None,
            include_dashboard=False,
            log_to_driver=False,  # the workers' own logs are in Ray's session folder
            logging_level=logging.ERROR,
        )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    gpus = float(ray.cluster_resources().get("GPU", 0))
    if config.needs_gpu and not config.ray.autoscaling:
        _require_gpu(gpus, f"the cluster at {address} has none", config)
    return gpus


def _require_gpu(gpus: float, lack: str, config: Config) -> None:
    if gpus == 0:
        workers = config.workers
        raise ConfigError(
            f"the configuration reserves GPUs (workers.generate.num_gpus={workers.generate.num_gpus:g}, "
            f"workers.interpolate.num_gpus={workers.interpolate.num_gpus:g}) and {lack}: run it on a GPU machine or "
            "cluster, or see it work on the CPU with --config conf/demo.yaml"
        )


def _local_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def print_plan(plan: Plan, console: Console) -> None:
    """The plan in a few lines."""
    for note in plan.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    table = Table("plan", "", show_header=False, box=None)
    for name, count in (
        ("images", plan.images),
        ("clips wanted", plan.wanted),
        ("duplicate rows", plan.duplicates),
        ("already there", plan.already_there),
        ("failed before", plan.failed_before),
        ("to do", plan.to_do),
    ):
        table.add_row(name, f"{count:,}")
    console.print(table)
    for reason, count in plan.problems.counts.most_common():
        console.print(f"{count:,} rows of the manifest cannot be used: {reason}", markup=False, highlight=False)
        for example in plan.problems.examples[reason]:
            console.print(f"  {example}", markup=False, highlight=False)


def print_summary(summary: Summary, console: Console) -> None:
    """The table that a run ends with."""
    plan = summary.plan
    if not plan.to_do:
        console.print(f"Nothing left to do: {summary.output} holds every clip that can be made.", highlight=False)
        if plan.failed_before:
            console.print(f"{plan.failed_before:,} failed before: try them again with `run --retry-failed`.")
        return
    for (stage, kind), count in summary.failures.most_common():
        console.print(f"{count:,} failed at {stage} ({kind}):", highlight=False)
        for example in summary.examples[stage, kind]:
            console.print(f"  {example}", markup=False, highlight=False)
    table = Table("", "", show_header=False, box=None)
    table.add_row("clips made", f"{summary.made:,}")
    table.add_row("failed", f"{summary.failed:,}")
    table.add_row("already there", f"{plan.already_there:,}")
    for name, total in summary.stage_s.items():
        label = f"{name.removesuffix('_s')}, seconds a clip"
        table.add_row(label, f"{total / summary.made:.2f}" if summary.made else "-")
    table.add_row("whole run, seconds", f"{summary.elapsed_s:.1f}")
    table.add_row("videos and metadata", Storage.join(summary.output, "data"))
    if summary.failed:
        table.add_row("failures", Storage.join(summary.output, "failures"))
    console.print(table)
