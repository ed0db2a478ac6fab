"""Workers leave a node that goes away as soon as they have nothing to do there.

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


class Leaving:
    """What a worker is busy with; and whether it may stay where it is."""

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

    def watch(self, leaves: Callable[[], bool]) -> None:
        """From a thread of its own: end this process when it is idle and `leaves` says that its node goes away."""
        Repeating("leaving", partial(self._look, leaves), _IDLE_S).start()

    def _look(self, leaves: Callable[[], bool]) -> None:
        if not (self._is_idle() and _said(leaves)):
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


def _said(leaves: Callable[[], bool]) -> bool:
    with suppress(Exception):  # the ledger starts again, or the run is over
        return leaves()
    return False
