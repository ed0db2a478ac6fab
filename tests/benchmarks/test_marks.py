"""What marks cost is measured on real files."""

import pytest

from benchmarks import marks


def test_it_prints_a_line_for_each_size(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(marks, "_FRAMES", {"small": 1, "larger": 3})
    monkeypatch.setattr(marks, "_REPEATS", 2)
    marks.main()
    _, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(" bytes, C2PA " in line for line in lines)
