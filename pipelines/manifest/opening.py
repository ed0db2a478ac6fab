"""Opening text formats, and what all formats refuse: what is empty, UTF-16, or has names that are no text."""

import bz2
import gzip
import io
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar, cast

import pyarrow as pa

from actors.errors import ManifestError
from actors.storage import Storage
from actors.uris import file_name
from pipelines.manifest import files

# More is a cell that stands where a name belongs; it would be in every message and every schema.
_NAME_CHARACTERS = 1000
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")

T = TypeVar("T")


@contextmanager
def opened_text(storage: Storage, uri: str) -> Iterator[BinaryIO]:
    """The bytes of a text format, unpacked, and known not to be empty or UTF-16."""
    with storage.open(uri) as stream:
        refuse_empty(uri, stream)
        packing = "." + file_name(uri).lower().rpartition(".")[2]
        tool, unpack = _UNPACKERS.get(packing, ("", lambda packed: packed))
        try:
            unpacked = unpack(stream)
            if unpacked.peek(2)[:2] in _UTF16_MARKS:
                raise ManifestError(f"{uri} is UTF-16 text: save it as UTF-8")
            yield unpacked
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            if not tool:
                raise
            reason = one_line(str(error))
            raise ManifestError(f"{uri} is not a whole {tool} file, though named so ({reason})") from error


def _unpack_zstd(stream: BinaryIO) -> io.BufferedReader:
    return io.BufferedReader(cast("io.RawIOBase", pa.CompressedInputStream(stream, "zstd")))


# By ending: what makes such files, and what reads them.
_UNPACKERS: dict[str, tuple[str, Callable[[BinaryIO], Any]]] = {
    ".gz": ("gzip", lambda stream: gzip.GzipFile(fileobj=stream)),
    ".bz2": ("bzip2", bz2.BZ2File),
    ".xz": ("xz", lzma.LZMAFile),
    ".zst": ("zstd", _unpack_zstd),
}
assert tuple(_UNPACKERS) == files.PACKED


@contextmanager
def text_lines(storage: Storage, uri: str) -> Iterator[io.TextIOWrapper]:
    """A UTF-8 file, with or without a byte order mark, by lines or otherwise."""
    with opened_text(storage, uri) as stream, io.TextIOWrapper(stream, "utf-8-sig") as lines:
        try:
            yield lines
        except UnicodeDecodeError as error:
            raise ManifestError(f"{uri} is not UTF-8 text ({error.reason}): save it as UTF-8") from error


def refuse_empty(uri: str, stream: "io.BufferedReader[Any]") -> None:
    """Raise ManifestError for a file of 0 bytes."""
    if not stream.peek(1):
        raise empty(uri)


def empty(uri: str) -> ManifestError:
    """The error of a file of 0 bytes."""
    return ManifestError(f"{uri} is empty: it has 0 bytes")


def check_names(uri: str, names: Sequence[str]) -> None:
    """Raise ManifestError where two columns have one name, or a name is none."""
    for name, count in Counter(names).items():
        if len(name) > _NAME_CHARACTERS:
            raise ManifestError(f"{uri}: a column's name has {len(name)} characters: {name[:60]!r}...; rename it")
        if "\0" in name or not is_utf8(name):  # Arrow takes no half of an emoji, and its CSV reader no NUL
            raise ManifestError(f"{uri}: the name of column {name[:60]!r} holds what is no character; rename it")
        if count > 1:
            raise ManifestError(f"{uri}: column {name!r} appears {count} times; rename all but one")


def is_utf8(uri: str) -> bool:
    """Whether the name is text: Linux allows any bytes, and Python carries odd ones as lone surrogates."""
    try:
        uri.encode()
    except UnicodeEncodeError:
        return False
    return True


def spelled(uri: str) -> str:
    r"""As text: odd bytes as in `b\udcff.jpg`."""
    return uri.encode("utf-8", "backslashreplace").decode()


def one_line(text: str) -> str:
    """Without line ends."""
    return " ".join(text.split())


def batched(numbered: Iterator[tuple[int, T, int]], max_rows: int) -> Iterator[tuple[list[int], list[T]]]:
    """Numbers and rows of (number, row, length), `max_rows` at a time, and fewer where files.BATCH_BYTES come first."""
    numbers: list[int] = []
    rows: list[T] = []
    size = 0
    for number, row, length in numbered:
        numbers.append(number)
        rows.append(row)
        size += length
        if len(rows) >= max_rows or size >= files.BATCH_BYTES:
            yield numbers, rows
            numbers, rows, size = [], [], 0
    if rows:
        yield numbers, rows
