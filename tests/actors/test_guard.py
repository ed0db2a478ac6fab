"""Tries at clips: what becomes of them, and what ends a process."""

import os
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from actors.contracts import Failed, Made, Row, Unstarted
from actors.errors import CheckpointError, RunError, StorageError, WorkerDiedError
from actors.gpu_errors import is_out_of_memory
from actors.storage import NotFound
from actors.tries import guard as guard_module
from actors.tries import watchdog
from actors.tries.guard import Guard
from actors.tries.ledger import Answer, LocalLedger

CLIP = "ab" * 32


class Exit(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def ledger() -> LocalLedger:
    return LocalLedger(max_deaths=3)


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set where the process would have ended."""
    ended = threading.Event()

    def end(code: int) -> None:
        assert code == 1
        ended.set()
        if threading.current_thread() is threading.main_thread():
            raise Exit

    monkeypatch.setattr(os, "_exit", end)
    return ended


ROW = Row(CLIP, 0, 0, "a.png", {})
MADE = Made(ROW)


def made() -> Made:
    return MADE


def raising(error: BaseException) -> Callable[[], Made]:
    def make() -> Made:
        raise error

    return make


def failure(ending: object) -> Failed:
    assert isinstance(ending, Failed)
    return ending


def test_an_attempt_gives_what_was_made_or_the_failure(ledger: LocalLedger) -> None:
    guard = Guard(ledger)
    assert guard.call(ROW, "load", made) is MADE
    assert guard.call(ROW, "load", raising(ValueError("no"))) == Failed(ROW, "load", "ValueError", "no")
    assert ledger._tries == {CLIP: {}}


def test_a_clip_that_ended_its_workers_is_a_failure(ledger: LocalLedger) -> None:
    for _ in range(3):
        ledger.begin(CLIP, "finish")
    ledger.explain(CLIP, "finish", "it hung")
    failed = failure(Guard(ledger).call(ROW, "finish", made))
    assert (failed.stage, failed.error_type) == ("finish", "WorkerDiedError")
    assert failed.error == "the worker died 3 times while it had this clip at stage finish: it hung"


def test_a_row_that_a_run_that_winds_down_does_not_begin_is_marked(ledger: LocalLedger) -> None:
    ledger.wind_down()
    assert Guard(ledger).call(ROW, "load", made) == Unstarted(ROW)


def test_a_call_that_takes_too_long_ends_the_process(ledger: LocalLedger, exits: threading.Event) -> None:
    def waiting() -> Made:
        assert exits.wait(10)
        return MADE

    Guard(ledger, clip_timeout_s=0.05).call(ROW, "load", waiting)
    assert exits.is_set()


def test_the_reason_is_in_the_ledger_before_the_process_ends(ledger: LocalLedger, exits: threading.Event) -> None:
    def waiting() -> Made:
        exits.wait(10)
        raise Exit

    guard = Guard(ledger, clip_timeout_s=0.05)
    for _ in range(3):
        exits.clear()
        with pytest.raises(Exit):
            guard.call(ROW, "load", waiting)
    error = failure(guard.call(ROW, "load", made)).error
    assert error.endswith("at stage load: it took longer than run.clip_timeout_s (0.05 s)")


def test_a_call_that_returns_too_late_does_not_end_its_try(
    ledger: LocalLedger, exits: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a clip whose ffmpeg is killed at the end of its process would be tried for ever."""
    is_late = threading.Event()
    ended_after: list[bool] = []

    def explain(*_arguments: str) -> None:
        is_late.set()
        time.sleep(0.1)

    def returning() -> Made:
        assert is_late.wait(10)
        return MADE

    monkeypatch.setattr(ledger, "explain", explain)
    monkeypatch.setattr(ledger, "end", lambda *_: ended_after.append(exits.is_set()))
    Guard(ledger, clip_timeout_s=0.05).call(ROW, "load", returning)
    assert ended_after == [True]


def test_a_ledger_that_does_not_answer_holds_no_process(
    ledger: LocalLedger, exits: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    monkeypatch.setattr(guard_module, "_LAST_WORDS_S", 0.05)
    monkeypatch.setattr(ledger, "explain", lambda *_: never.wait(20))
    Guard(ledger, clip_timeout_s=0.05).call(ROW, "load", lambda: MADE if exits.wait(10) else pytest.fail("it goes on"))
    never.set()


def test_a_call_in_time_leaves_no_watch_behind(ledger: LocalLedger, exits: threading.Event) -> None:
    Guard(ledger, clip_timeout_s=100).call(ROW, "load", made)
    assert watchdog._watchdog._calls == {}


@pytest.mark.parametrize(
    ("message", "ends"),
    [
        ("CUDA error: an illegal memory access was encountered\nfor debugging ...", True),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm", True),
        ("CUDA driver error: unspecified launch failure", True),
        ("Triton Error [CUDA]: an illegal memory access was encountered", True),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", True),
        ("Triton Error [CUDA]: out of memory", False),
        ("CUDA error: out of memory", False),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)", False),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", False),
        ("shapes do not fit", False),
    ],
)
def test_only_a_broken_gpu_ends_the_process(
    ledger: LocalLedger, exits: threading.Event, message: str, ends: bool
) -> None:
    guard = Guard(ledger)
    if not ends:
        failed = failure(guard.call(ROW, "generate", raising(RuntimeError(message))))
        assert failed.error == message
        assert not exits.is_set()
        return
    for _ in range(3):
        with pytest.raises(Exit):
            guard.call(ROW, "generate", raising(RuntimeError(message)))
    error = failure(guard.call(ROW, "generate", made)).error
    assert error.endswith(f": RuntimeError: {' '.join(message.split())}")


