"""A pipeline of diffusers, resident in its process. Axes: F frames, H height, W width, C channels."""

from typing import ClassVar

import pyarrow as pa

from actors.checkpoints import lora_files
from actors.checkpoints.checkpoint import locate
from actors.contracts import Pixels
from actors.generators.base import Animation, Generator
from actors.generators.checkpoints import tell_of_tightening
from actors.generators.diffusers.parameters import DiffusersParameters
from actors.generators.diffusers.settings import DiffusersModelSettings
from actors.node_cache import cache_folder
from actors.storage import Storage


class DiffusersGenerator(Generator[DiffusersModelSettings, DiffusersParameters]):
    """Wraps `actors.hosting.host.Host`, which holds the pipeline."""

    name = "diffusers"
    Parameters: ClassVar[type[DiffusersParameters]] = DiffusersParameters
    Model: ClassVar[type[DiffusersModelSettings]] = DiffusersModelSettings
    columns = pa.schema(
        [
            pa.field("pipeline", pa.string()),  # the class of diffusers, e.g. WanImageToVideoPipeline
            pa.field("precision", pa.string()),
            pa.field("tier", pa.string()),
            pa.field("attention", pa.string()),  # the backend
            pa.field("memory_mode", pa.string()),  # how memory was saved: `actors.hosting.host.MemoryMode`
        ]
    )

    def __init__(self, model: DiffusersModelSettings, parameters: DiffusersParameters, storage: Storage) -> None:
        """Fetch the checkpoint where it is remote, and load it."""
        # torch and diffusers take seconds to import: the driver, which imports this module too, goes without.
        from actors import compiling
        from actors.device import choose_device
        from actors.hosting.host import Host

        cache = cache_folder(model.cache_dir)
        folder = locate(
            model.source,
            **model.which,
            storage=storage,
            wanted=model.hosted(storage).wanted_files,
        )
        compiling.keep_in(cache / "compiled")
        loras = lora_files.local_ones(model.loras, cache, storage)
        self._host = Host(folder, model, parameters, device=choose_device(model.device), loras=loras)

    def warm_up(self, *, width: int, height: int) -> None:
        """As in `Generator`."""
        self._host.warm_up(width=width, height=height)

    def animate(self, image_HWC: Pixels, parameters: DiffusersParameters) -> Animation:
        """As in `Generator`."""
        before = self._host.memory_mode
        frames_FHWC = self._host.animate(image_HWC, parameters)
        now = self._host.memory_mode
        tell_of_tightening(before, now)
        return Animation(frames_FHWC, {"memory_mode": now, "pipeline": self._host.pipeline_name})

    @property
    def device_name(self) -> str:
        """As in `Generator`."""
        return self._host.device_name
