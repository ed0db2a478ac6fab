"""Drivers of shards without Ray, killed at every step of theirs, in small (`benchmarks.faults.races`)."""

from pathlib import Path

import pytest

from benchmarks.faults import races


@pytest.mark.timeout(600)
def test_shards_that_race_and_are_killed_lose_and_double_nothing(tmp_path: Path) -> None:
    tally = races.trial(tmp_path / "race", clips=48, kills=20, seed=1)
    assert tally.faults == 0, (tally, (tmp_path / "race/told.txt").read_text()[-3000:])
    assert tally.kills >= 20
    assert tally.refused > 0  # there were drivers that must not be
    assert tally.moves > 20
