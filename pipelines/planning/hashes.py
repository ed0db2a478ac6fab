"""Many clip_ids in little memory: sorted arrays of 64-bit hashes, 8 bytes a clip."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from actors.errors import StorageError

Hashes = npt.NDArray[np.uint64]


def hashes_of(clip_ids: Sequence[str]) -> Hashes:
    """The first 64 bits of each.

    Raises:
        StorageError: one is none.
    """
    try:
        return np.fromiter((int(clip_id[:16], 16) for clip_id in clip_ids), np.uint64, len(clip_ids))
    except (TypeError, ValueError) as error:
        raise StorageError(
            "the dataset has a row whose clip_id is none: `stillreel verify OUTPUT` says where, and with --repair "
            "mends it"
        ) from error


def contains(sorted_hashes: Hashes, hashes: Hashes) -> npt.NDArray[np.bool_]:
    """For each of `hashes`, whether it is among the sorted ones."""
    if not len(sorted_hashes):
        return np.zeros(len(hashes), bool)
    positions = np.searchsorted(sorted_hashes, hashes)
    positions[positions == len(sorted_hashes)] = 0
    return np.asarray(sorted_hashes[positions] == hashes)


def merge(sorted_hashes: Hashes, new: Hashes) -> Hashes:
    """Both, sorted."""
    new = np.sort(new)
    return np.insert(sorted_hashes, np.searchsorted(sorted_hashes, new), new)
