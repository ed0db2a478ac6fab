"""The rows of the table: files of every arrangement, and what their pixels must be by the formulas of the formats."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pillow_heif
import pillow_jxl  # noqa: F401 - registers itself
import tifffile
from PIL import Image

from benchmarks.image_table import colours
from benchmarks.image_table.colours import Space
from benchmarks.image_table.writers import Samples, bmp, chunk, png, tiff

Floats = npt.NDArray[np.float64]
_WIDTH, _HEIGHT = 64, 48
_y, _x = np.mgrid[0:_HEIGHT, 0:_WIDTH]
RGB = np.stack([_x / 63, _y / 47, (_x + _y) / 110], -1)
GREY = RGB[:, :, 2:]
CMYK = np.stack([_x / 63, _y / 47, (_x + _y) / 220, ((63 - _x) / 126)], -1)
# Far from the edges of sRGB, where a difference of 1 before the conversion is no more after it, and with colours that
# hardly change from pixel to pixel: decoders spread halved colours in different ways.
MUTED = 0.4 + RGB * 0.2
ALPHA = np.broadcast_to(((47 - _y) / 47)[:, :, None], (_HEIGHT, _WIDTH, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One file.

    Attributes:
        wanted: 0..255 (H, W, 3), before rounding; None where only another decoder can say it.
    """

    format: str
    what: str
    data: bytes
    wanted: Floats | None


def rows() -> Iterator[Row]:
    """All of them."""
    yield from _png_depths()
    yield from _png_colours()
    yield from _tiff_arrangements()
    yield from _tiff_others()
    yield from _bmps()
    yield from _by_pillow()


def whole(picture: Floats, bits: int) -> Samples:
    """0..1 -> samples of so many bits."""
    return np.rint(picture * (2**bits - 1)).astype(np.uint16 if bits > 8 else np.uint8)


def wanted(coded: Floats, alpha: Floats | None = None, space: Space = colours.SRGB) -> Floats:
    """Coded values of 0..1 in a colour space, on white."""
    opaque = np.ones((1, 1, 1)) if alpha is None else alpha
    srgb = coded if space is colours.SRGB else space.to_srgb(coded)
    return np.broadcast_to((srgb * opaque + 1 - opaque) * 255, (_HEIGHT, _WIDTH, 3))


# --- PNG --------------------------------------------------------------------------------------------------------------


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


# --- TIFF -------------------------------------------------------------------------------------------------------------

_TIFF_OPTIONS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 32)},
    "deflate": {"compression": "zlib"},
    "deflate, predictor": {"compression": "zlib", "predictor": True, "rowsperstrip": 11},
    "deflate, tiles": {"compression": "zlib", "tile": (32, 16)},
    "LZMA": {"compression": "lzma"},
}


def _tiff(
    samples_HWC: npt.NDArray[Any], photometric: str, *, planes: bool = False, order: str = "<", **options: Any
) -> bytes:
    buffer = io.BytesIO()
    is_grey = samples_HWC.shape[2] == 1
    picture = samples_HWC[:, :, 0] if is_grey else np.moveaxis(samples_HWC, 2, 0) if planes else samples_HWC
    if not is_grey:
        options["planarconfig"] = "separate" if planes else "contig"
    tifffile.imwrite(
        buffer, np.ascontiguousarray(picture), photometric=photometric, byteorder=order, metadata=None, **options
    )
    return buffer.getvalue()


