"""What a run says about itself: the plan, the summary, and `summary.json`."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import sqrt
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors import __version__
from actors.contracts import Ending, Made
from actors.counting import counted
from actors.printable import printable
from actors.records import step_seconds
from pipelines.config import Config
from pipelines.config.sections import CostSettings
from pipelines.dataset.layout import Layout
from pipelines.money.cost import GpuClock
from pipelines.money.estimate import Estimate, estimated_or_unknown
from pipelines.money.pace import Pace
from pipelines.placement.nodes import gpus_of
from pipelines.placement.placing import Placement
from pipelines.planning.planner import Plan

# Of each kind of failure, so many are shown in full.
_EXAMPLES = 3
# A share of fewer rows than these says little, and of more it says what it says give or take three times the square
# root of the number that is expected to fail.
_ROWS_THAT_TELL = 100
_STANDARD_DEVIATIONS = 3.0

# What to do about a kind of failure, by error type.
_REMEDIES = {
    "ManifestError": "correct these rows of the manifest",
    "NotFound": "the manifest names files that are not there: upload them, or correct the manifest",
    "ImageError": "replace these files, or leave them out of the manifest",
    "StorageError": "see to the store, its credentials or the network",
    "WorkerDiedError": "look at the workers' logs and their memory; leave out what kills them",
    "GpuMemoryError": "lower image.width and height or generation.num_frames, or use a GPU with more memory",
    "GenerationError": "another seed, precision=fp32 or bf16, or other parameters may do",
    "VideoError": "check the video section and the disk that holds temporary files",
}


# Of a run in `summary.json`; docs/output.md says what each means.
Status = Literal["done", "interrupted", "stopped", "broke off"]


@dataclass(slots=True)
class Summary:
    """What a run did."""

    run_id: str
    layout: Layout
    plan: Plan
    status: Status = "broke off"
    is_retry: bool = False
    max_failed_share: float = 1.0
    recovered: int = 0
    made: int = 0
    failed: int = 0
    elapsed_s: float = 0.0
    gpus: GpuClock = field(default_factory=lambda: GpuClock(CostSettings()))
    pace: Pace = field(default_factory=Pace)
    stage_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(step_seconds(), 0.0))
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    degradations: Counter[str] = field(default_factory=Counter)

    def add(self, ending: Ending) -> None:
        """Count one row's ending."""
        self.gpus.add(ending)
        if isinstance(ending, Made):
            self.made += 1
            self.pace.made()
            for name in self.stage_s:
                seconds = ending.record.get(name) or 0.0  # a stage that stands in for another may have no steps
                assert isinstance(seconds, int | float), (name, seconds)
                self.stage_s[name] += seconds
            return
        self.failed += 1
        kind = (ending.stage, ending.error_type)
        self.failures[kind] += 1
        examples = self.examples.setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            examples.append(printable(f"{ending.row.image_uri}: {ending.error}"))

    def hold(self, config: Config, placement: Placement, console: Console) -> None:
        """The cluster is there: say what the run will take, and count GPUs from here on."""
        pools, types = placement.pools, placement.held
        estimate = estimated_or_unknown(self.plan, config, pools, types, placement.generating_on)
        print_estimate(estimate, console)
        self.pace.begin(pools, types, estimate)
        there = gpus_of(share.node for share in placement.shares)
        self.gpus.start(pools.reserved, types, there, grows=config.ray.autoscaling)

    def stop_clock(self, started: datetime) -> None:
        """The run has ended, well or not."""
        self.gpus.stop()
        self.elapsed_s = (datetime.now(UTC) - started).total_seconds()

    @property
    def ended(self) -> int:
        """Rows that came to an end, as a clip or as a failure."""
        return self.made + self.failed

    @property
    def failed_share(self) -> float:
        """Failed rows of those that ended, 0..1."""
        return self.failed / self.ended if self.ended else 0.0

    @property
    def has_too_many_failed(self) -> bool:
        """Whether of the rows that ended so far more failed than may."""
        return self.failed_share > self.max_failed_share

    @property
    def is_failed(self) -> bool:
        """Whether it came to its end, and more of its rows failed than may: it ends with exit code 1 all the same."""
        return self.status == "done" and self.has_too_many_failed

    def fails_too_often(self, num_begun: Callable[[], int]) -> bool:
        """Whether it is time to stop: of the rows that were begun with, more failed than chance explains.

        Of those that ended it would be most at first: an image that is missing fails at once, a clip takes its time.
        """
        # What failed before may well fail again, and a retry plans it in the same order each time.
        if self.is_retry or not self.has_too_many_failed:
            return False
        begun = num_begun() + sum(count for (stage, _), count in self.failures.items() if stage == "manifest")
        begun = max(begun, self.ended)  # a ledger that began anew knows of fewer
        expected = self.max_failed_share * begun
        return begun >= _ROWS_THAT_TELL and self.failed > expected + _STANDARD_DEVIATIONS * sqrt(expected)

    def to_json(self) -> str:
        """What `summary.json` holds."""
        return json.dumps(
            {
                "run_id": self.run_id,
                "status": self.status,
                "too_many_failed": self.is_failed,
                "stillreel_version": __version__,
                "images": self.plan.images,
                "shard": None if self.plan.shard.is_whole else str(self.plan.shard),
                "clips_wanted": self.plan.wanted,
                "clips_of_shard": self.plan.mine,
                "already_there": self.plan.already_there,
                "failed_before": self.plan.failed_before,
                "duplicates": self.plan.duplicates,
                "recovered": self.recovered,
                "made": self.made,
                "failed": self.failed,
                "degradations": dict(self.degradations),
                "elapsed_s": round(self.elapsed_s, 3),
                **self.pace.described(),
                **self.gpus.described(self.made),
                "mean_stage_s": {name: round(total / max(self.made, 1), 3) for name, total in self.stage_s.items()},
                "failures": [
                    {
                        "stage": stage,
                        "error_type": kind,
                        "count": count,
                        "what_to_do": remedy(kind),
                        "examples": self.examples[stage, kind],
                    }
                    for (stage, kind), count in self.failures.most_common()
                ],
            },
            indent=2,
            ensure_ascii=False,
        )


