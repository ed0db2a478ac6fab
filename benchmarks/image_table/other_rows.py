"""BMP, and the formats that a library must write."""

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401 - registers itself
import pyvips
from PIL import Image

from benchmarks.image_table import colours
from benchmarks.image_table.colours import Space
from benchmarks.image_table.pictures import (
    ALPHA,
    CMYK,
    GREY,
    HEIGHT,
    MUTED,
    RGB,
    WIDTH,
    Floats,
    Row,
    X,
    Y,
    wanted,
    whole,
)
from benchmarks.image_table.writers import Samples, bmp


def rows() -> Iterator[Row]:
    """All of them."""
    yield from _bmps()
    yield from _by_pillow()


def _bmps() -> Iterator[Row]:
    rgb, alpha = whole(RGB, 8), whole(ALPHA, 8)
    upside = rgb[::-1]
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)

    def bgra(opacity: Samples) -> bytes:
        return np.concatenate([upside[:, :, ::-1], opacity[::-1]], 2).astype(np.uint8).tobytes()

    size = (WIDTH, HEIGHT)
    seen = rgb / 255
    yield Row("BMP", "24-bit", bmp(np.ascontiguousarray(upside[:, :, ::-1]).tobytes(), size, 24), wanted(seen))
    yield Row("BMP", "32-bit, no masks", bmp(bgra(alpha), size, 32), wanted(seen))
    yield Row("BMP", "32-bit, alpha", bmp(bgra(alpha), size, 32, masks=masks), wanted(seen, alpha / 255))
    yield Row("BMP", "32-bit, alpha of zeros", bmp(bgra(alpha * 0), size, 32, masks=masks), wanted(seen))
    yield Row("BMP", "32-bit, no alpha mask", bmp(bgra(alpha * 0), size, 32, masks=masks[:3]), wanted(seen))
    five = whole(RGB, 5).astype(np.uint16)
    for name, top in (("no alpha", 0), ("alpha of zeros", 0), ("alpha of ones", 1), ("alpha", (X + Y) % 2)):
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


def _by_pillow() -> Iterator[Row]:
    rgb, grey = Image.fromarray(whole(RGB, 8)), Image.fromarray(whole(GREY, 8)[:, :, 0])
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(whole(ALPHA, 8)[:, :, 0]))
    cmyk = Image.fromarray(whole(CMYK, 8), "CMYK")
    ink = whole(CMYK, 8) / 255
    exact = wanted(whole(RGB, 8) / 255)
    on_white = wanted(whole(RGB, 8) / 255, whole(ALPHA, 8) / 255)
    p3 = {"icc_profile": colours.P3.profile()}
    # A profile of a press, with tables instead of curves: only another user of LittleCMS can say what it means.
    inks = {"icc_profile": bytes(pyvips.Operation.call("profile_load", "cmyk"))}
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
        ("JPEG", "CMYK with a profile", cmyk, {"quality": 100} | inks, None),
        ("TIFF", "CMYK with a profile", cmyk, inks, None),
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
