"""A worker that has nothing to do ends where its node goes away.

Ray Data calls no actor on such a node any more, and starts none in its place: where all actors of a stage are on one
node, all clips would wait until that node is gone. A worker that ends is started again on a node that stays, or makes
the cluster grow while the machine that is taken away still works.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from actors import logs, scratch
from actors.repeating import Repeating

# So long without a call before a worker asks: of 1,000 workers that wait for clips, 200 calls of the ledger a second.
_IDLE_S = 5.0


class IdleWatch:
    """Knows whether a worker has something to do, and ends it where it has not and its node goes away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0
        self._idle_since = time.monotonic()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """A call, until what it made has been taken."""
        with self._lock:
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                self._idle_since = time.monotonic()

    def watch(self, goes_away: Callable[[], bool]) -> None:
        """From a thread of its own: end this process when it is idle and `goes_away` says that its node goes away."""
        Repeating("idle", partial(self._look, goes_away), _IDLE_S).start()

    def _look(self, goes_away: Callable[[], bool]) -> None:
        if not (self._is_idle() and _said(goes_away)):
            return
        with self._lock:  # which a call that comes now waits for
            if self._has_been_idle():
                self._end()

    def _end(self) -> None:
        try:
            logs.logger.info("this worker has nothing to do and its node goes away: it ends, to begin elsewhere")
            scratch.clear()
        finally:
            os._exit(1)  # which Ray answers with a new process, as it does no other end

    def _is_idle(self) -> bool:
        with self._lock:
            return self._has_been_idle()

    def _has_been_idle(self) -> bool:
        return not self._calls and time.monotonic() - self._idle_since >= _IDLE_S


def _said(goes_away: Callable[[], bool]) -> bool:
    with suppress(Exception):  # the ledger starts again, or the run is over
        return goes_away()
    return False
