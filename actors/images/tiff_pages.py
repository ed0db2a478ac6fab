"""The directories of a TIFF file: which picture is the one, and whether the file is camera raw."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from actors.errors import ImageError

# More than any file of pictures has; directories may form a ring.
_MOST_PAGES = 64
_MOST_VALUES = 2**24


class Tag(IntEnum):
    """Those that say how pixels are stored (TIFF 6.0, DNG 1.7)."""

    NEW_SUBFILE_TYPE = 254
    SUBFILE_TYPE = 255
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTES = 279
    PLANAR = 284
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTES = 325
    SUB_IFDS = 330
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    XMP = 700
    ICC_PROFILE = 34675
    DNG_VERSION = 50706


# The number formats that these tags come in: kind -> its letter for `struct`.
_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WANTED = frozenset(tag.value for tag in Tag)

_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892
_RAW_COMPRESSIONS = {
    32767: "Sony ARW",
    32769: "camera raw",
    32770: "Samsung SRW",
    34713: "Nikon NEF",
    65000: "Kodak DCR",
    65535: "Pentax PEF",
}
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_OLD_REDUCED = 2  # value of SubfileType


@dataclass(frozen=True, slots=True)
class Page:
    """One directory.

    Attributes:
        offset: where it begins.
        order: of bytes, as `struct` writes it.
        tags: the numbers of those in `Tag` (of an ICC profile none).
        places: where the entry of each begins.
    """

    offset: int
    order: str
    is_big: bool
    tags: dict[int, tuple[int, ...]]
    places: dict[int, int]

    def number(self, tag: Tag, default: int) -> int:
        """Its first value."""
        return self.tags.get(tag, (default,))[0]

    @property
    def is_reduced(self) -> bool:
        """A smaller copy of another picture."""
        return bool(self.number(Tag.NEW_SUBFILE_TYPE, 0) & _REDUCED) or self.number(Tag.SUBFILE_TYPE, 1) == _OLD_REDUCED

    @property
    def is_mask(self) -> bool:
        """The transparency of another picture."""
        return bool(self.number(Tag.NEW_SUBFILE_TYPE, 0) & _MASK)


def main_page(data: bytes) -> Page:
    """The full picture that comes first. Raises ImageError for camera raw, and where there is none."""
    pages = list(_pages(data))
    if not pages:
        raise ImageError("the TIFF image cannot be read, or its header is damaged: its first directory lies outside")
    for page in pages:
        if kind := _raw_kind(page):
            raise ImageError(
                f"the file is camera raw ({kind}), which is not developed here: export it as JPEG, TIFF or PNG"
            )
    full = [page for page in pages if not (page.is_reduced or page.is_mask)]
    if not full:
        raise ImageError(
            "all pictures in the TIFF image are marked as reduced copies or masks of another, which the file lacks: "
            "save the full picture"
        )
    main = full[0]
    if pages[0].is_reduced and Tag.ORIENTATION in pages[0].tags:  # raw-like files say it in the first directory only
        main.tags.setdefault(Tag.ORIENTATION, pages[0].tags[Tag.ORIENTATION])
    return main


def _raw_kind(page: Page) -> str | None:
    if Tag.DNG_VERSION in page.tags:
        return "DNG"
    if page.number(Tag.PHOTOMETRIC, 1) in (_FILTER_ARRAY, _LINEAR_RAW):
        return "one colour per pixel"
    return _RAW_COMPRESSIONS.get(page.number(Tag.COMPRESSION, 1))


def _pages(data: bytes) -> Iterator[Page]:
    """The directories in the order that counts: each, then those below it."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    try:
        (offset,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, 8 if is_big else 4)
        seen: set[int] = set()
        while offset and offset not in seen and len(seen) < _MOST_PAGES:
            seen.add(offset)
            page, offset = _page(data, offset, order, is_big=is_big)
            yield page
            for below in page.tags.get(Tag.SUB_IFDS, ())[:_MOST_PAGES]:
                if below not in seen and len(seen) < _MOST_PAGES:
                    seen.add(below)
                    yield _page(data, below, order, is_big=is_big)[0]
    except struct.error:
        return  # a damaged directory; the reader of the first one says what is wrong


def _page(data: bytes, offset: int, order: str, *, is_big: bool) -> tuple[Page, int]:
    """The directory at `offset`, and where the next one is (0: nowhere)."""
    (count,) = struct.unpack_from(f"{order}{'Q' if is_big else 'H'}", data, offset)
    start, width = offset + (8 if is_big else 2), 20 if is_big else 12
    count = min(count, 4096)
    page = Page(offset, order, is_big, {}, {})
    for place in range(start, start + count * width, width):
        tag, kind, number = struct.unpack_from(f"{order}HH{'Q' if is_big else 'I'}", data, place)
        if tag not in _WANTED or tag in page.places:
            continue
        page.places[tag] = place
        content, inline = place + (12 if is_big else 8), 8 if is_big else 4
        if _SIZES.get(kind, 1) * number > inline:
            (content,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, content)
        if kind in _NUMBERS and 0 < number <= _MOST_VALUES and content + _SIZES[kind] * number <= len(data):
            page.tags[tag] = struct.unpack_from(f"{order}{number}{_NUMBERS[kind]}", data, content)
    try:
        (following,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, start + count * width)
    except struct.error:
        following = 0
    return page, following


def as_only_page(data: bytes, page: Page) -> bytearray:
    """The same file with `page` as its first, without what makes Pillow turn it: orientation and XMP."""
    copy = bytearray(data)
    struct.pack_into(f"{page.order}{'Q' if page.is_big else 'I'}", copy, 8 if page.is_big else 4, page.offset)
    for tag in (Tag.ORIENTATION, Tag.XMP):
        if tag in page.places:
            struct.pack_into(f"{page.order}H", copy, page.places[tag], tag + 1 if tag == Tag.XMP else _UNUSED)
    return copy


_UNUSED = 275  # no tag of TIFF
