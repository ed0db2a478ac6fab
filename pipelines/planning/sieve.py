"""Of the clips that a manifest asks for, those that are to be made, each once; and the count of all others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipelines.dataset.shard import Shard
from pipelines.planning.hashes import Hashes, HashSet, find, is_first
from pipelines.planning.holdings import Holdings

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]


class Counts(Protocol):
    """What a plan counts of the clips: see there."""

    shard: Shard
    wanted: int
    mine: int
    duplicates: int
    already_there: int
    failed_before: int
    lost: int


@dataclass(frozen=True, slots=True)
class Judged:
    """Some clips, as the dataset and what was met before have it.

    Attributes:
        hashes: sorted; `order` has the position of each among the clips.
        done_at: the place of each in the dataset's `done`, or -1.
        new: which were not met before.
        mine, duplicates, done, failed, lost: numbers of the shard's clips: all; met before; and of the new ones what
            the dataset holds of them.
        chosen: positions of those to make.
        parts, attempts: of the chosen, the place in the dataset of a clip that is made again (-1: it has none), and how
            often it was tried.
    """

    hashes: Hashes
    order: Places
    done_at: Places
    new: Mask
    mine: int
    duplicates: int
    done: int
    failed: int
    lost: int
    chosen: Places
    parts: npt.NDArray[np.int32]
    attempts: npt.NDArray[np.int32]


class Sieve:
    """Lets each clip of the shard through once that is to be made, and counts the others in the plan."""

    def __init__(self, holdings: Holdings, tried: Callable[[str, str], bool] | None, counts: Counts) -> None:
        """`tried(stage, error_type)`: which failures are to be tried again, and nothing else; None for a plain run."""
        self._holdings, self._counts = holdings, counts
        # Of what was met before: clips that are done by their places, all others by their hashes.
        self._met, self._seen = np.zeros(len(holdings.done), bool), HashSet()
        self._is_retry = tried is not None
        self._tries = np.array([tried is not None and tried(*reason) for reason in holdings.failed.reasons], bool)

    def judge(self, hashes: Hashes) -> Judged:
        """What is to be done about these clips; nothing is counted yet."""
        failures, losses = self._holdings.failed, self._holdings.lost
        order = np.argsort(hashes, kind="stable")  # of equal ones the first comes first
        hashes = hashes[order]
        done_at, failed_at, lost_at = (
            find(known, hashes) for known in (self._holdings.done, failures.hashes, losses.hashes)
        )
        is_done = done_at >= 0
        new = is_first(hashes)
        new[is_done] &= ~self._met[done_at[is_done]]
        new[~is_done] &= ~self._seen.has(hashes[~is_done])
        mine = self._mine(hashes, failed_at, lost_at)
        ours = new & mine
        done = ours & is_done
        failed = ours & ~is_done & (failed_at >= 0)
        lost = ours & ~is_done & ~failed & (lost_at >= 0)
        if self._is_retry:
            chosen = np.flatnonzero(failed)
            chosen = chosen[self._tries[failures.reason_of[failed_at[chosen]]]]
        else:
            chosen = np.flatnonzero(ours & ~is_done & ~failed)
        chosen = chosen[np.argsort(order[chosen])]  # as the clips come
        parts, attempts = np.full(len(chosen), -1, np.int32), np.zeros(len(chosen), np.int32)
        again = failed[chosen]
        parts[again] = failures.parts[failed_at[chosen[again]]]
        attempts[again] = failures.attempts[failed_at[chosen[again]]]
        again = lost[chosen]
        parts[again] = losses.parts[lost_at[chosen[again]]]
        return Judged(
            hashes,
            order,
            done_at,
            new,
            mine=int(mine.sum()),
            duplicates=int((mine & ~new).sum()),
            done=int(done.sum()),
            failed=int(failed.sum()),
            lost=int(lost.sum()),
            chosen=order[chosen],
            parts=parts,
            attempts=attempts,
        )

    def count(self, judged: Judged) -> None:
        """Take these clips as met, and count them."""
        is_done = judged.done_at >= 0
        self._met[judged.done_at[is_done]] = True
        self._seen.add(judged.hashes[judged.new & ~is_done])
        counts = self._counts
        counts.wanted += len(judged.hashes)
        counts.mine += judged.mine
        counts.duplicates += judged.duplicates
        counts.already_there += judged.done
        counts.failed_before += judged.failed
        counts.lost += judged.lost

    def choose(self, hashes: Hashes) -> Judged:
        """Both."""
        judged = self.judge(hashes)
        self.count(judged)
        return judged

    def _mine(self, hashes: Hashes, failed_at: Places, lost_at: Places) -> Mask:
        """Which of these clips are the shard's: what a part has is of the part's, all else goes by its hash."""
        shard, holdings = self._counts.shard, self._holdings
        if shard.is_whole:
            return np.ones(len(hashes), bool)
        mine = shard.takes(hashes)
        for at, parts in ((lost_at, holdings.lost.parts), (failed_at, holdings.failed.parts)):
            (known,) = np.nonzero(at >= 0)
            mine[known] = shard.owns_each(parts[at[known]])
        return mine
