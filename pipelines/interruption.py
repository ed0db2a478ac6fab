"""How a run ends before its time: in good order when it is asked to, at once when it is asked again."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Literal, Protocol

from rich.console import Console

# `ray job stop` and Kubernetes send SIGTERM, Ctrl-C sends SIGINT.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# An outcome reaches the driver 0.3 s after its stage has ended, at worst: nothing may be under way for as long.
_LOOK_INTERVAL_S = 0.5
_EMPTY_LOOKS = 3

Reason = Literal["interrupted", "stopped"]


class Stages(Protocol):
    """What is asked of the stages."""

    def drain(self) -> None:
        """Begin no clip any more."""

    def in_flight(self) -> list[str]:
        """The clips that were begun and have not ended."""


class Interruption:
    """Ends the block that it surrounds, in the main thread, with KeyboardInterrupt.

    The first SIGINT or SIGTERM, or `ask`, lets no clip begin any more; those under way get `grace_s`. Then, or at the
    next signal, KeyboardInterrupt is raised; `is_over` tells the former from the latter. The block may come to its own
    end before. A signal's handler interrupts the main thread anywhere, so the waiting is done by another one.
    """

    def __init__(self, stages: Stages, grace_s: float, console: Console) -> None:
        self.reason: Reason | None = None  # why the run ends before its time
        self.is_over = False  # nothing is under way any more, or the time is up
        self._stages = stages
        self._grace_s = grace_s
        self._console = console
        self._asked = threading.Event()
        self._left = False
        self._thread = threading.Thread(target=self._end, name="interruption", daemon=True)

    def __enter__(self) -> "Interruption":
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        self._asked.set()
        self._thread.join()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ask(self, reason: Reason) -> None:
        """Begin to end."""
        if self.reason is None:
            self.reason = reason
            self._asked.set()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._left:
            return
        if self.reason is not None:
            raise KeyboardInterrupt
        self.ask("interrupted")

    def _end(self) -> None:
        self._asked.wait()
        until = time.monotonic() + self._grace_s
        empty_looks = 0
        if not self._left:
            self._console.print(f"Stopping; clips under way get {self._grace_s:g} s", highlight=False)
        while not self._left and empty_looks < _EMPTY_LOOKS and time.monotonic() < until:
            self._stages.drain()  # each time: the ledger forgets it where its process is lost
            empty_looks = 0 if self._stages.in_flight() else empty_looks + 1
            time.sleep(_LOOK_INTERVAL_S)
        self.is_over = True
        if not self._left:
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGINT)
