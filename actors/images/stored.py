"""What a file's reader hands on: the samples as they are stored, and what is said of their colour."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from actors.contracts import Pixels
from actors.errors import ImageError
from actors.images.tones import Tones

Deep = npt.NDArray[np.uint16]


@dataclass(slots=True, eq=False)
class Stored:
    """The first picture of a file, with nothing done to it yet.

    Attributes:
        format: as messages name it.
        samples: a loaded image of one of Pillow's 8-bit modes (its transparency counts, unless `alpha_HW` stands for
            it); or, of more than 8 bits, an array (H, W, 1 grey, 3 RGB or 4 CMYK) in which 65535 is white (CMYK: full
            ink).
        alpha_HW: uint8, 255 is opaque; None where `samples` says it all.
        colour: an ICC profile, or tones and primaries; None for sRGB.
        orientation: EXIF's, 1..8, of what is not turned yet.
    """

    format: str
    samples: Image.Image | Deep
    alpha_HW: Pixels | None = None
    colour: bytes | Tones | None = None
    orientation: int = 1


class SizeCheck(Protocol):
    """Raises ImageError for a picture that is too large; asked before any pixel is read."""

    def __call__(self, width: int, height: int) -> None:
        """Width and height in pixels."""


def to_8_bits(samples: Deep) -> Pixels:
    """0..65535 -> 0..255, rounded."""
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def deep(samples_HWC: npt.NDArray[np.generic], white: int = 65535) -> Deep:
    """Unsigned integers, or floats of 0..1, -> 0..65535. Raises ImageError for other floats."""
    if samples_HWC.dtype.itemsize == 1:
        return samples_HWC.astype(np.uint16) * np.uint16(257)
    if samples_HWC.dtype.kind != "f":
        if white == 65535:
            return samples_HWC.astype(np.uint16, copy=False)
        return np.rint(samples_HWC.astype(np.float64) * (65535 / white)).clip(0, 65535).astype(np.uint16)
    if not (samples_HWC.min() >= 0 and samples_HWC.max() <= 1):  # also false for NaN
        raise ImageError("the image has float samples outside of 0..1, or NaN: save it as 8 or 16-bit RGB")
    return np.rint(samples_HWC.astype(np.float32) * 65535).astype(np.uint16)
