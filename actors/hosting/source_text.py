"""Classes of diffusers as its source has them: importing one would import torch, for which the driver has no time."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# What no call is given by a user: what the job gives itself, what an array of numbers would be, and functions.
_NOT_FREE = re.compile(
    r"image|last_image|video|conditions|prompt(_2)?|negative_prompt(_2)?|height|width|num_frames|frames|num_inference_steps|fps|"
    r"frame_rate|guidance_scale|num_(videos|images)_per_prompt|batch_size|generator|latents|output_type|return_dict|"
    r"callback\w*|\w*_embeds\w*|\w*attention_mask\w*|\w*_latents|\w*_cu_seqlens|(?:timesteps|sigmas)"
)


class _Unknown:
    """A default that is no literal."""


UNKNOWN = _Unknown()


@dataclass(frozen=True, slots=True)
class Call:
    """What `__call__` of a pipeline takes.

    Attributes:
        defaults: by name, in order; UNKNOWN where there is none, or it is no literal.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.defaults

    def default(self, name: str) -> Any:
        """None where there is none that could be read."""
        value = self.defaults.get(name)
        return None if value is UNKNOWN else value

    @property
    def makes_video(self) -> bool:
        """Whether it makes frames of one image."""
        return "image" in self and self.frames is not None

    @property
    def frames(self) -> str | None:
        """What it calls the number of frames."""
        return next((name for name in ("num_frames", "frames") if name in self), None)

    @property
    def rate(self) -> str | None:
        """What it calls the frame rate that it is conditioned on."""
        return next((name for name in ("frame_rate", "fps") if name in self), None)

    @property
    def free(self) -> list[str]:
        """The names that `generation.extra` may hold."""
        return [name for name in self.defaults if not _NOT_FREE.fullmatch(name)]


@cache
def call_of(pipeline: str) -> Call | None:
    """The call of a pipeline's class; None where diffusers has no such class, or it has no call of its own."""
    for method in _methods(pipeline, "pipelines"):
        if method.name == "__call__":
            return Call(dict(_defaults(method.args)))
    return None


def bases_of(name: str, package: str) -> frozenset[str]:
    """What a class inherits from directly."""
    found = _class(name, package)
    return frozenset(ast.unparse(base) for base in found.bases) if found is not None else frozenset()


def constant_of(model: str, name: str) -> Any:
    """A constant of a network's class that is a literal; None where it has none."""
    found = _class(model, "models")
    for statement in found.body if found is not None else ():
        match statement:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                return _literal(value)
    return None


def constants_of(name: str, package: str) -> list[str]:
    """All texts that a class gives names to: the values of an enumeration."""
    found = _class(name, package)
    values = (_literal(one.value) for one in (found.body if found is not None else ()) if isinstance(one, ast.Assign))
    return [value for value in values if isinstance(value, str)]


def has_method(model: str, name: str) -> bool:
    """Whether a network's class has a method of its own."""
    return any(method.name == name for method in _methods(model, "models"))


def mentions(pipeline: str, name: str) -> bool:
    """Whether a pipeline's class uses an attribute of that name."""
    found = _class(pipeline, "pipelines")
    return found is not None and any(isinstance(node, ast.Attribute) and node.attr == name for node in ast.walk(found))


def doubles_batch(pipeline: str) -> bool:
    """Whether a pipeline's guidance is a batch of two: `[latents] * 2`; else it is a second evaluation."""
    found = _class(pipeline, "pipelines")
    for node in ast.walk(found) if found is not None else ():
        match node:
            case ast.BinOp(left=ast.List(elts=[ast.Name(id="latents")]), op=ast.Mult()):
                return True
    return False


def is_module(name: str) -> bool:
    """Whether some components of pipelines are defined in a module of this name among diffusers' pipelines."""
    return any(path.parent.name == name for path in _places("pipelines").values())


def _methods(name: str, package: str) -> Iterator[ast.FunctionDef]:
    found = _class(name, package)
    for statement in found.body if found is not None else ():
        if isinstance(statement, ast.FunctionDef):
            yield statement


@cache
def _class(name: str, package: str) -> ast.ClassDef | None:
    path = _places(package).get(name)
    if path is None:
        return None
    classes = (node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.ClassDef))
    return next((node for node in classes if node.name == name), None)


@cache
def _places(package: str) -> dict[str, Path]:
    """The file of each class in a package of diffusers."""
    spec = find_spec("diffusers")
    if spec is None or spec.origin is None:
        return {}
    return {
        name: path
        for path in sorted(Path(spec.origin).parent.joinpath(package).rglob("*.py"))
        for name in re.findall(r"^class (\w+)\b", path.read_text("utf-8"), re.MULTILINE)
    }


def _defaults(arguments: ast.arguments) -> Iterator[tuple[str, Any]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    without = len(positional) - len(arguments.defaults)
    for position, argument in enumerate(positional[1:], start=1):  # the first is `self`
        known = position >= without
        yield argument.arg, _literal(arguments.defaults[position - without]) if known else UNKNOWN
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield argument.arg, UNKNOWN if default is None else _literal(default)


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return UNKNOWN
