"""What identifies the content of model files, cheaply enough for the driver: it never reads a whole checkpoint.

A fingerprint changes when the weights are retrained in place, and stays the same when their folder moves.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from actors.errors import StorageError
from actors.storage import Storage

StorageOptions = dict[str, dict[str, Any]]  # fsspec's options per scheme

# Up to here a file is read whole: configurations, RIFE's weights and small checkpoints.
WHOLE_FILE_BYTES = 32 * 2**20

# Of a larger file, 1 MB in 256 places: one every 12 MB of SVD's 3 GB UNet, so that none of its levels goes unseen.
BLOCKS = 256
BLOCK_BYTES = 4096


def fingerprint(uri: str, storage_options: StorageOptions | None = None) -> str:
    """SHA-256 (64 hex digits) of a weight file's size and content; ncnn's `.param` and `.bin` count as one.

    Raises StorageError when a file cannot be read.
    """
    stem, dot, suffix = uri.rpartition(".")
    suffixes = ("param", "bin") if suffix in ("param", "bin") else (suffix,)
    return fingerprint_files({name: stem + dot + name for name in suffixes}, storage_options)


def fingerprint_folder(uri: str, names: list[str], storage_options: StorageOptions | None = None) -> str:
    """SHA-256 (64 hex digits) of the files `names`, relative to the folder `uri`. Raises StorageError."""
    return fingerprint_files({name: Storage.join(uri, name) for name in names}, storage_options)


def fingerprint_files(files: Mapping[str, str], storage_options: StorageOptions | None = None) -> str:
    """SHA-256 (64 hex digits) over name, size and content (of large files: evenly spaced blocks), in order of name.

    `files`: URI of each file by the name under which it counts. Raises StorageError when one cannot be read.
    """
    storage = Storage(storage_options or {})
    digest = hashlib.sha256()
    for name, uri in sorted(files.items()):
        size = storage.size(uri)
        digest.update(f"{name}\0{size}\0".encode())
        for block in _read(uri, _ranges(size), storage):
            digest.update(block)
    return digest.hexdigest()


def _ranges(size: int) -> list[tuple[int, int]]:
    """The byte ranges (start, end) that stand for a file of `size` bytes; its two ends are among them."""
    if size <= WHOLE_FILE_BYTES:
        return [(0, size)] if size else []
    starts = [index * (size - BLOCK_BYTES) // (BLOCKS - 1) for index in range(BLOCKS)]
    return [(start, start + BLOCK_BYTES) for start in starts]


def _read(uri: str, ranges: list[tuple[int, int]], storage: Storage) -> list[bytes]:
    """The bytes of each range: one request a range, many at once where the store allows it."""
    paths = [storage.native_path(uri)] * len(ranges)
    starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
    try:
        blocks: list[bytes] = storage.filesystem(uri).cat_ranges(paths, starts, ends, on_error="raise")
    except Exception as error:  # the stores' client libraries share no base class but this one
        raise StorageError(f"{uri} could not be read: {error}") from error
    return blocks
