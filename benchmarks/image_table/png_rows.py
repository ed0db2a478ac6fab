"""PNG: depths, transparency, colour chunks."""

import struct
import zlib
from collections.abc import Iterator
from itertools import product

import numpy as np

from benchmarks.image_table import colours
from benchmarks.image_table.colours import Space
from benchmarks.image_table.pictures import ALPHA, GREY, RGB, Row, wanted, whole
from benchmarks.image_table.writers import chunk, png


def rows() -> Iterator[Row]:
    """All of them."""
    yield from _png_depths()
    yield from _png_colours()


def _png_depths() -> Iterator[Row]:
    for bits, interlaced in product((1, 2, 4, 8, 16), (False, True)):
        how = f"{bits}-bit{', interlaced' * interlaced}"
        largest = 2**bits - 1
        grey = whole(GREY, bits)
        yield Row("PNG", f"grey {how}", png(grey, bits, 0, interlaced=interlaced), wanted(grey / largest))
        key = int(grey[20, 20, 0])
        clear = (grey != key).astype(float)
        one = chunk(b"tRNS", struct.pack(">H", key))
        yield Row(
            "PNG",
            f"grey {how}, one grey clear",
            png(grey, bits, 0, one, interlaced=interlaced),
            wanted(grey / largest, clear),
        )
        if bits <= 8:
            yield from _png_palettes(bits, how, interlaced=interlaced)
        if bits >= 8:
            yield from _png_many_bits(bits, how, interlaced=interlaced)


def _png_palettes(bits: int, how: str, *, interlaced: bool) -> Iterator[Row]:
    index = whole(GREY, bits)
    table = np.random.default_rng(bits).integers(0, 256, (2**bits, 4), np.uint8)
    palette = chunk(b"PLTE", table[:, :3].tobytes())
    seen, alpha = table[index[:, :, 0], :3] / 255, table[index[:, :, 0], 3:] / 255
    yield Row("PNG", f"palette {how}", png(index, bits, 3, palette, interlaced=interlaced), wanted(seen))
    clear = chunk(b"tRNS", table[:, 3].tobytes())
    yield Row(
        "PNG", f"palette {how}, alpha", png(index, bits, 3, palette + clear, interlaced=interlaced), wanted(seen, alpha)
    )
    one = chunk(b"tRNS", b"\xff\0")
    yield Row(
        "PNG",
        f"palette {how}, one clear",
        png(index, bits, 3, palette + one, interlaced=interlaced),
        wanted(seen, (index != 1).astype(float)),
    )


def _png_many_bits(bits: int, how: str, *, interlaced: bool) -> Iterator[Row]:
    largest = 2**bits - 1
    rgb, grey, alpha = (whole(part, bits) for part in (RGB, GREY, ALPHA))
    yield Row("PNG", f"RGB {how}", png(rgb, bits, 2, interlaced=interlaced), wanted(rgb / largest))
    key = rgb[9, 9]
    clear = (rgb != key).any(2, keepdims=True).astype(float)
    one = chunk(b"tRNS", struct.pack(">3H", *map(int, key)))
    yield Row(
        "PNG", f"RGB {how}, one clear", png(rgb, bits, 2, one, interlaced=interlaced), wanted(rgb / largest, clear)
    )
    if bits == 16:  # equal in the upper byte only: not the colour that is clear
        near = chunk(b"tRNS", struct.pack(">3H", int(key[0]) ^ 1, int(key[1]), int(key[2])))
        yield Row(
            "PNG", f"RGB {how}, none clear", png(rgb, bits, 2, near, interlaced=interlaced), wanted(rgb / largest)
        )
    for name, kind, part in (("grey", 4, grey), ("RGB", 6, rgb)):
        data = png(np.concatenate([part, alpha], 2), bits, kind, interlaced=interlaced)
        yield Row("PNG", f"{name} and alpha {how}", data, wanted(part / largest, alpha / largest))


def _iccp(space: Space) -> bytes:
    return chunk(b"iCCP", b"p\0\0" + zlib.compress(space.profile()))


def _cicp(*codes: int) -> bytes:
    return chunk(b"cICP", bytes(codes))


def _gama(gamma: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(100_000 / gamma)))


_CHRM_P3 = chunk(b"cHRM", struct.pack(">8I", *(31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)))
_SRGB_CHUNK = chunk(b"sRGB", b"\0")
_GAMMA_22 = Space("2.2", colours.SRGB.primaries, 2.2)

