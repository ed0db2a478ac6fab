"""How a run is told to end, and when it does."""

import io
import os
import signal
import time

import pytest
from rich.console import Console

from pipelines.driver import interruption
from pipelines.driver.interruption import Interruption


class Stages:
    """As many clips under way as the test says."""

    def __init__(self, in_flight: int) -> None:
        self.clips = ["clip"] * in_flight
        self.winding_down = 0

    def wind_down(self) -> None:
        self.winding_down += 1

    def in_flight(self) -> list[str]:
        return self.clips


class Silent(Stages):
    """Their ledger answers no more."""

    def in_flight(self) -> list[str]:
        time.sleep(60)
        raise AssertionError


class Lost(Stages):
    """Their ledger is dead."""

    def wind_down(self) -> None:
        raise RuntimeError("the actor died")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "_LOOK_INTERVAL_S", 0.01)


def ending(stages: Stages, grace_s: float = 60.0) -> Interruption:
    return Interruption(stages, grace_s, Console(file=io.StringIO()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_clips_under_way_may_finish(number: signal.Signals) -> None:
    stages = Stages(2)
    before = signal.getsignal(number)
    seen = []

    def draw(end: Interruption) -> None:
        with end.drawing():
            os.kill(os.getpid(), number)
            time.sleep(0.2)
            seen.append((stages.winding_down > 0, end.reason, end.is_over))
            stages.clips = []
            time.sleep(10)

    with ending(stages) as end:
        with pytest.raises(KeyboardInterrupt):
            draw(end)
        assert seen == [(True, "interrupted", False)]
        assert end.is_over
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("stages", "grace_s"), [(Stages(1), 0.1), (Silent(1), 0.1), (Lost(1), 60)])
def test_no_longer_than_the_grace_period(stages: Stages, grace_s: float) -> None:
    def draw(end: Interruption) -> None:
        with end.drawing():
            end.ask("stopped")
            time.sleep(10)

    with ending(stages, grace_s) as end:
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            draw(end)
        assert time.monotonic() - started < 5
        assert (end.is_over, end.reason) == (True, "stopped")


def test_what_is_done_outside_of_drawing_is_not_cut_short() -> None:
    with ending(Stages(0)) as end:
        end.ask("stopped")
        time.sleep(0.3)  # a commit
        assert end.is_over
        with pytest.raises(KeyboardInterrupt), end.drawing():
            raise AssertionError("there is nothing to draw any more")


def test_a_second_signal_ends_at_once_and_anywhere() -> None:
    with ending(Stages(1)) as end:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert not end.is_over


def test_a_block_that_ends_by_itself_is_left_alone() -> None:
    with ending(Stages(1)) as end, end.drawing():
        end.ask("stopped")
        time.sleep(0.05)
    time.sleep(0.1)
    with ending(Stages(1)) as end, end.drawing():
        pass
    assert (end.reason, end.is_over) == (None, False)


def test_a_first_signal_to_a_run_that_stops_by_itself_is_no_second_one() -> None:
    with ending(Stages(1)) as end:
        end.ask("stopped")
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert end.reason == "stopped"


def test_what_ends_after_a_signal_was_interrupted_by_it() -> None:
    def be_ended(end: Interruption) -> None:
        with end.drawing():
            os.kill(os.getpid(), signal.SIGTERM)
            end.end_now("broke off")  # Ray got the same signal
            time.sleep(1)

    with ending(Stages(1)) as end, pytest.raises(KeyboardInterrupt):
        be_ended(end)
    assert end.reason == "interrupted"


def test_what_is_done_with_what_was_drawn_is_not_cut_short() -> None:
    done = []

    def draw(end: Interruption) -> None:
        for number in end.drawn(range(3)):
            end.ask("stopped")
            time.sleep(0.3)  # a commit
            done.append((number, end.is_over))

    with ending(Stages(0)) as end, pytest.raises(KeyboardInterrupt):
        draw(end)
    assert done == [(0, True)]