def remedy(error_type: str) -> str:
    """What to do about failures of one kind, as a clause."""
    return _REMEDIES.get(error_type, "see the error, and warnings.log of this run")


def stopped_early(summary: Summary) -> str:
    """Why a run did not go on to its end, and what to do."""
    (stage, kind), count = summary.failures.most_common(1)[0]
    return (
        f"stopped early: {counted(summary.failed, 'row')} failed and {summary.made:,} did not, against "
        f"run.max_failed_share={summary.max_failed_share:g}. Most ({count:,}) failed at {stage} ({kind}): "
        f"{remedy(kind)}. The same command goes on with the other rows, run --retry-failed with these"
    )


def print_plan(plan: Plan, console: Console) -> None:
    """The plan in a few lines."""
    for note in plan.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    for reason, count in plan.problems.counts.most_common():
        console.print(f"rows of the manifest that cannot be used: {count:,}, {reason}", markup=False, highlight=False)
        for example in plan.problems.examples[reason]:
            console.print(f"  {example}", markup=False, highlight=False)
    counts = {"images": plan.images, "clips wanted": plan.wanted}
    if not plan.shard.is_whole:
        counts[f"of these, {plan.shard.name} takes"] = plan.mine
    counts |= {
        "duplicate rows": plan.duplicates,
        "already there": plan.already_there,
        "unusable rows (each ends in failures/)": plan.problems.counts.total(),
        "failed before (run --retry-failed tries them)": plan.failed_before,
        "to do": plan.to_do,
    }
    console.print(_table({name: f"{count:,}" for name, count in counts.items()}))


def print_estimate(estimate: Estimate, console: Console) -> None:
    """What the clips of a plan will take."""
    if estimate.clips:
        console.print(_table(estimate.lines()))
    if estimate.note:
        console.print(f"note: {estimate.note}", markup=False, highlight=False)


def print_summary(summary: Summary, console: Console) -> None:
    """The table that a run ends with."""
    plan = summary.plan
    if not plan.to_do:
        console.print(f"Nothing left to do in {summary.layout.root}", markup=False, highlight=False)
        if plan.failed_before:
            what = (
                "none of that stage and error type (see failures/)"
                if summary.is_retry
                else "try them again with `run --retry-failed`"
            )
            console.print(f"{plan.failed_before:,} failed before: {what}", highlight=False)
        if summary.is_retry and plan.mine > plan.already_there + plan.failed_before + plan.duplicates:
            console.print("Clips that were never tried are made by `run` without --retry-failed", highlight=False)
        return
    for (stage, kind), count in summary.failures.most_common():
        console.print(f"{count:,} failed at {stage} ({kind}); {remedy(kind)}:", highlight=False)
        for example in summary.examples[stage, kind]:
            console.print(f"  {example}", markup=False, highlight=False)
    rows = {
        "clips made": f"{summary.made:,}",
        "failed": f"{summary.failed:,}",
        "already there": f"{plan.already_there:,}",
    }
    if left := plan.to_do - summary.ended:
        rows["left to do"] = f"{left:,}"
    for name, total in summary.stage_s.items():
        rows[f"{name.removesuffix('_s')}, seconds a clip"] = f"{total / summary.made:.2f}" if summary.made else "-"
    for kind, count in summary.degradations.items():
        rows[f"{kind}, times"] = f"{count:,} (see warnings.log)"
    rows["whole run, seconds"] = f"{summary.elapsed_s:.1f}"
    rows |= summary.gpus.lines(summary.made)
    rows["videos and metadata"] = summary.layout.data
    if summary.failed:
        rows["failures"] = summary.layout.failures
    console.print(_table(rows))


def _table(rows: dict[str, str]) -> Table:
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(name, Text(printable(value)))  # a path may hold brackets, which are rich's markup
    return table
