"""How a run is told to end, and when it has."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from pipelines import interruption
from pipelines.interruption import Ending, Interruption, with_pauses


class Stages:
    """As many clips under way as the test says."""

    def __init__(self, in_flight: int) -> None:
        self.clips = ["clip"] * in_flight
        self.drained = 0

    def drain(self) -> None:
        self.drained += 1

    def in_flight(self) -> list[str]:
        return self.clips


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "_LOOK_INTERVAL_S", 0.0)


def test_an_ending_waits_for_the_clips_under_way() -> None:
    stages = Stages(2)
    ending = Ending(stages, grace_s=60)
    assert stages.drained == 1
    assert [ending.is_over() for _ in range(5)] == [False] * 5
    stages.clips.clear()
    assert [ending.is_over() for _ in range(3)] == [False, False, True]


def test_an_ending_waits_no_longer_than_the_grace_period() -> None:
    ending = Ending(Stages(1), grace_s=0.05)
    assert not ending.is_over()
    time.sleep(0.06)
    assert ending.is_over()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Interruption() as asked:
        assert not asked.requested
        os.kill(os.getpid(), number)
        assert asked.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_pauses_come_between_slow_items_and_all_items_come() -> None:
    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.1)
            yield number

    seen = list(with_pauses(slow(), 0.02))
    assert [item for item in seen if item is not None] == [0, 1, 2]
    assert seen.count(None) >= 3


def test_an_error_of_the_items_reaches_the_caller() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    items = with_pauses(broken(), 1.0)
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)
