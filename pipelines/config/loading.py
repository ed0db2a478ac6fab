"""Configuration files and overrides -> one frozen tree, or every mistake at once."""

import importlib.util
import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from actors import secrets
from actors.errors import ConfigError
from actors.generators import DEFAULT_GENERATOR, GENERATORS
from actors.settings import StorageSettings
from pipelines.config.interpolations import looked_up_in, reason_of, why_unresolved
from pipelines.config.mistakes import REQUIRED, Origins, PathTo, explain, listed, sentence, without_tags
from pipelines.config.schema import Config, config_class, cross_check

# Settings that are texts, whatever these look like: `generation.prompt={caption}, slowly` is no mapping.
_TEXTS = {f"generation.{name}" for generator in GENERATORS.values() for name in generator.Parameters.templates()}
_NAME = re.compile(r"[A-Za-z_][\w.\[\]-]*")


def load_config(files: Sequence[str], overrides: Sequence[str]) -> Config:
    """Merge `files` in order, then `overrides`, into one validated tree.

    Raises:
        ConfigError: with every mistake on a line of its own.
    """
    merged, origins, mistakes = _merged(files, overrides)
    values, unresolved = _resolve(merged, origins)
    _remember_secrets(values)
    mistakes += unresolved
    kind = _class_for(values)
    left = set(_left_open(OmegaConf.to_container(merged, resolve=False)))
    try:
        config = kind.model_validate(values)
        mistakes += [sentence(path, text, origins) for path, text in cross_check(config)]
    except ValidationError as error:
        # Each branch of a union complains for itself; the first complaint about a place says enough.
        mistakes += {
            without_tags(detail["loc"]): explain(detail, kind, origins) for detail in reversed(error.errors())
        }.values()
    for path in sorted(left, key=str):  # a default is no answer to `???`
        said = sentence(path, REQUIRED, origins)
        mistakes += [said] if said not in mistakes else []
    if mistakes:
        raise ConfigError(listed(mistakes))
    config.looked_up.update(looked_up_in(OmegaConf.to_container(merged, resolve=False)))
    return config


def load_storage(files: Sequence[str]) -> StorageSettings:
    """What files say of stores, whatever else they say or leave open.

    Raises:
        ConfigError: with every mistake on a line of its own.
    """
    merged, origins, mistakes = _merged(files, [])
    section = merged.get("storage")
    values, unresolved = _resolve(section, origins) if isinstance(section, DictConfig) else (section, [])
    _remember_secrets({"storage": values})
    mistakes += unresolved
    settings = StorageSettings()
    try:
        settings = settings if values is None else _OfStores.model_validate({"storage": values}).storage
    except ValidationError as error:
        mistakes += [explain(detail, _OfStores, origins) for detail in error.errors()]
    if mistakes:
        raise ConfigError(listed(mistakes))
    return settings


class _OfStores(BaseModel):
    storage: StorageSettings


def _merged(files: Sequence[str], overrides: Sequence[str]) -> tuple[DictConfig, Origins, list[str]]:
    """All of it, later values in the place of earlier ones; where each came from; and the mistakes so far.

    Raises:
        ConfigError: a file cannot be read.
    """
    origins: Origins = {}
    mistakes: list[str] = []
    merged = OmegaConf.create()
    read = [_read_file(name) for name in files]
    for source in [*read, *itertools.starmap(_read_override, enumerate(overrides, 1))]:
        if isinstance(source, str):
            mistakes.append(source)
            continue
        tree, tree_origins = source
        origins |= tree_origins
        try:
            merged = OmegaConf.merge(merged, tree)
        except (TypeError, ValueError, OmegaConfBaseException):
            keys, origin = next(iter(tree_origins.items()))
            mistakes.append(
                f"{'.'.join(map(str, keys))}: a section and a single value cannot stand for each other ({origin})"
            )
    if any(isinstance(source, str) for source in read):  # what such a file may say would be missed, too
        raise ConfigError(listed(mistakes))
    return merged, origins, mistakes


