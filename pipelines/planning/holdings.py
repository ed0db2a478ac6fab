"""What the dataset has already: clips, failures, and in which parts they lie."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actors.errors import ConfigError, ManifestError, StorageError
from actors.generators import DEFAULT_GENERATOR, GENERATORS
from actors.records import FAILURE_SCHEMA, clip_schema, known_columns, reserved_names
from actors.storage import Storage
from pipelines.dataset.layout import Layout, metadata_in
from pipelines.dataset.records import extras_of, newer_columns, read_columns
from pipelines.manifest.pass_through import TYPES
from pipelines.planning.facts import (
    CLIP_COLUMNS,
    FAILURE_COLUMNS,
    ClipFacts,
    FailureFacts,
    Schemas,
    failure_facts,
    generators_of,
    hashes_in,
    missing,
    named,
)
from pipelines.planning.hashes import Hashes, contains, distinct, no_hashes
from pipelines.planning.part_index import PartIndex
from pipelines.planning.survey import FoundFile, FoundPart, find_failures, find_parts

_NAMES_OF_TYPES = {kind: name for name, kind in TYPES.items()}
# Part files read at once when the dataset is looked through.
_READERS = 16


def _no_numbers() -> npt.NDArray[np.int32]:
    return np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Failures:
    """Clips that failed before: where each failure is kept, how often it was tried, and why it failed the last time.

    Attributes:
        hashes: sorted; what follows is in this order.
        reasons: stage and error type, each pair once; `reason_of` has the position of each failure's own.
    """

    hashes: Hashes = field(default_factory=no_hashes)
    parts: npt.NDArray[np.int32] = field(default_factory=_no_numbers)
    attempts: npt.NDArray[np.int32] = field(default_factory=_no_numbers)
    reason_of: npt.NDArray[np.int32] = field(default_factory=_no_numbers)
    reasons: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Lost:
    """Clips that are listed and whose videos are gone: sorted hashes, and the part that lists each."""

    hashes: Hashes = field(default_factory=no_hashes)
    parts: npt.NDArray[np.int32] = field(default_factory=_no_numbers)


@dataclass(slots=True)
class Holdings:
    """What the dataset already holds.

    Attributes:
        done: sorted hashes of the clips in `data/`.
        failed: clips in `failures/`.
        lost: clips without their videos, which are not `done`.
        part_sizes: rows (clips and failures) of each part.
        extras: the pass-through columns that the dataset began with; None where it has no row yet.
        generators: those that made its clips.
        foreign: what lies among its parts and is none, as URIs.
        parts: the parts' folders, as URIs in order.
        older: parts whose records lack columns that this version writes.
    """

    done: Hashes = field(default_factory=no_hashes)
    failed: Failures = field(default_factory=Failures)
    lost: Lost = field(default_factory=Lost)
    part_sizes: Counter[int] = field(default_factory=Counter)
    extras: pa.Schema | None = None
    generators: set[str] = field(default_factory=set)
    foreign: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    older: list[int] = field(default_factory=list)

    def note(self, part: int, rows: int, schema: bytes, own: Collection[str]) -> None:
        """Count the records of a part, whose `own` columns no manifest has brought."""
        self.part_sizes[part] += rows
        if self.extras is None:
            self.extras = extras_of(pa.ipc.read_schema(pa.py_buffer(schema)), own)


def read_holdings(
    layout: Layout, storage: Storage, *, beside_others: bool = False, index: PartIndex | None = None
) -> Holdings:
    """Look through the dataset's records, a few files at a time, and at which of their videos are there.

    Args:
        beside_others: other runs may write meanwhile, to parts of their own. What they move from failures to clips, or
            back, is in both for a moment and never in neither: so failures are read before the clips, and after them.
        index: of parts that are what they were, nothing is read; it takes what was read of all others.

    Raises:
        StorageError: a part cannot be read, or is a link that leads nowhere.
    """
    holdings, reader, versions = Holdings(), _Reader(storage, index or PartIndex()), _Versions()
    before = _read_failures(layout, reader, Holdings()) if beside_others else []
    found, holdings.parts, foreign = find_parts(layout, storage)
    holdings.foreign += foreign
    done, lost = [no_hashes()], [(no_hashes(), 0)]
    for number, facts in reader.clips(found):
        holdings.generators.update(facts.generators)
        known = GENERATORS[next((name for name in facts.generators if name in GENERATORS), DEFAULT_GENERATOR)]
        holdings.note(number, len(facts.hashes), facts.schema, reserved_names(known))
        # A part without rows does not say what made it; it gets its columns with its next row.
        if len(facts.hashes) and versions.is_older(facts.schema, clip_schema(known).names, layout.metadata(number)):
            holdings.older.append(number)
        done.append(np.delete(facts.hashes, facts.lost) if len(facts.lost) else facts.hashes)
        if len(facts.lost):
            lost.append((facts.hashes[facts.lost], number))
    holdings.failed = _failures([*before, *_read_failures(layout, reader, holdings)])
    holdings.done = distinct(np.concatenate(done))
    holdings.lost = _lost(lost, holdings.done)
    return holdings


def _read_failures(layout: Layout, reader: "_Reader", holdings: Holdings) -> list[tuple[int, FailureFacts]]:
    """Those of each part; the parts are noted in `holdings`."""
    files, foreign = find_failures(layout, reader.storage)
    holdings.foreign += foreign
    found = list(reader.failures(files))
    for number, facts in found:
        holdings.note(number, len(facts.hashes), facts.schema, FAILURE_SCHEMA.names)
    return found


def _failures(found: Sequence[tuple[int, FailureFacts]]) -> Failures:
    """All together; of two of one clip the later."""
    if not found:
        return Failures()
    reasons = list(dict.fromkeys(reason for _, facts in found for reason in facts.reasons))
    numbers = {reason: number for number, reason in enumerate(reasons)}
    hashes = np.concatenate([facts.hashes for _, facts in found])
    parts = np.repeat([number for number, _ in found], [len(facts.hashes) for _, facts in found]).astype(np.int32)
    attempts = np.concatenate([facts.attempts for _, facts in found])
    reason_of = np.concatenate(
        [np.array([numbers[one] for one in facts.reasons], np.int32)[facts.reason_of] for _, facts in found]
    )
    last = _last_of_each(hashes)
    return Failures(hashes[last], parts[last], attempts[last], reason_of[last], reasons)


def _lost(found: Sequence[tuple[Hashes, int]], done: Hashes) -> Lost:
    """All together but what somebody has copied into another part, where it is there."""
    hashes = np.concatenate([some for some, _ in found])
    parts = np.repeat([number for _, number in found], [len(some) for some, _ in found]).astype(np.int32)
    last = _last_of_each(hashes)
    last = last[~contains(done, hashes[last])]
    return Lost(hashes[last], parts[last])


def _last_of_each(hashes: Hashes) -> npt.NDArray[np.intp]:
    """Positions of the different hashes in their order; of equal ones the last."""
    first_from_behind = np.unique(hashes[::-1], return_index=True)[1]
    return len(hashes) - 1 - first_from_behind


class _Reader:
    """Reads what the index does not know, several files at once."""

    def __init__(self, storage: Storage, index: PartIndex) -> None:
        self.storage, self._index, self._schemas = storage, index, Schemas()

    def clips(self, parts: Iterator[FoundPart]) -> Iterator[tuple[int, ClipFacts]]:
        """Of each part that has records, in order."""
        with ThreadPoolExecutor(_READERS) as readers:
            for number, facts in readers.map(self._clips, parts):
                if facts is not None:
                    yield number, facts

    def failures(self, files: Sequence[FoundFile]) -> Iterator[tuple[int, FailureFacts]]:
        """The same of failures; without files that a run which retries has just removed."""
        with ThreadPoolExecutor(_READERS) as readers:
            for number, facts in readers.map(self._failures, files):
                if facts is not None:
                    yield number, facts

    def _clips(self, part: FoundPart) -> tuple[int, ClipFacts | None]:
        known = self._index.clips.find(part.number, part.stamp) if part.has_records else None
        if known is not None or not part.has_records:
            return part.number, known
        uri = metadata_in(part.uri)
        some = read_columns(uri, CLIP_COLUMNS, self.storage, CLIP_COLUMNS[:2])
        if some is None:
            if self.storage.leads_nowhere(part.uri):
                raise StorageError(
                    f"{part.uri} is a link to a folder that is not there: mount the disk that it lies on, or remove "
                    "the link, and its clips are made again"
                )
            return part.number, None
        names, is_told = part.names()
        lost = missing(some.table, names)
        if len(lost) and part.is_listed:
            # The listing came first. A run that writes meanwhile stores each video before its row: so ask once more.
            names = named(list(self.storage.list_names(part.uri)))
            is_told &= len(lost) == len(lost := missing(some.table, names))
        made_by = generators_of(some.table)
        facts = ClipFacts(hashes_in(uri, some.table), lost, made_by, self._schemas.one(some.schema))
        if is_told and part.record_bytes == some.num_bytes:  # else it was replaced since it was listed
            self._index.clips.put(part.number, part.stamp, facts)
        return part.number, facts

    def _failures(self, file: FoundFile) -> tuple[int, FailureFacts | None]:
        known = self._index.failures.find(file.number, file.stamp)
        if known is not None:
            return file.number, known
        some = read_columns(file.uri, FAILURE_COLUMNS, self.storage, FAILURE_COLUMNS)
        if some is None:
            return file.number, None
        facts = failure_facts(file.uri, some.table, self._schemas.one(some.schema))
        if file.record_bytes == some.num_bytes:
            self._index.failures.put(file.number, file.stamp, facts)
        return file.number, facts


class _Versions:
    """Of twenty thousand parts, nearly all have the same schema: each is looked at once."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, tuple[str, ...]], bool] = {}

    def is_older(self, schema: bytes, own: Sequence[str], uri: str) -> bool:
        """As `check_version`, of a serialized schema."""
        key = (schema, tuple(own))
        if key not in self._known:
            self._known[key] = check_version(pa.ipc.read_schema(pa.py_buffer(schema)), own, uri)
        return self._known[key]