def _tiff_kinds() -> Iterator[tuple[str, npt.NDArray[Any], dict[str, Any], Floats]]:
    """(what, samples, tifffile's options, what it must come to)."""
    for bits in (8, 16):
        largest = 2**bits - 1
        grey, rgb, cmyk, alpha = (whole(part, bits) for part in (GREY, RGB, CMYK, ALPHA))
        opacity = alpha / largest
        yield f"grey {bits}-bit", grey, {"photometric": "minisblack"}, wanted(grey / largest)
        yield f"inverted grey {bits}-bit", grey, {"photometric": "miniswhite"}, wanted(1 - grey / largest)
        yield f"RGB {bits}-bit", rgb, {"photometric": "rgb"}, wanted(rgb / largest)
        ink = cmyk / largest
        yield f"CMYK {bits}-bit", cmyk, {"photometric": "separated"}, wanted((1 - ink[:, :, :3]) * (1 - ink[:, :, 3:]))
        for name, picture, photometric in (("grey", grey, "minisblack"), ("RGB", rgb, "rgb")):
            both = np.concatenate([picture, alpha], 2)
            seen = picture / largest
            options = {"photometric": photometric, "extrasamples": ["unassalpha"]}
            yield f"{name} and alpha {bits}-bit", both, options, wanted(seen, opacity)
            multiplied = np.concatenate([np.rint(picture * opacity).astype(picture.dtype), alpha], 2)
            options = {"photometric": photometric, "extrasamples": ["assocalpha"]}
            yield f"{name} and multiplied alpha {bits}-bit", multiplied, options, wanted(seen, opacity)
            options = {"photometric": photometric, "extrasamples": ["unspecified"]}
            yield f"{name} and another channel {bits}-bit", both, options, wanted(seen)
    for kind in (np.float16, np.float32, np.float64):
        for name, picture, photometric in (("grey", GREY, "minisblack"), ("RGB", RGB, "rgb")):
            yield f"{name} {np.dtype(kind).name}", picture.astype(kind), {"photometric": photometric}, wanted(picture)


def _tiff_arrangements() -> Iterator[Row]:
    for what, samples, options, right in _tiff_kinds():
        is_grey = samples.shape[2] == 1
        for planes, order, big, (how, more) in product(
            (False,) if is_grey else (False, True), "<>", (False, True), _TIFF_OPTIONS.items()
        ):
            if "predictor" in how and samples.dtype.kind == "f":
                continue  # tifffile cannot write it by itself
            name = f"{what}, {how}{', planes' * planes}{', big-endian' * (order == '>')}{', BigTIFF' * big}"
            yield Row("TIFF", name, _tiff(samples, planes=planes, order=order, bigtiff=big, **options, **more), right)
    for bits, space in product((8, 16), (colours.P3, colours.ADOBE, colours.LINEAR, colours.GREY_LINEAR)):
        picture = GREY if space.primaries is None else RGB
        samples = whole(picture, bits)
        kind = "minisblack" if space.primaries is None else "rgb"
        data = _tiff(samples, kind, iccprofile=space.profile())
        yield Row("TIFF", f"{bits}-bit, {space.name}", data, wanted(samples / (2**bits - 1), None, space))


def _base_tags(samples: int, bits: int, photometric: int) -> dict[int, tuple[int, ...]]:
    return {256: (_WIDTH,), 257: (_HEIGHT,), 258: (bits,) * samples, 259: (1,), 262: (photometric,), 277: (samples,)}