# What stands before the pixels -> the space that counts, for RGB and for grey (None: the file is refused).
_PNG_COLOURS: tuple[tuple[str, bytes, Space | None, Space | None], ...] = (
    ("iCCP Display P3", _iccp(colours.P3), colours.P3, colours.SRGB),
    ("iCCP Adobe RGB", _iccp(colours.ADOBE), colours.ADOBE, colours.ADOBE),
    ("iCCP ProPhoto", _iccp(colours.PROPHOTO), colours.PROPHOTO, colours.PROPHOTO),
    ("iCCP linear", _iccp(colours.LINEAR), colours.LINEAR, colours.LINEAR),
    ("iCCP linear grey", _iccp(colours.GREY_LINEAR), colours.SRGB, colours.GREY_LINEAR),
    ("iCCP grey 1.8", _iccp(colours.GREY_18), colours.SRGB, colours.GREY_18),
    ("iCCP broken", chunk(b"iCCP", b"p\0\0" + zlib.compress(colours.P3.profile()[:200])), colours.SRGB, colours.SRGB),
    ("iCCP not packed", chunk(b"iCCP", b"p\0\0rubbish"), colours.SRGB, colours.SRGB),
    ("sRGB", _SRGB_CHUNK, colours.SRGB, colours.SRGB),
    ("gAMA 1", _gama(1.0), colours.LINEAR, colours.LINEAR),
    ("gAMA 1.8", _gama(1.8), Space("", colours.SRGB.primaries, 1.8), Space("", None, 1.8)),
    ("gAMA 2.2", _gama(2.2), _GAMMA_22, _GAMMA_22),
    ("gAMA 0", chunk(b"gAMA", bytes(4)), colours.SRGB, colours.SRGB),
    ("cHRM P3", _CHRM_P3, colours.P3, colours.SRGB),
    ("gAMA 1, cHRM P3", _gama(1.0) + _CHRM_P3, Space("", colours.P3.primaries, 1.0), colours.LINEAR),
    ("cHRM of zeros", chunk(b"cHRM", bytes(32)), colours.SRGB, colours.SRGB),
    ("cICP sRGB", _cicp(1, 13, 0, 1), colours.SRGB, colours.SRGB),
    ("cICP Display P3", _cicp(12, 13, 0, 1), colours.P3, colours.SRGB),
    ("cICP linear", _cicp(1, 8, 0, 1), colours.LINEAR, colours.LINEAR),
    ("cICP BT.2020, sRGB curve", _cicp(9, 13, 0, 1), colours.BT2020, colours.SRGB),
    ("cICP gamma 2.2", _cicp(1, 4, 0, 1), _GAMMA_22, _GAMMA_22),
    ("cICP PQ", _cicp(9, 16, 0, 1), None, None),
    ("cICP HLG", _cicp(9, 18, 0, 1), None, None),
    ("cICP narrow", _cicp(1, 13, 0, 0), None, None),
    ("cICP unspecified, gAMA 1", _cicp(2, 2, 0, 1) + _gama(1.0), colours.LINEAR, colours.LINEAR),
    ("cICP P3 before iCCP", _iccp(colours.ADOBE) + _cicp(12, 13, 0, 1), colours.P3, colours.SRGB),
    ("iCCP before sRGB and gAMA", _gama(1.0) + _SRGB_CHUNK + _iccp(colours.P3), colours.P3, colours.SRGB),
    ("sRGB before gAMA and cHRM", _gama(1.0) + _CHRM_P3 + _SRGB_CHUNK, colours.SRGB, colours.SRGB),
)


def _png_colours() -> Iterator[Row]:
    for bits, (name, before, of_rgb, of_grey) in product((8, 16), _PNG_COLOURS):
        largest = 2**bits - 1
        for kind, colour, picture, space in ((2, "RGB", RGB, of_rgb), (0, "grey", GREY, of_grey)):
            samples, alpha = whole(picture, bits), whole(ALPHA, bits)
            both = np.concatenate([samples, alpha], 2)
            refused = space is None
            right = None if refused else wanted(samples / largest, None, space or colours.SRGB)
            mixed = None if refused else wanted(samples / largest, alpha / largest, space or colours.SRGB)
            what = f"{colour} {bits}-bit"
            yield Row("PNG", f"{what}, {name}", png(samples, bits, kind, before), right)
            yield Row("PNG", f"{what} and alpha, {name}", png(both, bits, kind + 4, before), mixed)
    index = whole(GREY, 8)
    table = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    data = png(index, 8, 3, _gama(1.0) + chunk(b"PLTE", table.tobytes()))
    yield Row("PNG", "palette 8-bit, gAMA 1", data, wanted(table[index[:, :, 0]] / 255, None, colours.LINEAR))
