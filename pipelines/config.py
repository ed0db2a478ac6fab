"""The one configuration tree: what a run may be told, where each value came from, and what is wrong with it.

YAML files are merged in order, then `key.sub=value` overrides; the result is one frozen pydantic tree. Every mistake is
reported at once, each with the file and line (or the override) that it came from and the nearest valid name.
"""

import difflib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from actors import video
from actors.errors import ConfigError
from actors.settings import (
    NO_SHORTCUTS,
    FastSettings,
    GenerationSettings,
    ImageSettings,
    InterpolationSettings,
    ModelSettings,
    Section,
    StorageSettings,
    VideoSettings,
)
from actors.storage import Storage
from pipelines.manifest import ManifestColumns

# What differs between the clips of one run: a manifest column or a variant of that name overrides `generation`.
CLIP_PARAMETERS = (
    "seed",
    "fps",
    "motion_bucket_id",
    "noise_aug_strength",
    "min_guidance_scale",
    "max_guidance_scale",
)

Path_ = tuple[str | int, ...]


def _checked_variant(variant: object) -> dict[str, list[Any]]:
    """Parameter -> values, each of the type and in the range that `generation` asks for."""
    if not isinstance(variant, dict) or not variant:
        raise ValueError("a variant names parameters and their values, e.g. {seed: [1, 2]}")
    return {str(name): _checked_values(str(name), values) for name, values in variant.items()}


def _checked_values(name: str, values: object) -> list[Any]:
    if name not in CLIP_PARAMETERS:
        raise ValueError(f"{name} cannot vary{_nearest(name, CLIP_PARAMETERS)}; one of {', '.join(CLIP_PARAMETERS)}")
    if values == []:
        raise ValueError(f"{name}: the list is empty, so no clip would be made")
    try:
        return [
            getattr(GenerationSettings.model_validate({name: value}), name)
            for value in (values if isinstance(values, list) else [values])
        ]
    except ValidationError as error:
        detail = error.errors()[0]
        raise ValueError(f"{name}: {_lower_first(detail['msg'])}, got {detail['input']!r}") from None


Variant = Annotated[dict[str, list[Any]], BeforeValidator(_checked_variant)]


class TaskPool(Section):
    """Resources of one task of a stage that keeps no model."""

    num_cpus: float = Field(1.0, gt=0, description="CPUs reserved per task")


class ActorPool(Section):
    """An actor pool: how many actors, and what each reserves."""

    actors: int | Literal["auto"] = Field("auto", description="a number, or auto: as many as the cluster's GPUs carry")
    num_gpus: float = Field(1.0, ge=0, description="GPUs reserved per actor, whole or exactly 1/n; 0 runs on the CPU")
    num_cpus: float = Field(1.0, ge=0, description="CPUs reserved per actor")

    @model_validator(mode="after")
    def _is_schedulable(self) -> "ActorPool":
        if isinstance(self.actors, int) and self.actors < 1:
            raise ValueError("actors must be 1 or more")
        # Ray cannot place fractions such as 0.3 on several nodes without stranding the rest (ray-project/ray#52133).
        share = self.num_gpus if self.num_gpus >= 1 or self.num_gpus == 0 else 1 / self.num_gpus
        if abs(share - round(share)) > 1e-6:
            raise ValueError("num_gpus must be a whole number or exactly 1/n (0.5, 0.25, ...)")
        return self


class GenerationPool(ActorPool):
    """The actors that keep SVD resident."""

    batch_size: int = Field(
        1, ge=1, description="clips per call of an actor, made one after the other: the files are the same"
    )


class InterpolationPool(ActorPool):
    """The actors that keep RIFE resident."""

    num_gpus: float = Field(0.25, ge=0, description="GPUs reserved per actor, whole or exactly 1/n; 0 runs on the CPU")


class WorkerSettings(Section):
    """The stages' share of the cluster."""

    load: TaskPool = Field(TaskPool(), description="fetch and decode images")
    generate: GenerationPool = Field(GenerationPool(), description="SVD")
    interpolate: InterpolationPool = Field(InterpolationPool(), description="RIFE, encode, upload")


class RunSettings(Section):
    """How a run behaves."""

    flush_s: float = Field(30.0, gt=0, description="seconds between two commits of metadata")
    log_interval_s: float = Field(10.0, gt=0, description="seconds between two progress lines where no terminal is")
    lease_s: float = Field(
        120.0,
        ge=1,
        le=86_400,
        description="seconds without a sign of life after which another run may write to the output",
    )
    max_attempts: int = Field(3, ge=1, description="a clip fails after so many deaths of the worker that has it")
    clip_timeout_s: float | None = Field(
        3600.0, gt=0, description="a worker that takes longer over one stage of a clip is ended; null: never"
    )
    grace_s: float = Field(120.0, ge=0, description="seconds that clips under way get when the run is told to end")
    max_failed_share: float = Field(0.05, ge=0, le=1, description="a larger share of failed rows ends with exit code 1")


