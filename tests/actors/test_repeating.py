"""What is done every few seconds beside the work."""

import logging
import threading
import time
from collections.abc import Callable

import pytest

from actors.repeating import Repeating

WAIT_S = 20.0


@pytest.fixture(autouse=True)
def listening(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("stillreel")
    monkeypatch.setattr(logger, "propagate", True)


class Counter:
    """What is done: counts, and raises those errors that are given, one each time."""

    def __init__(self, *errors: Exception | None) -> None:
        self.count, self.errors = 0, [*errors]

    def __call__(self) -> None:
        self.count += 1
        if self.errors and (error := self.errors.pop(0)):
            raise error


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_it_is_done_again_and_again_until_the_end_and_once_more_where_that_is_asked_for() -> None:
    do = Counter()
    with Repeating("it", do, 0.001):
        wait_for(lambda: do.count >= 3)
    count = do.count
    time.sleep(0.02)
    assert do.count == count
    for at_once, once_more, times in ((False, False, 0), (True, False, 1), (False, True, 1), (True, True, 2)):
        do = Counter()
        with Repeating("it", do, 1000, at_once=at_once, once_more=once_more):
            wait_for(lambda do=do, at_once=at_once: do.count >= at_once)  # type: ignore[misc]
        assert do.count == times


def test_an_error_ends_nothing_and_the_first_of_several_in_a_row_is_told(caplog: pytest.LogCaptureFixture) -> None:
    errors = [KeyError("a"), KeyError("b"), None, KeyError("c")]
    do = Counter(*errors)
    with Repeating("it", do, 0.001):
        wait_for(lambda: do.count >= 6)
    told = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert told == [errors[0], errors[3]]
    assert {record.getMessage() for record in caplog.records} == {"it: it could not be done, and is tried again"}


def test_what_is_done_may_end_it(caplog: pytest.LogCaptureFixture) -> None:
    counts: list[int] = []

    def do() -> None:
        counts.append(1)
        repeating.end()

    repeating = Repeating("it", do, 0.001)
    repeating.start()
    wait_for(lambda: bool(counts))
    assert repeating.stop()
    assert counts == [1]


def test_the_end_waits_for_what_is_under_way_but_not_for_ever(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.repeating.LAST_TIME_S", 0.05)
    begun, may_end = threading.Event(), threading.Event()

    def do() -> None:
        begun.set()
        may_end.wait(WAIT_S)

    repeating = Repeating("it", do, 0.001)
    assert repeating.stop()  # it was never started
    repeating = Repeating("it", do, 0.001)
    repeating.start()
    assert begun.wait(WAIT_S)
    assert not repeating.stop()
    assert caplog.messages == ["it: the last time takes longer than 0.05 s, and is not waited for"]
    may_end.set()
    assert repeating.stop(patiently=True)
