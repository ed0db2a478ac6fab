"""Clips that stand in more than one place, found by 8 bytes a row; only parts with such clips are read again."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from actors.storage import Storage
from pipelines.dataset.layout import metadata_in
from pipelines.dataset.records import read_records
from pipelines.planning.hashes import Hashes, contains, hashes_of
from pipelines.upkeep import kinds
from pipelines.upkeep.findings import Problem
from pipelines.upkeep.looking import Look, column, is_clip_id

# Files of records that are kept while rows of one clip are compared.
_FILES = 8


class Rows:
    """The rows of many parts, as arrays: the hash of each clip_id, its part, whether its video is there, or a link."""

    def __init__(self) -> None:
        self.looks: list[tuple[str, int]] = []  # of each look its URI, and how many rows it has
        self._hashes: list[Hashes] = []
        self._good: list[npt.NDArray[np.bool_]] = []
        self._links: list[npt.NDArray[np.bool_]] = []

    def add(self, look: Look) -> None:
        """Take the rows of a part, or of a file of failures."""
        if len(look.hashes):
            self.looks.append((look.uri, len(look.hashes)))
            self._hashes.append(look.hashes)
            self._good.append(look.is_good)
            self._links.append(look.is_link)

    @property
    def hashes(self) -> Hashes:
        """Of all rows."""
        return np.concatenate([np.empty(0, np.uint64), *self._hashes])

    @property
    def good(self) -> Hashes:
        """Sorted, of the clips whose videos are there."""
        pairs = zip(self._hashes, self._good, strict=True)
        return np.unique(np.concatenate([np.empty(0, np.uint64), *(hashes[good] for hashes, good in pairs)]))

    def doubles(self) -> dict[int, list[tuple[str, bool]]]:
        """Of each hash that comes more than once: URI and goodness of each row, the one to keep first."""
        hashes = self.hashes
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        again = np.flatnonzero(ordered[1:] == ordered[:-1])
        if not len(again):
            return {}
        owners = np.repeat(np.arange(len(self.looks), dtype=np.int32), [count for _, count in self.looks])
        good = np.concatenate(self._good) if any(map(len, self._good)) else np.zeros(len(hashes), bool)
        links = np.concatenate(self._links)
        found: defaultdict[int, list[int]] = defaultdict(list)
        for place in np.unique(np.concatenate([again, again + 1])).tolist():
            found[int(ordered[place])].append(int(order[place]))

        def rank(row: int) -> tuple[bool, bool, int, int]:
            # A link may lead to the file of the other row, which is not to move away then.
            return (not good[row], links[row], -self.looks[owners[row]][1], row)

        return {
            key: [(self.looks[owners[row]][0], bool(good[row])) for row in sorted(rows, key=rank)]
            for key, rows in found.items()
        }


def find_doubles(made: Rows, failed: Rows, storage: Storage) -> Iterator[Problem]:
    """Clips listed twice, failed twice, or both made and failed; each problem names the row that is to go."""

    @lru_cache(maxsize=_FILES)
    def ids_of(uri: str) -> dict[int, str]:
        table = read_records(uri, storage)
        ids = [] if table is None else [one for one in column(table, "clip_id") if is_clip_id(one)]
        return dict(zip(hashes_of(ids).tolist(), ids, strict=True))

    def problems(kind: kinds.Kind, losers: Sequence[tuple[str, int, str]]) -> Iterator[Problem]:
        for uri, key, said in sorted(losers):
            group = Storage.parent(uri).rpartition("/")[2] if kind is kinds.TWICE else ""
            yield Problem(kind, uri, ids_of(uri).get(key, ""), said, group)

    yield from problems(kinds.TWICE, list(_losers_of_made(made.doubles())))
    yield from problems(kinds.FAILED_TWICE, list(_losers_of_failed(failed.doubles(), storage)))
    both = np.intersect1d(failed.hashes, made.good)
    of_files = np.split(failed.hashes, np.cumsum([count for _, count in failed.looks])[:-1]) if failed.looks else []
    losers = [
        (uri, key, "")
        for (uri, _), hashes in zip(failed.looks, of_files, strict=True)
        for key in np.unique(hashes[contains(both, hashes)]).tolist()
    ]
    yield from problems(kinds.MADE_AND_FAILED, losers)


def _losers_of_made(doubles: dict[int, list[tuple[str, bool]]]) -> Iterator[tuple[str, int, str]]:
    for key, ((winner, _), *others) in doubles.items():
        for uri, _ in others:
            yield metadata_in(uri), key, "a second time" if uri == winner else f"kept in {winner}"


def _losers_of_failed(doubles: dict[int, list[tuple[str, bool]]], storage: Storage) -> Iterator[tuple[str, int, str]]:
    for key, rows in doubles.items():
        uris = sorted({uri for uri, _ in rows}, key=lambda uri: (-_attempts(uri, key, storage), uri))
        losers = uris[1:] or uris  # twice in one file
        for uri in losers:
            yield uri, key, "a second time" if len(uris) == 1 else f"kept in {uris[0]}"


def _attempts(uri: str, key: int, storage: Storage) -> int:
    table = read_records(uri, storage)
    if table is None:
        return 0
    rows = zip(column(table, "clip_id"), column(table, "attempts"), strict=True)
    return max((count or 0 for clip, count in rows if is_clip_id(clip) and hashes_of([clip])[0] == key), default=0)
