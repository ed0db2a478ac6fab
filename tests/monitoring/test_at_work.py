"""GPU-seconds in which clips are under way."""

import pytest

from pipelines.monitoring.at_work import AtWork
from pipelines.pools import Reserved
from tests.clock import Pass

RESERVED = {"generate": Reserved(4, 1.0), "finish": Reserved(1, 0.5)}
GPUS = 4.5


def test_a_clip_counts_while_it_is_made_and_whatever_becomes_of_it(after: Pass) -> None:
    at_work = AtWork(RESERVED)
    for minute in range(1, 61):  # one clip of an hour, three actors that wait
        after(60)
        at_work.look({"load": 9, "generate": 1, "finish": 0}, GPUS * 60 * minute)
        assert at_work.work_s["generate"] == pytest.approx(60 * minute)
    assert at_work.held_s == pytest.approx({"generate": 4 * 3600, "finish": 1800})
    assert at_work.work_s["finish"] == 0
    after(60)
    at_work.look({"generate": 4, "finish": 1}, GPUS * 3660)
    assert at_work.work_s == pytest.approx({"generate": 3600 + 4 * 60, "finish": 30})


def test_no_more_is_at_work_than_is_held(after: Pass) -> None:
    at_work = AtWork(RESERVED)
    after(10)
    at_work.look({"generate": 4, "finish": 0}, GPUS * 10 / 2)  # half of the GPUs were lost, and what they had waits
    assert at_work.work_s["generate"] == at_work.held_s["generate"] == 20


def test_where_nobody_knows_nothing_is_at_work(after: Pass) -> None:
    at_work = AtWork(RESERVED)
    after(10)
    at_work.look({}, GPUS * 10)
    assert (at_work.held_s["generate"], at_work.work_s["generate"]) == (40, 0)


def test_without_gpus_none_are_held(after: Pass) -> None:
    at_work = AtWork({"generate": Reserved(1, 0.0)})
    after(10)
    at_work.look({"generate": 1}, 0.0)
    assert at_work.held_s == at_work.work_s == {"generate": 0.0}