class RaySettings(Section):
    """Which Ray cluster."""

    address: str | None = Field(
        None, description="null: the job's own cluster under `ray job submit`, else a local one"
    )
    num_cpus: int | None = Field(None, ge=1, description="of a local cluster; null: all cores")
    object_store_mb: int | None = Field(None, ge=80, description="of a local cluster; null: Ray's default")
    autoscaling: bool = Field(False, description="true: do not refuse to start when the GPUs are not there yet")


class Config(Section):
    """Everything a run may be told."""

    manifest: str | list[str] = Field(
        description="what to animate: a manifest, folder, glob or image, or a list of them"
    )
    output: str = Field(description="folder or URI of the video dataset")
    columns: ManifestColumns = Field(ManifestColumns(), description="how the manifest is read")
    storage: StorageSettings = Field(StorageSettings(), description="how files and objects are reached")
    image: ImageSettings = Field(ImageSettings(), description="how an image becomes the picture that is animated")
    model: ModelSettings = Field(description="the SVD checkpoint")
    fast: FastSettings = Field(FastSettings(), description="the shortcuts of model.tier=fast")
    generation: GenerationSettings = Field(GenerationSettings(), description="parameters of the clips")
    variants: list[Variant] = Field([], description="several clips per image: parameter -> value or list of values")
    interpolation: InterpolationSettings = Field(InterpolationSettings(), description="frames in between (RIFE)")
    video: VideoSettings = Field(VideoSettings(), description="the video file")
    workers: WorkerSettings = Field(WorkerSettings(), description="the stages' share of the cluster")
    run: RunSettings = Field(RunSettings(), description="how a run behaves")
    ray: RaySettings = Field(RaySettings(), description="which Ray cluster")

    @property
    def sources(self) -> list[str]:
        """The manifest as a list."""
        return [self.manifest] if isinstance(self.manifest, str) else list(self.manifest)

    @property
    def needs_gpu(self) -> bool:
        """Whether any stage reserves a GPU."""
        interpolates = self.interpolation.weights is not None
        return self.workers.generate.num_gpus > 0 or (interpolates and self.workers.interpolate.num_gpus > 0)


def load_config(files: Sequence[str], overrides: Sequence[str]) -> Config:
    """Merge `files` in order, then `overrides`, into one validated tree.

    Raises:
        ConfigError: with every mistake on a line of its own.
    """
    origins: dict[Path_, str] = {}
    mistakes: list[str] = []
    merged = OmegaConf.create()
    read = [_read_file(name) for name in files]
    for source in [*read, *map(_read_override, overrides)]:
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
        raise ConfigError(_listed(mistakes))
    values, unresolved = _resolve(merged, origins)
    mistakes += unresolved
    try:
        config = Config.model_validate(values)
        mistakes += [_sentence(path, text, origins) for path, text in _cross_check(config)]
    except ValidationError as error:
        # Each branch of a union complains for itself; the first complaint about a place says enough.
        mistakes += {
            _without_tags(detail["loc"]): _explain(detail, origins) for detail in reversed(error.errors())
        }.values()
    if mistakes:
        raise ConfigError(_listed(mistakes))
    return config


def _listed(mistakes: list[str]) -> str:
    count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    return "\n  - ".join([f"{count} in the configuration:", *mistakes])


def _read_file(name: str) -> tuple[Any, dict[Path_, str]] | str:
    try:
        text = Path(name).read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = OmegaConf.create(text)
    except FileNotFoundError:
        return f"{name}: no such file"
    except (OSError, UnicodeDecodeError) as error:
        return f"{name}: cannot be read ({error})"
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        return f"{name}: not valid YAML ({' '.join(str(error).split())})"
    if root is not None and not isinstance(root, yaml.MappingNode):
        return f"{name}: must be a mapping of names to values, like conf/demo.yaml"
    return tree, {path: f"{name}:{line}" for path, line in _lines(root)}


