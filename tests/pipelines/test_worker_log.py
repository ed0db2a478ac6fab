"""What the driver makes of the workers' reports."""

import io
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from actors import logs
from actors.logs import Report
from actors.retries import take_retries
from pipelines.driver import worker_log
from pipelines.driver.worker_log import WorkerLog


def test_degradations_are_shown_a_few_times_counted_always_and_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_log, "_INTERVAL_S", 0.01)
    take_retries()
    waiting: list[list[Report]] = [[["worker died", 1, f"line {number}"]] for number in range(8)]
    waiting.append([["", 1, "Traceback\nKeyError: 'x'"], ["store asked again", 12, "asked"]])
    counts: Counter[str] = Counter()
    screen = io.StringIO()
    log = tmp_path / "warnings.log"

    with WorkerLog("run-1", lambda: waiting.pop(0) if waiting else [], log, counts, Console(file=screen, width=200)):
        logs.logger.warning("of the driver itself")
        while waiting:
            time.sleep(0.01)
    assert counts == {"worker died": 8, "store asked again": 12}
    said = screen.getvalue().splitlines()
    assert said[:5] == [f"worker died: line {number}" for number in range(5)]
    assert said[5:] == ["worker died: more of it is in warnings.log of this run", "store asked again: asked"]
    written = log.read_text()
    assert all(f"line {number}\n" in written for number in range(8))
    assert "KeyError: 'x'" in written
    assert " run-1 driver - WARNING of the driver itself" in written


def test_a_ledger_that_does_not_answer_stops_nothing(tmp_path: Path) -> None:
    def take() -> list[Report]:
        raise RuntimeError("the actor died")

    with WorkerLog("run-1", take, tmp_path / "warnings.log", Counter(), Console(file=io.StringIO())):
        logs.logger.warning("of the driver")
    assert "of the driver" in (tmp_path / "warnings.log").read_text()


def test_a_ledger_that_never_answers_does_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.repeating.LAST_TIME_S", 0.05)
    has_ended = threading.Event()

    def take() -> list[Report]:
        has_ended.wait(60)
        return []

    started = time.monotonic()
    with WorkerLog("run-1", take, tmp_path / "warnings.log", Counter(), Console(file=io.StringIO())):
        pass
    assert time.monotonic() - started < 5
    has_ended.set()
