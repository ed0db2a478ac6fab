"""Which share of a run's GPU-seconds went into clips, and which into all else.

What clips and failures took, their endings say. Of starts, of tries that came to nothing and of clips under way the
ledger knows (`actors.tries.spent`). The rest is idling: waiting for images, for the other stage, for the end.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from actors.contracts import Ending, Failed
from actors.repeating import Repeating
from actors.runner.contract import seconds_column
from actors.tries.spent import Spent
from pipelines.pools import Reserved

# Seconds between two looks at what the ledger knows; a look costs it a millisecond.
_INTERVAL_S = 5.0

SHARES = ("making", "starting", "failing", "retrying", "idling")


class GpuTime:
    """Counts seconds of actors, by stage, and weighs them with the GPUs that these hold.

    An actor that has not started yet starts, as long as its GPU is there; one whose worker has ended idles until it
    begins to start again.
    """

    def __init__(self) -> None:
        self._reserved: Mapping[str, Reserved] = {}
        self._made, self._failed, self._started, self._waited, self._lost = (
            defaultdict[str, float](float) for _ in range(5)
        )
        self._first_started: defaultdict[str, float] = defaultdict(float)  # of `_started`, those that were the first
        self._unready_s = 0.0  # of GPUs, while no worker that is ready held them
        self._under_way: Mapping[str, float] = {}
        self._ready: Counter[str] = Counter()
        self._since = 0.0
        self._ended: float | None = None

    def start(self, reserved: Mapping[str, Reserved]) -> None:
        """From here on these actors are reserved."""
        self._reserved, self._since, self._ended = reserved, time.monotonic(), None

    def tick(self, gpus: float, seconds: float) -> None:
        """For so long so many GPUs were held."""
        ready = self._weighed(self._ready)
        self._unready_s += max(0.0, gpus - ready) * seconds

    def stop(self) -> None:
        """No more are: what is under way now has come to nothing."""
        self._ended = time.monotonic()

    def add(self, ending: Ending) -> None:
        """A row has come to its end."""
        seconds = self._failed if isinstance(ending, Failed) else self._made
        for stage in self._reserved:
            taken = ending.row.columns.get(seconds_column(stage))
            seconds[stage] += taken if isinstance(taken, int | float) else 0.0
        if isinstance(ending, Failed):
            seconds[ending.stage] += ending.seconds

    def note(self, spent: Spent) -> None:
        """What the ledger knew a moment ago, and has not told before."""
        before_ledger_s = max(0.0, self._elapsed_s() - spent["age_s"])
        for stage, count in spent["ready"].items():
            # To a ledger that began anew, workers that started long ago are new when they start again.
            new = min(count, max(0, self._reserved[stage].actors - self._ready[stage]))
            self._ready[stage] += new
            self._started[stage] += spent["first_start_s"][stage]
            self._first_started[stage] += spent["first_start_s"][stage]
            self._waited[stage] += (spent["first_wait_s"][stage] + count * before_ledger_s) * new / count
        for stage in self._reserved:
            self._started[stage] += spent["restart_s"].get(stage, 0.0)
            self._lost[stage] += spent["lost_s"].get(stage, 0.0)
        self._under_way = spent["under_way_s"]

    @contextmanager
    def followed(self, take: Callable[[], Spent]) -> Iterator[None]:
        """Within the block, `note` every few seconds, and at its end, what a ledger gives."""

        def look() -> None:
            try:
                spent = take()
            except Exception:  # noqa: BLE001 - Ray is gone, or its ledger starts again: others say so
                return
            self.note(spent)

        with Repeating("gpu-time", look, _INTERVAL_S, once_more=True):
            yield

    def of(self, gpu_s: float) -> dict[str, float]:
        """The share of each of `SHARES` in so many GPU-seconds, 0..1; they sum to 1. Nothing where there are none."""
        if gpu_s <= 0:
            return {}
        waiting = {
            stage: max(0, reserved.actors - self._ready[stage]) * self._elapsed_s()
            for stage, reserved in self._reserved.items()
        }
        has_ended = self._ended is not None
        parts = {
            "making": self._weighed(self._made) + (0.0 if has_ended else self._weighed(self._under_way)),
            "starting": self._weighed(self._started),
            "failing": self._weighed(self._failed),
            "retrying": self._weighed(self._lost) + (self._weighed(self._under_way) if has_ended else 0.0),
        }
        # Who waits for a node that is not there yet holds no GPU.
        waited = self._weighed(self._waited) + self._weighed(waiting)
        with_gpu = self._unready_s - self._weighed(self._first_started)
        parts["starting"] += max(0.0, min(waited, with_gpu, gpu_s - sum(parts.values())))
        whole = max(gpu_s, sum(parts.values()))  # which were measured in different places
        return {name: part / whole for name, part in parts.items()} | {"idling": 1 - sum(parts.values()) / whole}

    def _elapsed_s(self) -> float:
        return (time.monotonic() if self._ended is None else self._ended) - self._since

    def _weighed(self, seconds: Mapping[str, float]) -> float:
        return sum(seconds.get(stage, 0.0) * reserved.gpus for stage, reserved in self._reserved.items())
