"""A picture of any size -> the clip's size. Axes in names: H height, W width, C channels (RGB)."""

from typing import Literal

import numpy as np
from PIL import Image

from actors.contracts import Pixels
from actors.settings import ImageSettings


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
