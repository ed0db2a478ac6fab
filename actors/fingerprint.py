"""What identifies the content of model files, cheaply enough for the driver: it never reads a whole checkpoint.

A fingerprint changes when the weights are retrained in place, and stays the same when their folder moves.
"""

import hashlib
from collections.abc import Mapping
from typing import IO

from actors.storage import Storage
from actors.uris import without_query

# Up to here a file is read whole: configurations, RIFE's weights and small checkpoints.
WHOLE_FILE_BYTES = 32 * 2**20

# Of a larger file, 1 MB in 256 places: one every 12 MB of SVD's 3 GB UNet, so that none of its levels goes unseen.
BLOCKS = 256
BLOCK_BYTES = 4096


def fingerprint(uri: str, storage: Storage | None = None) -> str:
    """SHA-256 (64 hex digits) of a weight file's size and content; ncnn's `.param` and `.bin` count as one.

    Raises StorageError when a file cannot be read.
    """
    bare = without_query(uri)  # which differs from one signature to the next
    stem, dot, suffix = bare.rpartition(".")
    suffixes = ("param", "bin") if suffix in ("param", "bin") else (suffix,)
    return fingerprint_files({name: stem + dot + name + uri[len(bare) :] for name in suffixes}, storage)


def fingerprint_folder(uri: str, names: list[str], storage: Storage | None = None) -> str:
    """SHA-256 (64 hex digits) of the files `names`, relative to the folder `uri`. Raises StorageError."""
    return fingerprint_files({name: Storage.join(uri, name) for name in names}, storage)


def fingerprint_files(files: Mapping[str, str], storage: Storage | None = None) -> str:
    """SHA-256 (64 hex digits) over name, size and content (of large files: evenly spaced blocks), in order of name.

    `files`: URI of each file by the name under which it counts. Raises StorageError when one cannot be read.
    """
    storage = storage or Storage()
    digest = hashlib.sha256()
    for name, uri in sorted(files.items()):
        size, blocks = _of_web(uri, storage) if storage.scheme(uri) in ("http", "https") else _of_file(uri, storage)
        digest.update(f"{name}\0{size}\0".encode())
        for block in blocks:
            digest.update(block)
    return digest.hexdigest()


def fingerprint_opened(file: IO[bytes], name: str) -> str:
    """As `fingerprint`, of one file that is open; its name ends as the file's."""
    size = file.seek(0, 2)
    digest = hashlib.sha256(f"{name.rpartition('.')[2]}\0{size}\0".encode())
    for start, end in _ranges(size):
        file.seek(start)
        digest.update(file.read(end - start))
    return digest.hexdigest()


def _of_file(uri: str, storage: Storage) -> tuple[int, list[bytes]]:
    """The size of a file, and the blocks of it that count: one request a block, many at once where the store can."""
    size = storage.size(uri)
    return size, storage.read_ranges(uri, _ranges(size))


def _of_web(uri: str, storage: Storage) -> tuple[int, list[bytes]]:
    """The same of a whole download: many web servers neither say a size nor give parts of a file."""
    content = storage.read_bytes(uri)
    return len(content), [content[start:end] for start, end in _ranges(len(content))]


def _ranges(size: int) -> list[tuple[int, int]]:
    """The byte ranges (start, end) that stand for a file of `size` bytes; its two ends are among them."""
    if size <= WHOLE_FILE_BYTES:
        return [(0, size)] if size else []
    starts = [index * (size - BLOCK_BYTES) // (BLOCKS - 1) for index in range(BLOCKS)]
    return [(start, start + BLOCK_BYTES) for start in starts]
