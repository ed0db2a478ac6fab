"""JPEG: the first picture of the file, also where nothing but its end marker is missing."""

import struct

import numpy as np
from PIL import Image, JpegImagePlugin

from actors.errors import ImageError
from actors.images import pillow
from actors.images.stored import SizeCheck, Stored

_END = b"\xff\xd9"
_SCAN, _PROGRESSIVE_FRAME, _END_KIND = 0xDA, 0xC2, 0xD9
# Three different continuations of a scan: where pixels are missing, they show. Each has restart markers, at which a
# decoder that waits for one goes on.
_CONTINUATIONS = (
    b"",
    *(
        b"".join(b"%b\xff%c" % (noise * 8, 0xD0 + number % 8) for number in range(24))
        for noise in (b"\x00\x5a\x13\xc7\x91\x3e\x28\xb4", b"\xaa\x67\x0f\xd1\x4c\xe5\x82\x39")
    ),
)
# A file that got its length before its content, and not all of that, ends in zeros. They would pass for pixels.
_UNWRITTEN = bytes(16)


def read(data: bytes, check_size: SizeCheck) -> Stored:
    """Raises ImageError."""
    reader = JpegImagePlugin.JpegImageFile
    try:
        if data.endswith(_UNWRITTEN) and not data.rstrip(b"\0").endswith(_END):
            raise ImageError("the JPEG image is damaged or cut off: it ends in zeros")  # noqa: TRY301 - as the decoder would
        image = pillow.load(reader, data, "JPEG", check_size)
    except ImageError:
        whole = _mended(data, check_size)
        if whole is None:
            raise
        image = whole
    info = image.info
    return Stored("JPEG", image, colour=info.get("icc_profile"), orientation=pillow.exif_orientation(info.get("exif")))


def _mended(data: bytes, check_size: SizeCheck) -> Image.Image | None:
    """The picture of a file that lacks its end marker and no pixel; None of any other.

    libjpeg makes up what a scan lacks. So the scan is continued in several ways: where all give the same picture, none
    of it is made up.
    """
    kept = data.rstrip(b"\0")  # of a file that was given its length before its content
    kept = kept.removesuffix(b"\xff") if len(kept) == len(data) else kept + b"\0" * kept.endswith(b"\xff")
    if not _all_scans(kept):
        return None
    pictures = []
    for continuation in _CONTINUATIONS:
        try:
            pictures.append(pillow.load(JpegImagePlugin.JpegImageFile, kept + continuation + _END, "JPEG", check_size))
        except ImageError:
            return None
    first, *others = (np.asarray(picture) for picture in pictures)
    return pictures[0] if all(np.array_equal(first, other) for other in others) else None


def _all_scans(data: bytes) -> bool:
    """Whether each component has had its scans: all its coefficients, down to their last bit."""
    missing: set[tuple[int, int]] = set()  # (component, coefficient)
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF or data[at + 1] in (0, 0xFF, *range(0xD0, 0xD8)):
            following = data.find(b"\xff", at + 1)
            at = len(data) if following < 0 else following
            continue
        if data[at + 1] == _END_KIND:
            break
        kind, (size,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        segment = data[at + 4 : at + 2 + size]
        try:
            if kind == _SCAN:
                missing -= _last_bits(segment)
            elif kind in (0xC0, 0xC1, _PROGRESSIVE_FRAME):
                components = [segment[6 + 3 * number] for number in range(segment[5])]
                coefficients = range(64) if kind == _PROGRESSIVE_FRAME else range(1)
                missing = {(component, place) for component in components for place in coefficients}
        except (IndexError, ValueError):  # the file ends within
            return False
        at += 2 + size
    return not missing


def _last_bits(scan: bytes) -> set[tuple[int, int]]:
    """What a scan brings to its end (ITU-T T.81, B.2.3)."""
    components = [scan[1 + 2 * number] for number in range(scan[0])]
    first, last, bits = scan[-3:]
    if bits & 15:
        return set()
    return {(component, place) for component in components for place in range(first, last + 1)}
