"""Calls that take too long, and calls that do not."""

import threading

import pytest

from actors.tries import watchdog


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_LOOK_INTERVAL_S", 0.01)
    monkeypatch.setattr(watchdog, "_watchdog", watchdog._Watchdog())


def test_a_call_that_is_late_is_noticed_once() -> None:
    late = threading.Semaphore(0)
    with watchdog.limit(0.02, late.release):
        assert late.acquire(timeout=10)
        assert not late.acquire(timeout=0.1)


def test_each_of_several_calls_has_its_own_limit() -> None:
    late = threading.Event()
    with watchdog.limit(100, pytest.fail):
        with watchdog.limit(0.02, late.set):
            assert late.wait(10)
        with watchdog.limit(100, pytest.fail):
            pass
    assert watchdog._watchdog._calls == {}


def test_a_call_that_is_late_does_not_end_while_something_is_done_about_it() -> None:
    begun, done = threading.Event(), threading.Event()

    def on_late() -> None:
        begun.set()
        done.wait(0.2)
        done.set()

    with watchdog.limit(0.01, on_late):
        assert begun.wait(10)
    assert done.is_set()


def test_all_calls_share_one_thread() -> None:
    before = threading.active_count()
    with watchdog.limit(100, pytest.fail), watchdog.limit(100, pytest.fail), watchdog.limit(100, pytest.fail):
        assert threading.active_count() == before + 1
