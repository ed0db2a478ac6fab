"""How a run ends before its time: in good order when it is asked to, at once when it is asked again."""

import queue
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Protocol, TypeVar

T = TypeVar("T")

# `ray job stop` and Kubernetes send SIGTERM, Ctrl-C sends SIGINT.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# An outcome reaches the driver 0.3 s after its stage has ended, at worst: nothing may be under way for as long.
_LOOK_INTERVAL_S = 0.5
_EMPTY_LOOKS = 3


class Draining(Protocol):
    """What an `Ending` asks of the stages."""

    def drain(self) -> None:
        """Begin no clip any more."""

    def in_flight(self) -> list[str]:
        """The clips that were begun and have not ended."""


class Ending:
    """No clip is begun any more; those under way may finish within `grace_s`."""

    def __init__(self, stages: Draining, grace_s: float) -> None:
        self._stages = stages
        self._until = time.monotonic() + grace_s
        self._next_look = 0.0
        self._empty_looks = 0
        stages.drain()

    def is_over(self) -> bool:
        """Whether nothing is under way any more, or the time is up. It looks at the stages now and then only."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_INTERVAL_S
            self._empty_looks = 0 if self._stages.in_flight() else self._empty_looks + 1
        return self._empty_looks >= _EMPTY_LOOKS or now >= self._until


class Interruption:
    """SIGINT and SIGTERM, for the main thread: within it the first signal sets `requested`.

    The next one raises KeyboardInterrupt wherever the main thread is.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "Interruption":
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


def with_pauses(items: Iterable[T], every_s: float) -> Iterator[T | None]:
    """The items as they come, and None whenever `every_s` passed without one.

    They are drawn in a thread of their own, one ahead; it ends with the items, or with the process.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=1)

    def draw() -> None:
        end: BaseException = StopIteration()
        try:
            for item in items:
                ready.put((item, None))
        except BaseException as error:  # whatever it is belongs to the thread that asked for the items
            end = error
        ready.put((None, end))

    threading.Thread(target=draw, name="draw", daemon=True).start()
    while True:
        try:
            item, end = ready.get(timeout=every_s)
        except queue.Empty:
            yield None
            continue
        if isinstance(end, StopIteration):
            return
        if end is not None:
            raise end
        yield item
