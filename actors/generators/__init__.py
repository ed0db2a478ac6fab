"""The generators by name: a new one is a module of its own and a line here.

base          what a generator is
parameters    what its clips' parameters are
svd/          Stable Video Diffusion
null          no model: the picture moves
"""

from typing import Any

from actors.generators.base import Generator
from actors.generators.null import NullGenerator
from actors.generators.svd.generator import SvdGenerator

GENERATORS: dict[str, type[Generator[Any, Any]]] = {
    generator.name: generator for generator in (SvdGenerator, NullGenerator)
}
DEFAULT_GENERATOR = SvdGenerator.name
