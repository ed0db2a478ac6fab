"""TIFF: the full picture of the file, of every arrangement that is read rightly; all others are refused by name.

Up to 8 bits a sample it is Pillow with libtiff that reads. It gives 8 bits of 16 and knows no colour in floats, so
what has more bits is read by tifffile, which has few compressions.
"""

import io
import logging

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import TiffImagePlugin

from actors.errors import ImageError
from actors.images import icc, pillow
from actors.images.stored import Deep, SizeCheck, Stored, deep, to_8_bits
from actors.images.tiff_pages import Page, Tag, as_only_page, main_page

# What tifffile says of odd tags is nothing that a user can act on; what stops it, it raises.
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)

_NAMED = "TIFF image"
_DAMAGED = f"the {_NAMED} is damaged or cut off"
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _CMYK: 4}
_LAB = {8: "CIELAB", 9: "ICCLab", 10: "ITULab"}
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_ASSOCIATED, _UNASSOCIATED = 1, 2
_PLANES = 2
# Those of which tifffile has a decoder in pure Python: none, deflate (two numbers), PackBits and LZMA.
_UNPACKED = frozenset({1, 8, 32946, 32773, 34925})
_FLOAT_PREDICTOR = 3


def read(data: bytes, check_size: SizeCheck) -> Stored:
    """Raises ImageError."""
    page = main_page(data)
    check_size(page.number(Tag.WIDTH, 0), page.number(Tag.HEIGHT, 0))
    _check(page, data, check_size)
    orientation = page.number(Tag.ORIENTATION, 1)
    only = as_only_page(data, page)
    is_unpacked = page.number(Tag.COMPRESSION, 1) in _UNPACKED and page.number(Tag.PREDICTOR, 1) != _FLOAT_PREDICTOR
    stored = _deep(page, only) if _is_beyond_pillow(page) and is_unpacked else _by_pillow(page, only, check_size)
    stored.orientation = orientation if 1 <= orientation <= 8 else 1
    return stored


def _is_beyond_pillow(page: Page) -> bool:
    """More than 8 bits; BigTIFF with the big end first; grey and alpha in planes."""
    bits, has_planes = page.number(Tag.BITS, 1), page.number(Tag.PLANAR, 1) == _PLANES
    is_grey = page.number(Tag.PHOTOMETRIC, 0) in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    is_odd = (page.is_big and page.order == ">") or (has_planes and is_grey and page.number(Tag.SAMPLES, 1) > 1)
    return bits in (16, 32, 64) or (bits == 8 and is_odd)


def _check(page: Page, data: bytes, check_size: SizeCheck) -> None:
    """Refuse what no reader here would read rightly, and pieces that are absurd or not there."""
    formats = set(page.tags.get(Tag.SAMPLE_FORMAT, (_UNSIGNED,)))
    bits = page.number(Tag.BITS, 1)
    photometric = page.number(Tag.PHOTOMETRIC, _WHITE_IS_ZERO)
    wrong = ""
    if photometric in _LAB:
        wrong = f"{_LAB[photometric]} samples"
    elif _FLOAT not in formats and bits > 16:
        wrong = f"{bits}-bit integer samples"
    elif not formats <= {_UNSIGNED, _FLOAT, 4}:  # 4: of no said kind
        wrong = "signed integer samples" if formats == {_SIGNED} else "complex samples"
    if wrong:
        raise ImageError(f"the {_NAMED} has {wrong}, which are not supported: save it as 8 or 16-bit RGB")
    check_size(page.number(Tag.TILE_WIDTH, 1), page.number(Tag.TILE_HEIGHT, 1))
    starts = page.tags.get(Tag.STRIP_OFFSETS) or page.tags.get(Tag.TILE_OFFSETS, ())
    sizes = page.tags.get(Tag.STRIP_BYTES) or page.tags.get(Tag.TILE_BYTES, ())
    if any(start + size > len(data) for start, size in zip(starts, sizes, strict=False)):
        raise ImageError(f"{_DAMAGED}: its pixels would lie behind its end")


