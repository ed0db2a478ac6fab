"""Images that are members of a tar: each is read at random, in one request or two."""

import io
import tarfile
from contextlib import suppress
from typing import Any, cast

from actors.contracts import Place
from actors.errors import ImageError
from actors.storage import Storage

BLOCK_BYTES = 512
# The header and a small image, and the small ones behind it, come with one request; what is longer costs a second.
_REQUEST_BYTES = 256 * 2**10


class OpenTar:
    """A tar, open for its members."""

    def __init__(self, file: str, storage: Storage) -> None:
        self.file = file
        self._stream = io.BufferedReader(cast("io.RawIOBase", storage.open_exact(file)), _REQUEST_BYTES)

    def read(self, place: Place, max_bytes: int | None) -> bytes:
        """The member that begins at a place's block.

        Raises:
            ImageError: there is another one now, it is damaged, or larger than `max_bytes`.
            StorageError: the tar cannot be read.
        """
        self._stream.seek(place.row * BLOCK_BYTES)
        try:
            with open_tar(self._stream) as tar:
                member = tar.next()
                if member is None or member.name != place.column or not member.isfile():
                    raise ImageError(f"{self.file} has changed since it was planned: run again")
                if max_bytes is not None and member.size > max_bytes:
                    raise ImageError(f"{place} is larger than the {max_bytes:,} bytes allowed")
                opened = tar.extractfile(member)
                assert opened is not None, place  # of a file there is something to read
                return opened.read()
        except tarfile.TarError as error:
            raise ImageError(f"{self.file} has changed since it was planned, or is damaged: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        with suppress(Exception):
            self._stream.close()


def open_tar(stream: "io.BufferedReader[Any]") -> tarfile.TarFile:
    r"""The members from the one at which a stream stands. Names that are no UTF-8 are spelled as in `b\xff.jpg`."""
    return tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="backslashreplace")
