"""PNG and BMP files written byte by byte: what they hold is known without a library."""

import struct
import zlib
from typing import Literal

import numpy as np
import numpy.typing as npt

Order = Literal["<", ">"]
Samples = npt.NDArray[np.unsignedinteger]
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(
    samples_HWC: Samples,
    bits: int,
    kind: int,
    before: bytes = b"",
    after: bytes = b"",
    *,
    interlaced: bool = False,
) -> bytes:
    """A PNG of unsigned samples, each row filtered in its own way; chunks before and after the pixels as given."""
    height, width = samples_HWC.shape[:2]
    parts = [samples_HWC[y::dy, x::dx] for x, y, dx, dy in _ADAM7] if interlaced else [samples_HWC]
    raw = b"".join(_rows(part, bits) for part in parts if part.size)
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + before
        + chunk(b"IDAT", zlib.compress(raw))
        + after
        + chunk(b"IEND", b"")
    )


def _rows(samples_HWC: Samples, bits: int) -> bytes:
    height, width, count = samples_HWC.shape
    if bits == 16:
        rows = samples_HWC.astype(">u2").reshape(height, -1).view(np.uint8)
    elif bits == 8:
        rows = samples_HWC.astype(np.uint8).reshape(height, -1)
    else:
        each = np.unpackbits(samples_HWC.astype(np.uint8).reshape(height, width, 1), axis=2)[:, :, 8 - bits :]
        rows = np.packbits(each.reshape(height, -1), axis=1)
    step = max(1, bits * count // 8)
    above, result = np.zeros(rows.shape[1], np.uint8), b""
    for number, row in enumerate(rows):
        method = number % 3  # none, the left neighbour, the one above
        left = np.concatenate([np.zeros(step, np.uint8), row[:-step]])[: len(row)]
        result += bytes([method]) + (row - (np.zeros_like(row), left, above)[method]).tobytes()
        above = row
    return result


def bmp(
    pixels: bytes,
    size: tuple[int, int],
    bits: int,
    *,
    masks: tuple[int, ...] = (),
    colour: bytes = b"",
    tail: bytes = b"",
) -> bytes:
    """A BMP with a header of version 5; rows from the bottom up, padded as the caller must have done.

    `colour` is what stands from the kind of colour space on; `tail` follows the pixels.
    """
    width, height = size
    header = struct.pack("<IiiHHIIiiII", 124, width, height, 1, bits, 3 if masks else 0, len(pixels), 2835, 2835, 0, 0)
    header += struct.pack("<4I", *masks, *[0] * (4 - len(masks))) + (colour or b"BGRs")
    return b"BM" + struct.pack("<IHHI", 138 + len(pixels), 0, 0, 138) + header.ljust(124, b"\0") + pixels + tail


def tiff(samples: npt.NDArray[np.generic], tags: dict[int, tuple[int, ...]], order: Order = "<") -> bytes:
    """An uncompressed TIFF of one strip, for what tifffile does not write; all tags are of 16 or 32 bits."""
    pixels = (
        samples.astype(samples.dtype.newbyteorder(order)).tobytes() if samples.dtype.itemsize > 1 else samples.tobytes()
    )
    pixels += b"\0" * (len(pixels) % 2)
    height = tags[257][0]
    tags = tags | {273: (8,), 278: (height,), 279: (len(pixels),)}
    start = 8 + len(pixels)
    directory, outside = struct.pack(f"{order}H", len(tags)), b""
    for tag, values in sorted(tags.items()):
        letter, kind = ("I", 4) if max(values) > 65535 or tag in (273, 279) else ("H", 3)
        content = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(content) > 4:
            content, outside = (
                struct.pack(f"{order}I", start + 2 + 12 * len(tags) + 4 + len(outside)),
                outside + content + b"\0" * (len(content) % 2),
            )
        directory += struct.pack(f"{order}HHI", tag, kind, len(values)) + content.ljust(4, b"\0")
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}I", start) + pixels + directory + b"\0\0\0\0" + outside
