"""What a run's GPU-seconds went into."""

from collections import defaultdict
from typing import Any

import pytest

from actors.contracts import Failed, Made, Row
from actors.tries.spent import Spent
from pipelines.config.sections import CostSettings
from pipelines.money.cost import GpuClock
from pipelines.money.gpu_time import SHARES
from pipelines.pools import Reserved
from tests.clock import Pass

POOLS = {"generate": Reserved(2, 1.0), "finish": Reserved(4, 0.25)}


def spent(age_s: float, **told: Any) -> Spent:
    nothing: Spent = {
        "ready": {},
        "first_start_s": {},
        "first_wait_s": defaultdict(float),
        "restart_s": {},
        "lost_s": {},
        "under_way_s": {},
    }
    return nothing | {"age_s": age_s} | told


def row(**columns: float) -> Row:
    return Row("ab" * 32, 0, 0, "a.png", {}, columns)


def clock(pools: dict[str, Reserved] = POOLS, there: float = 3.0) -> GpuClock:
    held = GpuClock(CostSettings())
    held.start(pools, {}, {"H100": there}, grows=True)
    return held


def test_each_second_of_a_gpu_is_in_one_share(after: Pass) -> None:
    held = clock()
    after(100)
    assert held.shares() == pytest.approx({**dict.fromkeys(SHARES, 0.0), "starting": 1.0})
    # The ledger began 2 s after the GPUs were reserved.
    began = {"ready": {"generate": 2, "finish": 4}, "first_start_s": {"generate": 96.0, "finish": 12.0}}
    held._time.note(spent(98, **began))
    assert held.shares()["starting"] == pytest.approx((100 + (12 + 4 * 2) / 4) / 300)
    after(100)
    held.add(Made(row(load_s=3.0, generate_s=60.0, finish_s=8.0)))
    held.add(Failed(row(load_s=3.0, generate_s=20.0), "finish", "VideoError", "no", 4.0))
    held.add(Failed(row(load_s=3.0), "generate", "GenerationError", "no", 9.0))
    held.add(Failed(row(), "load", "ImageError", "no", 5.0))
    held._time.note(spent(198, lost_s={"generate": 15.0}, restart_s={"generate": 5.0}, under_way_s={"generate": 10}))
    shares = held.shares()
    assert {name: round(share * 600, 6) for name, share in shares.items()} == {
        "making": 60 + 8 / 4 + 10,
        "starting": 105 + 5,
        "failing": 20 + 4 / 4 + 9,
        "retrying": 15,
        "idling": 600 - 72 - 110 - 30 - 15,
    }
    assert tuple(shares) == SHARES
    assert sum(shares.values()) == pytest.approx(1)


def test_what_is_under_way_at_the_end_came_to_nothing(after: Pass) -> None:
    held = clock()
    held._time.note(spent(0, ready={"generate": 2, "finish": 4}, first_start_s={"generate": 0.0, "finish": 0.0}))
    after(10)
    held._time.note(spent(10, under_way_s={"generate": 12.0}))
    assert [held.shares()[name] for name in ("making", "retrying")] == pytest.approx([12 / 30, 0])
    held.stop()
    after(1000)
    assert [held.shares()[name] for name in ("making", "retrying")] == pytest.approx([0, 12 / 30])


def test_shares_that_were_measured_as_more_than_there_is_still_sum_to_one(after: Pass) -> None:
    held = clock()
    after(1)
    held._time.note(spent(1, ready=dict.fromkeys(POOLS, 9), first_start_s=dict.fromkeys(POOLS, 0.0)))
    held.add(Made(row(generate_s=6.0, finish_s=0.0)))
    held.add(Failed(row(), "generate", "GenerationError", "no", 2.0))
    shares = held.shares()
    assert shares == pytest.approx({"making": 0.75, "starting": 0, "failing": 0.25, "retrying": 0, "idling": 0})


def test_workers_that_a_new_ledger_does_not_know_have_not_waited_since_the_run_began(after: Pass) -> None:
    held = clock()
    held._time.note(spent(0, ready={"generate": 2, "finish": 4}, first_start_s=dict.fromkeys(POOLS, 0.0)))
    after(1000)
    # The ledger began anew 100 s ago; one generator of two was started again within 30 s.
    held._time.note(
        spent(100, ready={"generate": 1}, first_start_s={"generate": 30.0}, first_wait_s={"generate": 60.0})
    )
    assert held.shares()["starting"] == pytest.approx(30 / 3000)


def test_who_waits_for_a_gpu_that_never_comes_does_not_start_on_one_that_idles(after: Pass) -> None:
    held = clock({"generate": Reserved(8, 1.0)}, there=4)
    after(60)
    with held.following(lambda: spent(60, ready={"generate": 4}, first_start_s={"generate": 4 * 50.0})):
        pass
    after(540)
    for _ in range(4):
        held.add(Made(row(generate_s=270.0)))
    shares = {name: round(share * 4 * 600) for name, share in held.shares().items()}
    assert shares == {"making": 4 * 270, "starting": 4 * 60, "failing": 0, "retrying": 0, "idling": 4 * 270}


def test_without_gpus_there_is_nothing_to_share(after: Pass) -> None:
    held = GpuClock(CostSettings())
    assert held.shares() == {}
    held.start({"generate": Reserved(1, 0.0), "finish": Reserved(1, 0.0)}, {}, {}, grows=False)
    after(10)
    held.stop()
    assert (held.shares(), held.lines(5), held.described(5)["gpu_time"]) == ({}, {}, {})


def test_a_ledger_that_does_not_answer_costs_a_run_nothing() -> None:
    def gone() -> Spent:
        raise RuntimeError("Ray is gone")

    held = clock()
    with held.following(gone):
        pass
    with held.following(lambda: spent(1, lost_s={"generate": 0.5})):
        pass
    assert held.shares()["retrying"] > 0
