"""What a checkpoint is, from its small files alone: the driver looks before any GPU is reserved."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from actors.checkpoints.checkpoint import small_file
from actors.checkpoints.files import INDEX
from actors.checkpoints.sources import is_file
from actors.errors import CheckpointError
from actors.hosting.classes import KINDS, SAVED_AS, Kind, kind_of
from actors.hosting.files import wanted_files
from actors.hosting.source_text import Call, call_of, is_module
from actors.storage import Storage

_SVD = "StableVideoDiffusionPipeline"
_LIBRARIES = ("diffusers", "transformers")
# NVIDIA's package, without which nobody may run Cosmos.
_GUARDRAIL = "cosmos_guardrail"


@dataclass(frozen=True, slots=True)
class Hosted:
    """A checkpoint.

    Attributes:
        pipeline: the class of diffusers that makes its clips.
        index: what `model_index.json` says.
        transformer, vae: the configurations of these networks; empty where there is no such network.
    """

    pipeline: str
    index: Mapping[str, Any]
    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]

    @property
    def kind(self) -> Kind:
        """What is peculiar to the class."""
        return kind_of(self.pipeline)

    @property
    def call(self) -> Call:
        """What its call takes."""
        call = call_of(self.pipeline)
        assert call is not None, self.pipeline  # `look` has seen it
        return call

    @property
    def components(self) -> list[str]:
        """The parts that lie in folders of their own; a guardrail is none of these."""
        return [name for name, _, _ in self.parts]

    @property
    def parts(self) -> list[tuple[str, str, str]]:
        """The same with library and class of each."""
        return [part for part in _parts(self.index) if part[1] in _LIBRARIES or is_module(part[1])]

    def wanted_files(self, names: Collection[str], variant: str | None, where: str) -> list[str]:
        """Those of a checkpoint's files that are loaded: see `actors.hosting.files`."""
        return wanted_files(names, variant, where, components=self.components)

    @property
    def transformer_class(self) -> str:
        """The class of its network, e.g. WanTransformer3DModel; "" where there is none."""
        return str(self.transformer.get("_class_name", ""))


def look(source: str, *, revision: str | None, cache_dir: str | None, storage: Storage) -> Hosted:
    """Read the index and the configurations of a checkpoint.

    Raises:
        CheckpointError: it is none, or makes no frames of an image, or needs code of its own.
        ConfigError, StorageError: as `actors.checkpoints.checkpoint.small_file`.
    """

    def read(name: str) -> dict[str, Any]:
        text = small_file(source, name, revision=revision, cache_dir=cache_dir, storage=storage)
        if text is None:
            return {}
        try:
            content: dict[str, Any] = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"model.source={source}: {name} is damaged: {error}") from error
        if not isinstance(content, dict):
            raise CheckpointError(f"model.source={source}: {name} is damaged: it is no JSON object")
        return content

    if is_file(source):
        raise CheckpointError(
            f"model.source={source} is a single file: generator=diffusers needs a folder, a URI or a Hugging Face id "
            f"in diffusers layout, with {INDEX}"
        )
    index = read(INDEX)
    if not index:
        raise CheckpointError(
            f"model.source={source} has no {INDEX}: name an image-to-video checkpoint in diffusers layout, a folder, a "
            "URI or a Hugging Face id"
        )
    _check_components(source, index)
    pipeline = _class_of(source, index)
    return Hosted(pipeline, index, read("transformer/config.json"), read("vae/config.json"))


def _class_of(source: str, index: Mapping[str, Any]) -> str:
    """The class that makes clips of images. Raises CheckpointError."""
    named = str(index.get("_class_name"))  # a list of a file and a class, where the checkpoint brings its own
    if named == _SVD:
        raise CheckpointError(f"model.source={source} is Stable Video Diffusion, which has a faster way: generator=svd")
    image_class, needed = SAVED_AS.get(named, (named, None))
    if needed is not None and not index.get(needed):
        image_class = named  # which takes no image
    call = call_of(image_class)
    if call is None or not call.makes_video:
        known = call_of(named) is not None
        what = "which makes no video of an image" if known else "which this version of diffusers does not have"
        raise CheckpointError(f"model.source={source} is a {named}, {what}. Classes that do are {', '.join(KINDS)}")
    return image_class


def _parts(index: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, library and class of each component that there is."""
    for name, value in index.items():
        match value:
            case [str() as library, str() as kind] if not name.startswith("_"):
                yield name, library, kind


def _check_components(source: str, index: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a component whose code would come with the checkpoint: it is never run."""
    for name, library, kind in _parts(index):
        if kind.startswith("AutoModel"):
            raise CheckpointError(
                f"model.source={source}: its {name} is an {kind}, which may be anything; write the class itself into "
                f"{INDEX}"
            )
        if library not in (*_LIBRARIES, _GUARDRAIL) and not is_module(library):
            raise CheckpointError(
                f"model.source={source}: its {name} is code of its own ({library}), which is never run here; save the "
                "checkpoint with classes of diffusers and transformers alone"
            )
