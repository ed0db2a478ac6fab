"""Stages without networks and without ffmpeg, in the place of the real ones: what remains is the pipeline itself."""

from functools import partial

import numpy as np
import pyarrow as pa

from actors.contracts import Generated, Loaded, Made, Stage
from actors.runner.actor import MakeStage


class NullGenerate(Stage[Loaded, Generated]):
    """Repeats the picture."""

    name = "generate"

    def __init__(self, num_frames: int) -> None:
        self._num_frames = num_frames

    def __call__(self, image: Loaded) -> Generated:
        """Frames that are all the same."""
        return Generated(image.row, np.repeat(image.image_HWC[np.newaxis], self._num_frames, 0))


class NullFinish(Stage[Generated, Made]):
    """Writes no file; its record says so."""

    name = "finish"
    columns = pa.schema([(name, pa.float64()) for name in ("interpolate_s", "encode_s", "upload_s")])

    def __call__(self, clip: Generated) -> Made:
        """The end of the row."""
        return Made(clip.row.with_columns(interpolate_s=0.0, encode_s=0.0, upload_s=0.0))


def null_stages(num_frames: int) -> dict[str, MakeStage]:
    """For `pipelines.run.run`."""
    return {"generate": partial(NullGenerate, num_frames), "finish": NullFinish}
