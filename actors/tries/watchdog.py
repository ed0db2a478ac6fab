"""A time limit for calls that cannot be stopped from within: one thread looks after all calls of the process.

A `threading.Timer` for each would start three threads for a clip. What is done about a late call is to end the process:
the thread does not go on after that.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from actors.repeating import Repeating

_LOOK_INTERVAL_S = 0.5


class _Watchdog:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[object, tuple[float, Callable[[], None]]] = {}  # when each is late, and what is done then
        self._looking: Repeating | None = None

    def add(self, late_at: float, on_late: Callable[[], None]) -> object:
        call = object()
        with self._lock:
            self._calls[call] = (late_at, on_late)
            if self._looking is None:
                self._looking = Repeating("watchdog", self._look, _LOOK_INTERVAL_S)
                self._looking.start()
        return call

    def remove(self, call: object) -> None:
        with self._lock:
            self._calls.pop(call, None)

    def _look(self) -> None:
        with self._lock:
            late = [call for call, (late_at, _) in self._calls.items() if time.monotonic() > late_at]
            for call in late:
                self._calls.pop(call)[1]()


_watchdog = _Watchdog()


@contextmanager
def limit(seconds: float, on_late: Callable[[], None]) -> Iterator[None]:
    """Call `on_late`, which ends the process, from another thread where the block takes longer than `seconds`.

    It may come half a second late. While it is under way, the block does not come to an end.
    """
    call = _watchdog.add(time.monotonic() + seconds, on_late)
    try:
        yield
    finally:
        _watchdog.remove(call)
