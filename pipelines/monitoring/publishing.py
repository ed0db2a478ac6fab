"""A run's counts as metrics of Ray's, published from the driver every few seconds.

All of them are the driver's: what becomes of each row, its seconds, retries and deaths arrive there anyway, each once
and whatever has died meanwhile. A counter in a worker would lose its last ten seconds with the process, and each
process would leave series behind. The workers pay nothing, and the driver some 40 microseconds a row.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, get_args

from actors.contracts import Ending, Made
from actors.logs import Degradation, logger
from actors.records import STAGES, step_seconds
from actors.repeating import Repeating
from actors.runner.contract import seconds_column
from pipelines.config import Config
from pipelines.dataset.lease import Lease
from pipelines.driver import ray_private
from pipelines.driver.rate import Rate
from pipelines.driver.report import Status, Summary
from pipelines.money.gpu_time import SHARES
from pipelines.monitoring import names
from pipelines.monitoring.at_work import AtWork
from pipelines.monitoring.names import METRICS, RUN_LABELS, STAGE_BUCKETS_S, Metric
from pipelines.monitoring.quiet import Quiet
from pipelines.pools import Pools

# Ray exports what a process says every ten seconds (RAY_metrics_report_interval_ms), and forgets a gauge that was not
# set again for two such intervals, of at least a second each.
_INTERVAL_S = 2.0

# Failures that are there with 0 from the start, so that the first of a kind counts as an increase.
_USUAL_FAILURES = (
    ("manifest", "ManifestError"),
    ("load", "ImageError"),
    ("load", "NotFound"),
    ("load", "StorageError"),
    ("load", "WorkerDiedError"),
    ("generate", "GenerationError"),
    ("generate", "GpuMemoryError"),
    ("generate", "WorkerDiedError"),
    ("finish", "StorageError"),
    ("finish", "VideoError"),
    ("finish", "WorkerDiedError"),
)
# A run that came to its end, with more failures than it may have: exit code 1, and no success to those on call.
_TOO_MANY_FAILED = "too many failed"
_COLUMNS = {
    column.removesuffix("_s"): column
    for column in dict.fromkeys([*(seconds_column(stage.name) for stage in STAGES), *step_seconds()])
}

Labels = dict[str, str]


class Metrics:
    """Publishes from a thread of its own within its block; nothing that goes wrong with it touches the run."""

    def __init__(
        self, summary: Summary, config: Config, lease: Lease, pools: Pools, counts: Callable[[], Mapping[str, int]]
    ) -> None:
        """`counts` asks the ledger (`LocalLedger.counts`); with `run.metrics=false` all of this does nothing."""
        self._summary, self._lease, self._counts, self._is_on = summary, lease, counts, config.run.metrics
        self._reserved = pools.reserved
        self._run_labels = dict(zip(RUN_LABELS, (summary.run_id, config.generator), strict=True))
        self._seconds: deque[tuple[str, float]] = deque()  # the run appends
        self._bytes = 0
        self._at_work = AtWork(self._reserved)
        self._rate = Rate(summary)
        self._quiet = Quiet(config.run.clip_timeout_s)
        self._published: dict[tuple[str, tuple[str, ...]], float] = {}
        self._publishing = Repeating("metrics", self._publish, _INTERVAL_S, at_once=True, once_more=True)

    def __enter__(self) -> Self:
        if self._is_on:
            self._start()
        return self

    def _start(self) -> None:
        try:
            self._rays = {metric.name: _in_ray(metric, self._run_labels) for metric in METRICS}
            self._publishing.start()
        except Exception as error:  # noqa: BLE001 - the run goes on without
            self._is_on = False
            logger.warning("no metrics are published: %s", error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The last counts; Ray exports them when the driver leaves it."""
        if not self._is_on:
            return
        if self._publishing.stop():
            with suppress(Exception):
                self._count(names.RUNS, {"ended": _ended(self._summary, kind)}, 1)

    def seen(self, endings: Iterator[Ending]) -> Iterator[Ending]:
        """The same, noted on their way."""
        return map(self._note, endings) if self._is_on else endings

    def _note(self, ending: Ending) -> Ending:
        columns: Mapping[str, Any] = ending.row.columns
        for stage, column in _COLUMNS.items():
            seconds = columns.get(column)
            if seconds is not None:
                self._seconds.append((stage, seconds))
        self._quiet.note(ending)
        if isinstance(ending, Made):
            self._bytes += columns.get("bytes") or 0
        return ending

    def _publish(self) -> None:
        counts = self._asked()
        self._at_work.look(counts, self._summary.gpus.seconds())
        for metric, labels, total in self._totals():
            self._count(metric, labels, total)
        for _ in range(len(self._seconds)):
            stage, seconds = self._seconds.popleft()
            self._rays[names.STAGE_SECONDS.name].observe(seconds, {"stage": stage})
        for metric, labels, value in self._gauges(counts):
            self._rays[metric.name].set(float(value), labels)

    def _count(self, metric: Metric, labels: Labels, total: float) -> None:
        """Bring a counter to its total; one that would fall stays."""
        key = metric.name, tuple(labels.values())
        before = self._published.get(key)
        if before is None or total > before:
            ray_private.count(self._rays[metric.name], max(0.0, total - (before or 0.0)), labels)
            self._published[key] = total

    def _totals(self) -> Iterator[tuple[Metric, Labels, float]]:
        """Every counter, and what it has come to. The driver counts on meanwhile."""
        summary = self._summary
        failures = dict.fromkeys(_USUAL_FAILURES, 0) | dict(summary.failures)
        degradations = dict.fromkeys(get_args(Degradation), 0) | dict(summary.degradations)
        yield names.ROWS, {"ended": "made", "stage": "", "reason": ""}, summary.made
        for (stage, reason), count in failures.items():
            yield names.ROWS, {"ended": "failed", "stage": stage, "reason": reason}, count
        for reason, count in degradations.items():
            yield names.DEGRADATIONS, {"reason": reason}, count
        yield names.UPLOADED_BYTES, {}, self._bytes
        for stage in self._reserved:
            yield names.GPU_SECONDS, {"state": "held", "stage": stage}, self._at_work.held_s[stage]
            yield names.GPU_SECONDS, {"state": "work", "stage": stage}, self._at_work.work_s[stage]
        for status in (*get_args(Status), _TOO_MANY_FAILED):
            yield names.RUNS, {"ended": status}, 0

    def _gauges(self, counts: Mapping[str, int]) -> Iterator[tuple[Metric, Labels, float]]:
        """Every gauge, and what it is now."""
        summary, gpus = self._summary, self._summary.gpus
        cost = gpus.cost()
        yield names.ROWS_LEFT, {}, summary.plan.to_do - summary.ended
        if (left_s := self._rate.left_s()) is not None and gpus.waiting is None:
            yield names.TIME_LEFT, {}, left_s
        yield names.GPUS, {}, gpus.held
        for into, share in (gpus.shares() or dict.fromkeys(SHARES, 0.0)).items():
            yield names.GPU_TIME_SHARE, {"into": into}, share
        yield names.COST, {"currency": "no price set" if cost is None else gpus.currency}, cost or 0.0
        yield names.LEASE_AGE, {}, self._lease.age_s
        yield names.LEASE_LIMIT, {}, self._lease.length_s
        for (stage, state), rows in (backlog(summary, counts) if counts else {}).items():
            yield names.BACKLOG, {"stage": stage, "state": state}, rows
        is_generating = counts.get("generate", 0) > 0
        yield names.QUIET, {}, self._quiet.seconds
        yield names.QUIET_LIMIT, {}, self._quiet.limit_s(is_generating=is_generating)

    def _asked(self) -> Mapping[str, int]:
        """What the ledger counts; nothing where it does not answer."""
        try:
            return self._counts()
        except Exception:  # noqa: BLE001 - Ray is gone, or its ledger starts again: others say so
            return {}


