"""Progress of a run: a bar on a terminal, plain lines with an ETA elsewhere (`ray job submit`, CI, a log file)."""

import time
from types import TracebackType
from typing import Self

import rich.progress
from rich.console import Console

# Of less time a rate says nothing.
_LEAST_S = 1.0


class Progress:
    """Counts rows that ended; use it as a context manager."""

    def __init__(self, total: int, console: Console, log_interval_s: float) -> None:
        self._total = total
        self._console = console
        self._log_interval_s = log_interval_s
        self._started = time.monotonic()
        self._last_line = self._started
        self._first: float | None = None  # when the first row ended: what precedes it is loading, not speed
        self._bar: rich.progress.Progress | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}"),
                rich.progress.BarColumn(),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TimeElapsedColumn(),
                rich.progress.TextColumn("ETA"),
                rich.progress.TimeRemainingColumn(),
                console=self._console,
            )
            self._bar.start()
            self._task = self._bar.add_task("loading models", total=self._total)
        else:
            self._console.print(f"0/{self._total:,} clips, loading models ...", highlight=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, made: int, failed: int) -> None:
        """Say that `made` + `failed` rows of the run have ended."""
        now = time.monotonic()
        done = made + failed
        self._first = self._first or now
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=f"{failed:,} failed" if failed else "making clips")
        elif now - self._last_line >= self._log_interval_s or done == self._total:
            self._last_line = now
            self._console.print(self._line(done, failed, now), highlight=False)

    def _line(self, done: int, failed: int, now: float) -> str:
        seconds = now - (self._first or now)
        rate = (done - 1) / seconds if seconds >= _LEAST_S else 0.0
        eta = f"{rate * 60:.1f} clips/min, ETA {_clock((self._total - done) / rate)}" if rate else "ETA unknown"
        share = 100 * done / self._total
        elapsed = _clock(now - self._started)
        return f"{done:,}/{self._total:,} clips ({share:.0f} %), {failed:,} failed, {elapsed} elapsed, {eta}"


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"
