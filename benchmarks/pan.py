"""A clip without a model: a slow pan over a photograph. Axes: F frames, H height, W width, C channels (RGB)."""

import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image

# Pixels of the photograph that the window moves per frame; no whole numbers, so that every frame is interpolated anew.
_STEP_X, _STEP_Y = 0.55, 0.3
_START_X, _START_Y = 20.0, 60.0
_WINDOW_WIDTH = 420.0


def pan(num_frames: int, *, width: int, height: int) -> npt.NDArray[np.uint8]:
    """(F,H,W,3) over scikit-image's astronaut (public domain, 512x512)."""
    photo = Image.fromarray(skimage.data.astronaut())
    window_height = _WINDOW_WIDTH * height / width
    frames = []
    for index in range(num_frames):
        left, top = _START_X + _STEP_X * index, _START_Y + _STEP_Y * index
        box = (left, top, left + _WINDOW_WIDTH, top + window_height)
        frames.append(np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC, box=box)))
    return np.stack(frames)
