"""What the dataset has already: clips, failures, and in which parts they lie."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.errors import ConfigError, ManifestError, StorageError
from actors.generators import DEFAULT_GENERATOR, GENERATORS
from actors.records import FAILURE_SCHEMA, reserved_names
from actors.storage import Storage
from pipelines.dataset.layout import Layout, metadata_in, part_of
from pipelines.dataset.records import extras_of, read_records
from pipelines.manifest.pass_through import TYPES
from pipelines.planning.hashes import Hashes, contains, hashes_of

_NAMES_OF_TYPES = {kind: name for name, kind in TYPES.items()}
# Part files read at once when the dataset is looked through: listing a store is latency, not work.
_READERS = 16
# A column of ours beside those of the records: whether the clip's video is there.
_IS_THERE = ".is there"


@dataclass(frozen=True, slots=True)
class FailedBefore:
    """Where an earlier failure of a clip is kept, how often it was tried, and why it failed the last time."""

    part: int
    attempts: int
    stage: str
    error_type: str


@dataclass(slots=True)
class Holdings:
    """What the dataset already holds.

    Attributes:
        done: sorted hashes of the clips in `data/`.
        failed: clips in `failures/`, by hash.
        lost: clips that are listed and whose videos are gone, by hash: the part that lists them. They are not `done`.
        part_sizes: rows (clips and failures) of each part.
        extras: the pass-through columns that the dataset began with; None where it has no row yet.
        generators: those that made its clips.
        foreign: what lies among its parts and is none, as URIs.
    """

    done: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    failed: dict[int, FailedBefore] = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)
    part_sizes: Counter[int] = field(default_factory=Counter)
    extras: pa.Schema | None = None
    generators: set[str] = field(default_factory=set)
    foreign: list[str] = field(default_factory=list)

    def note(self, part: int, table: pa.Table, own: Collection[str]) -> None:
        """Count the records of a part, whose `own` columns no manifest has brought."""
        self.part_sizes[part] += table.num_rows
        if self.extras is None:
            self.extras = extras_of(table.schema, own)


def read_holdings(layout: Layout, storage: Storage, *, beside_others: bool = False) -> Holdings:
    """Look through the dataset's records, a few files at a time, and at which of their videos are there.

    `beside_others`: other runs may write meanwhile, to parts of their own. What they move from failures to clips, or
    back, is in both for a moment and never in neither: so failures are read before the clips, and after them.

    Raises:
        StorageError: a part cannot be read, or is a link that leads nowhere.
    """
    holdings = Holdings()
    before = _read_failures(layout, storage, Holdings()) if beside_others else {}
    folders = _ours(storage.list_folders(layout.data), holdings)
    done = []
    for (number, _), table in _read_all(folders, lambda folder: _read_part(folder, storage)):
        made_by = set(table["generator"].unique().to_pylist()) - {None} if "generator" in table.column_names else set()
        holdings.generators |= made_by
        known = [GENERATORS[name] for name in made_by & GENERATORS.keys()] or [GENERATORS[DEFAULT_GENERATOR]]
        holdings.note(number, table.drop_columns(_IS_THERE), reserved_names(known[0]))
        is_there = table[_IS_THERE].to_numpy()
        hashes = hashes_of(table["clip_id"].to_pylist())
        holdings.lost |= dict.fromkeys(hashes[~is_there].tolist(), number)
        done.append(hashes[is_there])
    holdings.failed = before | _read_failures(layout, storage, holdings)
    holdings.done = np.unique(np.concatenate([holdings.done, *done]))
    if holdings.lost:  # what somebody has copied into another part is there
        keys = np.sort(np.array(list(holdings.lost), np.uint64))
        for key in keys[contains(holdings.done, keys)].tolist():
            del holdings.lost[key]
    return holdings


def _read_failures(layout: Layout, storage: Storage, holdings: Holdings) -> dict[int, FailedBefore]:
    """As `Holdings.failed`; their parts are noted in `holdings`."""
    names = sorted(name for name in storage.list_names(layout.failures) if name.endswith(".parquet"))
    files = [Storage.join(layout.failures, name) for name in names]
    files += filter(storage.leads_nowhere, storage.list_folders(layout.failures))  # as whose reading says
    found = {}
    for (number, _), table in _read_all(_ours(files, holdings), lambda uri: read_records(uri, storage)):
        holdings.note(number, table, FAILURE_SCHEMA.names)
        reasons = (table[name].to_pylist() for name in ("attempts", "stage", "error_type"))
        for key, *reason in zip(hashes_of(table["clip_id"].to_pylist()).tolist(), *reasons, strict=True):
            found[key] = FailedBefore(number, *reason)
    return found


def _ours(found: Sequence[str], holdings: Holdings) -> list[tuple[int, str]]:
    """The parts among `found`, with their numbers; hidden files and folders are those of other programs."""
    numbered = [(part_of(uri), uri) for uri in found]
    holdings.foreign += [
        uri for number, uri in numbered if number is None and not uri.rpartition("/")[2].startswith((".", "_"))
    ]
    return [(number, uri) for number, uri in numbered if number is not None]


def _read_part(folder: str, storage: Storage) -> pa.Table | None:
    """The records of a part's clips, and whether the video of each is there."""
    table = read_records(metadata_in(folder), storage)
    if table is None:
        if storage.leads_nowhere(folder):
            raise StorageError(
                f"{folder} is a link to a folder that is not there: mount the disk that it lies on, or remove the "
                "link, and its clips are made again"
            )
        return None
    # In this order: a run that writes meanwhile stores each video before its row.
    names = pa.array(storage.list_names(folder), pa.string())
    return table.append_column(_IS_THERE, pc.is_in(table["file_name"], names))


def _read_all(
    parts: Sequence[tuple[int, str]], read: Callable[[str], pa.Table | None]
) -> Iterator[tuple[tuple[int, str], pa.Table]]:
    """Each part with its records, without those that a run which retries has just removed."""
    with ThreadPoolExecutor(_READERS) as readers:
        tables = readers.map(lambda part: read(part[1]), parts)
        yield from ((part, table) for part, table in zip(parts, tables, strict=True) if table is not None)


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