def _remember_secrets(values: Any) -> None:
    """Have all messages mask what the configuration and the environment hold of secrets."""
    secrets.remember_environment()
    # Under a mistyped name, too; but in `columns` names are those of a manifest.
    named = {name: tree for name, tree in values.items() if name != "columns"} if isinstance(values, dict) else {}
    secrets.remember(*secrets.secret_options(named))
    for text in _texts(values):
        secrets.remember_uri(text)


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _texts(value)


def _read_file(name: str) -> tuple[Any, Origins] | str:
    try:
        text = Path(name).read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = OmegaConf.create(text)
    except FileNotFoundError:
        return f"{name}: no such file"
    except (OSError, UnicodeDecodeError) as error:
        return f"{name}: cannot be read ({error})"
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        return f"{name}: not valid YAML ({reason_of(error)})"
    if root is not None and not isinstance(root, yaml.MappingNode):
        return f"{name}: must be a mapping of names to values, like conf/demo.yaml"
    return tree, {path: f"{name}:{line}" for path, line in _lines(root)}


def _lines(node: Any, path: PathTo = ()) -> Iterator[tuple[PathTo, int]]:
    """Every key below `node` with the line that it stands on, from 1."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key.start_mark.line + 1
            yield from _lines(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, index), value.start_mark.line + 1
            yield from _lines(value, (*path, index))


def _read_override(number: int, text: str) -> tuple[Any, Origins] | str:
    """`number`: which of the overrides it is, from 1. What is no name, and each value, may be a secret."""
    key, equals, _ = text.partition("=")
    is_name = _NAME.fullmatch(key) is not None and (bool(equals) or key.split(".")[0] in Config.model_fields)
    name = repr(key) if is_name else f"number {number}"
    if not equals or not is_name:
        return f"override {name}: an override looks like key=value or section.key=value"
    if key in _TEXTS:
        return OmegaConf.create(_nested(key.split("."), _as_text(text.partition("=")[2]))), {
            tuple(key.split(".")): f"override {name}"
        }
    try:
        tree = OmegaConf.from_dotlist([text])
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        return f"override {name}: its value is not valid YAML ({reason_of(error)})"
    return tree, {tuple(key.split(".")): f"override {name}"}


def _as_text(value: str) -> str | None:
    """A prompt as it stands, braces, colons and all; within quotes, as YAML has it."""
    if value.strip() in ("null", "~"):
        return None
    if value.strip()[:1] in ("'", '"'):
        with suppress(yaml.YAMLError):
            if isinstance(parsed := yaml.safe_load(value), str):
                return parsed
    return value


def _nested(keys: list[str], value: object) -> object:
    return {keys[0]: _nested(keys[1:], value)} if keys else value


def _package_dir(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ValueError(
            f"the package {name!r} is not installed; the demo's photographs need `pip install -e '.[demo]'`"
        )
    return str(Path(spec.origin).parent)


# ${package_dir:skimage} in a config is the folder of that installed package: where the demo's photographs are.
OmegaConf.register_resolver("package_dir", _package_dir, replace=True)


def _resolve(merged: Any, origins: Origins) -> tuple[Any, list[str]]:
    try:
        return _without_missing(OmegaConf.to_container(merged, resolve=True)), []
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or ""
        reason = why_unresolved(error)
        values = _without_missing(OmegaConf.to_container(merged, resolve=False))
        return values, [sentence(tuple(key.split(".")), reason, origins)]


def _without_missing(tree: Any) -> Any:
    """The tree without the keys that a file leaves to the user (`key: ???`)."""
    if not isinstance(tree, dict):
        return tree
    return {key: _without_missing(value) for key, value in tree.items() if value != "???"}


def _left_open(tree: Any, path: PathTo = ()) -> Iterator[PathTo]:
    """The places that a file leaves to the user (`key: ???`)."""
    if tree == "???":
        yield path
    elif isinstance(tree, dict | list):
        for name, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _left_open(value, (*path, name))


def _class_for(values: Any) -> type[Config]:
    """The tree of the generator that is named; of the usual one where none is, or there is no such generator."""
    name = values.get("generator", DEFAULT_GENERATOR) if isinstance(values, dict) else DEFAULT_GENERATOR
    name = "null" if name is None else name
    return config_class(name if name in GENERATORS else DEFAULT_GENERATOR)