def _lines(node: Any, path: Path_ = ()) -> Iterator[tuple[Path_, int]]:
    """Every key below `node` with the line that it stands on, from 1."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key.start_mark.line + 1
            yield from _lines(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, index), value.start_mark.line + 1
            yield from _lines(value, (*path, index))


def _read_override(text: str) -> tuple[Any, dict[Path_, str]] | str:
    key, equals, _ = text.partition("=")
    if not equals or not key or key.startswith("-"):
        return f"{text!r}: an override looks like key=value or section.key=value"
    try:
        tree = OmegaConf.from_dotlist([text])
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        return f"{text!r}: {' '.join(str(error).split())}"
    return tree, {tuple(key.split(".")): f"override {text!r}"}


def _package_dir(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ValueError(
            f"the package {name!r} is not installed; the demo's photographs need `pip install -e '.[demo]'`"
        )
    return str(Path(spec.origin).parent)


# ${package_dir:skimage} in a config is the folder of that installed package: where the demo's photographs are.
OmegaConf.register_resolver("package_dir", _package_dir, replace=True)


def _resolve(merged: Any, origins: dict[Path_, str]) -> tuple[Any, list[str]]:
    try:
        return _without_missing(OmegaConf.to_container(merged, resolve=True)), []
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or ""
        first_line = str(error).splitlines()[0]
        reason = first_line.partition("while resolving interpolation: ")[2] or first_line
        values = _without_missing(OmegaConf.to_container(merged, resolve=False))
        return values, [_sentence(tuple(key.split(".")), reason, origins)]


def _without_missing(tree: Any) -> Any:
    """The tree without the keys that a file leaves to the user (`key: ???`)."""
    if not isinstance(tree, dict):
        return tree
    return {key: _without_missing(value) for key, value in tree.items() if value != "???"}


def _cross_check(config: Config) -> Iterator[tuple[Path_, str]]:
    """Mistakes that only show when several settings, or a table of the encoder, are looked at together."""
    for problem in video.check(config.video):
        yield ("video",), problem
    if not config.sources:
        yield ("manifest",), "the list is empty: name at least one manifest, folder or image"
    if config.interpolation.target_fps is not None and config.video.fps is not None:
        yield (
            ("video", "fps"),
            "would be ignored, because interpolation.target_fps sets the file's rate: remove one of them",
        )
    target = config.interpolation.target_fps
    if target is not None and target < config.generation.fps:
        yield ("interpolation", "target_fps"), f"{target} is below generation.fps {config.generation.fps}: raise it"
    yield from _check_tier(config)
    for problem in Storage.check_options(config.storage.options):
        yield ("storage", "options"), problem


def _check_tier(config: Config) -> Iterator[tuple[Path_, str]]:
    if config.model.tier != "fast":
        if config.fast != FastSettings():
            yield ("fast",), f"would be ignored, because model.tier is {config.model.tier}: set model.tier=fast"
        return
    if config.fast == NO_SHORTCUTS:
        yield ("fast",), "no shortcut is switched on: set one, or model.tier=exact"
    if config.fast.fp8 and config.model.precision != "bf16":
        yield ("fast", "fp8"), f"needs model.precision=bf16, which is {config.model.precision}"
    if config.fast.fp8 and config.model.memory != "resident":
        yield ("fast", "fp8"), f"needs model.memory=resident, which is {config.model.memory}"


# Switches of diffusers that people know, and that do nothing, or raise, in its Stable Video Diffusion pipeline.
_USELESS = {
    "attention_slicing": "does nothing for SVD, whose attention never holds its matrix: leave it out",
    "fuse_qkv_projections": "is always so here: leave it out",
    "vae_slicing": "SVD's decoder sees a clip as a whole: set model.decode_chunk_frames instead",
    "vae_tiling": "SVD's decoder has no tiles: set model.decode_chunk_frames instead",
    "xformers": "the attention is PyTorch's own, which is as fast: leave it out",
}


def _explain(detail: Any, origins: dict[Path_, str]) -> str:
    path = _without_tags(detail["loc"])
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        section = _section_at(path[:-1])
        names = list(section.model_fields) if section else []
        reason = _USELESS.get(str(path[-1])) or f"no such setting{_nearest(str(path[-1]), names)}"
        return _sentence(path, reason, origins)
    if kind == "missing":
        return _sentence(path, "is required: set it in a --config file or on the command line", origins)
    if kind == "value_error":
        return _sentence(path, str(context["error"]), origins)
    return _sentence(path, f"{_lower_first(detail['msg'])}, got {detail['input']!r}", origins)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _without_tags(path: Path_) -> Path_:
    return tuple(part for part in path if not _is_union_tag(part))


def _is_union_tag(part: str | int) -> bool:
    """Whether a part of a location is the branch of a union (`str`, `list[str]`, `literal['auto']`), not a name."""
    return isinstance(part, str) and (part in {"str", "int", "float"} or "[" in part)


def _sentence(path: Path_, text: str, origins: dict[Path_, str]) -> str:
    name = ".".join(map(str, path)) or "configuration"
    for length in range(len(path), 0, -1):
        if origin := origins.get(path[:length]):
            return f"{name}: {text} ({origin})"
    return f"{name}: {text}"


def _nearest(name: str, candidates: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _section_at(path: Path_) -> type[BaseModel] | None:
    section: type[BaseModel] = Config
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


# Options of a store that may be seen; whatever else stands there could be a secret.
_OPEN_OPTIONS = frozenset({"endpoint_url", "region_name", "anon", "requester_pays"})


def to_yaml(config: Config) -> str:
    """The resolved configuration, as it is saved beside the dataset: without the secrets in `storage.options`."""
    tree = config.model_dump(mode="json")
    tree["storage"]["options"] = _masked(tree["storage"]["options"])
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _masked(options: Any, name: str = "") -> Any:
    if isinstance(options, dict):
        return {key: _masked(value, key) for key, value in options.items()}
    return options if name in _OPEN_OPTIONS else "***"
