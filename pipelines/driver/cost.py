"""GPU-seconds of a run, and what they cost."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from actors.contracts import Ending
from actors.tries.spent import Spent
from pipelines.config.sections import CostSettings
from pipelines.driver.bill import S_PER_HOUR, per_1000, shown
from pipelines.driver.gpu_time import GpuTime, Reserved


class GpuClock:
    """Counts GPU-seconds from when a run holds GPUs until it lets them go.

    Attributes:
        is_on: whether it counts, also where there is no GPU.
        held: GPUs that are held now.
        currency: of `cost`.
    """

    def __init__(self, settings: CostSettings) -> None:
        self.currency = settings.currency
        self._settings = settings
        self._price: float | None = settings.gpu_hour
        self.is_on, self.held = False, 0.0
        self._since = 0.0
        self._seconds = 0.0
        self._time = GpuTime()

    def start(self, reserved: Mapping[str, Reserved], types: Mapping[str, float]) -> None:
        """From here on the actors of each stage hold so many GPUs; `types` are the cluster's, with how many of each."""
        gpus = sum(one.actors * one.gpus for one in reserved.values())
        self.is_on, self.held, self._since = True, gpus, time.monotonic()
        self._price = price_of(self._settings, types)
        self._time.start(reserved)

    def stop(self) -> None:
        """No more are held."""
        if self.is_on:
            self._time.stop()
        self._seconds = self.seconds()
        self.is_on, self.held = False, 0.0

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
        return self._seconds + self.held * (time.monotonic() - self._since)

    def cost(self) -> float | None:
        """What they come to; None without a price."""
        return None if self._price is None else self.seconds() / S_PER_HOUR * self._price

    def described(self, clips: int) -> dict[str, Any]:
        """What `summary.json` says of it; `clips` were made."""
        return {
            "gpu_hours": round(self.seconds() / S_PER_HOUR, 4),
            "cost": _rounded(self.cost()),
            "cost_per_1000_clips": _rounded(per_1000(self.cost(), clips)),
            "currency": self.currency,
            "gpu_time": {name: round(share, 4) for name, share in self.shares().items()},
        }

    def shown(self, clips: int) -> dict[str, str]:
        """The same as lines of a table; nothing where no GPU was held."""
        return shown(self.seconds(), self.cost(), self.currency, clips, self.shares())


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
