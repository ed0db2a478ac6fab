"""Records become rows of the dataset: `data/part-*/metadata.parquet` and `failures/part-*.parquet`.

The driver is the only writer of a run. The files of a part are rewritten as a whole, each in one atomic step, so a
reader always finds complete Parquet files; a clip's video is stored before its row is.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from actors.contracts import Ending, Failed, Made
from actors.errors import StorageError
from actors.records import FAILURE_SCHEMA
from actors.retries import wait_s
from actors.storage import Storage
from pipelines.dataset.layout import Layout
from pipelines.dataset.pass_through import PassThrough
from pipelines.dataset.records import no_rows, read_records, to_parquet
from pipelines.dataset.work import WorkFile


class Committer:
    """Collects endings and writes the parts that they belong to.

    Memory: the rows of the parts that are open (512 each), and the pass-through columns of the work files under way.
    """

    def __init__(
        self,
        layout: Layout,
        storage: Storage,
        clip_schema: pa.Schema,
        extras: pa.Schema,
        rows_per_part: Mapping[int, int],
        check_lease: Callable[[], None],
    ) -> None:
        self._check_lease = check_lease  # raises where another run may be writing by now
        self._layout = layout
        self._clip_schema = clip_schema
        self._storage = storage
        self._once = replace(storage, tries=1)
        self._tries = storage.tries
        self._extras_schema = extras
        self._expected = dict(rows_per_part)
        self._parts: dict[int, _Part] = {}
        self._pass_through = PassThrough([], extras, storage)
        self._flushed_at = time.monotonic()

    def begin(self, work: Sequence[WorkFile]) -> None:
        """Take the pass-through columns of these rows from here on."""
        self.flush()
        self._pass_through = PassThrough(work, self._extras_schema, self._storage)

    def add(self, ending: Ending) -> None:
        """Take one row's ending; it is in the dataset after the next `flush`."""
        self._parts.setdefault(ending.row.part, _Part()).new[ending.row.clip_id] = ending

    def flush_if_older(self, seconds: float) -> None:
        """Flush where the last time is `seconds` ago; where the store fails, the next time is another try.

        For how long, the lease decides: where that cannot be renewed either, `RunError` ends the run.
        """
        if time.monotonic() - self._flushed_at >= seconds:
            with suppress(StorageError):
                self._write_all()

    def flush(self) -> None:
        """Write every part that changed; parts with no row outstanding are let go.

        Raises:
            StorageError: the store failed at all of `storage.tries` tries.
            RunError: the lease is lost. What was not written then is recovered by the next run.
        """
        for number in range(1, self._tries):
            try:
                return self._write_all()
            except StorageError:
                time.sleep(wait_s(number))
        return self._write_all()

    def _write_all(self) -> None:
        self._flushed_at = time.monotonic()
        for number, part in list(self._parts.items()):
            if part.new:
                self._write(number, part)
            if self._expected.get(number, 0) <= 0:
                del self._parts[number]

    def _write(self, number: int, part: "_Part") -> None:
        """Write the part's files. Nothing is taken over before both are stored: an interrupted write can be repeated.

        A clip that moves from one file to the other is in both for a moment, and never in neither, where a run of
        another shard would take it for a new one. A run that ends within that moment leaves its work files, so the
        next one tidies up (`pipelines.dataset.recover`).
        """
        if part.clips is None or part.failed is None:
            part.clips = self._read(self._layout.metadata(number), self._clip_schema)
            part.failed = self._read(self._layout.failures_of(number), FAILURE_SCHEMA)
        tried = pa.array(list(part.new), pa.string())
        made = [_record(ending) for ending in part.new.values() if isinstance(ending, Made)]
        failed = [_failure(ending) for ending in part.new.values() if isinstance(ending, Failed)]
        failures = self._replaced(part.failed.table, tried, failed, FAILURE_SCHEMA)
        clips = self._replaced(part.clips.table, tried, made, self._clip_schema)
        listed = _has(part.failed.table, [row["clip_id"] for row in made])  # they failed before
        unlisted = _has(part.clips.table, [row["clip_id"] for row in failed])  # lost, and could not be made again
        try:
            if unlisted:
                again = pa.array([row["clip_id"] for row in failed], pa.string())
                self._put(part.failed, self._replaced(part.failed.table, again, failed, FAILURE_SCHEMA))
            if made or unlisted:
                self._put(part.clips, clips)
            if listed or (failed and not unlisted):
                self._put(part.failed, failures)
        except BaseException:
            # Whether the store has it is unknown, or somebody else has written: what is there is read again.
            part.clips = part.failed = None
            raise
        written = list(part.new)
        part.clips.table, part.failed.table, part.new = clips, failures, {}
        self._expected[number] = self._expected.get(number, 0) - len(written)
        self._pass_through.let_go(written)

    def _replaced(self, table: pa.Table, tried: pa.Array, rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
        """`table` without the clips that were `tried`, and with the new `rows`, sorted."""
        kept = table.filter(pc.invert(pc.is_in(table["clip_id"], tried)))
        fresh = pa.Table.from_pylist(rows, schema=schema)
        extras = self._pass_through.of([row["clip_id"] for row in rows])
        for field in self._extras_schema:
            fresh = fresh.append_column(field, extras[field.name])
        return pa.concat_tables([kept, fresh]).sort_by("clip_id")

    def _read(self, uri: str, schema: pa.Schema) -> "_Stored":
        full = pa.schema([*schema, *self._extras_schema])
        version = self._storage.version(uri)  # before the content: one that is too old is refused, and read again
        stored = read_records(uri, self._storage)
        if stored is None:
            return _Stored(uri, no_rows(full), version, schema.names)
        for field in full:
            if field.name not in stored.column_names:  # written before there was such a column
                stored = stored.append_column(field, pa.nulls(stored.num_rows, field.type))
        return _Stored(uri, stored.select(full.names).cast(full), version, schema.names)

    def _put(self, stored: "_Stored", table: pa.Table) -> None:
        """One request, right after the lease was seen to be ours, and only while the file is what was read.

        A run that stood still after that look, longer than its lease, must not undo what its successor wrote since. And
        the successor, whose file such a run has changed after all, reads it again.
        """
        data = to_parquet(table, stored.own)
        self._check_lease()
        stored.version = self._once.replace_bytes(stored.uri, data, stored.version)


@dataclass(slots=True)
class _Stored:
    """A file of a part as it was read or written last; `own` are its columns that are not the manifest's."""

    uri: str
    table: pa.Table
    version: str | None
    own: Sequence[str]


class _Part:
    """The rows of one part: what is stored (None: not read yet), and what has come since."""

    __slots__ = ("clips", "failed", "new")

    def __init__(self) -> None:
        self.clips: _Stored | None = None
        self.failed: _Stored | None = None
        self.new: dict[str, Ending] = {}  # by clip_id


def _has(table: pa.Table, clip_ids: Sequence[str]) -> bool:
    """Whether any of these is in the table."""
    return bool(pc.any(pc.is_in(table["clip_id"], pa.array(clip_ids, pa.string()))).as_py())


def _record(ending: Made) -> dict[str, Any]:
    """The line of `clip_schema` that a clip becomes."""
    return {**ending.record, "created_at": datetime.now(UTC)}


def _failure(ending: Failed) -> dict[str, Any]:
    """The line of `FAILURE_SCHEMA` that a failure becomes."""
    row = ending.row
    return {
        "clip_id": row.clip_id,
        "image_uri": row.image_uri,
        "stage": ending.stage,
        "error_type": ending.error_type,
        "error": ending.error,
        "attempts": row.attempts + 1,
        "created_at": datetime.now(UTC),
    }
