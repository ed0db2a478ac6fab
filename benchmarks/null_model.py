"""Stages without networks and without ffmpeg, in the place of the real ones: what remains is the pipeline itself."""

from typing import TYPE_CHECKING, Any

import numpy as np

from actors.records import CLIP_SCHEMA, ClipParameters
from actors.stages.attempts import Attempts
from actors.stages.finish import Finish
from actors.stages.generate import Generate
from actors.stages.row import Pixels, Row

if TYPE_CHECKING:
    from actors.svd.sampler import GeneratedClips


class NullGenerate(Generate):
    """Repeats the picture."""

    def __init__(
        self, _model: object, generation: Any, _image: object, _storage: object, attempts: Attempts, _fast: object
    ) -> None:
        self._attempts = attempts
        self._animator: Any = Repeater(generation.num_frames)


class Repeater:
    """What `Generate` asks of an `Animator`."""

    device_name, memory_mode = "none", "resident"

    def __init__(self, num_frames: int) -> None:
        self._num_frames = num_frames

    def animate(self, image_HWC: Pixels, _clip: ClipParameters) -> "GeneratedClips":
        from actors.svd.sampler import GeneratedClips  # with torch: only where it is called

        return GeneratedClips(np.repeat(image_HWC[np.newaxis, np.newaxis], self._num_frames, 1), (True,))


class NullFinish(Finish):
    """Writes no file; its record says zero bytes."""

    def _finish(self, row: Row) -> dict[str, Any]:
        numbers = {field.name: 0 for field in CLIP_SCHEMA if str(field.type) in ("int32", "int64", "double")}
        return numbers | self._describe(row) | {"sha256": ""}
