"""AVIF and HEIC, which share their container. HEIC needs the extra `heic`."""

import io

from PIL import AvifImagePlugin, Image

from actors.errors import ImageError
from actors.images import pillow, tones
from actors.images.boxes import nclx
from actors.images.stored import SizeCheck, Stored


def read_avif(data: bytes, check_size: SizeCheck) -> Stored:
    """Raises ImageError. Pillow puts the container's own turns (`irot`, `imir`), which alone count, into EXIF."""
    return _read(data, AvifImagePlugin.AvifImageFile, "AVIF", check_size)


def read_heic(data: bytes, check_size: SizeCheck) -> Stored:
    """Raises ImageError. libheif has turned the picture; the plugin says so in EXIF."""
    try:
        from pillow_heif import HeifImageFile, options
    except ImportError as error:
        raise ImageError(
            "the file is a HEIC image, for which a decoder is not installed: pip install 'stillreel[heic]'"
        ) from error
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False

    def opened(file: io.BytesIO) -> Image.Image:
        image: Image.Image = HeifImageFile(file)
        return image

    return _read(data, opened, "HEIC", check_size)


def _read(data: bytes, reader: pillow.Reader, name: str, check_size: SizeCheck) -> Stored:
    image = pillow.opened(reader, data, name)
    check_size(*image.size)
    colour: bytes | tones.Tones | None = image.info.get("icc_profile")
    codes = nclx(data)
    if not colour and codes is not None:
        _, colour = tones.from_codes(codes.primaries, codes.transfer, f"{name} image")
    image = pillow.load(lambda _: image, b"", name, check_size)
    return Stored(name, image, colour=colour, orientation=pillow.exif_orientation(image.info.get("exif")))
