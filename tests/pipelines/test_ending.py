"""No thread calls Ray when this process has left the cluster."""

import threading
import time

import pytest

from pipelines.driver import ending
from pipelines.driver.interruption import Interruption
from tests.pipelines.test_interruption import Stages
from tests.pipelines.test_interruption import ending as interruption_of


def test_threads_that_may_call_ray_have_ended() -> None:
    called = []

    def step() -> None:
        time.sleep(0.3)
        called.append("Ray")

    threading.Thread(target=step, name="StreamingExecutor-dataset_0", daemon=True).start()
    ending.wait_for_threads()
    assert called == ["Ray"]


def test_one_that_never_comes_back_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_ENDS_WITHIN_S", 0.2)
    has_ended = threading.Event()
    started = time.monotonic()
    for name in ("StreamingExecutor-a", "interruption", "of another kind"):
        threading.Thread(target=has_ended.wait, args=(60,), name=name, daemon=True).start()
    ending.wait_for_threads()
    has_ended.set()
    assert 0.2 <= time.monotonic() - started < 10


def test_nobody_looks_for_clips_under_way_any_more() -> None:
    stages = Stages(1)
    end: Interruption
    with interruption_of(stages) as end, end.drawing():
        end.ask("stopped")
        deadline = time.monotonic() + 30
        while not stages.winding_down:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    ending.wait_for_threads()
    looks = stages.winding_down
    time.sleep(0.1)
    assert stages.winding_down == looks > 0
