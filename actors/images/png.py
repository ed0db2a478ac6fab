"""PNG: colour chunks, transparency of every depth, all sixteen bits, any amount of text.

Pillow reads the pixels. What it would read wrongly or stumble over is taken out of the file before: text of more than a
megabyte, the transparent colour of grey below 8 bits, and the lower byte of 16-bit samples.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, PngImagePlugin

from actors.contracts import Pixels
from actors.errors import ImageError
from actors.images import pillow, tones
from actors.images.stored import Deep, SizeCheck, Stored, to_8_bits

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_SAMPLES = {_GREY: 1, _RGB: 3, _GREY_ALPHA: 2, _RGB_ALPHA: 4}
_NAMED = "PNG image"
# The largest profiles known, of printers, have some megabytes.
_MOST_PROFILE_BYTES = 2**24
# The first column, the first row and the steps of Adam7's seven passes: x, y, step in x, step in y.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    height: int
    bits: int
    kind: int
    interlaced: int


def read(data: bytes, check_size: SizeCheck) -> Stored:
    """The first picture; of an animation that which stands for it. Raises ImageError."""
    chunks: dict[bytes, bytes] = {}
    pixels: list[bytes] = []
    for name, content in _chunks(data):
        if name == b"IDAT":
            pixels.append(content)
        elif name in _USED and (name == b"eXIf" or not pixels):  # the others count only before the pixels
            chunks.setdefault(name, content)
    if len(chunks.get(b"IHDR", b"")) != 13:
        raise ImageError(f"the {_NAMED} cannot be read, or its header is damaged: it has no IHDR chunk")
    width, height, bits, kind, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    header = _Header(width, height, bits, kind, interlaced)
    check_size(width, height)
    orientation = pillow.exif_orientation(chunks.get(b"eXIf"))
    stored = Stored("PNG", _EMPTY, colour=_colour(chunks), orientation=orientation)
    if bits == 16 and kind in _SAMPLES:
        _read_deep(stored, header, chunks, b"".join(pixels), check_size)
    else:
        stored.samples = pillow.load(PngImagePlugin.PngImageFile, _rebuilt(chunks, pixels), "PNG", check_size)
        if kind in (_GREY, _RGB) and b"tRNS" in chunks:
            _take_out(stored, header, chunks[b"tRNS"])
    return stored


_USED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM"})
_EMPTY = Image.new("L", (1, 1))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, content) up to the end of the file or its first damage. Raises ImageError for damaged pixels."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            if name == b"IDAT":
                yield name, data[at + 8 :]
            return
        if name in _USED or name == b"IDAT":
            content = data[at + 8 : at + 8 + length]
            (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
            if zlib.crc32(content, zlib.crc32(name)) == checksum:
                yield name, content
            elif name in (b"IHDR", b"PLTE", b"IDAT"):
                raise ImageError(f"the {_NAMED} is damaged or cut off: the checksum of its {name.decode()} is wrong")
        elif name == b"IEND" or not name.isalpha():
            return
        at += 12 + length


def _rebuilt(chunks: dict[bytes, bytes], pixels: list[bytes]) -> bytes:
    """A file of nothing but what Pillow needs."""
    parts: list[tuple[bytes, bytes]] = [(name, chunks[name]) for name in (b"IHDR", b"PLTE") if name in chunks]
    if b"tRNS" in chunks and chunks[b"IHDR"][9] == _PALETTE:
        parts.append((b"tRNS", chunks[b"tRNS"]))
    parts += [(b"IDAT", content) for content in pixels]
    return SIGNATURE + b"".join(_chunk(name, content) for name, content in [*parts, (b"IEND", b"")])


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))


# --- Transparency -----------------------------------------------------------------------------------------------------


def _take_out(stored: Stored, header: _Header, key: bytes) -> None:
    """Make the one colour of grey or RGB of up to 8 bits transparent that a tRNS chunk names."""
    count = _SAMPLES[header.kind]
    if len(key) < 2 * count:
        return
    largest = 2**header.bits - 1
    image = stored.samples
    assert isinstance(image, Image.Image)
    if count == 1:
        image = stored.samples = image.convert("L")  # from 1 bit; of 2 and 4 bits Pillow has made 8
    wanted = [(value & largest) * 255 // largest for value in struct.unpack_from(f">{count}H", key)]
    stored.alpha_HW = _unlike(np.asarray(image).reshape(header.height, header.width, count), wanted)


def _unlike(samples_HWC: Pixels | Deep, colour: list[int]) -> Pixels:
    return np.where((samples_HWC == np.array(colour, samples_HWC.dtype)).all(2), 0, 255).astype(np.uint8)


# --- 16 bits ----------------------------------------------------------------------------------------------------------


def _read_deep(
    stored: Stored, header: _Header, chunks: dict[bytes, bytes], packed: bytes, check_size: SizeCheck
) -> None:
    """All bits of 16-bit samples, of which Pillow gives the upper 8.

    PNG filters byte by byte, each byte of a sample against the same byte of its neighbour. So the upper and the lower
    bytes are each a PNG of 8 bits with the same filters.
    """
    count = _SAMPLES[header.kind]
    passes = _passes(header)
    sizes = [height * (1 + 2 * count * width) for width, height in passes]
    unpacker = zlib.decompressobj()
    raw = pillow.attempt(lambda: unpacker.decompress(packed, sum(sizes)), f"the {_NAMED} is damaged or cut off")
    if len(raw) < sum(sizes):
        raise ImageError(f"the {_NAMED} is damaged or cut off: {len(raw)} of {sum(sizes)} bytes of pixels are there")
    samples_HWC = np.zeros((header.height, header.width, count), np.uint16)
    for byte in (0, 1):
        half = _half(raw, passes, sizes, count, byte)
        small = chunks[b"IHDR"][:8] + bytes([8]) + chunks[b"IHDR"][9:]
        image = pillow.load(PngImagePlugin.PngImageFile, _rebuilt({b"IHDR": small}, [half]), "PNG", check_size)
        samples_HWC = (samples_HWC << 8) | np.asarray(image).reshape(samples_HWC.shape)
    colours = count if count in (1, 3) else count - 1
    stored.samples = samples_HWC[:, :, :colours]
    if colours < count:
        stored.alpha_HW = to_8_bits(samples_HWC[:, :, colours])
    elif len(key := chunks.get(b"tRNS", b"")) >= 2 * count:
        stored.alpha_HW = _unlike(samples_HWC, list(struct.unpack_from(f">{count}H", key)))


def _passes(header: _Header) -> list[tuple[int, int]]:
    """(width, height) of each picture that is stored: the whole, or those of Adam7 that are not empty."""
    if not header.interlaced:
        return [(header.width, header.height)]
    sizes = [(-(-(header.width - x) // dx), -(-(header.height - y) // dy)) for x, y, dx, dy in _ADAM7]
    return [(width, height) for width, height in sizes if width > 0 and height > 0]


def _half(raw: bytes, passes: list[tuple[int, int]], sizes: list[int], count: int, byte: int) -> bytes:
    """The upper (0) or the lower (1) byte of each sample, with the rows' filters, packed for an 8-bit PNG."""
    parts, start = [], 0
    for (width, height), size in zip(passes, sizes, strict=True):
        rows = np.frombuffer(raw, np.uint8, size, start).reshape(height, 1 + 2 * count * width)
        parts.append(np.concatenate([rows[:, :1], rows[:, 1 + byte :: 2]], axis=1).tobytes())
        start += size
    return zlib.compress(b"".join(parts), level=0)


