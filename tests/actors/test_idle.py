"""Workers end where their node goes away, and not before they have nothing to do."""

import os
import threading
import time

import pytest

from actors.tries import idle
from actors.tries.idle import IdleWatch

WAIT_S = 20.0


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set where the process would have ended."""
    ended = threading.Event()

    def end(code: int) -> None:
        assert code == 1
        ended.set()
        threading.Event().wait()  # the thread does not go on after that

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(idle, "_IDLE_S", 0.05)
    return ended


def test_an_idle_worker_ends_when_its_node_goes_away(exits: threading.Event) -> None:
    goes_away = threading.Event()
    IdleWatch().watch(goes_away.is_set)
    assert not exits.wait(0.3)
    goes_away.set()
    assert exits.wait(WAIT_S)


def test_a_busy_one_ends_after_its_last_call(exits: threading.Event) -> None:
    worker = IdleWatch()
    with worker.busy():
        worker.watch(lambda: True)
        with worker.busy():
            pass
        assert not exits.wait(0.3)
    assert exits.wait(WAIT_S)


def test_one_that_is_called_while_it_asks_stays(exits: threading.Event) -> None:
    worker, asked = IdleWatch(), threading.Event()
    may_answer = threading.Event()

    def goes_away() -> bool:
        asked.set()
        return may_answer.wait(WAIT_S)

    worker.watch(goes_away)
    assert asked.wait(WAIT_S)
    with worker.busy():
        may_answer.set()
        assert not exits.wait(0.3)
    assert exits.wait(WAIT_S)


def test_a_ledger_that_does_not_answer_ends_nobody(exits: threading.Event) -> None:
    asked: list[float] = []

    def goes_away() -> bool:
        asked.append(time.monotonic())
        raise RuntimeError("the actor died")

    IdleWatch().watch(goes_away)
    deadline = time.monotonic() + WAIT_S
    while len(asked) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(asked) >= 3
    assert not exits.is_set()
