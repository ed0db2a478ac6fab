"""One of Pillow's readers, asked by name, so that what it says about damaged bytes is not lost."""

import io
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from PIL import ExifTags, Image, TiffImagePlugin

from actors.errors import ImageError
from actors.images.stored import SizeCheck

# `max_megapixels` takes the place of Pillow's own limit, which would warn or raise at other sizes than the user set.
Image.MAX_IMAGE_PIXELS = None
# Pillow's own reader of uncompressed TIFF takes samples of 16 bits in planes for samples of 8, and YCbCr of fewer
# colours than pixels for full YCbCr. libtiff, which reads all other TIFF for it, does neither.
TiffImagePlugin.READ_LIBTIFF = True

# A reason is shown in a table and in a terminal.
_LONGEST_REASON = 120

Result = TypeVar("Result")
Reader = Callable[[io.BytesIO], Image.Image]


def load(reader: Reader, data: bytes | bytearray, name: str, check_size: SizeCheck) -> Image.Image:
    """The picture with its pixels loaded. Raises ImageError with the reader's reason."""
    image = opened(reader, data, name)
    check_size(*image.size)
    attempt(image.load, f"the {name} image is damaged or cut off")
    return image


def opened(reader: Reader, data: bytes | bytearray, name: str) -> Image.Image:
    """The picture with nothing but its header read."""
    return attempt(lambda: reader(io.BytesIO(data)), f"the {name} image cannot be read, or its header is damaged")


def attempt(work: Callable[[], Result], what: str) -> Result:
    """Do what reads foreign bytes; whatever it raises becomes an ImageError that begins with `what`.

    Parsers meet damaged bytes with whatever their code happens to raise (OSError, SyntaxError, struct.error,
    IndexError, MemoryError, ...) and with warnings; for one image of a dataset all of them mean the same.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return work()
        except ImageError:
            raise
        except Exception as error:
            raise ImageError(f"{what}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What an exception says, as the end of one printable line."""
    said = " ".join(str(error).split()) or type(error).__name__
    return "".join(char if char.isprintable() else "?" for char in said)[:_LONGEST_REASON]


def exif_orientation(exif: Any) -> int:
    """The orientation in EXIF bytes, 1..8; broken EXIF says nothing about the pixels, so it counts as upright (1).

    XMP may hold an orientation, too. No viewer turns a picture by it, and Pillow's `getexif` would.
    """
    if not isinstance(exif, bytes):
        return 1
    tags = Image.Exif()
    try:
        attempt(lambda: tags.load(exif), "EXIF")
        orientation = tags.get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001 - a parser on damaged bytes, as above
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
