"""The benchmark of faults in small: what is killed, refused or damaged loses nothing and doubles nothing."""

from pathlib import Path

import pytest

from benchmarks.faults import damaged, jobs, kills, nodes, shards, store
from tests.clusters import Head

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


QUICK = jobs.NoModels()
# A quarter of a second to encode each.
SLOW = jobs.NoModels(num_frames=75, width=480, height=288)


def test_killed_runs_are_continued(tmp_path: Path, head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Ray's node process; tests/pipelines/test_resume.py kills a driver, test_faults.py there workers."""
    monkeypatch.setattr(kills, "CLIPS", 12)
    tally = kills.trial(
        tmp_path / "kills", SLOW, runs=1, seed=19, victims=["raylet"], continued=[f"ray.address={head.address}"]
    )
    assert tally.kills == {"driver": 0, "worker": 0, "raylet": 1, "none": 0}
    assert tally.faults == 0, tally
    assert tally.orphans == 0
    log = (tmp_path / "kills/000/log.txt").read_text()
    assert "stillreel: Ray's node on this machine has ended" in log
    assert "(raylet)" not in log  # Ray's own account goes elsewhere


def test_a_faulty_store_loses_nothing(tmp_path: Path, head: Head) -> None:
    result = store.trial(tmp_path / "store", QUICK, 12, 0, f"ray.address={head.address}")
    assert result.faults == 0, result
    assert {"503", "reset", "stall"} <= result.requests.keys()  # there were faults


def test_damaged_images_become_records(tmp_path: Path, head: Head) -> None:
    result = damaged.trial(tmp_path / "damaged", QUICK, 6, 15, 0, f"ray.address={head.address}")
    assert result.faults == 0, result
    assert len(result.reasons) >= 1


def test_a_node_that_is_lost_while_it_is_busy_loses_nothing(tmp_path: Path) -> None:
    """Short notice was given; tests/pipelines/test_spot.py loses one without, and one with long notice."""
    tally = nodes.trial(tmp_path / "nodes", count=1, seed=0, clips=10)
    assert (tally.lost_nodes, tally.with_notice) == (1, 1)
    assert tally.faults == 0, tally


def test_shards_whose_drivers_are_killed_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two; tests/pipelines/test_shard_races.py kills far more of them, without Ray."""
    monkeypatch.setattr(shards, "SHARDS", 2)
    monkeypatch.setattr(shards, "_CLIP_S", 2.0)  # on a busy machine, too, the run is there yet when it is to be killed
    tally = shards.trial(tmp_path / "shards", clips=16, kills=1, seed=0)
    assert tally.faults == 0, tally
    assert (tally.kills, tally.refused) == (1, 1)