def _tiff_others() -> Iterator[Row]:
    for order, bits in product("<>", (1, 2, 4)):
        grey = whole(GREY, bits)
        each = np.unpackbits(grey, axis=2)[:, :, 8 - bits :]
        packed = np.packbits(each.reshape(_HEIGHT, -1), axis=1)
        seen = grey / (2**bits - 1)
        table = np.random.default_rng(bits).integers(0, 256, (3, 2**bits))
        indexed = np.moveaxis(table[:, grey[:, :, 0]], 0, 2) / 255
        end = ", big-endian" * (order == ">")
        yield Row("TIFF", f"grey {bits}-bit{end}", tiff(packed, _base_tags(1, bits, 1), order), wanted(seen))
        yield Row(
            "TIFF", f"inverted grey {bits}-bit{end}", tiff(packed, _base_tags(1, bits, 0), order), wanted(1 - seen)
        )
        for how, scale in (("", 257), (", colours of 8 bits", 1)):
            tags = _base_tags(1, bits, 3) | {320: tuple((table * scale).ravel().tolist())}
            yield Row("TIFF", f"palette {bits}-bit{how}{end}", tiff(packed, tags, order), wanted(indexed))
    grey = whole(GREY, 8)
    for order in "<>":
        end = ", big-endian" * (order == ">")
        signed = _base_tags(1, 16, 1) | {339: (2,)}
        yield Row("TIFF", f"grey 16-bit, signed{end}", tiff(whole(GREY, 16), signed, order), None)
        yield Row("TIFF", f"grey 8-bit, signed{end}", tiff(grey, _base_tags(1, 8, 1) | {339: (2,)}, order), None)
        yield Row(
            "TIFF", f"grey 32-bit{end}", tiff(whole(GREY, 16).astype(np.uint32), _base_tags(1, 32, 1), order), None
        )
        yield Row("TIFF", f"CIELAB{end}", tiff(whole(RGB, 8), _base_tags(3, 8, 8), order), None)
        wide = np.rint(GREY * 4095).astype(np.uint16).reshape(-1, 2)
        packed = np.stack([wide[:, 0] >> 4, (wide[:, 0] & 15) << 4 | wide[:, 1] >> 8, wide[:, 1] & 255], 1).astype(
            np.uint8
        )
        right = wanted(np.rint(GREY * 4095) / 4095) if order == "<" else None  # the other way about Pillow has none
        yield Row("TIFF", f"grey 12-bit{end}", tiff(packed, _base_tags(1, 12, 1), order), right)
    yield from _tiff_ycbcr()
    rgba = np.concatenate([whole(RGB, 8), whole(ALPHA, 8)], 2)
    tags = _base_tags(4, 8, 2)
    yield Row(
        "TIFF",
        "RGB and a channel of no said kind",
        tiff(rgba, tags),
        wanted(whole(RGB, 8) / 255, whole(ALPHA, 8) / 255),
    )


def _tiff_ycbcr() -> Iterator[Row]:
    rgb = whole(RGB, 8)
    luma = np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    yield Row("TIFF", "YCbCr", tiff(luma, _base_tags(3, 8, 6) | {530: (1, 1)}), wanted(_from_ycbcr(luma)))
    # Units of two by two pixels: four Y, one Cb, one Cr. Colour that is constant in each unit is not lost.
    flat = np.asarray(Image.fromarray(np.repeat(np.repeat(rgb[::2, ::2], 2, 0), 2, 1)).convert("YCbCr"))
    units = np.concatenate(
        [flat[:, :, 0].reshape(24, 2, 32, 2).transpose(0, 2, 1, 3).reshape(24, 32, 4), flat[::2, ::2, 1:]], 2
    )
    tags = _base_tags(3, 8, 6) | {530: (2, 2)}
    yield Row("TIFF", "YCbCr, colour of 2x2 pixels", tiff(units, tags), wanted(_from_ycbcr(flat)))


def _from_ycbcr(ycbcr_HWC: Samples) -> Floats:
    """ITU-R BT.601 in the full range, as TIFF 6.0 has it."""
    y, cb, cr = np.moveaxis(ycbcr_HWC.astype(float), 2, 0) - np.array([0, 128, 128])[:, None, None]
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], -1)
    return np.clip(rgb / 255, 0, 1)


# --- BMP --------------------------------------------------------------------------------------------------------------


