"""Colour that a file describes by numbers (chromaticities, a gamma, H.273 codes) -> sRGB.

Colour is linear light in between: XYZ of the CIE, white adapted by Bradford's matrix as in ICC profiles.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from actors.contracts import Pixels
from actors.errors import ImageError

Floats = npt.NDArray[np.floating]
# Coded value 0..1 -> linear light 0..1.
Curve = Callable[[Floats], Floats]
XY = tuple[float, float]

D65: XY = (0.3127, 0.3290)
SRGB_PRIMARIES: tuple[XY, XY, XY] = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_D50_XYZ = np.array([0.96422, 1.0, 0.82521])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

_BT601: tuple[XY, XY, XY] = ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070))
_P3: tuple[XY, XY, XY] = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_C: XY = (0.310, 0.316)
# ITU-T H.273, table 2: colour primaries -> (white, red, green and blue).
_PRIMARIES: dict[int, tuple[XY, tuple[XY, XY, XY]]] = {
    1: (D65, SRGB_PRIMARIES),
    4: (_C, ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08))),
    5: (D65, ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06))),
    6: (D65, _BT601),
    7: (D65, _BT601),
    8: (_C, ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049))),
    9: (D65, ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))),
    10: ((1 / 3, 1 / 3), ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0))),
    11: ((0.314, 0.351), _P3),
    12: (D65, _P3),
    22: (D65, ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077))),
}
_PQ, _HLG = 16, 18
HDR_TRANSFERS = {_PQ: "PQ", _HLG: "HLG"}


def srgb_to_linear(coded: Floats) -> Floats:
    """IEC 61966-2-1."""
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(light: Floats) -> Floats:
    """The inverse, for 0..1."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def power(exponent: float) -> Curve:
    """A plain gamma curve: light = coded ** exponent."""
    return lambda coded: coded**exponent


# ITU-T H.273, table 3: transfer characteristics -> light. The camera curves of television (BT.709 and its family) are
# shown with sRGB's, as browsers do: they are not what a screen inverts.
_TRANSFERS: dict[int, Curve] = {
    **dict.fromkeys((1, 6, 7, 11, 12, 13, 14, 15), srgb_to_linear),
    4: power(2.2),
    5: power(2.8),
    8: power(1.0),
    17: lambda coded: np.minimum(coded**2.6 * (52.37 / 48), 1.0),
}


@dataclass(frozen=True, slots=True, eq=False)
class Tones:
    """A conversion to sRGB by curves and a matrix.

    Attributes:
        curves: one for grey, or three for red, green and blue.
        to_srgb: linear light of the file's primaries -> linear light of sRGB's; None for grey.
    """

    curves: Sequence[Curve]
    to_srgb: Floats | None

    def convert(self, samples_HWC: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> Pixels:
        """Samples whose largest value is white (H, W, 1 or 3) -> 8-bit sRGB (H, W, 3)."""
        coded = np.linspace(0, 1, int(np.iinfo(samples_HWC.dtype).max) + 1)
        if samples_HWC.shape[2] == 1 or self.to_srgb is None:
            grey = np.rint(linear_to_srgb(np.clip(self.curves[0](coded), 0, 1)) * 255).astype(np.uint8)
            return np.repeat(grey[samples_HWC[:, :, :1]], 3, axis=2)
        light_HWC = np.empty(samples_HWC.shape, np.float32)
        for channel in range(3):
            light = self.curves[channel % len(self.curves)](coded).astype(np.float32)
            light_HWC[:, :, channel] = light[samples_HWC[:, :, channel]]
        light_HWC = light_HWC @ self.to_srgb.T.astype(np.float32)
        return _encoded()[np.rint(np.clip(light_HWC, 0, 1) * 65535).astype(np.uint16)]


def from_chromaticities(curves: Sequence[Curve], primaries: Sequence[XY], white: XY) -> Tones:
    """Colours described by x and y. Raises ValueError where they span no triangle or have no white."""
    return from_xyz(curves, _rgb_to_xyz(primaries, white), _xyz(white))


def from_xyz(curves: Sequence[Curve], rgb_to_xyz: Floats, white_xyz: Floats = _D50_XYZ) -> Tones:
    """Colours described by the XYZ of red, green and blue (columns), and of their white: D50 in an ICC profile."""
    srgb = _adaptation(_xyz(D65), white_xyz) @ _rgb_to_xyz(SRGB_PRIMARIES, D65)
    return Tones(curves, np.linalg.inv(srgb) @ rgb_to_xyz)


def from_codes(primaries: int, transfer: int, named: str) -> tuple[bool, Tones | None]:
    """Whether H.273 codes (of a cICP chunk or an nclx box) say something, and how to convert; None for sRGB itself.

    Raises ImageError for HDR. `named` is how the message names the file: "PNG image".
    """
    if transfer in HDR_TRANSFERS:
        raise hdr(transfer, named)
    if primaries not in _PRIMARIES or transfer not in _TRANSFERS:
        return False, None
    curve = _TRANSFERS[transfer]
    if primaries == 1 and curve is srgb_to_linear:
        return True, None
    white, corners = _PRIMARIES[primaries]
    return True, from_chromaticities([curve], corners, white)


def hdr(transfer: int, named: str) -> ImageError:
    """What to raise for a picture in HDR_TRANSFERS."""
    return ImageError(
        f"the {named} is HDR ({HDR_TRANSFERS[transfer]}), which clips of 8-bit sRGB cannot show: "
        "save it as SDR, tone-mapped"
    )


@cache
def _encoded() -> Pixels:
    return np.rint(linear_to_srgb(np.linspace(0, 1, 65536)) * 255).astype(np.uint8)


def _xyz(xy: XY) -> Floats:
    x, y = xy
    if y <= 0:
        raise ValueError(f"chromaticity {xy}")
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _rgb_to_xyz(primaries: Sequence[XY], white: XY) -> Floats:
    corners = np.array([[x, y, 1 - x - y] for x, y in primaries]).T
    if abs(np.linalg.det(corners)) < 1e-4:
        raise ValueError(f"primaries {primaries}")
    return corners * np.linalg.solve(corners, _xyz(white))


def _adaptation(old_white: Floats, new_white: Floats) -> Floats:
    cones = (_BRADFORD @ new_white) / (_BRADFORD @ old_white)
    adaptation: Floats = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD
    return adaptation
