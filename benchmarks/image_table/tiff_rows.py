"""TIFF: kinds of samples, each in every arrangement."""

import io
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from benchmarks.image_table import colours
from benchmarks.image_table.pictures import ALPHA, CMYK, GREY, HEIGHT, RGB, WIDTH, Floats, Row, wanted, whole
from benchmarks.image_table.writers import Order, Samples, tiff


def rows() -> Iterator[Row]:
    """All of them."""
    yield from _tiff_arrangements()
    yield from _tiff_others()


_ORDERS: tuple[Order, ...] = ("<", ">")
_TIFF_OPTIONS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 32)},
    "deflate": {"compression": "zlib"},
    "deflate, predictor": {"compression": "zlib", "predictor": True, "rowsperstrip": 11},
    "deflate, tiles": {"compression": "zlib", "tile": (32, 16)},
    "LZMA": {"compression": "lzma"},
}


def _tiff(
    samples_HWC: npt.NDArray[Any], photometric: str, *, planes: bool = False, order: Order = "<", **options: Any
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
            (False,) if is_grey else (False, True), _ORDERS, (False, True), _TIFF_OPTIONS.items()
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
    return {256: (WIDTH,), 257: (HEIGHT,), 258: (bits,) * samples, 259: (1,), 262: (photometric,), 277: (samples,)}


def _tiff_others() -> Iterator[Row]:
    for order, bits in product(_ORDERS, (1, 2, 4)):
        grey = whole(GREY, bits)
        each = np.unpackbits(grey, axis=2)[:, :, 8 - bits :]
        packed = np.packbits(each.reshape(HEIGHT, -1), axis=1)
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
    for order in _ORDERS:
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
