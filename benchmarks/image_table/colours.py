"""Profiles written by hand, and what sRGB they must come to, by the formulas of the standards."""

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_D50 = (0.9642, 1.0, 0.8249)
# Red, green and blue of sRGB in XYZ, adapted to D50 (ICC's registry).
_SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
_ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
_PROPHOTO = np.array([[0.79767, 0.13519, 0.03134], [0.28804, 0.71187, 0.00009], [0.0, 0.0, 0.82491]])
_BT2020 = np.array([[0.67348, 0.16567, 0.12505], [0.27904, 0.67535, 0.04561], [-0.00193, 0.02998, 0.79686]])


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """A colour space: its primaries (None: grey), and its gamma (None: sRGB's curve)."""

    name: str
    primaries: Floats | None
    gamma: float | None

    def to_srgb(self, coded_HWC: Floats) -> Floats:
        """0..1 -> 0..1; grey (H, W, 1) becomes three equal channels."""
        light_HWC = coded_HWC**self.gamma if self.gamma else _from_srgb(coded_HWC)
        if self.primaries is not None and coded_HWC.shape[2] == 3:
            light_HWC = light_HWC @ (np.linalg.inv(_SRGB) @ self.primaries).T
        return _encoded(np.clip(np.broadcast_to(light_HWC, (*light_HWC.shape[:2], 3)), 0, 1))

    def profile(self) -> bytes:
        """An ICC profile of version 2.4 (`para` curves are of version 4, and read by all)."""
        tags = {b"desc": _description(self.name), b"cprt": _text("none"), b"wtpt": _xyz(_D50)}
        if self.primaries is None:
            return _profile(b"GRAY", tags | {b"kTRC": self._curve()})
        for letter, corner in zip(b"rgb", self.primaries.T, strict=True):
            tags[bytes([letter]) + b"XYZ"] = _xyz(tuple(corner))
            tags[bytes([letter]) + b"TRC"] = self._curve()
        return _profile(b"RGB ", tags)

    def _curve(self) -> bytes:
        if self.gamma:
            return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(self.gamma * 256)) + b"\0\0"
        numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        return b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + b"".join(map(_fixed, numbers))


SRGB = Space("sRGB", _SRGB, None)
P3 = Space("Display P3", _P3, None)
ADOBE = Space("Adobe RGB", _ADOBE, 563 / 256)
PROPHOTO = Space("ProPhoto", _PROPHOTO, 461 / 256)
LINEAR = Space("linear sRGB", _SRGB, 1.0)
BT2020 = Space("BT.2020", _BT2020, None)
GREY_LINEAR = Space("linear grey", None, 1.0)
GREY_18 = Space("grey, gamma 1.8", None, 461 / 256)


def _from_srgb(coded: Floats) -> Floats:
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def _encoded(light: Floats) -> Floats:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def _fixed(number: float) -> bytes:
    return struct.pack(">i", round(number * 65536))


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _description(text: str) -> bytes:
    ascii_text = text.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(ascii_text)) + ascii_text + b"\0" * 78


def _text(text: str) -> bytes:
    return b"text\0\0\0\0" + text.encode() + b"\0"


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, content = b"", b""
    for name, tag in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(content), len(tag))
        content += tag + b"\0" * (-len(tag) % 4)
    header = struct.pack(">I4sI4s4s4s", 132 + len(table) + len(content), b"", 0x02400000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + b"".join(map(_fixed, _D50))
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + content
