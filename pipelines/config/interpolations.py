"""What YAML and OmegaConf say, and what interpolations stand for, without the values: these may be secrets."""

import re
from collections.abc import Iterator
from typing import Any

from omegaconf.errors import (
    GrammarParseError,
    InterpolationKeyError,
    InterpolationResolutionError,
    UnsupportedInterpolationType,
)

from actors.secrets import MASK
from pipelines.config.mistakes import PathTo

_VARIABLE = re.compile(r"Environment variable '([A-Za-z_]\w*)' not found")
_PACKAGE = re.compile(r"the package '[\w.]+' is not installed.*")
# Quoted by a parser: a character, or a token of its own such as `<stream end>`; anything longer is the user's.
_QUOTED = re.compile(r"(['\"])(?!<)[^'\"]{2,}\1")
_OPENED = re.compile(r"\$\{")


def reason_of(error: Exception) -> str:
    """What is wrong with a text of YAML, and where; a parser's own message would repeat the line."""
    if isinstance(error, GrammarParseError):
        return "what begins with ${ is no interpolation; a $ of its own is written as \\$"
    problem = getattr(error, "problem", None)
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = _QUOTED.sub("...", str(problem)) if problem else "it cannot be read"
    if "duplicate key" in said:
        said = "a name stands there twice"
    return f"{said}, line {mark.line + 1}, column {mark.column + 1}" if mark else said


def why_unresolved(error: Exception) -> str:
    """Why an interpolation stands for nothing."""
    text = str(error).splitlines()[0]
    if match := _VARIABLE.search(text):
        return f"there is no environment variable {match[1]}"
    if match := _PACKAGE.search(text):
        return match[0]
    if isinstance(error, InterpolationKeyError):
        return "there is no setting that ${...} names here"
    if isinstance(error, UnsupportedInterpolationType):
        return "${...} here begins with an unknown name; known are oc.env and package_dir"
    if isinstance(error, InterpolationResolutionError):
        return "what ${...} stands for here cannot be read"
    return reason_of(error)


def looked_up_in(tree: Any, path: PathTo = ()) -> Iterator[tuple[PathTo, str]]:
    """The texts that hold an interpolation, by their places, without the values that these fall back to.

    Not those of packages' folders: that is no secret, and a reader of the configuration wants to know it.
    """
    if isinstance(tree, dict | list):
        for name, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from looked_up_in(value, (*path, name))
    elif isinstance(tree, str) and len(_OPENED.findall(tree)) > tree.count("${package_dir:"):
        yield path, _without_fallback(tree)


def _without_fallback(text: str) -> str:
    """`${oc.env:NAME,***}` of `${oc.env:NAME,value}`; what stands around it may be a part of a secret, too."""
    before, comma, _ = text.partition(",") if "${oc.env:" in text else (text, "", "")
    return f"{before},{MASK}}}" if comma else text
