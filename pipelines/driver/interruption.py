"""How a run ends before its time: in good order when it is asked to, at once when it is asked again."""

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Literal, Protocol, Self, TypeVar

from rich.console import Console

# `ray job stop` and Kubernetes send SIGTERM, Ctrl-C sends SIGINT.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# The outcome of a clip that failed before `generate` reaches the driver 0.3 s after its stage has ended, at worst.
_LOOK_INTERVAL_S = 0.5
_EMPTY_LOOKS = 3

Reason = Literal["interrupted", "stopped", "broke off"]
T = TypeVar("T")


class Stages(Protocol):
    """What is asked of the stages."""

    def wind_down(self) -> None:
        """Begin no clip any more."""

    def in_flight(self) -> list[str]:
        """The clips that were begun and have not ended."""


class Interruption:
    """A context manager for the main thread: what is drawn within it may be told to end.

    The first SIGINT or SIGTERM, or `ask`, lets no clip begin any more; those under way get `grace_s`. When they have
    ended, or the time is up, KeyboardInterrupt ends the `drawing` block, unless that has come to its own end. The next
    signal raises KeyboardInterrupt wherever the main thread is. A handler interrupts the main thread anywhere, so the
    waiting is done by other threads, and what must not be cut short (a commit) is done outside of `drawing`.
    """

    def __init__(self, stages: Stages, grace_s: float, console: Console) -> None:
        self.reason: Reason | None = None  # why the run ends before its time
        self.is_over = False  # nothing is under way any more, or the time is up
        self._stages = stages
        self._grace_s = grace_s
        self._console = console
        self._asked = threading.Event()
        self._is_drawing = False
        self._is_closed = False
        self._is_own_signal = False
        self._was_signalled = False  # by somebody else
        self._ending = threading.Lock()  # several threads may come to it at once
        self._watcher = threading.Thread(target=self._watch, name="interruption", daemon=True)

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._ending:  # a signal that is sent while this waits finds the handler still there
            self._is_closed = True
        self._asked.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """The part that KeyboardInterrupt ends when the time is over."""
        self._is_drawing = True
        try:
            if self.is_over:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_drawing = False

    def drawn(self, items: Iterable[T]) -> Iterator[T]:
        """The items, each waited for within `drawing`; what is done with them is outside of it."""
        iterator = iter(items)
        while True:
            with self.drawing():
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def ask(self, reason: Reason) -> None:
        """Begin to end."""
        if self.reason is None:
            self.reason = reason
            self._asked.set()

    def end_now(self, reason: Reason) -> None:
        """End without waiting for what is under way; for other threads than the main one."""
        self.reason = self.reason or reason
        self._end()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_own_signal:
            self._is_own_signal = False
            if self._is_drawing:
                raise KeyboardInterrupt
        elif self._was_signalled:
            raise KeyboardInterrupt
        else:
            self._was_signalled = True
            self.ask("interrupted")

    def _watch(self) -> None:
        self._asked.wait()
        if self._is_closed:
            return
        self._console.print(
            f"Stopping; clips under way get {self._grace_s:g} s, a second signal ends at once", highlight=False
        )
        time_is_up = threading.Timer(self._grace_s, self._end)  # of its own: Ray may not answer
        time_is_up.daemon = True
        time_is_up.start()
        empty_looks = 0
        while empty_looks < _EMPTY_LOOKS and not self.is_over and not self._is_closed:
            empty_looks = 0 if self._is_busy() else empty_looks + 1
            time.sleep(_LOOK_INTERVAL_S)
        time_is_up.cancel()
        self._end()

    def _is_busy(self) -> bool:
        try:
            self._stages.wind_down()  # each time: the ledger forgets it where its process is lost
            return bool(self._stages.in_flight())
        except Exception:  # noqa: BLE001 - nothing is known of the stages any more, so there is nothing to wait for
            return False

    def _end(self) -> None:
        with self._ending:
            if self.is_over or self._is_closed:
                return
            self.is_over = True
            main = threading.main_thread().ident
            assert main is not None
            self._is_own_signal = True
            signal.pthread_kill(main, signal.SIGINT)
