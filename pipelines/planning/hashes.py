"""Many clip_ids in little memory: arrays of 64-bit hashes, 8 bytes a clip."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Hashes = npt.NDArray[np.uint64]
Digests = npt.NDArray[np.uint8]

# Characters of a clip_id that make its hash: 64 bits.
_CHARACTERS = 16
# The value of each hexadecimal digit by its code; 255 for all other bytes.
_DIGITS = np.full(256, 255, np.uint8)
for _value, _digit in enumerate("0123456789abcdef"):
    _DIGITS[ord(_digit)] = _DIGITS[ord(_digit.upper())] = _value


def no_hashes() -> Hashes:
    """Of no clip."""
    return np.empty(0, np.uint64)


def hashes_of(clip_ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> Hashes:
    """The first 64 bits of each.

    Raises:
        ValueError: one does not begin with 16 hexadecimal digits.
    """
    if not isinstance(clip_ids, pa.Array | pa.ChunkedArray):
        clip_ids = pa.array(clip_ids, pa.string())
    first = pc.utf8_slice_codeunits(pc.cast(clip_ids, pa.string()), 0, _CHARACTERS)
    if not len(first):
        return no_hashes()
    if first.null_count or not pc.all(pc.equal(pc.binary_length(first), _CHARACTERS)).as_py():
        raise ValueError("a clip_id begins with 16 hexadecimal digits")
    fixed = pc.cast(pc.cast(first, pa.binary()), pa.binary(_CHARACTERS))
    data = b"".join(_values(chunk) for chunk in (fixed.chunks if isinstance(fixed, pa.ChunkedArray) else [fixed]))
    digits = _DIGITS[np.frombuffer(data, np.uint8)].reshape(-1, 2)
    if (digits > 15).any():  # noqa: PLR2004 - the largest digit
        raise ValueError("a clip_id begins with 16 hexadecimal digits")
    values = (digits[:, 0] * 16 + digits[:, 1]).astype(np.uint8)
    return hashes_of_digests(values.reshape(-1, _CHARACTERS // 2))


def hashes_of_digests(digests: Digests) -> Hashes:
    """The first 64 bits of each row: of ids as bytes, N x 8 or more."""
    return np.ascontiguousarray(digests[:, :8]).view(">u8").ravel().astype(np.uint64)


def distinct(hashes: Hashes) -> Hashes:
    """Each once, sorted; `np.unique` keeps a table of them, which takes fifty times as long."""
    ordered = np.sort(hashes)
    return ordered[is_first(ordered)]


def is_first(ordered: Hashes) -> npt.NDArray[np.bool_]:
    """Which of some sorted hashes are not equal to the one before."""
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return first


def contains(sorted_hashes: Hashes, hashes: Hashes) -> npt.NDArray[np.bool_]:
    """For each of `hashes`, whether it is among the sorted ones."""
    return find(sorted_hashes, hashes) >= 0


def find(sorted_hashes: Hashes, hashes: Hashes) -> npt.NDArray[np.intp]:
    """For each of `hashes` its place among the sorted ones, or -1. Where these are sorted, too, it is much faster."""
    if not len(sorted_hashes):
        return np.full(len(hashes), -1, np.intp)
    positions = np.searchsorted(sorted_hashes, hashes)
    positions[positions == len(sorted_hashes)] = 0
    return np.where(sorted_hashes[positions] == hashes, positions, -1)


class HashSet:
    """A set that grows. A few sorted arrays, each at least twice as long as the next: each hash is moved seldom."""

    def __init__(self) -> None:
        self._levels: list[Hashes] = []

    def has(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """For each of `hashes`, whether it is in the set."""
        found = np.zeros(len(hashes), bool)
        for level in self._levels:
            found |= contains(level, hashes)
        return found

    def add(self, new: Hashes) -> None:
        """Take hashes, none of which is in the set."""
        if not len(new):
            return
        level = np.sort(new)
        while self._levels and len(self._levels[-1]) < 2 * len(level):
            # Two sorted runs: a stable sort merges them in one pass.
            level = np.sort(np.concatenate([self._levels.pop(), level]), kind="stable")
        self._levels.append(level)


def _values(array: pa.Array) -> memoryview:
    """The bytes of an array of fixed-width binary values without nulls."""
    width = array.type.byte_width
    return memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width]
