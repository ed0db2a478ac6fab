"""The bytes of a file -> its first picture as stored, by the one reader that the bytes call for."""

import struct
from collections.abc import Callable

import numpy as np
from PIL import GifImagePlugin, WebPImagePlugin

from actors.errors import ImageError
from actors.images import bmp, boxes, heif, jpeg, jpeg2000, jpegxl, pillow, png, tiff
from actors.images.stored import SizeCheck, Stored

# Only these readers are ever offered the bytes: the fewer parsers, the fewer ways for a hostile file.
SUPPORTED = "supported are JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, JPEG 2000, HEIC and JPEG XL"


def _read_gif(data: bytes, check_size: SizeCheck) -> Stored:
    image = pillow.opened(GifImagePlugin.GifImageFile, data, "GIF")
    check_size(*image.size)
    assert isinstance(image, GifImagePlugin.GifImageFile)
    left, top, right, bottom = (image.tile and image.tile[0].extents) or (0, 0, *image.size)
    image = pillow.load(lambda _: image, b"", "GIF", check_size)
    stored = Stored("GIF", image)
    if (left, top) > (0, 0) or (right, bottom) < image.size:  # what the first frame leaves uncovered is transparent
        covered_HW = np.zeros((image.height, image.width), np.uint8)
        covered_HW[top:bottom, left:right] = 255
        if image.has_transparency_data:
            covered_HW = np.minimum(covered_HW, np.asarray(image.convert("RGBA").getchannel("A")))
        stored.alpha_HW = covered_HW
    return stored


def _read_webp(data: bytes, check_size: SizeCheck) -> Stored:
    image = pillow.load(WebPImagePlugin.WebPImageFile, data, "WebP", check_size)
    info = image.info
    return Stored("WebP", image, colour=info.get("icc_profile"), orientation=pillow.exif_orientation(info.get("exif")))


_READERS: tuple[tuple[bytes, Callable[[bytes, SizeCheck], Stored]], ...] = (
    (b"\xff\xd8\xff", jpeg.read),
    (png.SIGNATURE, png.read),
    (b"GIF87a", _read_gif),
    (b"GIF89a", _read_gif),
    (b"BM", bmp.read),
    (jpeg2000.CODESTREAM, jpeg2000.read),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", jpeg2000.read),
    (b"\xff\x0a", jpegxl.read),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", jpegxl.read),
    *((start, tiff.read) for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"MM*\0", b"II\0*")),
)
_AVIF = frozenset({b"avif", b"avis"})
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"})

# Raw pictures of cameras, by how they begin: bytes at a place.
_CAMERA_RAW = (
    (0, b"FUJIFILMCCD-RAW", "Fujifilm RAF"),
    (0, b"IIRO", "Olympus ORF"),
    (0, b"IIRS", "Olympus ORF"),
    (0, b"MMOR", "Olympus ORF"),
    (0, b"IIU\0", "Panasonic RW2"),
    (0, b"FOVb", "Sigma X3F"),
    (0, b"\0MRM", "Minolta MRW"),
    (0, b"ARRI", "ARRIRAW"),
    (4, b"ftypcrx ", "Canon CR3"),
    (6, b"HEAPCCDR", "Canon CRW"),
    (8, b"CR\x02", "Canon CR2"),
)
# What else is found under image URLs, by how it begins (lower case), for an error message that helps.
_FOREIGN_STARTS = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML or SVG document"),
    (b"<error", "an XML error message"),
    (b"{", "JSON text"),
    (b"%pdf", "a PDF document"),
    (b"%!ps", "a PostScript document"),
    (b"8bps", "a Photoshop file"),
    (b"gimp xcf", "a GIMP file"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"#?radiance", "a Radiance HDR image"),
    (b"#?rgbe", "a Radiance HDR image"),
    (b"ii\xbc", "a JPEG XR image"),
    (b"dds ", "a DDS texture"),
    (b"p6", "a PPM image"),
    (b"qoif", "a QOI image"),
    (b"\x00\x00\x01\x00", "an icon (ICO)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"pk\x03\x04", "a zip archive"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
)


def read(data: bytes, check_size: SizeCheck) -> Stored:
    """The first picture, as stored. Raises ImageError, which says what the file is where it is no picture."""
    if not data:
        raise ImageError("the image file is empty (0 bytes)")
    for place, start, kind in _CAMERA_RAW:
        if data.startswith(start, place):
            raise ImageError(
                f"the file is camera raw ({kind}), which is not developed here: export it as JPEG, TIFF or PNG"
            )
    for start, reader in _READERS:
        if data.startswith(start):
            return _checked(reader, data, check_size)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _checked(_read_webp, data, check_size)
    kinds = set(boxes.brands(data))
    if kinds & _AVIF:
        return _checked(heif.read_avif, data, check_size)
    if kinds & _HEIC:
        return _checked(heif.read_heic, data, check_size)
    raise ImageError(_why_not_an_image(data))


def _checked(reader: Callable[[bytes, SizeCheck], Stored], data: bytes, check_size: SizeCheck) -> Stored:
    """The readers look into foreign bytes themselves, too; what they stumble over is the file's fault."""
    try:
        return reader(data, check_size)
    except (struct.error, LookupError, ValueError, ArithmeticError, MemoryError) as error:
        raise ImageError(f"the image is damaged or cut off: {pillow.reason(error)}") from error


def _why_not_an_image(data: bytes) -> str:
    """One sentence about bytes that no reader is for."""
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()  # a byte order mark may come before text
    names = [name for prefix, name in _FOREIGN_STARTS if start.startswith(prefix)]
    if data[4:8] == b"ftyp":
        names.append("a video or another ISO media file")
    if names:
        return f"the file is {names[0]}, which cannot be animated: {SUPPORTED}"
    return f"the file is no image, is of an unsupported format, or its header is damaged: {SUPPORTED}"
