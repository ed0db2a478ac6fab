"""A generator without a model, for trying out everything else: `conf/null.yaml`."""

from typing import ClassVar

import numpy as np

from actors.contracts import Pixels
from actors.generators.base import Animation, AnyModel, Generator
from actors.generators.parameters import Parameters
from actors.marks.source_types import ALTERED
from actors.storage import Storage


class NullParameters(Parameters):
    """What every generator has, and nothing else."""


class NullGenerator(Generator[AnyModel, NullParameters]):
    """Frame i is the picture moved to the right by i pixels, round and round: the first frame is the picture itself."""

    name = "null"
    Parameters: ClassVar[type[NullParameters]] = NullParameters
    Model: ClassVar[type[AnyModel]] = AnyModel
    source_type = ALTERED

    def __init__(self, model: AnyModel, parameters: NullParameters, storage: Storage) -> None:
        """There is nothing to load."""

    def animate(self, image_HWC: Pixels, parameters: NullParameters) -> Animation:
        """A pan; it draws no noise, so that clips that differ in their seed alone look the same."""
        return Animation(np.stack([np.roll(image_HWC, shift, axis=1) for shift in range(parameters.num_frames)]))
