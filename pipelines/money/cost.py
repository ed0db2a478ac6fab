"""GPU-seconds of a run, and what they cost."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from actors.contracts import Ending
from actors.tries.spent import Spent
from pipelines.config.sections import CostSettings
from pipelines.money.bill import S_PER_HOUR, bill_lines, per_1000
from pipelines.money.gpu_time import GpuTime
from pipelines.pools import Reserved


class GpuClock:
    """Counts GPU-seconds from when a run holds GPUs until it lets them go; several threads ask it.

    Attributes:
        is_on: whether it counts, also where there is no GPU.
        reserved, held: GPUs that the run asks for, and of these those that are there now.
        currency: of `cost`.
    """

    def __init__(self, settings: CostSettings) -> None:
        self.currency = settings.currency
        self._settings = settings
        self._price: float | None = settings.gpu_hour
        self.is_on, self.reserved, self.held = False, 0.0, 0.0
        self._types: Mapping[str, float] = {}
        self._since = 0.0
        self._seconds, self._cost, self._is_unpriced = 0.0, 0.0, False  # until `_since`
        self._lock = threading.Lock()
        self._time = GpuTime()

    def start(self, reserved: Mapping[str, Reserved], types: Mapping[str, float]) -> None:
        """From here on the actors of each stage hold so many GPUs.

        `types`: the accelerator types of these, with how many of each; of a cluster that is to grow, none.
        """
        self.reserved = self.held = sum(one.actors * one.gpus for one in reserved.values())
        self.is_on, self._since, self._types = True, time.monotonic(), types
        self._price = price_of(self._settings, types)
        self._time.start(reserved)

    def see(self, types: Mapping[str, float]) -> None:
        """So many GPUs of each type are there now: no more of those that were reserved are held."""
        with self._lock:
            self._settle()
            there = sum(count for name, count in types.items() if not self._types or name in self._types)
            self.held = min(self.reserved, there) if self.is_on else 0.0
            if not self._types:
                self._price = price_of(self._settings, types)

    def stop(self) -> None:
        """No more are held."""
        with self._lock:
            if self.is_on:
                self._time.stop()
            self._settle()
            self.is_on, self.held = False, 0.0

    def _settle(self) -> None:
        seconds, now = self._running_s(), time.monotonic()
        self._seconds, self._since = self._seconds + seconds, now
        if seconds and self._price is None:
            self._is_unpriced = True
        self._cost += seconds / S_PER_HOUR * (self._price or 0.0)

    def _running_s(self) -> float:
        """GPU-seconds since the number of GPUs changed last."""
        return self.held * (time.monotonic() - self._since)

    def add(self, ending: Ending) -> None:
        """A row has ended, after some seconds in each stage."""
        self._time.add(ending)

    def following(self, take_spent: Callable[[], Spent]) -> AbstractContextManager[None]:
        """Within the block the ledger is asked now and then where the workers' other seconds went."""
        return self._time.followed(take_spent)

    def shares(self) -> dict[str, float]:
        """What the GPU-seconds went into: `SHARES`, each 0..1, together 1; nothing where no GPU was held."""
        return self._time.of(self.seconds())

    def seconds(self) -> float:
        """GPU-seconds so far."""
        with self._lock:
            return self._seconds + self._running_s()

    def cost(self) -> float | None:
        """What they come to; None without a price."""
        with self._lock:
            if self._is_unpriced or self._price is None:
                return None
            return self._cost + self._running_s() / S_PER_HOUR * self._price

    def described(self, clips: int) -> dict[str, Any]:
        """What `summary.json` says of it; `clips` were made."""
        return {
            "gpu_hours": round(self.seconds() / S_PER_HOUR, 4),
            "cost": _rounded(self.cost()),
            "cost_per_1000_clips": _rounded(per_1000(self.cost(), clips)),
            "currency": self.currency,
            "gpu_time": {name: round(share, 4) for name, share in self.shares().items()},
        }

    def lines(self, clips: int) -> dict[str, str]:
        """The same as lines of a table; nothing where no GPU was held."""
        return bill_lines(self.seconds(), self.cost(), self.currency, clips, self.shares())


def _rounded(amount: float | None) -> float | None:
    return None if amount is None else round(amount, 4)


def price_of(settings: CostSettings, types: Mapping[str, float]) -> float | None:
    """The price of one GPU for an hour, on average over the GPUs of a cluster; None where one has no price."""
    if not any(types.values()):
        return settings.gpu_hour
    prices = {name: settings.gpu_hours.get(name, settings.gpu_hour) for name in types}
    if any(price is None for price in prices.values()):
        return None
    total = sum(types.values())
    return sum((prices[name] or 0.0) * count for name, count in types.items()) / total
