"""What workers log, what of it is told to the driver, and what the ledger notices by itself."""

import re
import threading

import numpy as np
import pytest

from actors import logs, retries
from actors.contracts import Generated, Loaded, Made, Row, Stage
from actors.errors import ImageError, StorageError
from actors.runner.runner import Runner
from actors.tries.guard import Guard
from actors.tries.ledger import LocalLedger

ROW = Row("ab" * 32, 0, 0, "a.png", {})


@pytest.fixture
def ledger() -> LocalLedger:
    return LocalLedger(max_deaths=3, run_id="run-1")


@pytest.fixture
def guard(ledger: LocalLedger) -> Guard:
    made = Guard(ledger, clip_timeout_s=100, run_id="run-1")
    made.log_as("generate")
    return made


def raising(error: Exception) -> Made:
    raise error


def test_a_line_has_time_run_stage_and_clip(guard: Guard, capsys: pytest.CaptureFixture[str]) -> None:
    guard.log_as("generate")
    with logs.about("ab12"):
        logs.logger.info("loaded")
    logs.logger.info("ready")
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ run-1 generate ab12 INFO loaded", first)
    assert second.endswith(" run-1 generate - INFO ready")


def test_an_unexpected_error_is_told_with_its_traceback_and_one_of_ours_is_not(
    guard: Guard, ledger: LocalLedger
) -> None:
    guard.call(ROW, "generate", lambda: raising(ImageError("zero bytes")))
    assert ledger.take_reports() == []
    guard.call(ROW, "generate", lambda: raising(KeyError("x")))
    ((kind, count, line),) = ledger.take_reports()
    assert (kind, count) == ("", 1)
    assert f" run-1 generate {ROW.clip_id} ERROR an error that nobody expected" in line
    assert "Traceback" in line
    assert line.endswith("KeyError: 'x'")
    assert ledger.take_reports() == []


def test_a_stuck_call_says_where_it_is(ledger: LocalLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    has_ended = threading.Event()
    monkeypatch.setattr("os._exit", lambda _code: has_ended.set())
    guard = Guard(ledger, clip_timeout_s=0.05, run_id="run-1")
    guard.log_as("generate")

    def stuck_in_this_function() -> Made:
        assert has_ended.wait(10)
        return Made(ROW)

    guard.call(ROW, "generate", stuck_in_this_function)
    ((_, _, line),) = ledger.take_reports()
    assert "it took longer than run.clip_timeout_s (0.05 s)" in line
    assert ROW.clip_id in line
    assert "in stuck_in_this_function" in line


def test_the_ledger_notices_workers_that_died_and_those_that_start_again(ledger: LocalLedger) -> None:
    ledger.begin("a", "generate")
    ledger.explain("a", "generate", "it hung")
    ledger.begin("a", "generate")
    ledger.begin_together(["b", "c"], "load")
    assert ledger.begin_together(["b", "c"], "load") is None
    for _ in range(2):
        ledger.begin("worker", "start of finish")
        ledger.come_out("worker")
    reports = ledger.take_reports()
    assert [kind for kind, _, _ in reports] == ["worker died", "worker died", "worker restarted"]
    assert reports[0][2].endswith(" run-1 generate a WARNING a worker died: it hung; what it had is tried again")
    assert " run-1 load - WARNING a worker died with one of 2 images" in reports[1][2]
    assert reports[2][2].endswith(" run-1 finish - WARNING a worker was started again")


@pytest.mark.parametrize("ends_well", [True, False])
def test_what_a_store_had_to_be_asked_again_is_counted(
    ends_well: bool, guard: Guard, ledger: LocalLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "wait_s", lambda _attempt: 0.0)
    retries.take_retries()

    class Asking(Stage[Loaded, Generated]):
        name = "generate"

        def __call__(self, image: Loaded) -> Generated:
            failures = iter([ConnectionError(), ConnectionError()])

            def ask() -> None:
                if error := next(failures, None):
                    raise error

            retries.retried(ask, 5)
            if not ends_well:
                raise StorageError("the store is down")
            return Generated(image.row, image.image_HWC[None])

    runner = Runner(Asking(), guard)
    for _ in range(2):
        runner(Loaded(ROW, np.zeros((2, 2, 3), np.uint8)))
    reports = ledger.take_reports()
    assert [(kind, count) for kind, count, _ in reports] == [("store asked again", 2)] * 2
    assert retries.take_retries() == 0
