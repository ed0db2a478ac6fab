"""What must be known of an ICC profile beyond what LittleCMS does with it: HDR, and curves for more than 8 bits."""

import struct
from collections.abc import Iterator

import numpy as np

from actors.images.tones import HDR_TRANSFERS, Curve, Tones, from_xyz, hdr, power

_CURVES = {b"RGB ": (b"rTRC", b"gTRC", b"bTRC"), b"GRAY": (b"kTRC",)}
_COLORANTS = (b"rXYZ", b"gXYZ", b"bXYZ")


def refuse_hdr(profile: bytes, named: str) -> None:
    """Raise ImageError for a profile whose `cicp` tag says PQ or HLG; their tables would give odd tones."""
    tag = _tags(profile).get(b"cicp", b"")
    if len(tag) >= 12 and tag[9] in HDR_TRANSFERS:
        raise hdr(tag[9], named)


def tones(profile: bytes) -> Tones | None:
    """The curves and the matrix of a profile that consists of nothing else; None for other or broken ones."""
    tags = _tags(profile)
    space = profile[16:20]
    if space not in _CURVES or b"A2B0" in tags or profile[20:24] != b"XYZ ":
        return None
    try:
        curves = [_curve(tags[name]) for name in _CURVES[space]]
        if space == b"GRAY":
            return Tones(curves, None)
        corners = [np.array(struct.unpack_from(">3i", tags[name], 8)) / 65536 for name in _COLORANTS]
    except (KeyError, struct.error, ValueError):
        return None
    return from_xyz(curves, np.stack(corners, 1))


def _tags(profile: bytes) -> dict[bytes, bytes]:
    return dict(_entries(profile))


def _entries(profile: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(profile) < 132:
        return
    (count,) = struct.unpack_from(">I", profile, 128)
    for at in range(132, min(132 + 12 * count, len(profile) - 11), 12):
        name, offset, size = struct.unpack_from(">4sII", profile, at)
        yield name, profile[offset : offset + size]


def _curve(tag: bytes) -> Curve:
    """A `curv` or `para` element (ICC.1:2022, 10.6 and 10.18)."""
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        values = struct.unpack_from(f">{count}H", tag, 12)
        if count == 0:
            return power(1.0)
        if count == 1:
            return power(values[0] / 256)
        light = np.array(values) / 65535
        return lambda coded: np.interp(coded, np.linspace(0, 1, count), light)
    if tag[:4] != b"para":
        raise ValueError(tag[:4])
    (kind,) = struct.unpack_from(">H", tag, 8)
    numbers = [value / 65536 for value in struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", tag, 12)]
    return _parametric(kind, numbers)


def _parametric(kind: int, numbers: list[float]) -> Curve:
    g, a, b, c, d, e, f = numbers + [0.0] * (7 - len(numbers))
    if kind == 0:
        return power(g)
    if kind in (1, 2):  # light = (a x + b) ** g + c from x = -b / a on, and c below
        return lambda coded: np.maximum(a * coded + b, 0) ** g + c
    return lambda coded: np.where(coded >= d, np.maximum(a * coded + b, 0) ** g + e, c * coded + f)
