"""Animate images. Axes: F frames, H height, W width, C channels."""

from typing import Any

import pyarrow as pa

from actors.contracts import Generated, Loaded, Pixels, Stage, Value
from actors.errors import GenerationError
from actors.generators.base import AnyModel, Generator
from actors.generators.parameters import Parameters
from actors.settings import ImageSettings
from actors.storage import Storage

# Mean levels, 0..255. A network that overflows without NaN gives levels of 0 everywhere; rounding leaves less than 1. A
# clip begins with its picture, so that it can only be black by right where the picture nearly is. scikit-image's
# photographs have means of 65 to 171, Hubble's deep field has 19; pictures of half of that are not judged.
_BLACK_LEVEL = 1.0
_DARK_PICTURE_LEVEL = 10.0
# Pixels apart that are looked at: enough for a mean, and no time beside the 44 MB of a clip.
_STRIDE = 8


class Generate(Stage[Loaded, Generated]):
    """A generator, resident. One instance per actor."""

    name = "generate"
    columns = pa.schema(
        [
            pa.field("generator", pa.string()),
            pa.field("model", pa.string()),  # where the checkpoint was read from
            pa.field("model_revision", pa.string()),  # what identifies its content
            pa.field("model_license", pa.string()),  # of the weights; "" without any
            pa.field("device", pa.string()),  # that made the clip, e.g. NVIDIA H200
        ]
    )

    def __init__(
        self,
        generator: type[Generator[Any, Any]],
        model: AnyModel,
        parameters: Parameters,
        revision: str,
        image: ImageSettings,
        storage: Storage,
    ) -> None:
        """Load the generator and get it ready for the sizes that can come; `revision` is that of the model's content.

        Raises as the generator's `__init__` and `check` do.
        """
        self.columns = generate_columns(generator)
        self._parameters = parameters
        self._generator = generator(model, parameters, storage)
        self._generator.check(width=image.width, height=image.height)
        for width, height in image.sizes:
            self._generator.warm_up(width=width, height=height)
        shared: dict[str, Value] = {
            "generator": generator.name,
            "model_revision": revision,
            "model_license": model.licence_name,
            "device": self._generator.device_name,
        }
        self._shared = model.described() | shared

    def __call__(self, image: Loaded) -> Generated:
        """Raises GenerationError for a clip that came out unusable, GpuMemoryError for one that fits in no way."""
        parameters = self._parameters.model_copy(update=image.row.parameters)
        animation = self._generator.animate(image.image_HWC, parameters)
        frames_FHWC = animation.frames_FHWC
        if _is_black(frames_FHWC) and image.image_HWC[::_STRIDE, ::_STRIDE].mean() >= _DARK_PICTURE_LEVEL:
            raise GenerationError("the model made a black clip of a picture that is not black")
        return Generated(image.row.with_columns(**self._shared, **animation.columns), frames_FHWC)


def generate_columns(generator: type[Generator[Any, Any]]) -> pa.Schema:
    """What the stage adds to a record with this generator."""
    return pa.schema([*Generate.columns, *generator.columns])


def _is_black(frames_FHWC: Pixels) -> bool:
    """Whether no frame shows anything."""
    return bool(frames_FHWC[:, ::_STRIDE, ::_STRIDE].mean(axis=(1, 2, 3)).max() < _BLACK_LEVEL)
