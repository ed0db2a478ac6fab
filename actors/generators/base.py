"""What a generator is: a model, or something like one, that makes a clip's frames of a picture.

A new one is a module with a class, and a line in `actors.generators`. Nothing here, nor at the top of a generator's
module, may import torch: the driver reads these classes, too, and must not wait for it.

Axes: F frames, H height, W width, C channels (RGB).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import pyarrow as pa
from pydantic import Field

from actors.contracts import Pixels, Value
from actors.generators.parameters import Parameters
from actors.licences.finding import ModelPlace, as_configured, find_licence
from actors.licences.licence import MAX_CHARACTERS, UNKNOWN, Licence, one_line
from actors.marks.source_types import MADE_BY_AI
from actors.settings import NO_EFFECT, ImageSettings, Section
from actors.storage import Storage


class MemoryWay(NamedTuple):
    """A way to make clips.

    Attributes:
        name: that a clip's record has for it.
        needed_bytes: what it needs of the GPU, in torch's count.
        host_bytes: what a worker takes of its machine's memory; 0: little.
    """

    name: str
    needed_bytes: int
    host_bytes: int = 0


class Memory(NamedTuple):
    """What a generator needs of memory.

    Attributes:
        ways: from the one that the settings ask for to the tightest that a worker goes on to by itself; empty: it needs
            none, or that is not known.
        unknown: why it is not known, a clause; "" where it is.
    """

    ways: list[MemoryWay]
    unknown: str = ""


class AnyModel(Section):
    """The section `model` of the configuration: what a generator loads, and how. Here: nothing, and no settings."""

    # Settings that people know from elsewhere, and that have no place here: name -> the reason.
    refused: ClassVar[Mapping[str, str]] = {}

    @property
    def wants_cuda(self) -> bool:
        """Whether it asks for a GPU, and not for one where there is one."""
        return False

    @property
    def node_cache(self) -> str | None:
        """Where a node keeps what it has fetched or compiled; None: the usual place (`actors.node_cache`)."""
        return None

    def opened(self, storage: Storage) -> Self:  # noqa: ARG002 - there is nothing to read
        """The same settings, which hold what `settled`, `revision_of_content` and `notes` read of the checkpoint.

        For as long as one plan asks these: who makes clips is given the plain settings.

        Raises CheckpointError, ConfigError and StorageError.
        """
        return self

    def settled(self, parameters: Any, image: ImageSettings, storage: Storage) -> tuple[Any, ImageSettings]:  # noqa: ARG002 - nothing is open
        """The clips' parameters and size with the model's own values where none are given, known to be possible.

        Raises:
            ConfigError: they are not; the message has all mistakes.
            CheckpointError, StorageError: there is no such model.
        """
        return parameters, image

    def revision_of_content(self, storage: Storage) -> str:  # noqa: ARG002 - there is nothing to read
        """What identifies the content of the checkpoint: the same after a move, another one after training.

        Raises CheckpointError, ConfigError or StorageError where there is none.
        """
        return ""

    def pinned(self, revision: str) -> Self:  # noqa: ARG002 - nothing moves
        """With what might move during a run (a branch) fixed to `revision`."""
        return self

    def with_absolute_paths(self) -> Self:
        """Local paths made absolute: a worker's current folder is not ours."""
        return self

    def memory_needs(self, parameters: Any, image: ImageSettings, storage: Storage) -> Memory:  # noqa: ARG002 - none is needed
        """What clips of these parameters and sizes need; settled or not."""
        return Memory([])

    def mistakes(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """What is wrong with settings taken together: where in the section, and a clause."""
        return iter(())

    def notes(self, storage: Storage) -> list[str]:  # noqa: ARG002 - there is nothing to read
        """What the plan says of the model, a line each: what was found where that is not plain."""
        return []

    def described(self) -> dict[str, Value]:
        """Those of the generator's `columns` that all clips of a run share; `model` is always one of them."""
        return {"model": ""}

    def licence(self, storage: Storage) -> Licence | None:  # noqa: ARG002 - there is nothing that has one
        """What is known of the licence of the weights; None: there are none. Never fails."""
        return None

    def with_licence(self, licence: Licence | None) -> Self:  # noqa: ARG002 - there is nothing that has one
        """The same settings, with the licence settled: all clips of a run say the same."""
        return self

    @property
    def licence_name(self) -> str:
        """The column `model_license`."""
        return ""


class ModelSection(AnyModel):
    """The same of a generator that loads weights: they come under a licence."""

    license: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_CHARACTERS,
        description="licence of the weights, for plan, card and metadata; null: from a table of known models, or from "
        "the model's own card",
        json_schema_extra=NO_EFFECT,
    )

    def licence_place(self) -> ModelPlace | None:
        """Where the weights, and so their card, are; None: nowhere that is known."""
        return None

    def licence(self, storage: Storage) -> Licence | None:
        """As in `AnyModel`."""
        if self.license is not None:
            return as_configured(self.license)
        place = self.licence_place()
        if place is None:
            return Licence(UNKNOWN, "its generator does not say where it comes from")
        return find_licence(place, storage)

    def with_licence(self, licence: Licence | None) -> Self:
        """As in `AnyModel`."""
        return self if licence is None else self.model_copy(update={"license": licence.name})

    @property
    def licence_name(self) -> str:
        """As in `AnyModel`."""
        return one_line(self.license or "") or UNKNOWN


M = TypeVar("M", bound=AnyModel)
P = TypeVar("P", bound=Parameters)


@dataclass(frozen=True, slots=True, eq=False)
class Animation:
    """One clip: frames uint8, and those of the generator's `columns` that differ from clip to clip."""

    frames_FHWC: Pixels
    columns: Mapping[str, Value] = field(default_factory=dict)


class Generator(ABC, Generic[M, P]):
    """Makes clips, one after the other, in one process.

    Class attributes:
        name: as in `generator: <name>` of the configuration.
        Parameters: of its clips; the section `generation`.
        Model: the section `model`.
        columns: what a clip's record says beside the parameters, `model`, `model_revision` and `model_license`.
        source_type: what its clips' files say about how they came about (`actors.marks.source_types`).
    """

    name: ClassVar[str]
    Parameters: ClassVar[type[Parameters]]
    Model: ClassVar[type[AnyModel]]
    columns: ClassVar[pa.Schema] = pa.schema([])
    source_type: ClassVar[str] = MADE_BY_AI

    @abstractmethod
    def __init__(self, model: M, parameters: P, storage: Storage) -> None:
        """Load what it needs.

        Args:
            parameters: those of a clip that nothing overrides; in those that are the same for all, of every clip.

        Raises:
            CheckpointError, ConfigError, StorageError: it cannot be loaded.
        """

    def check(self, *, width: int, height: int) -> None:
        """Raise ConfigError if it cannot make clips of this size (pixels) with its parameters."""

    def warm_up(self, *, width: int, height: int) -> None:
        """Have all that is compiled or chosen for clips of this size (pixels) ready."""

    @abstractmethod
    def animate(self, image_HWC: Pixels, parameters: P) -> Animation:
        """One clip of the picture, uint8 RGB, in its size.

        Raises:
            GenerationError, GpuMemoryError: this clip cannot be made.
        """

    @property
    def device_name(self) -> str:
        """What it runs on, e.g. "NVIDIA H200", or "cpu"."""
        return "cpu"
