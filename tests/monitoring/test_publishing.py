"""What a run publishes, without Ray: metrics that only note what they are told."""

import time
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast, get_args

import pytest
from ray.util import metrics as rays

from actors.contracts import Ending, Failed, Made, Row
from actors.logs import Degradation
from actors.records import STAGES
from actors.tries.ledger import LocalLedger
from pipelines.config import Config
from pipelines.config.sections import CostSettings
from pipelines.dataset.layout import Layout
from pipelines.dataset.lease import Lease
from pipelines.driver.report import Summary
from pipelines.money.cost import GpuClock
from pipelines.monitoring import publishing
from pipelines.monitoring.names import METRICS
from pipelines.monitoring.publishing import Metrics, backlog
from pipelines.planning.planner import Plan
from pipelines.pools import Pools, Reserved

Series = tuple[str, ...]


class Noted:
    """All values of all metrics, by name and labels, as Prometheus would have them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.values: dict[str, dict[Series, float]] = {metric.name_in_ray: {} for metric in METRICS}
        self.kept: dict[str, dict[str, str]] = {}
        noted = self

        class Stub:
            def __init__(self, name: str, description: str, *rest: Any) -> None:
                self.name, self.keys = name, rest[-1]
                assert description

            def set_default_tags(self, tags: dict[str, str]) -> Any:
                noted.kept[self.name] = tags
                return self

            def inc(self, value: float, tags: dict[str, str]) -> None:
                assert value > 0
                self._record(value, tags)

            def _record(self, value: float, tags: dict[str, str]) -> None:
                self.set(value + noted.values[self.name].get(tuple(tags.values()), 0.0), tags)

            def observe(self, value: float, tags: dict[str, str]) -> None:
                self._record(value, tags)

            def set(self, value: float, tags: dict[str, str]) -> None:
                assert {*noted.kept[self.name], *tags} == set(self.keys)
                noted.values[self.name][tuple(tags.values())] = value

        for kind in ("Counter", "Gauge", "Histogram"):
            monkeypatch.setattr(rays, kind, Stub)

    def of(self, name: str) -> dict[Series, float]:
        return self.values[f"stillreel_{name}"]


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    monkeypatch.setattr(publishing, "_INTERVAL_S", 0.01)
    return Noted(monkeypatch)


def a_summary(to_do: int = 10, **price: Any) -> Summary:
    plan = cast("Plan", SimpleNamespace(to_do=to_do))
    return Summary("r-1", Layout("/out"), plan, gpus=GpuClock(CostSettings(**price)))


def of(summary: Summary, ledger: LocalLedger, *, metrics: bool = True) -> Metrics:
    config = cast(
        "Config", SimpleNamespace(generator="null", run=SimpleNamespace(metrics=metrics, clip_timeout_s=3600.0))
    )
    lease = cast("Lease", SimpleNamespace(age_s=40.0, length_s=120.0))
    return Metrics(summary, config, lease, Pools(1, 1.0, 1, 0.25), ledger.counts)


def row(number: int, **columns: Any) -> Row:
    return Row(f"clip-{number}", 0, 0, f"{number}.png", {}, columns)


def test_a_run_in_figures(noted: Noted) -> None:
    summary, ledger = a_summary(gpu_hour=3.0, currency="EUR"), LocalLedger(3)
    summary.gpus.start({"generate": Reserved(1, 1.0), "finish": Reserved(1, 0.25)}, {}, {"H100": 2.0}, grows=True)
    endings: list[Ending] = [
        Made(row(1, load_s=0.5, generate_s=8.0, finish_s=2.0, interpolate_s=1.0, encode_s=0.5, upload_s=0.5, bytes=70)),
        Made(row(2, load_s=0.5, generate_s=10.0, finish_s=2.0, bytes=30)),
        Failed(row(3, load_s=0.25), "generate", "GpuMemoryError", "too large"),
        Failed(row(4), "load", "NotFound", "none"),
    ]
    ledger.begin("clip-5", "generate")
    with of(summary, ledger) as metrics:
        for ending in metrics.seen(iter(endings)):
            summary.add(ending)
        summary.degradations["tighter memory"] += 2
        time.sleep(0.1)
    assert noted.of("rows")["made", "", ""] == 2
    failed = {key[1:]: count for key, count in noted.of("rows").items() if key[0] == "failed" and count}
    assert failed == {("generate", "GpuMemoryError"): 1, ("load", "NotFound"): 1}
    for stage, reason in (("finish", "VideoError"), *((stage.name, "WorkerDiedError") for stage in STAGES)):
        assert noted.of("rows")["failed", stage, reason] == 0  # there before the first
    assert noted.of("rows_left") == {(): 6}
    assert noted.of("left_seconds")[()] > 0
    assert noted.of("uploaded_bytes") == {(): 100}
    assert noted.of("stage_seconds") == {
        ("load",): 1.25, ("generate",): 18, ("finish",): 4, ("interpolate",): 1, ("encode",): 0.5, ("upload",): 0.5,
    }  # fmt: skip
    held_s = noted.of("gpu_seconds")
    assert 0 < held_s["work", "generate"] <= held_s["held", "generate"]  # clip-5, all the time
    assert held_s["work", "finish"] == 0
    assert held_s["held", "generate"] == pytest.approx(4 * held_s["held", "finish"], rel=0.2)
    assert held_s["held", "finish"] > 0
    assert noted.of("gpus") == {(): 1.25}
    assert sum(noted.of("gpu_time_share").values()) == pytest.approx(1)
    assert 0 < noted.of("cost")[("EUR",)] < 1
    assert noted.of("degradations") == {(kind,): 0 for kind in get_args(Degradation)} | {("tighter memory",): 2}
    assert noted.of("quiet_limit_seconds") == {(): 1800 + 2 * 12.5}
    assert 0 < noted.of("quiet_seconds")[()] < 60
    assert (noted.of("lease_age_seconds"), noted.of("lease_limit_seconds")) == ({(): 40}, {(): 120})
    others = ("done", "interrupted", "stopped", "too many failed")
    assert noted.of("runs") == {("broke off",): 1} | {(ended,): 0 for ended in others}
    assert all(noted.values.values()), "a metric was not published"
    assert noted.kept["stillreel_rows"] == {"run": "r-1", "generator": "null"}


def test_how_a_run_ends_is_counted(noted: Noted) -> None:
    with of(a_summary(to_do=0), LocalLedger(3)):
        pass
    assert noted.of("runs")[("done",)] == 1
    with pytest.raises(KeyboardInterrupt), of(a_summary(), LocalLedger(3)):
        raise KeyboardInterrupt
    assert noted.of("runs")[("interrupted",)] == 1


@pytest.mark.parametrize(
    ("made", "failed", "is_retry", "ended"),
    [
        (0, 90, False, "too many failed"),  # fewer than those at which a run is stopped
        (0, 1200, True, "too many failed"),
        (94, 6, False, "too many failed"),
        (95, 5, False, "done"),
    ],
)
def test_a_run_that_comes_to_its_end_with_too_many_failures_is_not_done(
    noted: Noted, made: int, failed: int, is_retry: bool, ended: str
) -> None:
    summary = a_summary(made + failed)
    summary.made, summary.failed, summary.is_retry, summary.max_failed_share = made, failed, is_retry, 0.05
    with of(summary, LocalLedger(3)):
        pass
    assert {how for (how,), count in noted.of("runs").items() if count} == {ended}


def test_without_a_price_the_cost_says_so(noted: Noted) -> None:
    with of(a_summary(), LocalLedger(3)):
        pass
    assert noted.of("cost") == {("no price set",): 0}


def test_switched_off_it_does_nothing(noted: Noted) -> None:
    endings: list[Ending] = [Made(row(1, load_s=1.0))]
    given = iter(endings)
    with of(a_summary(), LocalLedger(3), metrics=False) as metrics:
        assert metrics.seen(given) is given
    assert not any(noted.values.values())


def test_a_ledger_that_is_gone_takes_no_more_than_the_backlog_along(noted: Noted) -> None:
    class Gone(LocalLedger):
        def counts(self) -> dict[str, int]:
            raise RuntimeError("its node is lost")

    summary = a_summary()
    with of(summary, Gone(3)) as metrics:
        for ending in metrics.seen(iter([Made(row(1, load_s=0.5))])):
            summary.add(ending)
    assert noted.of("rows")["made", "", ""] == 1
    assert noted.of("lease_limit_seconds") == {(): 120}
    assert noted.of("backlog_rows") == {}


def test_backlog_of_each_stage() -> None:
    ledger = LocalLedger(3)
    summary = a_summary(to_do=20)
    summary.failures = Counter({("manifest", "ManifestError"): 1})
    summary.failed = 1
    for number in range(8):
        ledger.begin(f"clip-{number}", "load")
    for number in range(7):  # the eighth is still loaded
        ledger.end(f"clip-{number}", "load")
    for number in range(4):
        ledger.begin(f"clip-{number}", "generate")
    for number in range(2):
        ledger.end(f"clip-{number}", "generate")
    ledger.begin("clip-0", "finish")
    ledger.begin("actor", "start of generate")
    assert ledger.counts() == {"load": 1, "generate": 2, "finish": 1, "begun": 8, "in_flight": 4}
    assert backlog(summary, ledger.counts()) == {
        ("load", "waiting"): 11,
        ("load", "under way"): 1,
        ("generate", "waiting"): 3,
        ("generate", "under way"): 2,
        ("finish", "waiting"): 1,
        ("finish", "under way"): 1,
    }


def test_the_ledger_knows_the_stages_in_order() -> None:
    assert list(LocalLedger(3).counts())[:3] == [stage.name for stage in STAGES]
