"""The model of how far one driver goes: it finds the costs that were put in, and names what ends first."""

from dataclasses import replace
from math import inf

import pytest

from benchmarks.scale.__main__ import model_of, show
from benchmarks.scale.commits import measured
from benchmarks.scale.cpu import DRIVER_PYTHON, FINISH, GCS, GENERATE, LEDGER, LOAD, RAYLET, ROLES, role_of
from benchmarks.scale.jobs import Job, Pace, Sample, watched
from benchmarks.scale.model import COMFORTABLE, Commits, Cost, Driver, Limits, Load, Model, fitted, load_of

FREE = Commits(0.0, 0.0, 0.0, 512, 30.0)
WIDE = Limits(clip_bytes=1.0, node_bytes_per_s=1e9, puts_per_s=1e9)
DRIVER = Driver(row_s=0.01, turn_s=0.01, look_s=30e-6, idle=0.05)
MODEL = Model(DRIVER, {"ledger": Cost(0.002, 20e-6, 0.01)}, {"raylet": Cost(0.001, 1e-4, 0.02)}, FREE, WIDE)


def test_a_fit_recovers_what_was_put_in() -> None:
    loads = [Load(2, 9), Load(10, 9), Load(25, 9), Load(10, 72), Load(25, 72)]
    cost = Cost(0.0123, 0.0004, 0.06)
    told = fitted([(load.rows_per_s, load.actors) for load in loads], [cost.cores(load) for load in loads])
    assert told == pytest.approx((0.0123, 0.0004, 0.06))


def test_a_model_recovers_the_driver_that_was_put_in() -> None:
    seen = [(2, 9, 9), (10, 9, 7), (25, 9, 5), (10, 72, 6), (25, 72, 5)]  # rows/s, actors, turns/s
    samples = [
        Sample(actors, 1.0, False, rows * 10, turns * 10, 10.0, _cpu_s(Load(rows, actors), turns))
        for rows, actors, turns in seen
    ]
    model = model_of(samples, DRIVER.look_s, FREE)
    told = model.driver
    assert (told.row_s, told.turn_s, told.idle) == pytest.approx((DRIVER.row_s, DRIVER.turn_s, DRIVER.idle))
    assert model.once[LEDGER].row_s == pytest.approx(0.002)


def _cpu_s(load: Load, turns_per_s: float) -> dict[str, float]:
    """Of ten seconds."""
    zero = dict.fromkeys(ROLES, 0.0)
    ledger = MODEL.once["ledger"].cores(load)
    return zero | {DRIVER_PYTHON[0]: 10 * DRIVER.cores(load, turns_per_s), LEDGER: 10 * ledger}


def test_a_fit_of_noise_has_no_negative_terms() -> None:
    terms = [(2.0, 9.0), (10.0, 9.0), (25.0, 9.0), (10.0, 72.0), (25.0, 72.0)]
    row_s, actor, idle = fitted(terms, [0.03, 0.10, 0.26, 0.09, 0.24])  # more actors seem to cost less
    assert row_s == pytest.approx(0.01, rel=0.1)
    assert actor == 0
    assert idle >= 0


def test_rows_fill_the_driver_and_actors_make_it_late() -> None:
    few, many = Load(50, 500), Load(50, 5000)
    assert DRIVER.share(few.rows_per_s) == DRIVER.share(many.rows_per_s) == pytest.approx(0.55)
    assert DRIVER.turns_every_s(few) == pytest.approx((0.1 + 0.01 + 0.015) / 0.45)
    assert DRIVER.turns_every_s(many) == pytest.approx((0.1 + 0.01 + 0.15) / 0.45)
    assert DRIVER.cores(many, turns_per_s=2) == pytest.approx(0.55 + 0.16 * 2)
    assert DRIVER.turns_every_s(Load(100, 1)) == inf


@pytest.mark.parametrize(
    ("model", "first"),
    [
        (MODEL, "driver"),
        (replace(MODEL, once={"ledger": Cost(0.02, 0.0, 0.0)}), "ledger"),
        (replace(MODEL, commits=replace(FREE, part_s=1.0, answer_s=9.0)), "commits"),
        (replace(MODEL, limits=replace(WIDE, puts_per_s=20)), "uploads to one prefix"),
        (replace(MODEL, driver=replace(DRIVER, look_s=0.1)), "a turn of the driver's loop, of a clip's time"),
    ],
)
def test_what_ends_first_is_named(model: Model, first: str) -> None:
    name, gpus = model.ends_at(9.5)
    assert name == first
    assert model.parts(gpus, 9.5)[0].share >= 1
    assert model.parts(gpus - 1, 9.5)[0].share < 1


