"""What earlier plans have found in the manifest's files: one that has not changed is not opened again.

It is a cache and decides nothing: the hashes of a file's clips go through the same sieve as those of a file that was
read, and where one of them is to be made, the file is read. So it may be removed at any time.
"""

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pyarrow as pa

from actors import __version__
from actors.errors import StorageError
from actors.storage import Storage
from pipelines.config import Config
from pipelines.dataset.layout import Layout
from pipelines.manifest.image_uris import AllowedImages
from pipelines.manifest.readings import Later, Reading, Source
from pipelines.planning.cache_files import list_cache, read_caches, write_cache
from pipelines.planning.hashes import Hashes
from pipelines.planning.identity import Identity

logger = logging.getLogger("stillreel.driver")

# Each run writes a file with what is new. So many are merged into one.
_MOST_FILES = 16
# What no run has asked for so long is left out then: of settings that were tried once, of files that are gone.
_DAYS_KEPT = 60
_S_PER_DAY = 86_400
# Files whose version is asked for at once: a request each.
_ASKING = 16

_SCHEMA = pa.schema(
    [
        pa.field("key", pa.binary()),  # of a file's URI and all settings that decide its clips
        pa.field("version", pa.string()),
        pa.field("hashes", pa.large_binary()),
        pa.field("problems", pa.string()),
        pa.field("left_out", pa.string()),
        pa.field("day", pa.int32()),  # when a run asked for it
    ]
)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a plan needs of a manifest's file.

    Attributes:
        hashes: of its clips, in order.
        problems: of rows that cannot be used, by reason: how many, and the first few.
        left_out: for its source's `Tally`.
    """

    hashes: Hashes
    problems: Mapping[str, tuple[int, list[str]]]
    left_out: Mapping[str, Any]


class KnownFiles:
    """The manifest's files that plans of a dataset have read; without a dataset it knows nothing, and keeps nothing."""

    def __init__(self, layout: Layout | None = None, storage: Storage | None = None) -> None:
        self._layout, self._storage = layout, storage
        self._tables: dict[str, pa.Table] | None = None  # by URI
        self._rows: dict[bytes, tuple[str, int]] = {}
        self._met: set[bytes] = set()
        self._new: list[dict[str, Any]] = []
        self._same: list[Callable[[], bool]] = []  # of each that is new, whether its file has not changed since

    def of(self, config: Config, identity: Identity) -> "FilesOfPlan":
        """Those of one plan."""
        # With a limit the last file is read in part.
        is_of_use = self._storage is not None and config.columns.limit is None
        return FilesOfPlan(self if is_of_use else None, config, identity)

    def find(self, key: bytes, version: str) -> FileFacts | None:
        """What is known of a file with this version."""
        tables = self._loaded()
        if key not in self._rows:
            return None
        uri, row = self._rows[key]
        table = tables[uri]
        if table["version"][row].as_py() != version:
            return None
        self._met.add(key)
        try:
            problems = json.loads(table["problems"][row].as_py())
            found = {str(reason): (int(count), list(map(str, texts))) for reason, (count, texts) in problems.items()}
            left_out = json.loads(table["left_out"][row].as_py())
            return FileFacts(np.frombuffer(table["hashes"][row].as_buffer(), "<u8"), found, left_out)
        except (ValueError, TypeError, AttributeError, pa.ArrowException):  # written by other hands
            return None

    def put(self, key: bytes, version: str, facts: FileFacts, same: Callable[[], bool]) -> None:
        """Take what was read of a file, to be kept if `same` says then that it has this version still."""
        self._same.append(same)
        self._new.append(
            {
                "key": key,
                "version": version,
                "hashes": facts.hashes.astype("<u8").tobytes(),
                "problems": json.dumps(facts.problems),
                "left_out": json.dumps(facts.left_out),
                "day": _today(),
            }
        )

    def save(self) -> None:
        """Write what is new. Where the store fails, the next plan reads more, and that is all."""
        if self._layout is None or self._storage is None:
            return
        try:
            self._save(self._layout, self._storage)
        except StorageError as error:
            logger.warning("what is known of the manifest's files was not written: %s", error)

    def _save(self, layout: Layout, storage: Storage) -> None:
        tables = self._loaded()
        # What was read may be newer than the version, which a listing told before; and come and gone, as a release
        # that is rolled back.
        with ThreadPoolExecutor(_ASKING) as pool:
            same = pool.map(lambda ask: ask(), self._same)
            self._new = [row for row, is_same in zip(self._new, same, strict=True) if is_same]
        self._same.clear()
        rows = pa.Table.from_pylist(self._new, schema=_SCHEMA)
        merged = list(tables) if len(tables) + (rows.num_rows > 0) > _MOST_FILES else []
        if merged:
            rows = pa.concat_tables([*self._still_of_use(), rows])
        if rows.num_rows:
            write_cache(layout.known_file(secrets.token_hex(8)), rows, storage)
        for uri in merged:
            storage.remove(uri)

    def _still_of_use(self) -> list[pa.Table]:
        """Of each file the last entry, if a run has asked for it lately."""
        tables, newer = self._loaded(), {row["key"] for row in self._new}
        kept: dict[str, list[int]] = {uri: [] for uri in tables}
        days = {uri: table["day"].to_pylist() for uri, table in tables.items()}
        for key, (uri, row) in self._rows.items():
            is_asked_for = key in self._met or days[uri][row] > _today() - _DAYS_KEPT
            if is_asked_for and key not in newer:
                kept[uri].append(row)
        found = []
        for uri, rows in kept.items():
            table = tables[uri].take(pa.array(rows, pa.int64()))
            asked = [_today() if key in self._met else day for key, day in _keys_and_days(table)]
            found.append(table.drop_columns("day").append_column(_SCHEMA.field("day"), pa.array(asked, pa.int32())))
        return found

    def _loaded(self) -> dict[str, pa.Table]:
        """The files with what is known, the last written last."""
        if self._tables is None:
            assert self._layout is not None
            assert self._storage is not None
            self._tables = {}
            uris = list_cache(self._layout.known_files, self._storage)
            found = read_caches(uris, _SCHEMA, self._storage)
            whole = [(uri, table) for uri, table in found.items() if table.num_rows]
            for uri, table in sorted(whole, key=lambda one: (max(one[1]["day"].to_pylist()), one[0])):
                self._tables[uri] = table
                self._rows |= {key: (uri, row) for row, key in enumerate(table["key"].to_pylist())}
        return self._tables


