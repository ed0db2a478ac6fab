"""Progress: plain lines in a log, a bar on a terminal."""

import io

import pytest
from rich.console import Console

from pipelines.driver.progress import Progress


def test_a_log_gets_plain_lines_with_rate_and_eta(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pipelines.driver.progress.time.monotonic", lambda: now[0])
    out = io.StringIO()
    with Progress(1000, Console(file=out, width=200), log_interval_s=10) as shown:
        for done in range(1, 31):
            now[0] += 2.0
            shown.advance(done - done // 10, done // 10)
    lines = out.getvalue().splitlines()
    assert lines[0] == "0/1,000 clips, loading models ..."
    assert lines[1] == "5/1,000 clips (0 %), 0 failed, 0:00:10 elapsed, 30.0 clips/min, ETA 0:33:10"
    assert lines[-1] == "30/1,000 clips (3 %), 3 failed, 0:01:00 elapsed, 30.0 clips/min, ETA 0:32:20"
    assert len(lines) == 7


def test_the_last_row_always_gets_a_line() -> None:
    out = io.StringIO()
    with Progress(1, Console(file=out), log_interval_s=1000) as shown:
        shown.advance(1, 0)
    assert "1/1 clips (100 %)" in out.getvalue()
    assert "ETA unknown" in out.getvalue()  # no rate of a moment


def test_a_terminal_gets_a_bar() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with Progress(2, console, log_interval_s=0) as shown:
        shown.advance(1, 0)
        shown.advance(1, 1)
    text = out.getvalue()
    assert "━" in text
    assert "2/2" in text
    assert "ETA" in text
    assert "clips (100 %)" not in text