def _bmps() -> Iterator[Row]:
    rgb, alpha = whole(RGB, 8), whole(ALPHA, 8)
    upside = rgb[::-1]
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)

    def bgra(opacity: Samples) -> bytes:
        return np.concatenate([upside[:, :, ::-1], opacity[::-1]], 2).astype(np.uint8).tobytes()

    size = (_WIDTH, _HEIGHT)
    seen = rgb / 255
    yield Row("BMP", "24-bit", bmp(np.ascontiguousarray(upside[:, :, ::-1]).tobytes(), size, 24), wanted(seen))
    yield Row("BMP", "32-bit, no masks", bmp(bgra(alpha), size, 32), wanted(seen))
    yield Row("BMP", "32-bit, alpha", bmp(bgra(alpha), size, 32, masks=masks), wanted(seen, alpha / 255))
    yield Row("BMP", "32-bit, alpha of zeros", bmp(bgra(alpha * 0), size, 32, masks=masks), wanted(seen))
    yield Row("BMP", "32-bit, no alpha mask", bmp(bgra(alpha * 0), size, 32, masks=masks[:3]), wanted(seen))
    five = whole(RGB, 5).astype(np.uint16)
    for name, top in (("no alpha", 0), ("alpha of zeros", 0), ("alpha of ones", 1), ("alpha", (_x + _y) % 2)):
        values = (five[:, :, 0] << 10 | five[:, :, 1] << 5 | five[:, :, 2]) | np.uint16(0x8000) * np.asarray(
            top, np.uint16
        )
        fields = (0x7C00, 0x3E0, 0x1F) if name == "no alpha" else (0x7C00, 0x3E0, 0x1F, 0x8000)
        clear = np.asarray(top)[:, :, None].astype(float) if name == "alpha" else None
        data = bmp(np.ascontiguousarray(values[::-1]).astype("<u2").tobytes(), size, 16, masks=fields)
        yield Row("BMP", f"16-bit, {name}", data, wanted(five / 31, clear))
    pixels = np.ascontiguousarray(upside[:, :, ::-1]).tobytes()
    profile = colours.P3.profile()
    embedded = b"DEBM" + bytes(48) + struct.pack("<III", 4, 124 + len(pixels), len(profile))
    yield Row(
        "BMP", "embedded P3", bmp(pixels, size, 24, colour=embedded, tail=profile), wanted(seen, None, colours.P3)
    )
    chromaticities = [0.68, 0.32, 0.0, 0.265, 0.69, 0.045, 0.15, 0.06, 0.79]
    numbers = [round(number * 2**30) for number in chromaticities] + [round(2.2 * 2**16)] * 3
    calibrated = struct.pack("<I12I", 0, *numbers)
    space = Space("", colours.P3.primaries, 2.2)
    yield Row("BMP", "calibrated P3, gamma 2.2", bmp(pixels, size, 24, colour=calibrated), wanted(seen, None, space))
    yield Row("BMP", "calibrated with zeros", bmp(pixels, size, 24, colour=bytes(52)), wanted(seen))


# --- What a library must write ----------------------------------------------------------------------------------------