def backlog(summary: Summary, counts: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """Rows by stage and state, of the ledger's `counts` and of what has come out.

    A short stage's end is told with its worker's next call, and a failure passes the later stages as it is: so a few
    rows stand where they have just been.
    """
    spoilt = sum(count for (stage, _), count in dict(summary.failures).items() if stage == "manifest")
    begun, generated = counts["begun"] + spoilt, counts["in_flight"]
    under_way = {stage.name: counts[stage.name] for stage in STAGES}
    waiting = {
        "load": summary.plan.to_do - begun,
        "generate": begun - summary.ended - under_way["load"] - generated,
        "finish": generated - under_way["generate"] - under_way["finish"],
    }
    return {(stage, "under way"): rows for stage, rows in under_way.items()} | {
        (stage, "waiting"): max(0, rows) for stage, rows in waiting.items()
    }


def _in_ray(metric: Metric, run_labels: Labels) -> Any:
    """The metric as an object of Ray's."""
    from ray.util.metrics import Counter, Gauge, Histogram

    keys = (*RUN_LABELS, *metric.labels)
    if metric.kind == "histogram":
        made = Histogram(metric.name_in_ray, metric.description, list(STAGE_BUCKETS_S), keys)
    else:
        made = {"counter": Counter, "gauge": Gauge}[metric.kind](metric.name_in_ray, metric.description, keys)
    return made.set_default_tags(run_labels)


def _ended(summary: Summary, error: type[BaseException] | None) -> str:
    """How the run is about to end, before its summary says so: a status, or `_TOO_MANY_FAILED`."""
    if summary.ended == summary.plan.to_do:
        return _TOO_MANY_FAILED if summary.has_too_many_failed else "done"
    return "interrupted" if error is KeyboardInterrupt else summary.status
