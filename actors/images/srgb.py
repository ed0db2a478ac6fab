"""Stored samples of any kind -> 8-bit sRGB, transparency laid on white."""

import io

import numpy as np
from PIL import Image, ImageCms

from actors.contracts import Pixels
from actors.images import icc
from actors.images.stored import Deep, Stored, to_8_bits
from actors.images.tones import Tones

# Converting a band at a time keeps the copies that each step makes small: 256 Ki pixels are 1 MB in Pillow, which stays
# in a core's cache. With bands of 16 MB a picture of 12 megapixels took twice as long.
_PIXELS_PER_BAND = 2**18

# Transparent pixels are shown on white, as img2dataset and web pages do; the colours under them are often junk.
_BACKGROUND = (255, 255, 255)

# The 8-bit mode without alpha that holds what each of Pillow's modes holds.
_PLAIN = {"1": "L", "L": "L", "LA": "L", "La": "L", "CMYK": "CMYK"}
# The colour space of a profile -> the modes of the pictures that it can be meant for. The shades of a grey picture are
# colours of an RGB profile.
_SPACES = {"GRAY": ("L",), "RGB ": ("RGB", "L"), "CMYK": ("CMYK",)}

Conversion = ImageCms.ImageCmsTransform | Tones | None


def convert(stored: Stored) -> tuple[Pixels, str | None]:
    """The pixels as they lie in the file (H, W, 3), and what of their colour had to be left out. Raises ImageError."""
    samples = stored.samples
    if isinstance(samples, Image.Image):
        (width, height), mode = samples.size, _PLAIN.get(samples.mode, "RGB")
    else:
        (height, width, channels) = samples.shape
        mode = {1: "L", 3: "RGB", 4: "CMYK"}[channels]
    conversion, note = _conversion(stored, mode)
    pixels_HWC = np.empty((height, width, 3), np.uint8)
    rows = max(1, _PIXELS_PER_BAND // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels_HWC[top:bottom] = np.asarray(_band(stored, mode, conversion, top, bottom))
    return pixels_HWC, note


def _band(stored: Stored, mode: str, conversion: Conversion, top: int, bottom: int) -> Image.Image:
    """Some rows, finished."""
    samples = stored.samples
    alpha_HW = None if stored.alpha_HW is None else stored.alpha_HW[top:bottom]
    if not isinstance(samples, Image.Image):
        return _on_background(_deep_band(samples[top:bottom], mode, conversion), alpha_HW)
    band, alpha = _plain_band(samples.crop((0, top, samples.width, bottom)), mode, is_split=alpha_HW is None)
    return _on_background(_converted(band, conversion), alpha_HW if alpha is None else np.asarray(alpha))


def _conversion(stored: Stored, mode: str) -> tuple[Conversion, str | None]:
    """How to come to sRGB. A profile that is broken, or of other pixels than these, is left out, as in all viewers."""
    colour = stored.colour
    if not colour or isinstance(colour, Tones):
        return colour or None, None
    icc.refuse_hdr(colour, f"{stored.format} image")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(colour))
        space = profile.profile.xcolor_space
        if mode not in _SPACES.get(space, ()):
            kind = {"L": "grey"}.get(mode, mode)
            return None, f"its ICC profile is for {space.strip()} and its pixels are {kind}: the profile was left out"
        # LittleCMS is quick and has 8 bits; of a linear grey its dark tones are up to 10 of 255 off.
        is_deep = not isinstance(stored.samples, Image.Image)
        if (is_deep or space == "GRAY") and (exact := icc.tones(colour)) is not None:
            return exact, None
        source = "RGB" if space == "RGB " else mode
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), source, "RGB"), None
    except (ImageCms.PyCMSError, OSError, ValueError):  # the last of a colour space's name that is no text
        return None, "its ICC profile is broken and was left out"


def _deep_band(samples_HWC: Deep, mode: str, conversion: Conversion) -> Image.Image:
    if isinstance(conversion, Tones):
        return Image.fromarray(conversion.convert(samples_HWC))
    pixels_HWC = to_8_bits(samples_HWC)
    image = Image.fromarray(pixels_HWC[:, :, 0]) if mode == "L" else Image.fromarray(pixels_HWC, mode)
    return _converted(image, conversion)


def _plain_band(band: Image.Image, mode: str, *, is_split: bool) -> tuple[Image.Image, Image.Image | None]:
    """The colours in `mode`, and the alpha."""
    alpha = None
    if is_split and band.has_transparency_data:
        if band.mode in ("La", "RGBa"):
            band = band.convert({"La": "LA", "RGBa": "RGBA"}[band.mode])
        elif band.mode not in ("LA", "RGBA"):
            band = band.convert("RGBA")
        alpha = band.getchannel("A")
    return (band if band.mode == mode else band.convert(mode)), alpha


def _converted(band: Image.Image, conversion: Conversion) -> Image.Image:
    """L, RGB or CMYK -> RGB."""
    if isinstance(conversion, Tones):
        samples = np.asarray(band)
        return Image.fromarray(conversion.convert(samples.reshape(band.height, band.width, -1)))
    if conversion is not None:
        if band.mode == "L" and conversion.input_mode == "RGB":
            band = band.convert("RGB")
        converted = conversion.apply(band)
        assert converted is not None
        return converted
    return band if band.mode == "RGB" else band.convert("RGB")


def _on_background(band: Image.Image, alpha_HW: Pixels | None) -> Image.Image:
    if alpha_HW is None:
        return band
    canvas = Image.new("RGB", band.size, _BACKGROUND)
    canvas.paste(band, mask=Image.fromarray(alpha_HW))
    return canvas
