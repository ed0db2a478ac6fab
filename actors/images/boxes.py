"""The boxes of ISO media files (AVIF, HEIC) and of JPEG 2000: where a file says what its colours are."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

# Deeper or longer than any picture's; a hostile file must not keep us busy.
_MOST_BOXES = 10_000


@dataclass(frozen=True, slots=True)
class Nclx:
    """Codes of H.273."""

    primaries: int
    transfer: int


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start of the content, end) of the boxes that lie in `data[start:end]`, one after the other."""
    end = len(data) if end is None else min(end, len(data))
    for _ in range(_MOST_BOXES):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, content)
            content += 8
        stop = end if size == 0 else start + size
        if stop < content:
            return
        yield kind, content, min(stop, end)
        start = stop


def find(data: bytes, path: tuple[bytes, ...], start: int = 0, end: int | None = None) -> tuple[int, int] | None:
    """(start, end) of the content of the first box at `path`; `meta` is known to begin with four bytes of its own."""
    for kind, content, stop in boxes(data, start, end):
        if kind == path[0]:
            inner = content + (4 if kind == b"meta" else 0)
            return (inner, stop) if len(path) == 1 else find(data, path[1:], inner, stop)
    return None


def brands(data: bytes) -> list[bytes]:
    """The kinds that an ISO media file calls itself, the main one first; none of another file."""
    if data[4:8] != b"ftyp":
        return []
    (size,) = struct.unpack_from(">I", data)
    names = data[8 : min(size, 512)]
    return [names[:4], *(names[at : at + 4] for at in range(8, len(names) - 3, 4))]


def nclx(data: bytes) -> Nclx | None:
    """What an AVIF or HEIC file's `colr` box says of the primary picture, or of its parts."""
    properties = find(data, (b"meta", b"iprp", b"ipco"))
    if properties is None:
        return None
    entries = list(boxes(data, *properties))
    for wanted in (_primary_properties(data), set(range(1, len(entries) + 1))):
        for number, (kind, start, end) in enumerate(entries, 1):
            if number in wanted and kind == b"colr" and data[start : start + 4] == b"nclx" and end - start >= 8:
                return Nclx(*struct.unpack_from(">HH", data, start + 4))
    return None


def _primary_properties(data: bytes) -> set[int]:
    """The numbers, from 1, of the properties that belong to the primary picture."""
    primary, associations = find(data, (b"meta", b"pitm")), find(data, (b"meta", b"iprp", b"ipma"))
    if primary is None or associations is None:
        return set()
    try:
        (item,) = struct.unpack_from(">H" if data[primary[0]] == 0 else ">I", data, primary[0] + 4)
        return _associated(data, associations[0], item)
    except (struct.error, IndexError):
        return set()


def _associated(data: bytes, at: int, wanted: int) -> set[int]:
    """ISO/IEC 23008-12, 9.3.1: item -> property numbers."""
    version, flags = data[at], data[at + 3]
    (count,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(min(count, _MOST_BOXES)):
        (item,) = struct.unpack_from(">H" if version < 1 else ">I", data, at)
        at += 2 if version < 1 else 4
        number, at = data[at], at + 1
        width = 2 if flags & 1 else 1
        if item == wanted:
            fields = (data[at + width * place : at + width * (place + 1)] for place in range(number))
            return {int.from_bytes(field) & (0x7FFF if flags & 1 else 0x7F) for field in fields}
        at += width * number
    return set()
