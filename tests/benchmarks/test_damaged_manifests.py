"""The manifests of benchmarks/damaged_manifests.py: each ends as rows, as rows with problems, or as one sentence."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from actors.errors import ManifestError
from benchmarks.damaged_manifests import count_endings, ending, mutated

FAULTS, FORMATS = 12, 22
TURNS = 6  # each fault meets so many formats


def test_some_of_each_fault() -> None:
    endings, faults = count_endings(TURNS * FAULTS, seed=5)
    assert faults == []
    assert len({kind for kind, _ in endings}) == FAULTS
    assert {how for _, how in endings} == {"rows", "rows with problems", "refused"}
    whole = {how: count for (kind, how), count in endings.items() if kind == "nothing"}
    assert whole == {"rows": TURNS}
    refused = sum(count for (_, how), count in endings.items() if how == "refused")
    assert 16 < refused < 56


def test_the_same_number_is_the_same_manifest() -> None:
    assert [mutated(number, 1) for number in range(50)] == [mutated(number, 1) for number in range(50)]
    assert mutated(3, 1) != mutated(3, 2)


def test_a_bug_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: Exception) -> None:
        raise error

    data = b"url\n/a.jpg\n"
    assert ending("m.csv", data, tmp_path) == "rows"
    monkeypatch.setattr("benchmarks.damaged_manifests.make_plan", lambda *_, **__: fail(KeyError("x")))
    with pytest.raises(KeyError):
        ending("m.csv", data, tmp_path)
    monkeypatch.setattr("benchmarks.damaged_manifests.make_plan", lambda *_, **__: fail(ManifestError("x" * 9999)))
    with pytest.raises(AssertionError):
        ending("m.csv", data, tmp_path)
    _, faults = count_endings(3, seed=0)
    assert len(faults) == 3


@pytest.mark.slow
def test_every_format_meets_every_fault() -> None:
    count = FORMATS * FAULTS
    command = [sys.executable, "-m", "benchmarks.damaged_manifests", "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    counts = [int(number) for number in re.findall(r"\d+", done.stdout.partition("│ all ")[2])[:4]]
    assert sum(counts) == count
    assert counts[3] == 0
