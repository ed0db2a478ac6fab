"""What the benchmark of the pipeline's own cost makes of its samples."""

import pytest

from benchmarks.overhead import Memory, slope_mb_per_s, stage_of


def test_slope_is_that_of_the_last_two_thirds() -> None:
    samples = [Memory(at, 100.0 * at if at < 40 else 4000 + 0.5 * at) for at in range(90)]
    assert slope_mb_per_s(samples, 30, 60) == pytest.approx(0.5)


def test_process_that_came_late_has_no_slope() -> None:
    assert slope_mb_per_s([Memory(at, at) for at in range(55, 60)], 30, 60) is None


@pytest.mark.parametrize(
    ("title", "stage"),
    [
        ("ray::MapWorker(MapBatches(Generate)).submit", "Generate"),
        ("ray::MapWorker(MapBatches(Finish))", "Finish"),
        ("ray::MapBatches(Load)", "Load"),
        ("ray::_LedgerActor", "_LedgerActor"),
        ("ray::IDLE", "IDLE"),
    ],
)
def test_stage_of_a_worker(title: str, stage: str) -> None:
    assert stage_of(title) == stage
