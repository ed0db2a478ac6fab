"""JPEG XL, which needs the extra `jxl`."""

import io

import numpy as np
from PIL import Image

from actors.errors import ImageError
from actors.images import pillow
from actors.images.boxes import boxes
from actors.images.stored import SizeCheck, Stored, deep

_CODESTREAM = b"\xff\x0a"
# ISO/IEC 18181-1, D.2: width : height of the ratios 1 to 7; 0 says the width itself.
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIZE_BITS = (9, 13, 18, 30)


def read(data: bytes, check_size: SizeCheck) -> Stored:
    """Raises ImageError. The size is read here, because the decoder decodes all of a file to say it."""
    try:
        from pillow_jxl.JpegXLImagePlugin import JXLImageFile
    except ImportError as error:
        raise ImageError(
            "the file is a JPEG XL image, for which a decoder is not installed: pip install 'stillreel[jxl]'"
        ) from error
    check_size(*_size(_codestream(data)))

    def opened(file: io.BytesIO) -> Image.Image:
        image: Image.Image = JXLImageFile(file)
        return image

    image = pillow.load(opened, data, "JPEG XL", check_size)
    # The decoder has turned the picture, unless it was a JPEG file that it gave back.
    was_jpeg = bool(getattr(image, "jpeg", False))
    orientation = pillow.exif_orientation(image.info.get("exif")) if was_jpeg else 1
    samples = deep(np.asarray(image)[:, :, None]) if image.mode in ("I;16", "F") else image
    return Stored("JPEG XL", samples, colour=image.info.get("icc_profile"), orientation=orientation)


def _codestream(data: bytes) -> bytes:
    if data.startswith(_CODESTREAM):
        return data[:32]
    for kind, start, _ in boxes(data):
        if kind in (b"jxlc", b"jxlp"):
            first = start + (4 if kind == b"jxlp" else 0)  # a part has a number before it
            return data[first : first + 32]
    raise ImageError("the JPEG XL image is damaged or cut off: it has no codestream")


def _size(codestream: bytes) -> tuple[int, int]:
    bits, at = int.from_bytes(codestream[2:], "little"), 0

    def take(number: int) -> int:
        nonlocal at
        at += number
        return (bits >> (at - number)) & ((1 << number) - 1)

    is_small = take(1)

    def length() -> int:
        return (take(5) + 1) * 8 if is_small else take(_SIZE_BITS[take(2)]) + 1

    height = length()
    ratio = take(3)
    if ratio:
        across, down = _RATIOS[ratio - 1]
        return height * across // down, height
    return length(), height
