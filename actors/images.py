"""Bytes of an image file -> the picture that is animated: decode safely, turn upright, fit to the clip's size.

Axes in names: H height, W width, C channels (RGB), counted after the picture was turned upright.
"""

import hashlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageCms

from actors.contracts import Pixels
from actors.errors import ImageError
from actors.settings import ImageSettings

# Only these decoders are ever offered the bytes: the fewer parsers, the fewer ways for a hostile file.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")

# What else is found under image URLs, by how it begins (lower case), for an error message that helps.
_FOREIGN_STARTS = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML or SVG document"),
    (b"<error", "an XML error message"),
    (b"{", "JSON text"),
    (b"%pdf", "a PDF document"),
    (b"8bps", "a Photoshop file"),
    (b"\x00\x00\x01\x00", "an icon (ICO)"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cjxl ", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cjp  ", "a JPEG 2000 image"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"pk\x03\x04", "a zip archive"),
)
# An ISO media file names its kind in bytes 8..12, after `ftyp`.
_FOREIGN_BRANDS = {
    b"avif": "an AVIF image",
    b"avis": "an AVIF image",
    b"heic": "a HEIC image",
    b"heix": "a HEIC image",
    b"mif1": "a HEIF image",
}

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
_EXIF_ORIENTATION = 0x0112

# Pillow's modes of more than 8 bits -> the sample that is white; Pillow itself would clip them at 255. Its 32-bit
# integer mode is missing because no value is white by convention.
_WHITE_SAMPLE = {"I;16": 65535.0, "I;16L": 65535.0, "I;16B": 65535.0, "F": 1.0}
_TIFF_BITS_PER_SAMPLE, _TIFF_PHOTOMETRIC = 258, 262
_TIFF_WHITE_IS_ZERO = 0

# Converting a band at a time keeps the copies that each step makes small: 256 Ki pixels are 1 MB in Pillow, which stays
# in a core's cache. With bands of 16 MB a picture of 12 megapixels took twice as long.
_PIXELS_PER_BAND = 2**18

# Transparent pixels are shown on white, as img2dataset and web pages do; the colours under them are often junk.
_BACKGROUND = (255, 255, 255)

# `max_megapixels` takes the place of Pillow's own limit, which would warn or raise at other sizes than the user set.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """A decoded image: pixels uint8 RGB, upright; `sha256` (hex) is of the file's bytes; sizes in pixels."""

    pixels_HWC: Pixels
    sha256: str
    width: int
    height: int


def decode(data: bytes, *, max_megapixels: float, max_bytes: int | None = None) -> DecodedImage:
    """Decode the first picture of a JPEG, PNG, WebP, TIFF, BMP or GIF file to upright 8-bit sRGB.

    16-bit and float samples are scaled, not clipped; transparency is laid on white; an embedded ICC profile is
    converted to sRGB, or ignored where it is broken. The size is checked from the header, before any pixel.

    Raises ImageError, whose message says why, for everything that is not wholly readable, and for a file of more than
    `max_bytes` (a decoder's work can grow with the file while the picture stays small).
    """
    if max_bytes is not None and len(data) > max_bytes:
        raise ImageError(
            f"the image file has {len(data) / 1e6:.1f} megabytes: more than image.max_megabytes ({max_bytes / 1e6:g})"
        )
    image = _load(data, max_megapixels)
    orientation = _orientation(image)
    pixels_HWC = _to_rgb(image)
    del image  # 400 MB at 100 megapixels, no longer needed when a turned copy is made
    pixels_HWC = _upright(pixels_HWC, orientation)
    height, width, _ = pixels_HWC.shape
    return DecodedImage(pixels_HWC, hashlib.sha256(data).hexdigest(), width, height)


def clip_size(image_width: int, image_height: int, settings: ImageSettings) -> tuple[int, int]:
    """(width, height) of the clip in pixels: landscape or upright, as the settings or the image's shape say."""
    is_upright = settings.orientation == "portrait" or (settings.orientation == "auto" and image_height > image_width)
    return (settings.height, settings.width) if is_upright else (settings.width, settings.height)