def check_version(schema: pa.Schema, own: Sequence[str], uri: str) -> bool:
    """Whether a file of records is of an older version: it lacks some of our `own` columns.

    Raises:
        ConfigError: it is of a newer one, whose columns would be lost.
    """
    if newer := newer_columns(schema, known_columns()):
        raise ConfigError(
            f"{uri} was written by a newer version of stillreel, which has the columns {', '.join(newer)}: use that "
            "version for this dataset, or write to another output"
        )
    return not set(own) <= set(schema.names)


def check_generator(holdings: Holdings, generator: str) -> None:
    """Raise ConfigError where the dataset's clips are of another generator, whose records have other columns.

    One fixed schema from the first row on: readers take it from whichever file they open first.
    """
    if others := sorted(holdings.generators - {generator}):
        raise ConfigError(
            f"the clips in this dataset were made by {', '.join(others)}, whose records have other columns than those "
            f"of {generator}: write to another output, or set generator={others[0]}"
        )


def check_extras(wanted: pa.Schema, existing: pa.Schema | None) -> pa.Schema:
    """The pass-through columns that are written: those which the dataset began with.

    One fixed schema from the first row on: readers take it from whichever file they open first. A column that the
    manifest no longer has becomes null; one that the dataset does not know, or knows with another type, is refused.
    """
    if existing is None:
        return wanted
    surplus = [name for name in wanted.names if name not in existing.names]
    changed = [
        name for name in wanted.names if name in existing.names and wanted.field(name).type != existing.field(name).type
    ]
    if surplus or changed:
        reasons = [f"{name} is new" for name in surplus]
        reasons += [f"{name} is {wanted.field(name).type}, was {existing.field(name).type}" for name in changed]
        kept = [name for name in existing.names if name not in changed]
        types = {name: _NAMES_OF_TYPES.get(existing.field(name).type) for name in existing.names if name in changed}
        typed = ", ".join(f"{name}: {kind}" for name, kind in types.items() if kind)
        raise ManifestError(
            f"the manifest's columns do not fit those of the dataset: {'; '.join(reasons)}. "
            + (f"Columns of text files get a type with columns.types={{{typed}}}. " if typed else "")
            + f"Choose columns with columns.passthrough=[{','.join(kept)}], or write to another output"
        )
    return existing
