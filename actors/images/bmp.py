"""BMP: alpha that nobody filled in, and the colours of the headers of versions 4 and 5."""

import struct

import numpy as np
from PIL import BmpImagePlugin, Image

from actors.contracts import Pixels
from actors.images import pillow, tones
from actors.images.stored import SizeCheck, Stored

_FILE_HEADER = 14
_V4, _V5 = 108, 124
_BITFIELDS = 3
_CALIBRATED, _EMBEDDED = 0, 0x4D424544  # `MBED`
_SUM_OF_CHROMATICITIES = 1.0


def read(data: bytes, check_size: SizeCheck) -> Stored:
    """Raises ImageError."""
    image = pillow.load(BmpImagePlugin.BmpImageFile, data, "BMP", check_size)
    stored = Stored("BMP", image, colour=_colour(data))
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        stored.samples = image.convert("RGB")  # alpha was not filled in: for all viewers the picture is opaque
    elif image.mode == "RGB":
        stored.alpha_HW = _alpha_of_16_bits(data, image)
    return stored


def _alpha_of_16_bits(data: bytes, image: Image.Image) -> Pixels | None:
    """The one bit of alpha beside three times 5 bits, which Pillow leaves out; None where there is none."""
    (header_size,) = struct.unpack_from("<I", data, _FILE_HEADER)
    bits, compression = struct.unpack_from("<HI", data, _FILE_HEADER + 14) if header_size in (_V4, _V5) else (0, 0)
    if bits != 16 or compression != _BITFIELDS:
        return None
    (mask,) = struct.unpack_from("<I", data, _FILE_HEADER + 52)
    (start,) = struct.unpack_from("<I", data, 10)
    stride = (image.width * 16 + 31) // 32 * 2  # in samples: rows end at whole words of 32 bits
    values = np.frombuffer(data, "<u2", stride * image.height, start).reshape(image.height, stride)
    opaque_HW = (values[:, : image.width] & mask) != 0
    if not mask or not opaque_HW.any():
        return None
    (height,) = struct.unpack_from("<i", data, _FILE_HEADER + 8)
    return np.where(opaque_HW[::-1] if height > 0 else opaque_HW, 255, 0).astype(np.uint8)


def _colour(data: bytes) -> bytes | tones.Tones | None:
    (size,) = struct.unpack_from("<I", data, _FILE_HEADER)
    if size not in (_V4, _V5):
        return None
    (kind,) = struct.unpack_from("<I", data, _FILE_HEADER + 56)
    if kind == _CALIBRATED:
        return _calibrated(struct.unpack_from("<12I", data, _FILE_HEADER + 60))
    if kind == _EMBEDDED and size == _V5:
        start, length = struct.unpack_from("<II", data, _FILE_HEADER + 112)
        return data[_FILE_HEADER + start : _FILE_HEADER + start + length]
    return None


def _calibrated(numbers: tuple[int, ...]) -> tones.Tones | None:
    """Endpoints of red, green and blue in 2.30 fixed point, and their gammas in 16.16; writers often leave zeros."""
    endpoints = np.array(numbers[:9]).reshape(3, 3) / 2**30
    gammas = [number / 2**16 for number in numbers[9:]]
    if not (endpoints.any(1).all() and all(gammas)):
        return None
    curves = [tones.power(gamma if gamma >= 1 else 1 / gamma) for gamma in gammas]  # some write the inverse
    try:
        if np.allclose(endpoints.sum(1), _SUM_OF_CHROMATICITIES, atol=0.01):  # x, y and z; their white is not said
            return tones.from_chromaticities(curves, [(x, y) for x, y, _ in endpoints], tones.D65)
        return tones.from_xyz(curves, endpoints.T, endpoints.sum(0) / endpoints.sum(0)[1])
    except (ValueError, np.linalg.LinAlgError):
        return None
