"""Stages that take a GPU's time and give its bytes, and do nothing meanwhile."""

import random
import time
from pathlib import Path

from actors.contracts import Generated, Loaded, Made
from benchmarks.null_model import NullFinish, NullGenerate

# Clips do not all take the same time, and GPUs must not all end at once.
_VARIES_BY = 0.2
# RIFE on one GPU keeps up with eight that generate (`pipelines.pools`): it takes so much of their time for a clip.
FINISH_SHARE = 1 / 8


class SleepingGenerate(NullGenerate):
    """Sleeps as long as `pace` says, a file with the seconds that a clip takes now; and repeats the picture."""

    def __init__(self, num_frames: int, pace: Path) -> None:
        super().__init__(num_frames)
        self._pace = pace

    def __call__(self, image: Loaded) -> Generated:
        """As `NullGenerate`, in its time."""
        _sleep(float(self._pace.read_text()))
        return super().__call__(image)


class SleepingFinish(NullFinish):
    """As `NullFinish`, in its time."""

    def __init__(self, pace: Path) -> None:
        self._pace = pace

    def __call__(self, clip: Generated) -> Made:
        """The end of the row."""
        _sleep(FINISH_SHARE * float(self._pace.read_text()))
        return super().__call__(clip)


def _sleep(seconds: float) -> None:
    time.sleep(seconds * random.uniform(1 - _VARIES_BY, 1 + _VARIES_BY))  # noqa: S311 - no secret
