"""Animate images with SVD. Axes: F frames, H height, W width, C channels."""

from typing import TYPE_CHECKING

import pyarrow as pa

from actors.contracts import Generated, Loaded, Pixels, Stage
from actors.errors import GenerationError
from actors.records import ClipParameters
from actors.settings import NO_SHORTCUTS, FastSettings, GenerationSettings, ImageSettings, ModelSettings
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


class Generate(Stage[Loaded, Generated]):
    """SVD, resident. One instance per actor."""

    name = "generate"
    columns = pa.schema(
        [
            pa.field("device", pa.string()),  # that made it, e.g. NVIDIA H200
            pa.field("memory_mode", pa.string()),  # how its memory was saved, see `actors.svd.animator.MemoryMode`
        ]
    )

    def __init__(
        self,
        model: ModelSettings,
        generation: GenerationSettings,
        image: ImageSettings,
        storage: Storage,
        fast: FastSettings = NO_SHORTCUTS,
    ) -> None:
        self._animator = _animator(model, generation, fast, storage)
        self._animator.check(width=image.width, height=image.height)
        for width, height in image.sizes:
            self._animator.warm_up(width=width, height=height)

    def __call__(self, image: Loaded) -> Generated:
        """Raises GenerationError for a clip that came out unusable, GpuMemoryError for one that fits in no way."""
        clips = self._animator.animate(image.image_HWC, ClipParameters(**image.row.parameters))  # type: ignore[arg-type]
        frames_FHWC = clips.frames_BFHWC[0]
        if not clips.finite[0]:
            raise GenerationError("the model made frames that are not numbers")
        if _is_black(frames_FHWC) and image.image_HWC[::_STRIDE, ::_STRIDE].mean() >= _DARK_PICTURE_LEVEL:
            raise GenerationError("the model made a black clip of a picture that is not black")
        animator = self._animator
        row = image.row.with_columns(device=animator.device_name, memory_mode=animator.memory_mode)
        return Generated(row, frames_FHWC)


def _animator(model: ModelSettings, generation: GenerationSettings, fast: FastSettings, storage: Storage) -> "Animator":
    # torch and diffusers take seconds to import: the driver, which imports this module too, goes without.
    from actors import compiling
    from actors.device import choose_device
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
