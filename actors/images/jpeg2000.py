"""JPEG 2000: a bare codestream, or the boxes around one that say what its colours are."""

import struct

import numpy as np
from PIL import Image, Jpeg2KImagePlugin

from actors.errors import ImageError
from actors.images import pillow
from actors.images.boxes import boxes, find
from actors.images.stored import SizeCheck, Stored

CODESTREAM = b"\xff\x4f\xff\x51"
_ENUMERATED, _PROFILES = 1, (2, 3)
# Colour spaces that Pillow converts: bilevel, CMYK, sRGB, grey, sYCC.
_SPACES = frozenset({0, 12, 15, 16, 17, 18})
_COLOUR, _OPACITY, _PREMULTIPLIED = 0, 1, 2  # what a channel is (ISO/IEC 15444-1, I.5.3.6)


def read(data: bytes, check_size: SizeCheck) -> Stored:
    """Raises ImageError."""
    _check_codestream(data, check_size)
    image = pillow.load(Jpeg2KImagePlugin.Jpeg2KImageFile, data, "JPEG 2000", check_size)
    stored = Stored("JPEG 2000", image, colour=_profile(data))
    if image.mode == "I;16":
        stored.samples = np.asarray(image)[:, :, None]
    elif image.mode in ("RGBA", "LA"):
        stored.samples = _with_alpha_as_said(data, image)
    return stored


def _check_codestream(data: bytes, check_size: SizeCheck) -> None:
    """The size that counts is the codestream's; the header around it may say less."""
    if data.startswith(CODESTREAM):
        start = 0
    elif (stream := find(data, (b"jp2c",))) is not None and data.startswith(CODESTREAM, stream[0]):
        start = stream[0]
    else:
        raise ImageError("the JPEG 2000 image is damaged or cut off: it has no codestream")
    if len(data) < start + 40:
        raise ImageError("the JPEG 2000 image is damaged or cut off: its header is cut off")
    right, bottom, left, top, tile_width, tile_height = struct.unpack_from(">6I", data, start + 8)
    width, height = right - left, bottom - top
    check_size(width, height)
    if min(width, height, tile_width, tile_height) < 1:
        raise ImageError(f"the JPEG 2000 image is damaged or cut off: it claims {width}x{height} pixels")
    tiles = -(-width // tile_width) * -(-height // tile_height)
    if tiles > max(1, len(data) // 12):  # each tile has a header of 12 bytes at least
        raise ImageError(f"the JPEG 2000 image is damaged or cut off: it claims {tiles} tiles")


def _profile(data: bytes) -> bytes | None:
    """The ICC profile of the first usable colour box. Raises ImageError for other colour spaces."""
    header = find(data, (b"jp2h",))
    for kind, start, end in boxes(data, *header) if header else ():
        if kind != b"colr" or end - start < 3:
            continue
        method = data[start]
        if method in _PROFILES:
            return data[start + 3 : end]
        if method == _ENUMERATED and end - start >= 7:
            (space,) = struct.unpack_from(">I", data, start + 3)
            if space not in _SPACES:
                raise ImageError(
                    f"the JPEG 2000 image is in an unsupported colour space (number {space}): save it as sRGB"
                )
            return None
    return None


def _with_alpha_as_said(data: bytes, image: Image.Image) -> Image.Image:
    """Pillow takes the last channel for alpha; a channel definition may say that it is none, or another order."""
    definition = find(data, (b"jp2h", b"cdef"))
    if definition is None:
        return image
    start, end = definition
    kinds = dict.fromkeys(range(len(image.getbands())), 65535)
    for at in range(start + 2, end - 5, 6):
        channel, kind, colour = struct.unpack_from(">3H", data, at)
        kinds[channel] = kind
        if kind == _COLOUR and colour not in (0, channel + 1):
            raise ImageError("the JPEG 2000 image has its channels in an odd order: save it as RGB")
    alpha = kinds[len(image.getbands()) - 1]
    if alpha == _PREMULTIPLIED:
        raise ImageError("the JPEG 2000 image has premultiplied alpha, which is not supported: save it without alpha")
    return image if alpha == _OPACITY else image.convert(image.mode[:-1])
