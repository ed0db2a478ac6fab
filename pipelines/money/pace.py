"""What a run says of its own speed, from which later ones are estimated (`pipelines.money.history`)."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.money.estimate import Estimate
from pipelines.pools import Pools


@dataclass(slots=True)
class Pace:
    """From the first clip to the last one, and on what.

    Attributes:
        settings: `pipelines.money.history.settings_of` the run.
        estimate: what it was to take, as it was known at its start.
    """

    settings: str = ""
    actors: dict[str, int] = field(default_factory=dict)
    gpu_types: dict[str, float] = field(default_factory=dict)
    estimate: Estimate | None = None
    _first: float | None = None
    _last: float = 0.0

    def begin(self, pools: Pools, gpu_types: Mapping[str, float], estimate: Estimate) -> None:
        """The run has these actors, on GPUs of these types."""
        self.actors = {stage: reserved.actors for stage, reserved in pools.reserved.items()}
        self.gpu_types, self.estimate = dict(gpu_types), estimate

    def made(self) -> None:
        """A clip has come."""
        self._last = time.monotonic()
        self._first = self._first or self._last

    def described(self) -> dict[str, Any]:
        """What `summary.json` says of it."""
        estimated_s = self.estimate.time_s if self.estimate else None
        return {
            "estimated_s": None if estimated_s is None else round(estimated_s, 3),
            "making_s": round(self._last - (self._first or self._last), 3),
            "actors": self.actors,
            "gpu_types": self.gpu_types,
            "settings": self.settings,
        }