def test_nodes_are_more_with_more_gpus_and_no_fuller() -> None:
    fast = replace(WIDE, clip_bytes=44e6)
    few, many = (dict(replace(MODEL, limits=fast).parts(gpus, 9.5)) for gpus in (64, 640))
    assert few["raylet of a node"] == many["raylet of a node"] == pytest.approx(0.001 * 8 * 8 / 9 / 9.5 + 8e-4 + 0.02)
    assert few["network of a node"] == many["network of a node"] > 0
    assert many["ledger"] > few["ledger"]


def test_commits_take_what_the_driver_has() -> None:
    commits = Commits(part_s=0.05, part_cpu_s=0.05, answer_s=0.15, rows_per_part=500, flush_s=20)
    assert commits.parts_per_s(100) == pytest.approx(0.25)
    assert commits.share(100) == pytest.approx(0.05)
    with_commits = dict(replace(MODEL, commits=commits).parts(500, 9.5))
    without = dict(MODEL.parts(500, 9.5))
    rows_per_s = load_of(500, 9.5).rows_per_s
    assert with_commits["driver"] - without["driver"] == pytest.approx(commits.parts_per_s(rows_per_s) * 0.05)


def test_a_job_has_as_many_shards_as_leave_each_driver_room() -> None:
    shards = MODEL.shards(5000, 9.5)
    assert shards > 1
    assert MODEL.parts(5000 / shards, 9.5)[0].share <= COMFORTABLE
    assert MODEL.parts(5000 / (shards - 1), 9.5)[0].share > COMFORTABLE
    assert MODEL.shards(8, 9.5) == 1


def test_a_commit_of_a_part_takes_time_and_cpu() -> None:
    commits = measured(2, flush_s=30, answer_s=0.1)
    assert 0 < commits.part_cpu_s < 5
    assert commits.part_s > 0


@pytest.mark.parametrize(
    ("title", "role"),
    [
        ("ray::ledger 20261127T042414Z-9240d7 05c583d", LEDGER),
        ("ray::_LedgerActor", LEDGER),
        ("ray::MapWorker(MapBatches(Generate)).submit", GENERATE),
        ("ray::MapWorker(MapBatches(Finish))", FINISH),
        ("ray::MapBatches(Load)", LOAD),
        ("ray::IDLE", None),
        ("ray::_StatsActor", None),
    ],
)
def test_what_a_process_is_to_a_run(title: str, role: str | None) -> None:
    assert role_of(title) == role


def test_the_tables_say_what_ends_first_and_how_many_drivers_a_job_needs(capsys: pytest.CaptureFixture[str]) -> None:
    sample = Sample(9, 0.8, False, 100, 80, 10.0, _cpu_s(Load(10, 9), 8))
    model = model_of([sample, replace(sample, rows=20, turns=90, cpu_s=_cpu_s(Load(2, 9), 9))], 3e-5, FREE)
    show([sample], model, 9.5, [500, 5000])
    said = capsys.readouterr().out
    name, end = model.ends_at(9.5)
    assert f"{name} ends first: at {end:,} GPUs" in said
    last = next(line for line in said.splitlines() if "drivers (run.shard)" in line)
    assert last.split("│")[-2].strip() == str(model.shards(5000, 9.5))
    assert "10.0" in said  # rows/s as measured


@pytest.mark.slow
def test_simulated_gpus_are_watched() -> None:
    (sample,) = watched(Job(2, [Pace(clip_s=0.4, watched_s=4.0)]))
    assert sample.actors == 3
    assert 0 < sample.rows <= 2 * sample.seconds / 0.3
    assert 0 < sample.turns_per_s < 100
    for role in (DRIVER_PYTHON[0], DRIVER_PYTHON[1], LEDGER, GENERATE, FINISH, LOAD, RAYLET, GCS):
        assert sample.cpu_s[role] > 0, role
    assert sample.cores(*DRIVER_PYTHON) < 1.5
