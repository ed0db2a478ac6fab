"""What each part holds, kept beside the dataset, so that a plan reads only the parts that have changed.

It is a cache: whatever of it is missing, damaged, of another version or of another state of a part is read from the
part itself. So it may be removed at any time, and files of it may be written by several runs at once: each is valid by
itself. Only runs write it.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa

from actors.errors import StorageError
from actors.storage import Storage
from pipelines.dataset.layout import INDEX_KINDS, Layout, index_file_number
from pipelines.planning.cache_files import list_cache, read_caches, write_cache
from pipelines.planning.facts import ClipFacts, FailureFacts, Schemas

logger = logging.getLogger("stillreel.driver")

# Parts of one file: of full ones, 4 MB. A day's run writes the last of them anew.
PARTS_PER_FILE = 1024

Facts = TypeVar("Facts")

_KEY = (pa.field("part", pa.int32()), pa.field("stamp", pa.string()), pa.field("hashes", pa.binary()))


@dataclass(frozen=True, slots=True)
class Place:
    """Where the index of a dataset is kept."""

    layout: Layout
    storage: Storage


@dataclass(frozen=True, slots=True)
class Kind(Generic[Facts]):
    """One kind of facts, and how a file holds them: columns that follow those of `_KEY`."""

    name: str
    columns: Sequence[pa.Field]
    pack: Callable[[Facts], dict[str, Any]]
    unpack: Callable[[Mapping[str, Any], Schemas], Facts]

    @property
    def schema(self) -> pa.Schema:
        """Of its files."""
        return pa.schema([*_KEY, *self.columns])


class PartIndex:
    """The index of a dataset; without a place it knows nothing, and keeps nothing.

    Attributes:
        clips, failures: of the files of these in each part.
    """

    def __init__(self, place: Place | None = None) -> None:
        self.clips, self.failures = Shelf(_CLIPS, place), Shelf(_FAILURES, place)

    def save(self) -> None:
        """Write what has changed. Where the store fails, the next plan reads more, and that is all."""
        try:
            self.clips.save()
            self.failures.save()
        except StorageError as error:
            logger.warning("the index of the dataset was not written: %s", error)


class Shelf(Generic[Facts]):
    """Facts of parts with the stamp that each part had; several threads may use it."""

    def __init__(self, kind: Kind[Facts], place: Place | None) -> None:
        self._kind, self._place, self._schemas = kind, place, Schemas()
        self._lock = threading.Lock()
        self._files: dict[int, pa.Table] | None = None
        self._rows: dict[int, tuple[int, int]] = {}  # of a part: its file, and its row there
        self._found: set[int] = set()
        self._new: dict[int, dict[str, Any]] = {}

    def find(self, part: int, stamp: str | None) -> Facts | None:
        """Those of a part that had this stamp, too."""
        if stamp is None or self._place is None:
            return None
        files = self._loaded(self._place)
        if part not in self._rows:
            return None
        number, row = self._rows[part]
        table = files[number]
        if table["stamp"][row].as_py() != stamp:
            return None
        with suppress(ValueError, TypeError, KeyError, AttributeError, pa.ArrowException):  # written by other hands
            facts = self._kind.unpack({one.name: table[one.name][row] for one in self._kind.schema}, self._schemas)
            self._found.add(part)
            return facts
        return None

    def put(self, part: int, stamp: str | None, facts: Facts) -> None:
        """Take those of a part; without a stamp they are of no use."""
        if stamp is not None and self._place is not None:
            self._new[part] = {"part": part, "stamp": stamp} | self._kind.pack(facts)

    def save(self) -> None:
        """Write the files in which a part has come, gone or changed."""
        if self._place is None:
            return
        files = self._loaded(self._place)
        kept: dict[int, list[int]] = {number: [] for number in files}
        for part, (file, row) in sorted(self._rows.items()):
            if part in self._found and part not in self._new:
                kept[file].append(row)
        new: dict[int, list[dict[str, Any]]] = {}
        for part, columns in sorted(self._new.items()):
            new.setdefault(part // PARTS_PER_FILE, []).append(columns)
        for number in sorted(kept.keys() | new.keys()):
            if number in new or len(kept[number]) < files[number].num_rows:
                rows = pa.Table.from_pylist(new.get(number, []), schema=self._kind.schema)
                old = [files[number].take(pa.array(kept[number], pa.int64()))] if number in files else []
                self._write(number, pa.concat_tables([*old, rows]), self._place)

    def _write(self, number: int, rows: pa.Table, place: Place) -> None:
        uri = place.layout.index_file(self._kind.name, number)
        if rows.num_rows:
            write_cache(uri, rows, place.storage)
        else:
            place.storage.remove(uri)

    def _loaded(self, place: Place) -> dict[int, pa.Table]:
        """The files of the index, by number."""
        with self._lock:
            if self._files is None:
                self._files = self._read(place)
                for number, table in self._files.items():
                    self._rows |= {part: (number, row) for row, part in enumerate(table["part"].to_pylist())}
            return self._files

    def _read(self, place: Place) -> dict[int, pa.Table]:
        layout, storage, name = place.layout, place.storage, self._kind.name
        found = (index_file_number(name, uri) for uri in list_cache(layout.index, storage))
        uris = {layout.index_file(name, number): number for number in sorted(one for one in found if one is not None)}
        tables = read_caches(list(uris), self._kind.schema, storage)
        return {uris[uri]: table for uri, table in tables.items()}


def _pack_clips(facts: ClipFacts) -> dict[str, Any]:
    return {
        "hashes": facts.hashes.astype("<u8").tobytes(),
        "lost": facts.lost.astype("<i4").tobytes(),
        "generators": json.dumps(facts.generators),
        "schema": facts.schema,
    }


def _clips_in(row: Mapping[str, Any], schemas: Schemas) -> ClipFacts:
    hashes, lost = _numbers(row["hashes"], "<u8"), _numbers(row["lost"], "<i4")
    if len(lost) and not 0 <= lost.min() <= lost.max() < len(hashes):
        raise ValueError("positions of no clip")
    generators = tuple(map(str, json.loads(row["generators"].as_py())))
    return ClipFacts(hashes, lost, generators, schemas.one(row["schema"].as_py()))


def _pack_failures(facts: FailureFacts) -> dict[str, Any]:
    return {
        "hashes": facts.hashes.astype("<u8").tobytes(),
        "attempts": facts.attempts.astype("<i4").tobytes(),
        "reason_of": facts.reason_of.astype("<i4").tobytes(),
        "reasons": json.dumps(facts.reasons),
        "schema": facts.schema,
    }


def _failures_in(row: Mapping[str, Any], schemas: Schemas) -> FailureFacts:
    hashes, attempts = _numbers(row["hashes"], "<u8"), _numbers(row["attempts"], "<i4")
    reason_of = _numbers(row["reason_of"], "<i4")
    reasons = tuple((str(stage), str(kind)) for stage, kind in json.loads(row["reasons"].as_py()))
    if not len(hashes) == len(attempts) == len(reason_of):
        raise ValueError("columns of several lengths")
    if len(reason_of) and not 0 <= reason_of.min() <= reason_of.max() < len(reasons):
        raise ValueError("positions of no reason")
    return FailureFacts(hashes, attempts, reason_of, reasons, schemas.one(row["schema"].as_py()))


def _numbers(cell: Any, kind: str) -> Any:
    """Numbers in the memory of the table."""
    return np.frombuffer(cell.as_buffer(), kind)


_CLIPS = Kind(
    INDEX_KINDS[0],
    [pa.field("lost", pa.binary()), pa.field("generators", pa.string()), pa.field("schema", pa.binary())],
    _pack_clips,
    _clips_in,
)
_FAILURES = Kind(
    INDEX_KINDS[1],
    [
        pa.field("attempts", pa.binary()),
        pa.field("reason_of", pa.binary()),
        pa.field("reasons", pa.string()),
        pa.field("schema", pa.binary()),
    ],
    _pack_failures,
    _failures_in,
)
