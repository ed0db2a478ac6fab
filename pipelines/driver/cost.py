"""GPU-seconds of a run, and what they cost."""

import time
from collections.abc import Mapping

from pipelines.config.sections import CostSettings

_S_PER_HOUR = 3600.0


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

    def start(self, gpus: float, types: Mapping[str, float]) -> None:
        """From here on so many GPUs are held; `types` are the cluster's, with how many there are of each."""
        self.is_on, self.held, self._since = True, gpus, time.monotonic()
        self._price = price_of(self._settings, types)

    def stop(self) -> None:
        """No more are held."""
        self._seconds = self.seconds()
        self.is_on, self.held = False, 0.0

    def seconds(self) -> float:
        """GPU-seconds so far."""
        return self._seconds + self.held * (time.monotonic() - self._since)

    def cost(self) -> float | None:
        """What they come to; None without a price."""
        return None if self._price is None else self.seconds() / _S_PER_HOUR * self._price

    def described(self, clips: int) -> dict[str, float | str | None]:
        """What `summary.json` says of it; `clips` were made."""
        return {
            "gpu_hours": round(self.seconds() / _S_PER_HOUR, 4),
            "cost": _rounded(self.cost()),
            "cost_per_1000_clips": _rounded(per_1000(self.cost(), clips)),
            "currency": self.currency,
        }

    def shown(self, clips: int) -> dict[str, str]:
        """The same as lines of a table; nothing where no GPU was held."""
        return shown(self.seconds(), self.cost(), self.currency, clips)


def shown(gpu_s: float, cost: float | None, currency: str, clips: int) -> dict[str, str]:
    """GPU-seconds and what they came to, as lines of a table."""
    lines = {"GPU-hours": f"{gpu_s / _S_PER_HOUR:.2f}"} if gpu_s else {}
    if gpu_s and cost is not None:
        of_1000 = per_1000(cost, clips)
        lines["cost"] = f"{cost:.2f} {currency}" + ("" if of_1000 is None else f", {of_1000:.2f} per 1,000 clips")
    return lines


def per_1000(cost: float | None, clips: int) -> float | None:
    """The cost of a thousand clips; None where there is no price, or no clip."""
    return None if cost is None or not clips else cost * 1000 / clips


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
