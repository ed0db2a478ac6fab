"""SVD, resident in its process. Axes: F frames, H height, W width, C channels."""

from typing import ClassVar

import pyarrow as pa

from actors.checkpoints import lora_files
from actors.contracts import Pixels
from actors.errors import GenerationError
from actors.generators.base import Animation, Generator
from actors.generators.checkpoints import tell_of_tightening
from actors.generators.svd.settings import SvdModelSettings, SvdParameters, shortcuts_of
from actors.node_cache import cache_folder
from actors.storage import Storage
from actors.svd.checkpoint import locate


class SvdGenerator(Generator[SvdModelSettings, SvdParameters]):
    """Wraps `actors.svd.animator.Animator`, which holds the networks."""

    name = "svd"
    Parameters: ClassVar[type[SvdParameters]] = SvdParameters
    Model: ClassVar[type[SvdModelSettings]] = SvdModelSettings
    columns = pa.schema(
        [
            pa.field("precision", pa.string()),
            pa.field("tier", pa.string()),
            pa.field("memory_mode", pa.string()),  # how memory was saved: `actors.svd.animator.MemoryMode`
        ]
    )

    def __init__(self, model: SvdModelSettings, parameters: SvdParameters, storage: Storage) -> None:
        """Fetch the checkpoint where it is remote, and load it."""
        # torch and diffusers take seconds to import: the driver, which imports this module too, goes without.
        from actors import compiling
        from actors.device import choose_device
        from actors.svd.animator import Animator

        folder = locate(model.source, **model.which, storage=storage)
        compiling.keep_in(cache_folder(model.cache_dir) / "compiled")
        self._animator = Animator(
            folder,
            model,
            parameters,
            shortcuts_of(model.tier, model.fast),
            device=choose_device(model.device),
            loras=lora_files.local_ones(model.loras, cache_folder(model.cache_dir), storage),
        )

    def check(self, *, width: int, height: int) -> None:
        """As in `Generator`."""
        self._animator.check(width=width, height=height)

    def warm_up(self, *, width: int, height: int) -> None:
        """As in `Generator`."""
        self._animator.warm_up(width=width, height=height)

    def animate(self, image_HWC: Pixels, parameters: SvdParameters) -> Animation:
        """As in `Generator`."""
        before = self._animator.memory_mode
        clips = self._animator.animate(image_HWC, parameters)
        tell_of_tightening(before, self._animator.memory_mode)
        if not clips.finite[0]:
            raise GenerationError("the model made frames that are not numbers")
        return Animation(clips.frames_BFHWC[0], {"memory_mode": self._animator.memory_mode})

    @property
    def device_name(self) -> str:
        """As in `Generator`."""
        return self._animator.device_name