def test_what_out_of_memory_looks_like() -> None:
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert is_out_of_memory(RuntimeError("GET was unable to find an engine to execute this computation"))
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"))
    assert not is_out_of_memory(RuntimeError("CUDA error: unspecified launch failure"))


def test_a_start_that_fails_ends_the_process_until_it_is_given_up(
    ledger: LocalLedger, exits: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    guard = Guard(ledger)
    for _ in range(3):
        with pytest.raises(Exit), guard.start("generate"):
            raise OSError("the disk is away")
    assert "Traceback" in caplog.text
    expected = "a worker of stage generate died 3 times while it started: OSError: the disk is away"
    with pytest.raises(WorkerDiedError, match=expected) as raised, guard.start("generate"):
        raise AssertionError("is not tried")
    assert isinstance(raised.value, RunError)  # the command line's exit code 1: the run broke off


def test_a_start_that_succeeds_starts_the_count_anew(ledger: LocalLedger, exits: threading.Event) -> None:
    guard = Guard(ledger)
    for _ in range(2):
        with pytest.raises(Exit), guard.start("finish"):
            raise OSError
        with guard.start("finish"):
            pass
    assert ledger._tries == {}


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        CheckpointError("unet is missing"),
        caused(NotFound("s3://b/rife.pkl does not exist"), FileNotFoundError()),
        caused(StorageError("s3://b/rife.pkl could not be read: access denied"), PermissionError()),
    ],
    ids=repr,
)
def test_an_error_of_ours_at_a_start_is_not_tried_again(
    ledger: LocalLedger, exits: threading.Event, error: Exception
) -> None:
    with pytest.raises(type(error), match=str(error)), Guard(ledger).start("generate"):
        raise error
    assert not exits.is_set()


def test_a_start_waits_for_a_store_that_may_recover(
    ledger: LocalLedger, exits: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("actors.tries.guard.time", SimpleNamespace(sleep=waited.append))
    guard = Guard(ledger)
    for _ in range(2):
        with pytest.raises(Exit), guard.start("finish"):
            raise caused(StorageError("s3://b/rife.pkl could not be read: no connection"), ConnectionError())
    with guard.start("finish"):
        pass
    assert ledger._tries == {}
    assert sum(waited) >= 120


def test_a_clip_that_takes_its_nodes_along_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = LocalLedger(max_deaths=3)
    monkeypatch.setattr(ledger, "begin", lambda *_: Answer("give up", lost_nodes=20))
    failed = failure(Guard(ledger).call(ROW, "generate", made))
    assert failed.error == (
        "the worker lost its node 20 times while it had this clip at stage generate: that may be what brings the "
        "machine down"
    )
    with pytest.raises(WorkerDiedError, match="a worker of stage generate lost its node 20 times while it started"):
        Guard(ledger).start("generate").__enter__()


def test_a_worker_leaves_its_node_rather_than_begin_what_it_cannot_end(
    ledger: LocalLedger, exits: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def begin(_clip: str, _stage: str, takes_s: float) -> Answer:
        asked.append(takes_s)
        return Answer("begin elsewhere" if takes_s else "begin")

    monkeypatch.setattr(ledger, "begin", begin)
    monkeypatch.setattr(guard_module, "_LAST_IS_GIVEN_OUT_S", 0.0)
    monkeypatch.setattr(guard_module, "_took_s", {})
    guard = Guard(ledger)
    assert guard.call(ROW, "generate", made) is MADE
    with pytest.raises(Exit):
        guard.call(ROW, "generate", made)
    assert asked[0] == 0.0 < asked[1] < 5.0
    assert exits.is_set()


def test_what_takes_long_is_told_of_as_ended_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a worker that waits for its next clip would seem to be at work on the last one."""
    told: list[str] = []

    class Telling(LocalLedger):
        def flush(self) -> None:
            told.append("flush")

    guard = Guard(Telling(max_deaths=3))
    guard.call(ROW, "load", made)
    assert told == []
    monkeypatch.setattr(guard_module, "_TOLD_AT_ONCE_S", 0.0)
    guard.call(ROW, "generate", made)
    guard.call(ROW, "finish", raising(StorageError("full")))
    assert told == ["flush", "flush"]
