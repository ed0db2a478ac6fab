"""What is wrong with a configuration: a sentence for each mistake, with its place, its origin and the nearest name.

Never a text that somebody has written as a value: under a mistyped name, or in the wrong place, it may be a secret.
Numbers are shown.
"""

import difflib
from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from actors.generators.base import AnyModel

REQUIRED = "is required: set it in a --config file or on the command line"

PathTo = tuple[str | int, ...]
Origins = dict[PathTo, str]  # where each value was set


def listed(mistakes: Sequence[str]) -> str:
    """All mistakes in one message."""
    count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    return "\n  - ".join([f"{count} in the configuration:", *mistakes])


def explain(detail: Any, config: type[BaseModel], origins: Origins) -> str:
    """A fault that pydantic found."""
    path = without_tags(detail["loc"])
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        section = _section_at(path[:-1], config)
        names = list(section.model_fields) if section else []
        reason = _refusal(section, str(path[-1])) or f"no such setting{_meant(str(path[-1]), names)}"
        return sentence(path, reason, origins)
    if kind == "missing":
        return sentence(path, REQUIRED, origins)
    if kind == "value_error":
        return sentence(path, str(context["error"]), origins)
    return sentence(path, lower_first(detail["msg"]) + got(detail["input"]), origins)


def _refusal(section: type[BaseModel] | None, name: str) -> str | None:
    """Why a setting that people know from elsewhere has no place here."""
    return section.refused.get(name) if section is not None and issubclass(section, AnyModel) else None


def got(value: object) -> str:
    """`, got 5` of a number, nothing of what may be a secret."""
    return f", got {value!r}" if value is None or isinstance(value, int | float) else ""


def lower_first(text: str) -> str:
    """A message of pydantic's within a sentence."""
    return text[:1].lower() + text[1:]


def without_tags(path: PathTo) -> PathTo:
    """A location without the branches of unions."""
    return tuple(part for part in path if not _is_union_tag(part))


def _is_union_tag(part: str | int) -> bool:
    """Whether a part of a location is the branch of a union (`str`, `list[str]`, `literal['auto']`), not a name."""
    return isinstance(part, str) and (part in {"str", "int", "float"} or "[" in part)


def sentence(path: PathTo, text: str, origins: Origins) -> str:
    """A mistake with its place and its origin."""
    name = ".".join(map(str, path)) or "configuration"
    for length in range(len(path), 0, -1):
        if origin := origins.get(path[:length]):
            return f"{name}: {text} ({origin})"
    return f"{name}: {text}"


def nearest(name: str, candidates: Sequence[str]) -> str:
    """`; did you mean ...?` where there is something alike, else nothing."""
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _meant(name: str, names: Sequence[str]) -> str:
    """What may be meant by a name that there is not; `{num_gpus:1}` is one name of YAML's, without a value."""
    before, colon, _ = name.partition(":")
    if colon and before in names:
        return f"; between braces a blank follows the colon: {{{before}: ...}}"
    return nearest(name, names)


def _section_at(path: PathTo, config: type[BaseModel]) -> type[BaseModel] | None:
    section = config
    for part in path:
        field = section.model_fields.get(str(part))
        found = _model_in(field.annotation) if field else None
        if found is None:
            return None
        section = found
    return section


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {Union, UnionType, Annotated}:
        return next((model for part in get_args(annotation) if (model := _model_in(part))), None)
    return None
