"""What workers report, while a run goes on: into the run's folder, and what degrades the run also to the user."""

from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from actors import logs
from actors.counting import times
from actors.logs import Report
from actors.repeating import Repeating
from actors.retries import take_retries
from actors.secrets import hidden

# A line about a worker that died should come while somebody still looks; a call a second costs nothing.
_INTERVAL_S = 1.0
# Of one kind the first lines are shown and the others only counted: a store that is down would fill the screen.
_LINES_OF_A_KIND = 5


class WorkerLog(Repeating):
    """A context manager: a thread takes the reports of all workers, and of the driver itself, until the block ends."""

    def __init__(
        self, run_id: str, take: Callable[[], list[Report]], log: Path, counts: Counter[str], console: Console
    ) -> None:
        """`counts` is filled: degradations by their kind."""
        super().__init__("worker-log", self._look, _INTERVAL_S, once_more=True)
        self._take, self._log, self._counts, self._console = take, log, counts, console
        self._own: deque[Report] = deque()  # other threads append
        self._shown: Counter[str] = Counter()
        logs.start(run_id, "driver", self._own.append)

    def _look(self) -> None:
        try:
            reports = self._take()
        except Exception:  # noqa: BLE001 - Ray is gone, or its ledger starts again: others say so
            reports = []
        own = [self._own.popleft() for _ in range(len(self._own))]
        if again := take_retries():
            own.append(["store asked again", again, f"driver: the store had to be asked again, {times(again)}"])
        for kind, count, line in [*reports, *own]:
            self._write(kind, count, hidden(line))

    def _write(self, kind: str, count: int, line: str) -> None:
        with self._log.open("a") as file:
            file.write(f"{line}\n")
        if not kind:
            return
        self._counts[kind] += count
        self._shown[kind] += 1
        if self._shown[kind] <= _LINES_OF_A_KIND:
            self._console.print(f"{kind}: {line}", markup=False, highlight=False)
        elif self._shown[kind] == _LINES_OF_A_KIND + 1:
            self._console.print(f"{kind}: more of it is in warnings.log of this run", markup=False, highlight=False)
