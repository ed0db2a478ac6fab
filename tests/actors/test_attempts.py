"""Tries at clips: how they are counted, what ends a process, and how a run drains."""

import itertools
import os
import threading
import time
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from actors.errors import CheckpointError, RunError, StorageError, WorkerDiedError
from actors.gpu_errors import is_out_of_memory
from actors.stages import watchdog
from actors.stages.attempts import Answer, AttemptLedger, Attempts, _taken
from actors.storage import NotFound

CLIP = "ab" * 32
OTHER = "cd" * 32


class Exit(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def ledger() -> AttemptLedger:
    return AttemptLedger(max_attempts=3)


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


def row(**changes: Any) -> dict[str, Any]:
    return {"clip_id": CLIP, "stage": "", "error_type": "", "error": ""} | changes


def made(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "made": True}


def raising(error: BaseException) -> Any:
    def make(row: dict[str, Any]) -> dict[str, Any]:
        raise error

    return make


def test_a_clip_is_given_up_after_so_many_beginnings_without_an_end(ledger: AttemptLedger) -> None:
    assert [ledger.begin(CLIP, "load").verdict for _ in range(4)] == ["begin", "begin", "begin", "give up"]
    assert ledger.begin(CLIP, "generate").verdict == "begin"  # each stage counts for itself
    assert ledger.begin(OTHER, "load").verdict == "begin"


def test_an_end_starts_the_count_anew(ledger: AttemptLedger) -> None:
    for _ in range(5):
        assert ledger.begin(CLIP, "load") == Answer("begin")
        ledger.end(CLIP, "load")


def test_of_clips_that_were_begun_together_only_the_one_that_ends_its_worker_is_given_up(ledger: AttemptLedger) -> None:
    clips = ["first", "deadly", "last"]
    assert ledger.begin_together(clips, "load") == [Answer("begin")] * 3
    for _ in range(3):  # Ray runs the task again; each clip asks for itself
        assert ledger.begin_together(clips, "load") is None
        assert ledger.begin("first", "load").verdict == "begin"
        ledger.end("first", "load")
        assert ledger.begin("deadly", "load").verdict == "begin"
    assert [ledger.begin(clip, "load").verdict for clip in clips] == ["begin", "give up", "begin"]


def test_of_two_deadly_clips_begun_together_each_has_its_own_tries() -> None:
    ledger = AttemptLedger(max_attempts=1)
    clips = ["deadly", "deadly too", "innocent"]
    assert ledger.begin_together(clips, "load") == [Answer("begin")] * 3
    for done in range(2):
        assert [ledger.begin(clip, "load").verdict for clip in clips[: done + 1]] == ["give up"] * done + ["begin"]
    assert [ledger.begin(clip, "load").verdict for clip in clips] == ["give up", "give up", "begin"]
    assert ledger.num_begun() == 3


def test_a_draining_run_begins_with_none_of_several_clips(ledger: AttemptLedger) -> None:
    ledger.drain()
    assert ledger.begin_together([CLIP, OTHER], "load") == [Answer("unstarted")] * 2
    assert ledger._tries == {}


def test_what_a_process_has_to_tell_is_told_once_whatever_threads_take_it() -> None:
    waiting, told = deque(range(20_000)), list[list[int]]()
    threads = [threading.Thread(target=lambda: told.append(_taken(waiting))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(itertools.chain(*told)) == list(range(20_000))


def test_a_clip_stays_given_up_until_it_leaves(ledger: AttemptLedger) -> None:
    """Ray may run a row again that was given up, because its neighbour in the batch ended the worker afterwards."""
    for _ in range(3):
        ledger.begin(CLIP, "generate")
    assert [ledger.begin(CLIP, "generate").verdict for _ in range(2)] == ["give up"] * 2
    ledger.leave(CLIP)
    assert ledger.begin(CLIP, "generate").verdict == "begin"


def test_the_last_known_reason_is_told(ledger: AttemptLedger) -> None:
    for _ in range(3):
        ledger.begin(CLIP, "load")
    assert "killed it for want of memory" in ledger.begin(CLIP, "load").reason
    ledger.explain(CLIP, "load", "it hung")
    assert ledger.begin(CLIP, "load") == Answer("give up", 3, "it hung")


def test_in_flight_is_from_generate_until_the_clip_has_left(ledger: AttemptLedger) -> None:
    ledger.begin(CLIP, "load")
    assert ledger.in_flight() == []
    ledger.end(CLIP, "load")
    ledger.begin(CLIP, "generate")
    ledger.end(CLIP, "generate")
    assert ledger.in_flight() == [CLIP]
    ledger.leave(CLIP)
    assert ledger.in_flight() == []


def test_a_clip_that_is_made_again_for_nobody_is_not_in_flight(ledger: AttemptLedger) -> None:
    """Its worker died after it had given the clip out; what Ray makes again goes nowhere."""
    for stage in ("load", "generate"):
        ledger.begin(CLIP, stage)
    ledger.leave(CLIP)
    for stage in ("load", "generate"):
        ledger.begin(CLIP, stage)
    assert ledger.in_flight() == []
    assert ledger.num_begun() == 1


def test_the_ledger_forgets_clips_that_have_left(ledger: AttemptLedger) -> None:
    for stage in ("load", "generate", "finish"):
        ledger.begin(CLIP, stage)
        ledger.explain(CLIP, stage, "it hung")
    ledger.leave(CLIP)
    assert (ledger._tries, ledger._in_flight) == ({}, set())


def test_a_draining_run_begins_with_nothing_new_and_ends_what_it_began(ledger: AttemptLedger) -> None:
    ledger.begin(CLIP, "generate")
    ledger.begin("loading", "load")
    ledger.drain()
    assert ledger.begin(OTHER, "load").verdict == "unstarted"
    assert ledger.begin(OTHER, "generate").verdict == "unstarted"
    assert ledger.begin(CLIP, "generate").verdict == "begin"  # its worker died
    assert ledger.begin(CLIP, "load").verdict == "begin"  # its node was lost, with the image
    assert ledger.begin("loading", "load").verdict == "begin"
    assert ledger.begin(OTHER, "finish").verdict == "begin"  # frames that exist are not thrown away
    assert ledger.begin("a worker", "start of finish").verdict == "begin"


def test_a_clip_that_is_loaded_again_is_counted_once(ledger: AttemptLedger) -> None:
    """Its neighbour in the batch ended the worker."""
    for _ in range(3):
        ledger.begin(CLIP, "load")
        ledger.end(CLIP, "load")
        ledger.begin(OTHER, "load")
    assert ledger.num_begun() == 2


def test_an_attempt_gives_what_was_made_or_the_failure(ledger: AttemptLedger) -> None:
    attempts = Attempts(ledger)
    assert attempts.attempt(row(), "load", made) == row(made=True)
    failure = attempts.attempt(row(), "load", raising(ValueError("no")))
    assert failure == row(stage="load", error_type="ValueError", error="no")
    assert attempts.attempt(failure, "generate", made) == failure
    assert ledger._tries == {CLIP: {}}


def test_a_clip_that_ended_its_workers_is_a_failure(ledger: AttemptLedger) -> None:
    for _ in range(3):
        ledger.begin(CLIP, "finish")
    ledger.explain(CLIP, "finish", "it hung")
    failure = Attempts(ledger).attempt(row(), "finish", made)
    assert (failure["stage"], failure["error_type"]) == ("finish", "WorkerDiedError")
    assert failure["error"] == "the worker died 3 times while it had this clip at stage finish: it hung"


def test_an_unstarted_row_is_marked(ledger: AttemptLedger) -> None:
    ledger.drain()
    assert Attempts(ledger).attempt(row(), "load", made) == row(stage="unstarted")


def test_a_call_that_takes_too_long_ends_the_process(ledger: AttemptLedger, exits: threading.Event) -> None:
    def waiting(row: dict[str, Any]) -> dict[str, Any]:
        assert exits.wait(10)
        return row

    Attempts(ledger, clip_timeout_s=0.05).attempt(row(), "load", waiting)
    assert exits.is_set()


def test_the_reason_is_in_the_ledger_before_the_process_ends(ledger: AttemptLedger, exits: threading.Event) -> None:
    def waiting(row: dict[str, Any]) -> dict[str, Any]:
        exits.wait(10)
        raise Exit

    attempts = Attempts(ledger, clip_timeout_s=0.05)
    for _ in range(3):
        exits.clear()
        with pytest.raises(Exit):
            attempts.attempt(row(), "load", waiting)
    error = attempts.attempt(row(), "load", made)["error"]
    assert error.endswith("at stage load: it took longer than run.clip_timeout_s (0.05 s)")


def test_a_call_that_returns_too_late_does_not_end_its_try(
    ledger: AttemptLedger, exits: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a clip whose ffmpeg is killed at the end of its process would be tried for ever."""
    is_late = threading.Event()
    ended_after: list[bool] = []

    def explain(*_arguments: str) -> None:
        is_late.set()
        time.sleep(0.1)

    def returning(row: dict[str, Any]) -> dict[str, Any]:
        assert is_late.wait(10)
        return row

    monkeypatch.setattr(ledger, "explain", explain)
    monkeypatch.setattr(ledger, "end", lambda *_: ended_after.append(exits.is_set()))
    Attempts(ledger, clip_timeout_s=0.05).attempt(row(), "load", returning)
    assert ended_after == [True]


def test_a_call_in_time_leaves_no_watch_behind(ledger: AttemptLedger, exits: threading.Event) -> None:
    Attempts(ledger, clip_timeout_s=100).attempt(row(), "load", made)
    assert watchdog._watchdog._calls == {}


@pytest.mark.parametrize(
    ("message", "ends"),
    [
        ("CUDA error: an illegal memory access was encountered\nfor debugging ...", True),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm", True),
        ("CUDA error: out of memory", False),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)", False),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", False),
        ("shapes do not fit", False),
    ],
)
def test_only_a_broken_gpu_ends_the_process(
    ledger: AttemptLedger, exits: threading.Event, message: str, ends: bool
) -> None:
    attempts = Attempts(ledger)
    if not ends:
        assert attempts.attempt(row(), "generate", raising(RuntimeError(message)))["error"] == message
        assert not exits.is_set()
        return
    for _ in range(3):
        with pytest.raises(Exit):
            attempts.attempt(row(), "generate", raising(RuntimeError(message)))
    error = attempts.attempt(row(), "generate", made)["error"]
    assert error.endswith(f": RuntimeError: {' '.join(message.split())}")


def test_what_out_of_memory_looks_like() -> None:
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert not is_out_of_memory(RuntimeError("CUDA error: unspecified launch failure"))


def test_a_start_that_fails_ends_the_process_until_it_is_given_up(
    ledger: AttemptLedger, exits: threading.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts = Attempts(ledger)
    for _ in range(3):
        with pytest.raises(Exit), attempts.start("generate"):
            raise OSError("the disk is away")
    assert "Traceback" in capsys.readouterr().err
    expected = "a worker of stage generate died 3 times while it started: OSError: the disk is away"
    with pytest.raises(WorkerDiedError, match=expected) as raised, attempts.start("generate"):
        raise AssertionError("is not tried")
    assert isinstance(raised.value, RunError)  # the command line's exit code 1: the run broke off


def test_a_start_that_succeeds_starts_the_count_anew(ledger: AttemptLedger, exits: threading.Event) -> None:
    attempts = Attempts(ledger)
    for _ in range(2):
        with pytest.raises(Exit), attempts.start("finish"):
            raise OSError
        with attempts.start("finish"):
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
    ledger: AttemptLedger, exits: threading.Event, error: Exception
) -> None:
    with pytest.raises(type(error), match=str(error)), Attempts(ledger).start("generate"):
        raise error
    assert not exits.is_set()


def test_a_start_waits_for_a_store_that_may_recover(
    ledger: AttemptLedger, exits: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("actors.stages.attempts.time", SimpleNamespace(sleep=waited.append))
    attempts = Attempts(ledger)
    for _ in range(2):
        with pytest.raises(Exit), attempts.start("finish"):
            raise caused(StorageError("s3://b/rife.pkl could not be read: no connection"), ConnectionError())
    with attempts.start("finish"):
        pass
    assert ledger._tries == {}
    assert sum(waited) >= 120