def _by_pillow(page: Page, only: bytearray, check_size: SizeCheck) -> Stored:
    if page.number(Tag.BITS, 1) == 8 and _is_beyond_pillow(page):
        raise _unsupported(page)
    reader = TiffImagePlugin.TiffImageFile
    try:
        image = pillow.opened(reader, only, "TIFF")
    except ImageError as error:
        raise (_unsupported(page) if "unknown pixel mode" in str(error) else error) from error
    image = pillow.load(reader, only, "TIFF", check_size)
    colour = image.info.get("icc_profile")
    if image.mode.startswith("I;16") or image.mode == "F":
        white = 4095 if page.number(Tag.BITS, 16) == 12 else 65535
        samples_HWC = deep(np.asarray(image)[:, :, None], white)
        return Stored("TIFF", _black_is_zero(samples_HWC, page), colour=colour)
    if page.number(Tag.BITS, 1) == 16 and _is_nearly_linear(colour):
        raise ImageError(
            f"the {_NAMED} has 16-bit linear colours, compressed in a way of which only 8 bits are read: "
            "save it uncompressed or with deflate"
        )
    if image.mode == "P" and max(page.tags.get(Tag.COLOR_MAP, (0,))) in range(1, 256):
        # Of old writers that left 8 bits in the 16 of each colour, as libtiff knows them, too.
        image.putpalette(np.array(page.tags[Tag.COLOR_MAP], np.uint8).reshape(3, -1).T.tobytes())
    return Stored("TIFF", image, colour=colour)


def _is_nearly_linear(profile: bytes | None) -> bool:
    """Whether the dark tones lie so close together that 8 bits do not hold them."""
    tones = icc.tones(profile) if profile else None
    dark = np.array([0.02])
    return tones is not None and bool(tones.curves[0](dark)[0] > dark[0] ** 1.5)


def _unsupported(page: Page) -> ImageError:
    numbers = {
        "bits": list(page.tags.get(Tag.BITS, (1,))),
        "colour model": page.number(Tag.PHOTOMETRIC, 0),
        "extra samples": list(page.tags.get(Tag.EXTRA_SAMPLES, ())),
        "planes": page.number(Tag.PLANAR, 1),
        "compression": page.number(Tag.COMPRESSION, 1),
    }
    said = ", ".join(f"{name} {value}" for name, value in numbers.items() if value != [])
    return ImageError(
        f"the {_NAMED} has its samples in an unsupported arrangement ({said[:100]}): save it as 8-bit RGB"
    )


# --- More than 8 bits -------------------------------------------------------------------------------------------------


def _deep(page: Page, only: bytearray) -> Stored:
    photometric, width, height = (page.number(tag, 0) for tag in (Tag.PHOTOMETRIC, Tag.WIDTH, Tag.HEIGHT))
    if photometric not in _COLOURS:
        raise _unsupported(page)
    samples, profile = pillow.attempt(lambda: _samples(only), _DAMAGED)
    number = page.number(Tag.SAMPLES, 1)
    if samples.size != width * height * number:
        raise ImageError(f"{_DAMAGED}: {samples.size} of {width * height * number} samples are there")
    if page.number(Tag.PLANAR, 1) == _PLANES:
        samples_HWC = np.moveaxis(samples.reshape(number, height, width), 0, 2)
    else:
        samples_HWC = samples.reshape(height, width, number)
    colours = _COLOURS[photometric]
    if number < colours:
        raise ImageError(f"{_DAMAGED}: it has {number} samples a pixel instead of {colours}")
    deep_HWC = deep(samples_HWC[:, :, : colours + 1])
    alpha = page.number(Tag.EXTRA_SAMPLES, _UNASSOCIATED if number == 4 and photometric == _RGB else 0)
    if number == colours or alpha not in (_ASSOCIATED, _UNASSOCIATED):
        return Stored("TIFF", _black_is_zero(deep_HWC[:, :, :colours], page), colour=profile)
    colour_HWC, alpha_HW = _black_is_zero(deep_HWC[:, :, :colours], page), deep_HWC[:, :, colours]
    if alpha == _ASSOCIATED:
        colour_HWC = _divided(colour_HWC, alpha_HW)
    return Stored("TIFF", colour_HWC, to_8_bits(alpha_HW), profile)


def _samples(only: bytearray) -> tuple[npt.NDArray[np.generic], bytes | None]:
    """The samples in the file's order, and its ICC profile."""
    with tifffile.TiffFile(io.BytesIO(only)) as file:
        page = file.pages.first
        profile = page.tags.valueof(int(Tag.ICC_PROFILE))
        return page.asarray(maxworkers=1), profile if isinstance(profile, bytes) else None


def _black_is_zero(samples_HWC: Deep, page: Page) -> Deep:
    return 65535 - samples_HWC if page.number(Tag.PHOTOMETRIC, _WHITE_IS_ZERO) == _WHITE_IS_ZERO else samples_HWC


def _divided(colour_HWC: Deep, alpha_HW: Deep) -> Deep:
    """Colours that were multiplied with alpha, without it."""
    alpha_HW1 = np.maximum(alpha_HW, 1)[:, :, None].astype(np.float32)
    divided_HWC: Deep = np.rint(np.minimum(colour_HWC / alpha_HW1, 1) * 65535).astype(np.uint16)
    return divided_HWC
