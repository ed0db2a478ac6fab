"""What is done every few seconds beside the work itself, in a thread of its own."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from actors.logs import logger

# What is asked may never answer, as a ledger whose node is lost: it is not worth waiting for at the end of a run.
LAST_TIME_S = 10.0


class Repeating:
    """Calls `do` every `every_s` seconds from `start` to `stop`, or within a `with` block.

    Whatever `do` raises ends neither the thread nor the run: the first of several errors in a row is logged with its
    traceback. What is foreseen, as a store that does not answer, `do` is to catch itself.
    """

    def __init__(
        self, name: str, do: Callable[[], object], every_s: float, *, at_once: bool = False, once_more: bool = False
    ) -> None:
        """`name` of the thread. `at_once`: for the first time when it starts; `once_more`: when it is to stop, too."""
        self._name, self._do, self._every_s, self._at_once, self._once_more = name, do, every_s, at_once, once_more
        self._is_over = threading.Event()
        self._is_given_up = False
        self._thread: threading.Thread | None = None
        self._has_failed = False  # the last time

    def start(self) -> None:
        """Begin; it ends with the process, where nobody stops it before."""
        self._thread = threading.Thread(target=self._repeat, name=self._name, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Begin no more, without waiting; `do` may call it, too."""
        self._is_over.set()

    def stop(self, *, patiently: bool = False) -> bool:
        """End, and wait for what is under way and for the last time: for `LAST_TIME_S`, or `patiently` without a limit.

        Whether that has come to its end; where not, a warning says so.
        """
        self.end()
        if self._thread is None:
            return True
        self._thread.join(None if patiently else LAST_TIME_S)
        if self._thread.is_alive():
            self._is_given_up = True
            logger.warning("%s: the last time takes longer than %g s, and is not waited for", self._name, LAST_TIME_S)
            return False
        return True

    def once(self) -> None:
        """Do it now, in the thread that calls this, whatever it raises."""
        try:
            self._do()
        except Exception:  # noqa: BLE001 - whatever it is, the run goes on
            if not self._has_failed:
                logger.exception("%s: it could not be done, and is tried again", self._name)
            self._has_failed = True
        else:
            self._has_failed = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _repeat(self) -> None:
        if self._at_once and not self._is_over.is_set():
            self.once()
        while not self._is_over.wait(self._every_s):
            self.once()
        if self._once_more and not self._is_given_up:
            self.once()