def _by_pillow() -> Iterator[Row]:
    rgb, grey = Image.fromarray(whole(RGB, 8)), Image.fromarray(whole(GREY, 8)[:, :, 0])
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(whole(ALPHA, 8)[:, :, 0]))
    cmyk = Image.fromarray(whole(CMYK, 8), "CMYK")
    ink = whole(CMYK, 8) / 255
    exact = wanted(whole(RGB, 8) / 255)
    on_white = wanted(whole(RGB, 8) / 255, whole(ALPHA, 8) / 255)
    p3 = {"icc_profile": colours.P3.profile()}
    lossless = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
    deep = Image.fromarray(whole(GREY, 16)[:, :, 0])
    linear = {"icc_profile": colours.GREY_LINEAR.profile()}
    in_p3 = wanted(whole(RGB, 8) / 255, None, colours.P3)
    muted, muted_grey = Image.fromarray(whole(MUTED, 8)), Image.fromarray(whole(MUTED[:, :, 2], 8))
    pillow_heif.register_heif_opener()
    cases: list[tuple[str, str, Image.Image, dict[str, Any], Floats | None]] = [
        ("JPEG", "RGB", rgb, {"quality": 95, "subsampling": 0}, None),
        ("JPEG", "RGB, 4:2:0", rgb, {"quality": 95, "subsampling": 2}, None),
        ("JPEG", "RGB, progressive", rgb, {"quality": 95, "progressive": True}, None),
        ("JPEG", "RGB, not converted", rgb, {"quality": 95, "keep_rgb": True}, None),
        ("JPEG", "RGB, Display P3", rgb, {"quality": 95} | p3, None),
        ("JPEG", "grey", grey, {"quality": 95}, None),
        (
            "JPEG",
            "grey, linear",
            muted_grey,
            {"quality": 100} | linear,
            wanted(whole(MUTED[:, :, 2:], 8) / 255, None, colours.GREY_LINEAR),
        ),
        ("JPEG", "CMYK", cmyk, {"quality": 100}, wanted((1 - ink[:, :, :3]) * (1 - ink[:, :, 3:]))),
        ("WebP", "lossless RGB", rgb, {"lossless": True}, exact),
        ("WebP", "lossless RGBA", rgba, {"lossless": True, "exact": True}, on_white),
        ("WebP", "lossless, Display P3", rgb, {"lossless": True} | p3, in_p3),
        ("WebP", "RGB", rgb, {"quality": 90}, None),
        ("GIF", "palette", rgb.quantize(64), {}, wanted(np.asarray(rgb.quantize(64).convert("RGB")) / 255)),
        ("TIFF", "LZW RGB", rgb, {"compression": "tiff_lzw"}, exact),
        (
            "TIFF",
            "LZW grey 16-bit",
            Image.fromarray(whole(GREY, 16)[:, :, 0]),
            {"compression": "tiff_lzw"},
            wanted(GREY),
        ),
        ("TIFF", "JPEG RGB", rgb, {"compression": "jpeg", "quality": 95}, None),
        (
            "TIFF",
            "group 4",
            grey.convert("1"),
            {"compression": "group4"},
            wanted(np.asarray(grey.convert("1"))[:, :, None] * 1.0),
        ),
        ("JPEG2000", "RGB", rgb, {}, exact),
        ("JPEG2000", "RGBA", rgba, {}, on_white),
        ("JPEG2000", "grey", grey, {}, wanted(whole(GREY, 8) / 255)),
        ("JPEG2000", "grey 16-bit", deep, {}, wanted(GREY)),
        ("JPEG2000", "RGB, codestream", rgb, {"no_jp2": True}, exact),
        ("JPEG2000", "RGB, lossy", rgb, {"irreversible": True, "quality_layers": [10]}, None),
        ("HEIF", "lossless RGB", rgb, lossless, exact),
        ("HEIF", "lossless RGBA", rgba, lossless, on_white),
        ("HEIF", "lossless grey", grey, lossless, wanted(whole(GREY, 8) / 255)),
        ("HEIF", "lossless, Display P3", rgb, lossless | p3, in_p3),
        ("JXL", "lossless RGB", rgb, {"lossless": True}, exact),
        ("JXL", "lossless RGBA", rgba, {"lossless": True}, on_white),
        ("JXL", "lossless grey", grey, {"lossless": True}, wanted(whole(GREY, 8) / 255)),
        ("JXL", "lossless grey, 16-bit, linear", deep, {"lossless": True}, wanted(GREY, None, colours.GREY_LINEAR)),
        ("AVIF", "RGB 4:4:4", rgb, {"quality": 95, "subsampling": "4:4:4"}, None),
        ("AVIF", "RGB 4:2:0", muted, {"quality": 95}, None),
        ("AVIF", "RGBA", rgba, {"quality": 95, "subsampling": "4:4:4"}, None),
        ("AVIF", "grey", grey, {"quality": 95}, None),
        ("AVIF", "Display P3", muted, {"quality": 95, "subsampling": "4:4:4"} | p3, None),
    ]
    for kind, what, image, options, right in cases:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        yield Row(kind, what, buffer.getvalue(), right)
