"""Reads and writes of files, one try each: `Storage` decides what is tried again.

Where a function ends in `(filesystem, path)`, it is an operation for `Storage._call`.
"""

import errno
import io
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar
from urllib.parse import urljoin

from fsspec.callbacks import Callback

from actors.errors import StorageError
from actors.retries import TruncatedRead, is_conflict, is_unsupported

T = TypeVar("T")

# A read-ahead that hides 50 ms of latency at 1 Gbit/s, and is small beside a chunk of rows.
READ_BUFFER_BYTES = 8 * 2**20

# What link(2) says where the file system has no hard links (FAT, some network and FUSE mounts).
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
# As `_temporary_beside` names it.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


class Stream(io.RawIOBase):
    """A file read in pieces; after a failure it is opened anew, on another connection, with the credentials of then.

    `call` tries an operation as often as it takes, or raises StorageError.
    """

    def __init__(self, uri: str, call: Callable[[Callable[[Any, str], Any]], Any], *, read_ahead: bool = True) -> None:
        self._uri, self._call = uri, call
        # "none": each read is a request for so many bytes.
        self._cache = {} if read_ahead else {"cache_type": "none"}
        self._opened: BinaryIO | None = None
        self._offset, self._size = 0, -1
        call(self._file)

    def readable(self) -> bool:
        """As in `io.RawIOBase`."""
        return True

    def seekable(self) -> bool:
        """As in `io.RawIOBase`."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As in `io.RawIOBase`."""
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence]
        if position < 0:
            raise ValueError(f"negative position {position}")
        self._offset = position
        return position

    def tell(self) -> int:
        """As in `io.RawIOBase`."""
        return self._offset

    def readinto(self, buffer: Any) -> int:
        """As in `io.RawIOBase`: one request, where nothing is read ahead."""
        data: bytes = self._call(partial(self._read, len(buffer)))
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)

    def close(self) -> None:
        """As in `io.RawIOBase`."""
        if self._opened is not None:
            self._opened.close()
        super().close()

    def _read(self, count: int, filesystem: Any, path: str) -> bytes:
        file = self._file(filesystem, path)
        try:
            file.seek(self._offset)
            data = file.read(count)
            if len(data) < min(count, self._size - self._offset):
                raise TruncatedRead(  # noqa: TRY301 - it closes the file, too
                    f"it ended at byte {self._offset + len(data):,} of {self._size:,}"
                )
        except Exception:
            self._opened = None
            with suppress(Exception):
                file.close()
            raise
        return data

    def _file(self, filesystem: Any, path: str) -> BinaryIO:
        if self._opened is None:
            opened: BinaryIO = filesystem.open(path, "rb", block_size=READ_BUFFER_BYTES, **self._cache)
            size = opened.seek(0, io.SEEK_END)
            if self._size not in (-1, size):
                raise StorageError(f"{self._uri} was replaced while it was read: its size is not what it was")
            self._opened, self._size = opened, size
        return self._opened


class _Limit(Callback):  # type: ignore[misc] # fsspec has no types
    """Stops a download at its first byte too many: before it starts, where the server tells the size."""

    def __init__(self, max_bytes: int, uri: str) -> None:
        super().__init__()
        self._max_bytes, self._uri = max_bytes, uri

    def set_size(self, size: int | None) -> None:
        if size is not None and size > self._max_bytes:
            raise too_large(self._uri, self._max_bytes)

    def relative_update(self, inc: int = 1) -> None:
        self.value += inc
        if self.value > self._max_bytes:
            raise too_large(self._uri, self._max_bytes)


def fetch_at_most(max_bytes: int, uri: str, filesystem: Any, path: str) -> bytes:
    """The whole answer of a web server, unless it is larger than `max_bytes`."""
    data = io.BytesIO()
    filesystem.get_file(path, data, callback=_Limit(max_bytes, uri), chunk_size=min(max_bytes + 1, READ_BUFFER_BYTES))
    return data.getvalue()


async def refuse_redirect(response: Any) -> None:
    """Raise StorageError where a web server (its `aiohttp.ClientResponse`) sends on to another address.

    Without it fsspec would take the text of that answer for the file.
    """
    if HTTPStatus.MULTIPLE_CHOICES <= response.status < HTTPStatus.BAD_REQUEST:
        target = urljoin(str(response.url), response.headers.get("Location", ""))
        raise StorageError(
            f"{response.url} redirects to {target}: put that address in its place, or let redirects be followed with "
            "storage.options={https: {allow_redirects: true}}"
        )


def too_large(uri: str, max_bytes: int) -> StorageError:
    """The error about a file of more than `max_bytes`."""
    return StorageError(f"{uri} is larger than the {max_bytes:,} bytes allowed")


def write_local(
    write: Callable[[IO[bytes]], object], publish: Callable[[Path, Path], T], _filesystem: object, path: str
) -> T:
    """`write` a temporary file, then give it its name by `publish(temporary, target)`, whose answer is returned."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_beside(target) as temporary:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        return publish(temporary, target)


def is_temporary(name: str) -> bool:
    """Whether a file's name is one that `write_local` gives while it writes."""
    return _TEMPORARY.fullmatch(name) is not None


@contextmanager
def _temporary_beside(target: Path) -> Iterator[Path]:
    """A hidden name in the folder of `target`, gone afterwards; dataset readers pass over names with a dot."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def link_local(uri: str, temporary: Path, target: Path) -> bool:
    """Give `temporary` the name `target` too; False if that is taken."""
    try:
        target.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise StorageError(
                f"{uri} could not be created: this file system has no hard links ({error.strerror}), so one of two "
                "writers could overwrite the other's file; use another disk, or an object store"
            ) from error
        raise
    return True


def put_if_absent(uri: str, data: bytes, filesystem: Any, path: str) -> bool:
    """One conditional PUT of s3fs, gcsfs or adlfs; False if the store says that there is an object."""
    try:
        filesystem.pipe_file(path, data, mode="create")
    except Exception as error:
        if is_unsupported(error):
            raise StorageError(
                f"{uri} could not be created: this store has no conditional writes (If-None-Match), so one of two "
                "writers could overwrite the other's object; use another store"
            ) from error
        if not is_conflict(error):
            raise
        return False
    return True
