"""What the tests of decoding share. Axes in names: H height, W width, C channels (RGB)."""

import io

import numpy as np
import pytest
from PIL import Image

from actors import images
from actors.contracts import Pixels
from actors.errors import ImageError
from benchmarks.image_table.pictures import RGB, whole

PIXELS: Pixels = whole(RGB, 8).astype(np.uint8)
PICTURE = Image.fromarray(PIXELS)


def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def decode(data: bytes) -> images.DecodedImage:
    return images.decode(data, max_megapixels=1)


def off(data: bytes, wanted_HWC: object = PIXELS) -> float:
    """The largest difference of the decoded pixels."""
    pixels_HWC, wanted = decode(data).pixels_HWC.astype(float), np.asarray(wanted_HWC, float)
    assert pixels_HWC.shape == np.broadcast_shapes(pixels_HWC.shape, wanted.shape)
    return float(abs(pixels_HWC - wanted).max())


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as raised:
        decode(data)
    return str(raised.value)
