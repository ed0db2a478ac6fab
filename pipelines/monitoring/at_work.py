"""GPU-seconds of each stage: those that its actors hold, and those in which they have a clip under way."""

import time
from collections.abc import Mapping

from pipelines.pools import Reserved


class AtWork:
    """Looks every few seconds at what is under way, and not at what clips took when they ended.

    So a clip of an hour counts while it is made, and one that fails, or is made once more, counts as well as another.

    Attributes:
        held_s, work_s: by stage, so far; they never fall, and `work_s` is at most `held_s`.
    """

    def __init__(self, reserved: Mapping[str, Reserved]) -> None:
        self._reserved = reserved
        self._gpus = sum(one.actors * one.gpus for one in reserved.values())
        self.held_s, self.work_s = dict.fromkeys(reserved, 0.0), dict.fromkeys(reserved, 0.0)
        self._looked = time.monotonic()

    def look(self, counts: Mapping[str, int], held_s: float) -> None:
        """So many clips of each stage are under way (none, where nobody knows); so many GPU-seconds were held."""
        now = time.monotonic()
        seconds, self._looked = now - self._looked, now
        for stage, one in self._reserved.items():
            held = held_s * one.actors * one.gpus / self._gpus if self._gpus else 0.0
            new, self.held_s[stage] = held - self.held_s[stage], held
            # An actor has one clip at a time; those of lost actors are under way until others take them up.
            self.work_s[stage] += min(counts.get(stage, 0) * one.gpus * seconds, new)
