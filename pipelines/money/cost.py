"""GPU-seconds of a run, and what they cost: each type of GPU is counted for itself, at its own price."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from actors.contracts import Ending
from actors.tries.spent import Spent
from pipelines.config.sections import CostSettings
from pipelines.money.bill import S_PER_HOUR, bill_lines, per_1000
from pipelines.money.gpu_time import GpuTime
from pipelines.pools import Reserved


@dataclass(frozen=True, slots=True)
class Waiting:
    """For `what` (a clause such as `no node with a GPU is there`) a run has waited `since` then."""

    what: str
    since: datetime


class GpuClock:
    """Counts GPU-seconds from when a run holds GPUs until it lets them go; several threads ask it.

    Attributes:
        is_on: whether it counts, also where there is no GPU.
        reserved: GPUs that the run asks for.
        waiting: what is not there, without which no clip can be made; None where none is lacking.
        currency: of `cost`.
    """

    def __init__(self, settings: CostSettings) -> None:
        self.currency = settings.currency
        self._settings = settings
        self.is_on, self.reserved = False, 0.0
        self.waiting: Waiting | None = None
        self._planned: Mapping[str, float] = {}
        self._grows = False
        self._held: Mapping[str, float] = {}  # by type
        self._since = 0.0
        self._seconds: defaultdict[str, float] = defaultdict(float)  # by type, until `_since`
        self._lock = threading.Lock()
        self._time = GpuTime()

    def start(
        self, reserved: Mapping[str, Reserved], planned: Mapping[str, float], there: Mapping[str, float], *, grows: bool
    ) -> None:
        """From here on the actors of each stage hold GPUs.

        Args:
            reserved: what they ask for.
            planned: GPUs of each accelerator type that they are expected on.
            there: GPUs of each type that the cluster has now.
            grows: whether the cluster gets nodes for them: then the others of `reserved` may be of any type.
        """
        self.reserved = sum(one.actors * one.gpus for one in reserved.values())
        self.is_on, self._since, self._planned, self._grows = True, time.monotonic(), planned, grows
        self._time.start(reserved)
        self.see(there)

    def see(self, there: Mapping[str, float]) -> None:
        """So many GPUs of each type are there now: of these, no more than were reserved are held."""
        with self._lock:
            self._settle()
            self._held = self._held_of(there) if self.is_on else {}

    def lack(self, what: str) -> None:
        """This is lacking from now on; "": nothing is."""
        self.waiting = Waiting(what, datetime.now(UTC)) if what else None

    def _held_of(self, there: Mapping[str, float]) -> dict[str, float]:
        held = {name: min(count, there.get(name, 0.0)) for name, count in self._planned.items()}
        if self._grows:
            for name, count in there.items():
                left = max(0.0, self.reserved - sum(held.values()))
                held[name] = held.get(name, 0.0) + min(left, count - held.get(name, 0.0))
        return {name: count for name, count in held.items() if count}

    def stop(self) -> None:
        """No more are held."""
        with self._lock:
            self._settle()
            if self.is_on:
                self._time.stop()
            self.is_on, self._held = False, {}

    def _settle(self) -> None:
        """Count the seconds since this was called last."""
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        for name, count in self._held.items():
            self._seconds[name] += count * seconds
        self._time.tick(self._held_now(), seconds)

    def _held_now(self) -> float:
        return sum(self._held.values())

    @property
    def held(self) -> float:
        """GPUs that are there now, of those that the run asks for."""
        with self._lock:
            return self._held_now()

    def add(self, ending: Ending) -> None:
        """A row has ended, after some seconds in each stage."""
        self._time.add(ending)

    def following(self, take_spent: Callable[[], Spent]) -> AbstractContextManager[None]:
        """Within the block the ledger is asked now and then where the workers' other seconds went."""

        def take() -> Spent:
            spent = take_spent()
            with self._lock:
                self._settle()
            return spent

        return self._time.followed(take)

    def shares(self) -> dict[str, float]:
        """What the GPU-seconds went into: `SHARES`, each 0..1, together 1; nothing where no GPU was held."""
        return self._time.of(self.seconds())

    def seconds(self) -> float:
        """GPU-seconds so far."""
        with self._lock:
            self._settle()
            return sum(self._seconds.values())

    def cost(self) -> float | None:
        """What they come to; None without a price, or where GPUs were held that have none."""
        if self._settings.gpu_hour is None and not self._settings.gpu_hours:
            return None
        with self._lock:
            self._settle()
            total = 0.0
            for name, seconds in self._seconds.items():
                price = self._settings.gpu_hours.get(name, self._settings.gpu_hour)
                if price is None and seconds:
                    return None
                total += seconds / S_PER_HOUR * (price or 0.0)
            return total

    def unpriced(self) -> list[str]:
        """The types that GPUs were held of and that have no price, where others have one: then no cost is told."""
        if self._settings.gpu_hour is not None or not self._settings.gpu_hours:
            return []
        with self._lock:
            self._settle()
            return [name for name, seconds in self._seconds.items() if seconds and name not in self._settings.gpu_hours]

    def described(self, clips: int) -> dict[str, Any]:
        """What `summary.json` says of it; `clips` were made."""
        return {
            "gpu_hours": round(self.seconds() / S_PER_HOUR, 4),
            "cost": _rounded(self.cost()),
            "cost_per_1000_clips": _rounded(per_1000(self.cost(), clips)),
            "currency": self.currency,
            "unpriced": self.unpriced(),
            "gpu_time": {name: round(share, 4) for name, share in self.shares().items()},
        }

    def lines(self, clips: int) -> dict[str, str]:
        """The same as lines of a table; nothing where no GPU was held."""
        return bill_lines(self.seconds(), self.cost(), self.currency, clips, self.shares(), self.unpriced())


def _rounded(amount: float | None) -> float | None:
    return None if amount is None else round(amount, 4)


def price_of(settings: CostSettings, types: Mapping[str, float]) -> float | None:
    """The price of one GPU for an hour, on average over the GPUs of a cluster; None where one has no price."""
    if not any(types.values()):
        return settings.gpu_hour
    prices = {name: settings.gpu_hours.get(name, settings.gpu_hour) for name, count in types.items() if count}
    if any(price is None for price in prices.values()):
        return None
    total = sum(types.values())
    return sum((price or 0.0) * types[name] for name, price in prices.items()) / total
