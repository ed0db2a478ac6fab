"""What the dataset has already: clips, failures, and in which parts they lie."""

from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from actors.errors import ConfigError, ManifestError
from actors.generators import DEFAULT_GENERATOR, GENERATORS
from actors.records import FAILURE_SCHEMA, reserved_names
from actors.storage import Storage
from pipelines.dataset.layout import Layout, metadata_in, part_of
from pipelines.dataset.records import extras_of, read_records
from pipelines.manifest.pass_through import TYPES
from pipelines.planning.hashes import Hashes, hashes_of

_NAMES_OF_TYPES = {kind: name for name, kind in TYPES.items()}
# Part files read at once when the dataset is looked through: listing a store is latency, not work.
_READERS = 16


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
        part_sizes: rows (clips and failures) of each part.
        extras: the pass-through columns that the dataset began with; None where it has no row yet.
        generators: those that made its clips.
    """

    done: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    failed: dict[int, FailedBefore] = field(default_factory=dict)
    part_sizes: Counter[int] = field(default_factory=Counter)
    extras: pa.Schema | None = None
    generators: set[str] = field(default_factory=set)

    def note(self, uri: str, table: pa.Table, own: Collection[str]) -> int:
        """Count the records of a file, whose `own` columns no manifest has brought; the part that it is of."""
        part = part_of(uri)
        self.part_sizes[part] += table.num_rows
        if self.extras is None:
            self.extras = extras_of(table.schema, own)
        return part


def read_holdings(layout: Layout, storage: Storage) -> Holdings:
    """Look through the dataset's records, a few files at a time."""
    clip_files = [metadata_in(folder) for folder in storage.list_folders(layout.data)]
    failure_files = storage.list_files(layout.failures, suffix=".parquet")
    holdings = Holdings()
    done = []
    for uri, table in _read_all(clip_files, storage):
        made_by = set(table["generator"].unique().to_pylist()) - {None} if "generator" in table.column_names else set()
        holdings.generators |= made_by
        known = [GENERATORS[name] for name in made_by & GENERATORS.keys()] or [GENERATORS[DEFAULT_GENERATOR]]
        holdings.note(uri, table, reserved_names(known[0]))
        done.append(hashes_of(table["clip_id"].to_pylist()))
    for uri, table in _read_all(failure_files, storage):
        part = holdings.note(uri, table, FAILURE_SCHEMA.names)
        reasons = (table[name].to_pylist() for name in ("attempts", "stage", "error_type"))
        for key, *reason in zip(hashes_of(table["clip_id"].to_pylist()).tolist(), *reasons, strict=True):
            holdings.failed[key] = FailedBefore(part, *reason)
    holdings.done = np.unique(np.concatenate([holdings.done, *done]))
    return holdings


def _read_all(uris: Sequence[str], storage: Storage) -> list[tuple[str, pa.Table]]:
    """Each file with its records, without those that a run which retries has just removed."""
    with ThreadPoolExecutor(_READERS) as readers:
        tables = readers.map(lambda uri: read_records(uri, storage), uris)
        return [(uri, table) for uri, table in zip(uris, tables, strict=True) if table is not None]


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
