"""Animate images with SVD. Axes: F frames, H height, W width, C channels."""

import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from actors.errors import GenerationError
from actors.records import ClipParameters
from actors.settings import NO_SHORTCUTS, FastSettings, GenerationSettings, ImageSettings, ModelSettings
from actors.stages.attempts import Attempts
from actors.stages.row import NO_FRAMES, Pixels, Row, pack, parameters, unpack
from actors.storage import Storage
from actors.svd.checkpoint import cache_folder, locate

if TYPE_CHECKING:
    from actors.svd.animator import Animator

# Mean levels, 0..255. A network that overflows without NaN gives levels of 0 everywhere; rounding leaves less than 1. A
# clip begins with its picture, so that it can only be black by right where the picture nearly is. scikit-image's
# photographs have means of 65 to 171, Hubble's deep field has 19; pictures of half of that are not judged.
_BLACK_LEVEL = 1.0
_DARK_PICTURE_LEVEL = 10.0
# Pixels apart that are looked at: enough for a mean, and no time beside the 44 MB of a clip.
_STRIDE = 8


class Generate:
    """SVD, resident. One instance per actor."""

    def __init__(
        self,
        model: ModelSettings,
        generation: GenerationSettings,
        image: ImageSettings,
        storage: Storage,
        attempts: Attempts,
        fast: FastSettings = NO_SHORTCUTS,
    ) -> None:
        self._attempts = attempts
        with attempts.start("generate"):
            self._animator = _animator(model, generation, fast, storage)
            self._animator.check(width=image.width, height=image.height)
            for width, height in image.sizes:
                self._animator.warm_up(width=width, height=height)

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> Generator[dict[str, Any], None, None]:
        """Animate a batch of images, one after the other.

        In: rows as `load_image` gives them, packed. Out, one packed row at a time: the same without `image_HWC`, and
        `frames_FHWC` (uint8), `generate_s`, `device`, `memory_mode`.
        """
        # All before the first is given out: of generators Ray runs several at a time, and where one is run again after
        # its worker died, what it had given out is taken as given.
        made = [self._attempt(row) for row in unpack(batch)]
        return (pack(row) for row in made)

    def _attempt(self, row: Row) -> Row:
        image_HWC = row.pop("image_HWC")
        row |= {"frames_FHWC": NO_FRAMES, "generate_s": 0.0, "device": self._animator.device_name, "memory_mode": ""}
        return self._attempts.attempt(row, "generate", lambda row: self._animate(row, image_HWC))

    def _animate(self, row: Row, image_HWC: Pixels) -> Row:
        started = time.perf_counter()
        clips = self._animator.animate(image_HWC, ClipParameters(**parameters(row)))
        frames_FHWC = clips.frames_BFHWC[0]
        if not clips.finite[0]:
            raise GenerationError("the model made frames that are not numbers")
        if _is_black(frames_FHWC) and image_HWC[::_STRIDE, ::_STRIDE].mean() >= _DARK_PICTURE_LEVEL:
            raise GenerationError("the model made a black clip of a picture that is not black")
        elapsed_s = time.perf_counter() - started
        return row | {"frames_FHWC": frames_FHWC, "generate_s": elapsed_s, "memory_mode": self._animator.memory_mode}


def _animator(model: ModelSettings, generation: GenerationSettings, fast: FastSettings, storage: Storage) -> "Animator":
    # torch and diffusers take seconds to import: the driver, which imports this module too, goes without.
    from actors import compiling
    from actors.stages.device import choose_device
    from actors.svd.animator import Animator

    folder = locate(
        model.source,
        revision=model.revision,
        variant=model.variant,
        cache_dir=model.cache_dir,
        storage_options=storage.options,
    )
    compiling.keep_in(cache_folder(model.cache_dir) / "compiled")
    return Animator(folder, model, generation, fast, device=choose_device(model.device))


def _is_black(frames_FHWC: Pixels) -> bool:
    """Whether no frame shows anything."""
    return bool(frames_FHWC[:, ::_STRIDE, ::_STRIDE].mean(axis=(1, 2, 3)).max() < _BLACK_LEVEL)