def fit(
    pixels_HWC: Pixels,
    *,
    width: int,
    height: int,
    mode: Literal["crop", "pad", "stretch"],
    pad_color: tuple[int, int, int],
) -> Pixels:
    """Bring a picture to (height, width, 3) uint8: antialiased Lanczos of its middle, between bars, or stretched.

    A picture of the right size is returned as it is.
    """
    image_height, image_width, _ = pixels_HWC.shape
    if (image_width, image_height) == (width, height):
        return pixels_HWC

    # Without rounding in the source, the crop stays exactly centred; at least one pixel survives any aspect ratio.
    crop_width, crop_height = float(image_width), float(image_height)
    inner_width, inner_height = width, height
    if mode == "crop":
        crop_width = min(crop_width, image_height * width / height)
        crop_height = min(crop_height, image_width * height / width)
    elif mode == "pad":
        inner_width = max(1, min(width, round(image_width * height / image_height)))
        inner_height = max(1, min(height, round(image_height * width / image_width)))

    left, top = (image_width - crop_width) / 2, (image_height - crop_height) / 2
    inner = Image.fromarray(pixels_HWC).resize(
        (inner_width, inner_height), Image.Resampling.LANCZOS, box=(left, top, left + crop_width, top + crop_height)
    )
    if inner.size == (width, height):
        return np.array(inner)
    canvas = Image.new("RGB", (width, height), pad_color)
    canvas.paste(inner, ((width - inner_width) // 2, (height - inner_height) // 2))
    return np.array(canvas)


def _load(data: bytes, max_megapixels: float) -> Image.Image:
    """The first picture of the file, with its pixels loaded."""
    if not data:
        raise ImageError("the image file is empty (0 bytes)")
    # Pillow's parsers meet damaged bytes with whatever their code happens to raise (OSError, SyntaxError, struct.error,
    # IndexError, MemoryError, ...) and with warnings; for one image of a dataset all of them mean the same.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except Exception as error:
            raise ImageError(_why_not_an_image(data)) from error
        _check_size(image, max_megapixels)
        try:
            image.load()
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise ImageError(f"the {image.format} image is damaged or cut off: {reason}") from error
    return image


def _check_size(image: Image.Image, max_megapixels: float) -> None:
    megapixels = image.width * image.height / 1e6
    if megapixels > max_megapixels:
        raise ImageError(
            f"the image has {image.width}x{image.height} pixels: "
            f"{megapixels:.1f} megapixels exceed image.max_megapixels ({max_megapixels:g})"
        )


def _why_not_an_image(data: bytes) -> str:
    """One sentence about bytes that no decoder accepted."""
    supported = "supported are JPEG, PNG, WebP, TIFF, BMP and GIF"
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()  # a byte order mark may come before text
    names = [name for prefix, name in _FOREIGN_STARTS if start.startswith(prefix)]
    if data[4:8] == b"ftyp":
        names.append(_FOREIGN_BRANDS.get(data[8:12], "a video or another ISO media file"))
    if names:
        return f"the file is {names[0]}, which cannot be animated: {supported}"
    return f"the file is no image, is of an unsupported format, or its header is damaged: {supported}"


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1..8; broken EXIF says nothing about the pixels, so it counts as upright (1)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return int(image.getexif().get(_EXIF_ORIENTATION, 1))
        except Exception:  # noqa: BLE001 - a parser on damaged bytes, as in _load
            return 1


def _upright(pixels_HWC: Pixels, orientation: int) -> Pixels:
    turn = _UPRIGHT.get(orientation)
    return pixels_HWC if turn is None else np.ascontiguousarray(turn(pixels_HWC))


def _to_rgb(image: Image.Image) -> Pixels:
    """A loaded image of any Pillow mode -> its pixels as stored, uint8 sRGB."""
    mode = _plain_mode(image)
    to_srgb = _srgb_transform(image.info.get("icc_profile"), mode)
    pixels_HWC = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _PIXELS_PER_BAND // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        band = image.crop((0, top, image.width, bottom))
        if band.mode in _WHITE_SAMPLE:
            band = _scale_samples(band, image)
        elif band.mode != mode:  # else Pillow would copy it
            band = band.convert(mode)
        if to_srgb is not None:
            band = to_srgb.apply(band)
        pixels_HWC[top:bottom] = np.asarray(_on_background(band))
    return pixels_HWC


def _plain_mode(image: Image.Image) -> str:
    """The 8-bit mode (L, RGB, RGBA or CMYK) that holds what the image holds."""
    if image.mode in ("I", "LAB"):
        kind = "32-bit integer" if image.mode == "I" else "CIELAB"
        raise ImageError(
            f"the {image.format} image has {kind} samples, which are not supported: save it as 8 or 16-bit RGB"
        )
    if image.mode in _WHITE_SAMPLE:
        return "L"
    if image.has_transparency_data:
        return "RGBA"
    return {"1": "L", "L": "L", "CMYK": "CMYK"}.get(image.mode, "RGB")


def _scale_samples(band: Image.Image, image: Image.Image) -> Image.Image:
    """A band of 12-bit, 16-bit or float grey -> 8-bit grey (mode L), rounded."""
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    white = 4095.0 if tags.get(_TIFF_BITS_PER_SAMPLE) == (12,) else _WHITE_SAMPLE[band.mode]
    samples_HW = np.asarray(band, np.float32) / white
    if not (samples_HW.min() >= 0 and samples_HW.max() <= 1):  # also false for NaN
        raise ImageError("the image has float samples outside of 0..1, or NaN: save it as 8 or 16-bit RGB")
    if tags.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO:
        samples_HW = 1 - samples_HW
    return Image.fromarray(np.rint(samples_HW * 255).astype(np.uint8))


def _srgb_transform(icc_profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion from an embedded profile to sRGB; None without a profile, or with one that does not fit."""
    if not icc_profile:
        return None
    try:
        return ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(icc_profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGBA" if mode == "RGBA" else "RGB",
        )
    except (ImageCms.PyCMSError, OSError):
        # Damaged, or of another colour space than the pixels. Viewers show such pictures as they are; so do we.
        return None


def _on_background(band: Image.Image) -> Image.Image:
    """Any 8-bit mode -> RGB, transparent pixels blended with the background."""
    if band.mode != "RGBA":
        return band if band.mode == "RGB" else band.convert("RGB")
    canvas = Image.new("RGB", band.size, _BACKGROUND)
    canvas.paste(band, mask=band.getchannel("A"))
    return canvas
