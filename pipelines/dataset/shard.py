"""A share of a dataset: its rows by their ids, its parts by their numbers.

Several runs write one dataset at once where each has a share of the same division. The shares of a division have no row
and no part in common, and a run never writes to another's part; so all that they must agree upon is the division.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# As many drivers as the names of leases and runs have room for.
MAX_SHARDS = 999

_TEXT = re.compile(r"(\d{1,3})/(\d{1,3})")


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """Share `index` of `count`, counted from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Of `3/16`.

        Raises:
            ValueError: it is none.
        """
        match = _TEXT.fullmatch(text.strip())
        index, count = map(int, match.groups()) if match else (0, 0)
        if not 1 <= index <= count:
            raise ValueError(
                f"is K/N, the K-th of N shards with 1 <= K <= N <= {MAX_SHARDS}, such as 3/16; or null for all rows"
            )
        return cls(index, count)

    def __str__(self) -> str:
        """As it is configured."""
        return f"{self.index}/{self.count}"

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the dataset."""
        return self.count == 1

    @property
    def name(self) -> str:
        """As a sentence calls it."""
        return "the whole dataset" if self.is_whole else f"shard {self}"

    @property
    def division(self) -> list["Shard"]:
        """All of its division, in order."""
        return [Shard(index, self.count) for index in range(1, self.count + 1)]

    def excludes(self, other: "Shard") -> bool:
        """Whether no run may write `other` while one writes this: two shares, unless of one division."""
        return self.count != other.count

    def takes(self, hashes: "npt.NDArray[np.uint64]") -> "npt.NDArray[np.bool_]":
        """Which of the clips with these hashes (`pipelines.planning.hashes`) belong here, where no part has them."""
        mine: npt.NDArray[np.bool_] = hashes % self.count == self.index - 1
        return mine

    def takes_clip(self, clip_id: str) -> bool:
        """The same of one clip, by its id: its hash is the first 64 bits."""
        return int(clip_id[:16], 16) % self.count == self.index - 1

    def owns(self, part: int) -> bool:
        """Whether a part belongs here, and with it whatever it knows: clips, failures, clips without a video."""
        return part % self.count == self.index - 1

    def owns_each(self, parts: "npt.NDArray[np.int32]") -> "npt.NDArray[np.bool_]":
        """The same of many parts."""
        mine: npt.NDArray[np.bool_] = parts % self.count == self.index - 1
        return mine


WHOLE = Shard(1, 1)
