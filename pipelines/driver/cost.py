"""GPU-seconds of a run, and what they cost."""

import time
from collections.abc import Mapping

from pipelines.config.sections import CostSettings

_S_PER_HOUR = 3600.0


class GpuClock:
    """Counts GPU-seconds from when GPUs are held until they are let go."""

    def __init__(self, settings: CostSettings) -> None:
        self.currency = settings.currency
        self._settings = settings
        self._price: float | None = settings.gpu_hour
        self.held = 0.0
        self._since = 0.0
        self._seconds = 0.0

    def hold(self, gpus: float, types: Mapping[str, float]) -> None:
        """From here on so many GPUs are held; `types` are the cluster's, with how many there are of each."""
        self._seconds = self.seconds()
        self.held, self._since = gpus, time.monotonic()
        if gpus:
            self._price = price_of(self._settings, types)

    def ended(self) -> tuple[float, float | None, str]:
        """No more are held: the GPU-seconds, what they come to, and the currency."""
        self.hold(0.0, {})
        return self.seconds(), self.cost(), self.currency

    def seconds(self) -> float:
        """GPU-seconds so far."""
        return self._seconds + self.held * (time.monotonic() - self._since)

    def cost(self) -> float | None:
        """What they come to; None without a price."""
        return None if self._price is None else self.seconds() / _S_PER_HOUR * self._price


def price_of(settings: CostSettings, types: Mapping[str, float]) -> float | None:
    """The price of one GPU for an hour, on average over the GPUs of a cluster; None where one has no price."""
    if not any(types.values()):
        return settings.gpu_hour
    prices = {name: settings.gpu_hours.get(name, settings.gpu_hour) for name in types}
    if any(price is None for price in prices.values()):
        return None
    total = sum(types.values())
    return sum((prices[name] or 0.0) * count for name, count in types.items()) / total
