"""How long no row of a run has ended, and how long that may be in a run that is well."""

import time
from collections import deque

from actors.contracts import Ending, Made
from actors.records import STAGES
from actors.runner.contract import seconds_column

# Models are loaded and compiled, clips wait for each other between stages, nodes come: minutes that no clip tells of.
_ALWAYS_S = 1800.0
# A clip whose machine went away when it was all but made is made once more.
_TRIES = 2
# Of the clips that were made last, the slowest counts.
_RECENT = 100
# For the first clip, where run.clip_timeout_s is null: as the configurations of the slowest generators have it.
_LONG_S = 7200.0
_COLUMNS = tuple(seconds_column(stage.name) for stage in STAGES)


class Quiet:
    """Counts from when it is made, and from each ending on; one thread tells, another one asks."""

    def __init__(self, clip_timeout_s: float | None) -> None:
        """`clip_timeout_s`: after so long in a stage the first clip ends as well, whatever it is."""
        self._first_s = _LONG_S if clip_timeout_s is None else clip_timeout_s
        self._took_s: deque[float] = deque(maxlen=_RECENT)
        self._since = time.monotonic()

    def note(self, ending: Ending) -> None:
        """A row has ended. What a clip takes, only those tell that were made: others may fail at once."""
        self._since = time.monotonic()
        if isinstance(ending, Made):
            self._took_s.append(sum(float(ending.row.columns.get(column) or 0.0) for column in _COLUMNS))

    @property
    def seconds(self) -> float:
        """Since a row ended last."""
        return time.monotonic() - self._since

    def limit_s(self, *, is_generating: bool) -> float:
        """How long that may be: for clips of seconds half an hour, for slow ones what two take, and that.

        Before the first clip is made: run.clip_timeout_s and that, where one is under way in `generate`; where none
        is, GPUs or models are waited for.
        """
        if self._took_s:
            return _ALWAYS_S + _TRIES * max(tuple(self._took_s))
        return _ALWAYS_S + (self._first_s if is_generating else 0.0)