class FilesOfPlan:
    """The same for one plan, whose settings decide which clips the rows of a file become."""

    def __init__(self, files: KnownFiles | None, config: Config, identity: Identity) -> None:
        self._files = files
        own = {name: getattr(config.generation, name) for name in type(config.generation).varying()}
        columns = config.columns.model_dump(mode="json", exclude={"limit"})
        settings = [__version__, identity.settings, own, config.variants, columns, config.image.max_bytes]
        self._settings = json.dumps(settings, sort_keys=True, default=str)
        self._of_sources: dict[int, bytes] = {}
        self._readings: dict[int, _Noted] = {}

    def find(self, source: Source, file: Later) -> FileFacts | None:
        """What is known of a file as it is now."""
        if self._files is None or file.version is None:
            return None
        return self._files.find(self._key(source, file), file.version)

    def note(self, spans: Sequence[tuple[Reading, int]], hashes: Hashes) -> None:
        """Take the hashes of some clips; `spans` are the files that they are of, and how many are of each."""
        if self._files is None:
            return
        start = 0
        for reading, count in spans:
            if reading.file.version is not None:
                noted = self._readings.setdefault(id(reading), _Noted(reading))
                noted.hashes.append(hashes[start : start + count])
            start += count

    def keep(self) -> None:
        """Give what was noted of whole files to be saved, when all rows were seen."""
        for noted in self._readings.values():
            reading = noted.reading
            if self._files is not None and reading.is_whole and reading.is_settled and reading.file.version:
                problems = {
                    reason: (count, reading.problems.examples[reason])
                    for reason, count in reading.problems.counts.items()
                }
                facts = FileFacts(np.concatenate(noted.hashes), problems, reading.left_out)
                key = self._key(reading.source, reading.file)
                self._files.put(key, reading.file.version, facts, reading.file.same())
        self._readings.clear()

    def _key(self, source: Source, file: Later) -> bytes:
        """Of all that decides the clips of a file beside its content."""
        key = self._of_sources.get(id(source))
        if key is None:
            kinds = [(field.name, str(field.type)) for field in source.first.schema]
            told = repr([self._settings, source.roles, _in_one_order(source.allowed), source.traits, kinds])
            key = self._of_sources[id(source)] = hashlib.sha256(told.encode("utf-8", "surrogatepass")).digest()
        return hashlib.blake2b(file.uri.encode("utf-8", "surrogatepass"), key=key, digest_size=16).digest()


@dataclass(slots=True)
class _Noted:
    """A file as it is read, and the hashes of its clips so far. It keeps the reading, whose number is a key."""

    reading: Reading
    hashes: list[Hashes] = field(default_factory=list)


def _in_one_order(allowed: AllowedImages) -> list[tuple[str, object]]:
    """What images may be, the same in every process: a set of texts is not."""
    values = ((one.name, getattr(allowed, one.name)) for one in fields(allowed))
    return [(name, sorted(value) if isinstance(value, frozenset) else value) for name, value in values]


def _keys_and_days(table: pa.Table) -> list[tuple[bytes, int]]:
    return list(zip(table["key"].to_pylist(), table["day"].to_pylist(), strict=True))


def _today() -> int:
    return int(time.time() // _S_PER_DAY)
