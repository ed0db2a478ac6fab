"""The pictures of the table, and what they must come to."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.image_table import colours
from benchmarks.image_table.colours import Space
from benchmarks.image_table.writers import Samples

Floats = npt.NDArray[np.float64]
WIDTH, HEIGHT = 64, 48
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
RGB = np.stack([X / 63, Y / 47, (X + Y) / 110], -1)
GREY = RGB[:, :, 2:]
CMYK = np.stack([X / 63, Y / 47, (X + Y) / 220, ((63 - X) / 126)], -1)
# Far from the edges of sRGB, where a difference of 1 before the conversion is no more after it, and with colours that
# hardly change from pixel to pixel: decoders spread halved colours in different ways.
MUTED = 0.4 + RGB * 0.2
ALPHA = np.broadcast_to(((47 - Y) / 47)[:, :, None], (HEIGHT, WIDTH, 1))


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


def whole(picture: Floats, bits: int) -> Samples:
    """0..1 -> samples of so many bits."""
    samples: Samples = np.rint(picture * (2**bits - 1)).astype(np.uint16 if bits > 8 else np.uint8)
    return samples


def wanted(coded: npt.NDArray[Any], alpha: Floats | None = None, space: Space = colours.SRGB) -> Floats:
    """Coded values of 0..1 in a colour space, on white."""
    opaque = np.ones((1, 1, 1)) if alpha is None else alpha
    srgb = coded if space is colours.SRGB else space.to_srgb(coded)
    return np.broadcast_to((srgb * opaque + 1 - opaque) * 255, (HEIGHT, WIDTH, 3))
