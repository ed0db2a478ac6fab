"""How many rows of a run end in a second, as of late."""

import time
from collections import deque

from pipelines.driver.report import Summary

# The span of which the rate is told: five minutes, or so many clips' time, where that is longer.
_SPAN_S = 300.0
_SPAN_CLIPS = 3


class Rate:
    """Looks at a run now and then.

    The time before the first clip was begun with does not count: nodes come, models are loaded.
    """

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self._seen: deque[tuple[float, int]] = (
            deque()
        )  # when, and how many rows had ended; from the first clip's begin on
        self._has_begun = False

    def look(self) -> tuple[float, int]:
        """A span of seconds until now, and the rows that ended within it."""
        now, ended, clip_s = time.monotonic(), self._summary.ended, self._clip_s()
        if self._summary.made and not self._has_begun:
            self._has_begun = True
            # It ended after the last look; rows that failed until then, such as missing images, did so at once.
            before = self._seen[-1][0] if self._seen else now
            self._seen = deque([(min(now - clip_s, before), self._summary.failed)])
        self._seen.append((now, ended))
        span_s = max(_SPAN_S, _SPAN_CLIPS * clip_s)
        while now - self._seen[0][0] > span_s:
            self._seen.popleft()
        since, ended_then = self._seen[0]
        return now - since, ended - ended_then

    def left_s(self) -> float | None:
        """Until all rows have ended; None where too little is known."""
        seconds, ended = self.look()
        left = self._summary.plan.to_do - self._summary.ended
        return left * seconds / ended if ended > 0 and seconds > 0 else None

    def _clip_s(self) -> float:
        """What a clip takes, of those that were made; 0 before the first."""
        return sum(self._summary.stage_s.values()) / self._summary.made if self._summary.made else 0.0
