"""What planning needs to know of a part: of its clips, and of its rows that failed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from actors.errors import StorageError
from pipelines.dataset.records import only_mark
from pipelines.planning.hashes import Hashes, hashes_of

Names = npt.NDArray[np.int64]
# What else could be read is 15 times as much.
CLIP_COLUMNS = ("clip_id", "file_name", "generator")
FAILURE_COLUMNS = ("clip_id", "attempts", "stage", "error_type")


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """Of the records in a part's `metadata.parquet`, and of the files beside it.

    Attributes:
        lost: positions in `hashes` of the clips whose videos are not there.
        schema: of the file, serialized; equal ones are one object.
    """

    hashes: Hashes
    lost: npt.NDArray[np.int32]
    generators: tuple[str, ...]
    schema: bytes


@dataclass(frozen=True, slots=True)
class FailureFacts:
    """Of the records in a part's file of failures.

    Attributes:
        reasons: stage and error type, each pair once; `reason_of` has the position of each failure's own.
        schema: of the file, serialized; equal ones are one object.
    """

    hashes: Hashes
    attempts: npt.NDArray[np.int32]
    reason_of: npt.NDArray[np.int32]
    reasons: tuple[tuple[str, str], ...]
    schema: bytes


class Schemas:
    """Serialized schemas: of twenty thousand parts, nearly all have the same one."""

    def __init__(self) -> None:
        self._known: dict[bytes, bytes] = {}

    def one(self, schema: pa.Schema | bytes) -> bytes:
        """The one object that stands for a schema."""
        data = schema if isinstance(schema, bytes) else only_mark(schema).serialize().to_pybytes()
        return self._known.setdefault(data, data)


def named(names: Sequence[str]) -> Names:
    """Names of files in 8 bytes each: Python's own hash, which is of this process alone."""
    return np.fromiter(map(hash, names), np.int64, len(names))


def missing(table: pa.Table, names: Names) -> npt.NDArray[np.int32]:
    """Positions of the records whose `file_name` is not among `names`."""
    wanted = named(table["file_name"].to_pylist())
    return np.flatnonzero(~np.isin(wanted, names)).astype(np.int32)


def generators_of(table: pa.Table) -> tuple[str, ...]:
    """Those that made the clips of a part; none of records without that column."""
    if "generator" not in table.column_names:
        return ()
    return tuple(sorted(set(table["generator"].unique().to_pylist()) - {None}))


def hashes_in(uri: str, table: pa.Table) -> Hashes:
    """Of the clips in a file of records.

    Raises:
        StorageError: it has other ids.
    """
    try:
        return hashes_of(table["clip_id"])
    except (ValueError, pa.ArrowException) as error:
        raise StorageError(
            f"{uri} has a clip_id that is none ({error}): `stillreel verify OUTPUT --repair` mends it"
        ) from error


def failure_facts(uri: str, table: pa.Table, schema: bytes) -> FailureFacts:
    """Of a file of failures."""
    pairs = list(zip(*(pc.fill_null(table[name], "").to_pylist() for name in ("stage", "error_type")), strict=True))
    reasons = tuple(dict.fromkeys(pairs))
    numbers = {reason: number for number, reason in enumerate(reasons)}
    reason_of = np.fromiter((numbers[pair] for pair in pairs), np.int32, len(pairs))
    attempts = pc.fill_null(table["attempts"], 0).to_numpy().astype(np.int32)
    return FailureFacts(hashes_in(uri, table), attempts, reason_of, reasons, schema)
