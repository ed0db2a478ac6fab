"""How a run is told to end, and when it does."""

import io
import os
import signal
import time

import pytest
from rich.console import Console

from pipelines import interruption
from pipelines.interruption import Interruption


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
    monkeypatch.setattr(interruption, "_LOOK_INTERVAL_S", 0.01)


def ending(stages: Stages, grace_s: float = 60.0) -> Interruption:
    return Interruption(stages, grace_s, Console(file=io.StringIO()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_clips_under_way_may_finish(number: signal.Signals) -> None:
    stages = Stages(2)
    before = signal.getsignal(number)
    with ending(stages) as end:
        os.kill(os.getpid(), number)
        time.sleep(0.2)
        assert (stages.drained > 0, end.reason, end.is_over) == (True, "interrupted", False)
        stages.clips = []
        with pytest.raises(KeyboardInterrupt):
            time.sleep(10)
        assert end.is_over
    assert signal.getsignal(number) is before


def test_no_longer_than_the_grace_period() -> None:
    with ending(Stages(1), grace_s=0.1) as end:
        end.ask("stopped")
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(10)
        assert time.monotonic() - started < 5
        assert (end.is_over, end.reason) == (True, "stopped")


def test_a_second_signal_ends_at_once() -> None:
    with ending(Stages(1)) as end:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert not end.is_over


def test_a_block_that_ends_by_itself_is_left_alone() -> None:
    stages = Stages(1)
    with ending(stages) as end:
        end.ask("stopped")
        time.sleep(0.05)
    time.sleep(0.1)
    drained = stages.drained
    assert drained > 0
    with ending(stages) as end:
        pass
    assert (end.reason, stages.drained) == (None, drained)
