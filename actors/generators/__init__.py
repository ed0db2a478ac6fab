"""The generators by name: a new one is a module of its own and a line here.

base          what a generator is
parameters    what its clips' parameters are
checkpoints   what those have in common that load a checkpoint
svd/          Stable Video Diffusion
diffusers/    any other image-to-video pipeline of diffusers
null          no model: the picture moves
"""

from typing import Any

from actors.generators.base import Generator
from actors.generators.diffusers.generator import DiffusersGenerator
from actors.generators.null import NullGenerator
from actors.generators.svd.generator import SvdGenerator

GENERATORS: dict[str, type[Generator[Any, Any]]] = {
    generator.name: generator for generator in (SvdGenerator, DiffusersGenerator, NullGenerator)
}
DEFAULT_GENERATOR = SvdGenerator.name
