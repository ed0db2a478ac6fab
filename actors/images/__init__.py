"""Bytes of an image file -> the picture that is animated: decode safely, turn upright, fit to the clip's size.

Axes in names: H height, W width, C channels (RGB), counted after the picture was turned upright.

    opening     which reader the bytes call for; what they are when there is none
    jpeg, png, tiff, bmp, jpeg2000, heif, jpegxl
                the samples as stored, and what the file says of their colour
    srgb        from there to 8-bit sRGB (icc, tones: what a profile, a gamma, a set of codes mean)
    fitting     to the clip's size
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from actors.contracts import Pixels
from actors.errors import ImageError
from actors.images import opening, srgb
from actors.images.fitting import clip_size, fit

__all__ = ["DecodedImage", "clip_size", "decode", "fit"]

# EXIF orientation -> the same pixels, upright. 1 (and whatever is not in the table) is upright already.
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels_HWC: pixels_HWC[:, ::-1],
    3: lambda pixels_HWC: pixels_HWC[::-1, ::-1],
    4: lambda pixels_HWC: pixels_HWC[::-1],
    5: lambda pixels_HWC: pixels_HWC.swapaxes(0, 1),
    6: lambda pixels_HWC: np.rot90(pixels_HWC, -1),
    7: lambda pixels_HWC: np.rot90(pixels_HWC, 2).swapaxes(0, 1),
    8: lambda pixels_HWC: np.rot90(pixels_HWC, 1),
}


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """A decoded image.

    Attributes:
        pixels_HWC: uint8 sRGB, upright.
        sha256: hex, of the file's bytes.
        width: in pixels.
        height: in pixels.
        note: what of the file had to be left out, as a sentence about it; None where nothing was.
    """

    pixels_HWC: Pixels
    sha256: str
    width: int
    height: int
    note: str | None = None


def decode(data: bytes, *, max_megapixels: float, max_bytes: int | None = None) -> DecodedImage:
    """Decode the first full picture of a file to upright 8-bit sRGB.

    - Formats: JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF and JPEG 2000; HEIC and JPEG XL where their extras are installed.
    - 16-bit samples, and floats of 0..1, are scaled, not clipped.
    - Transparency is laid on white. A BMP whose alpha is 0 everywhere is opaque.
    - Colour is converted to sRGB from an ICC profile, from the codes of PNG's cICP or of AVIF's and HEIC's nclx, from
      PNG's gAMA and cHRM, from the colour space in a BMP's header. Broken profiles, and profiles of another colour
      space than the pixels (CMYK for an RGB picture), are left out, as viewers do, and `note` says so. A grey picture
      may have an RGB profile. HDR (PQ, HLG) is refused.
    - The picture is turned as EXIF or the container says; an orientation in XMP does not count.
    - Pictures that are marked as reduced copies or as masks do not count. Camera raw is refused.

    The size is checked from the header, before any pixel.

    Raises ImageError, whose message says why, for everything that is not wholly readable, and for a file of more than
    `max_bytes` (a decoder's work can grow with the file while the picture stays small).
    """
    if max_bytes is not None and len(data) > max_bytes:
        raise ImageError(
            f"the image file has {len(data) / 1e6:.1f} megabytes: more than image.max_megabytes ({max_bytes / 1e6:g})"
        )

    def check_size(width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise ImageError(f"the header of the image is damaged: it has {width}x{height} pixels")
        megapixels = width * height / 1e6
        if megapixels > max_megapixels:
            raise ImageError(
                f"the image has {width}x{height} pixels: "
                f"{megapixels:.1f} megapixels exceed image.max_megapixels ({max_megapixels:g})"
            )

    stored = opening.read(data, check_size)
    orientation = stored.orientation
    pixels_HWC, note = srgb.convert(stored)
    del stored  # 400 MB at 100 megapixels, no longer needed when a turned copy is made
    pixels_HWC = _upright(pixels_HWC, orientation)
    height, width, _ = pixels_HWC.shape
    return DecodedImage(pixels_HWC, hashlib.sha256(data).hexdigest(), width, height, note)


def _upright(pixels_HWC: Pixels, orientation: int) -> Pixels:
    turn = _UPRIGHT.get(orientation)
    return pixels_HWC if turn is None else np.ascontiguousarray(turn(pixels_HWC))
