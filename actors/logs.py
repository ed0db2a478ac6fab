"""Logs of the workers, and of the driver, in one format: time, run, stage, clip, level, message.

    2026-11-26T12:00:00Z 20261126T115900Z-ab12cd generate 3f2a91... WARNING the GPU's memory is short: ...

All go to standard error, which Ray keeps in its session folder. Warnings and worse are told to whoever listens, too: of
a worker that is the ledger, from which the driver takes them into the run's folder.

What makes a run slower or its clips slightly other, and goes on, is a *degradation*: a warning of a kind that the
summary counts.
"""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from actors.printable import printable
from actors.secrets import hidden, remember_environment

Degradation = Literal["tighter memory", "worker died", "worker restarted", "node lost", "store asked again"]
# Kind ("" for a plain warning), how many of it, and the line. A list, which Ray packs as it is.
Report = list[Any]

logger = logging.getLogger("stillreel")

_FORMAT = "%(asctime)s %(run)s %(stage)s %(clip)s %(levelname)s %(message)s"
_clip: ContextVar[str] = ContextVar("clip", default="-")


def line(run_id: str, stage: str, clip: str, message: str) -> str:
    """A warning in the format of all, about something that another process did."""
    record = logging.LogRecord("stillreel", logging.WARNING, "", 0, message, None, None)
    record.run, record.stage, record.clip = run_id, stage, clip
    return _formatter().format(record)


def start(run_id: str, stage: str, listen: Callable[[Report], object] | None = None) -> None:
    """Have this process log as `stage` of a run; `listen` takes warnings and worse. The last call counts."""
    remember_environment()
    here = logging.StreamHandler(sys.stderr)
    handlers: list[logging.Handler] = [here] if stage != "driver" else []
    if listen is not None:
        handlers.append(_Listener(listen))
    for handler in handlers:
        handler.setFormatter(_formatter())
        handler.addFilter(lambda record: _fill_in(record, run_id, stage))
    logger.handlers = handlers
    logger.setLevel(logging.INFO)
    logger.propagate = False


@contextmanager
def about(clip_id: str) -> Iterator[None]:
    """What is logged in the block is about this clip."""
    token = _clip.set(clip_id)
    try:
        yield
    finally:
        _clip.reset(token)


def degraded(kind: Degradation, message: str, count: int = 1) -> None:
    """Something goes on less well than it should."""
    logger.warning(message, extra={"kind": kind, "count": count})


def stacks() -> str:
    """Where each thread of this process is."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames().items()  # noqa: SLF001 - documented, whatever its name says
    return "\n".join(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}" for ident, frame in frames
    )


class _Listener(logging.Handler):
    """Tells of warnings and worse; an error of its own is no reason to fail a clip."""

    def __init__(self, listen: Callable[[Report], object]) -> None:
        super().__init__(logging.WARNING)
        self._listen = listen

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._listen([getattr(record, "kind", ""), getattr(record, "count", 1), self.format(record)])
        except Exception:  # noqa: BLE001 - logging has its own way to tell
            self.handleError(record)


class _Formatter(logging.Formatter):
    """Printable lines without secrets, those after the first indented: what is logged cannot pass for another line."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(hidden(super().format(record)), keep="\n").replace("\n", "\n    ")


def _formatter() -> logging.Formatter:
    formatter = _Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    return formatter


def _fill_in(record: logging.LogRecord, run_id: str, stage: str) -> bool:
    record.run, record.stage = run_id, stage
    record.clip = getattr(record, "clip", _clip.get())
    return True