# --- Colour -----------------------------------------------------------------------------------------------------------


def _colour(chunks: dict[bytes, bytes]) -> bytes | tones.Tones | None:
    """What the colour chunks say; of several, cICP before iCCP before sRGB before gAMA and cHRM (PNG 3, 4.3).

    A chunk that cannot be used counts as absent, as in browsers.
    """
    code = chunks.get(b"cICP", b"")
    if len(code) == 4 and code[2] == 0:
        is_known, conversion = tones.from_codes(code[0], code[1], _NAMED)
        if is_known:
            if code[3] == 0:
                raise ImageError(f"the {_NAMED} is in the narrow range of video (16 to 235): save it in the full range")
            return conversion
    if profile := _profile(chunks.get(b"iCCP", b"")):
        return profile
    if b"sRGB" in chunks:
        return None
    return _calibrated(chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b""))


def _profile(chunk: bytes) -> bytes:
    """The ICC profile; empty where there is none, and of nothing but a zero where it cannot be unpacked."""
    if not chunk:
        return b""
    _, _, packed = chunk.partition(b"\0")
    try:
        return zlib.decompressobj().decompress(packed[1:], _MOST_PROFILE_BYTES) or b"\0"
    except zlib.error:
        return b"\0"


def _calibrated(gamma: bytes, chromaticities: bytes) -> tones.Tones | None:
    """Of a gamma alone with sRGB's primaries, of primaries alone with sRGB's curve."""
    curve: tones.Curve = tones.srgb_to_linear
    white, corners = tones.D65, tones.SRGB_PRIMARIES
    if len(gamma) == 4 and (stored := struct.unpack(">I", gamma)[0]):
        curve = tones.power(100_000 / stored)
    if len(chromaticities) == 32:
        numbers = [number / 100_000 for number in struct.unpack(">8I", chromaticities)]
        white, *rest = zip(numbers[::2], numbers[1::2], strict=True)
        corners = (rest[0], rest[1], rest[2])
    if curve is tones.srgb_to_linear and corners == tones.SRGB_PRIMARIES:
        return None
    try:
        return tones.from_chromaticities([curve], corners, white)
    except (ValueError, np.linalg.LinAlgError):
        return None
