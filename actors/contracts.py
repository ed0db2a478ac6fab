"""What the stages agree on: the items between them, how a row ends, and what a stage is.

    Planned -> load -> Loaded -> generate -> Generated -> finish -> Made

Each item holds the `Row` that it belongs to, and what the next stage works on. A row that cannot go on becomes a
`Failed` and goes round the later stages; in a run that is to end, one that was not begun with becomes an `Unstarted`.
So each row ends exactly once: as `Made` or as `Failed`.

Axes in names: F frames, H height, W width, C channels (RGB).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actors.printable import printable
from actors.secrets import hidden

Pixels = npt.NDArray[np.uint8]
Value = int | float | str | bool | None


@dataclass(frozen=True, slots=True)
class Row:
    """A clip that is under way: what the plan says of it, and what the stages have found out.

    Attributes:
        part: number of the part of the dataset that it will lie in.
        attempts: how many runs have tried it before, and failed.
        image_uri: what the image is called; of a URI, without login and signature (`actors.secrets.public_uri`).
        parameters: all of the clip's own, by name (`actors.generators.parameters`).
        columns: values of the clip's record that are known by now, by name.
    """

    clip_id: str
    part: int
    attempts: int
    image_uri: str
    parameters: Mapping[str, Value]
    columns: Mapping[str, Value] = field(default_factory=dict)

    def with_columns(self, **values: Value) -> "Row":
        """The same row, with more of its record known."""
        return replace(self, columns={**self.columns, **values})


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image lies that the manifest itself holds.

    Attributes:
        file: URI of a Parquet, Arrow or tar file; of a Lance table as `actors.embedded_lance.lance_file` has it.
        column: path of a binary column in its schema, such as `image.bytes`; in a tar, the name of the member.
        group: row group or record batch, from 0; 0 of all of an Arrow stream, TAR_GROUP of a tar, LANCE_GROUP.
        row: row in that group, from 0, of a fragment among those that are not deleted; in a tar, the block of 512 bytes
            at which the member begins.
    """

    file: str
    column: str
    group: int
    row: int

    def __str__(self) -> str:
        if self.group == TAR_GROUP:
            return f"{self.column} in {self.file}"
        if self.group == LANCE_GROUP:
            return f"row {self.row + 1} of {self.file}"
        return f"row {self.row + 1} of row group {self.group + 1} in {self.file}"


# The group of a tar's members, and of the rows of a Lance table: each is read by itself.
TAR_GROUP = -1
LANCE_GROUP = -2

# How a work row says so: a `Place`, and the URI to fetch (`Planned.fallback`); null of other images.
PLACE_SCHEMA = pa.schema(
    [
        pa.field("image_file", pa.string()),
        pa.field("image_column", pa.string()),
        pa.field("image_group", pa.int32()),
        pa.field("image_row", pa.int32()),
        pa.field("image_fallback", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Planned:
    """A row as the plan gives it. Where the manifest holds the image itself, its place.

    Attributes:
        fallback: URI to fetch, where there turns out to be no image at its place; without a place, the whole URI of an
            image whose `image_uri` has lost its login or its signature.
        image_license: of the image, as the manifest has it; None where it has none.
    """

    row: Row
    place: Place | None = None
    fallback: str | None = None
    image_license: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """The picture that is to be animated."""

    row: Row
    image_HWC: Pixels


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """The frames that the generator made."""

    row: Row
    frames_FHWC: Pixels


@dataclass(frozen=True, slots=True)
class Made:
    """The end of a row whose video is stored; all columns of its record are known."""

    row: Row

    @property
    def record(self) -> dict[str, Value]:
        """The clip's line in the dataset, but for the time at which it is committed."""
        row = self.row
        # A column goes before the parameter of its name: `num_frames` is what the file holds.
        return {"clip_id": row.clip_id, "image_uri": row.image_uri, **row.parameters, **row.columns}


@dataclass(frozen=True, slots=True)
class Failed:
    """The end of a row that could not be made: the stage that failed, why, and how long that stage took over it."""

    row: Row
    stage: str
    error_type: str
    error: str
    seconds: float = field(default=0.0, compare=False)

    @classmethod
    def by(cls, error: Exception, row: Row, stage: str, seconds: float = 0.0) -> "Failed":
        """The failure that an error means."""
        said = hidden(str(error) or repr(error))
        return cls(row, stage, type(error).__name__, printable(said), seconds)  # a file's name may be no UTF-8, too


@dataclass(frozen=True, slots=True)
class Unstarted:
    """A row that a run which is to end does not begin with; the next run plans it again."""

    row: Row


Ending = Made | Failed


class Item(Protocol):
    """What passes between stages: a frozen dataclass; its arrays are `Pixels` whose names end in their axes."""

    @property
    def row(self) -> Row:
        """The row that it belongs to."""


In = TypeVar("In", bound=Item)
Out = TypeVar("Out", bound=Item)


class Stage(ABC, Generic[In, Out]):
    """One step on the way of an image. It knows no Ray, no ledger and no other stage.

    It is made once in a worker, which may take minutes, and then called once for each row. For a clip that cannot be
    made it raises an error, which becomes that clip's failure. All else is the runner's (`actors.runner`): what dies,
    what takes too long, what is written down, and the column `<name>_s` with the seconds that a call took.

    Class attributes:
        name: as in `workers.<name>`, in failures and in logs.
        columns: what each call adds to the record, by `row.with_columns`.
    """

    name: ClassVar[str]
    columns: pa.Schema = pa.schema([])

    @abstractmethod
    def __call__(self, item: In) -> Out:
        """Do the step for one row."""

    def close(self) -> None:  # most stages hold nothing
        """Let go of open files, at the end of a task."""
