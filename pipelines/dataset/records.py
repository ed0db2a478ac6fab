"""The dataset's Parquet files of records, read and written."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.errors import StorageError
from actors.storage import NotFound, Storage
from actors.uris import file_name
from pipelines.dataset.layout import is_metadata

# Among the metadata of a file: the columns that are ours, as the version that wrote it knew them.
_MARK = b"stillreel.columns"


def read_records(uri: str, storage: Storage) -> pa.Table | None:
    """One metadata or failures file; None where there is none, such as before the first commit of a part.

    Raises:
        StorageError: it is damaged, cannot be read, or is a link that leads nowhere.
    """
    with _as_storage_error(uri):
        data = _bytes_of(uri, storage)
        if data is None:
            return None
        table = parsed(data)
        _check_columns(table.column_names, ["clip_id", "file_name"] if is_metadata(file_name(uri)) else ["clip_id"])
        return table


@dataclass(frozen=True, slots=True)
class SomeRecords:
    """Some columns of a file of records; `schema` is of all. `num_bytes`: of the file, where all of it was read."""

    table: pa.Table
    schema: pa.Schema
    num_bytes: int | None


def read_columns(uri: str, names: Sequence[str], storage: Storage, needed: Sequence[str]) -> SomeRecords | None:
    """As `read_records`, of the columns `names` as far as they are there.

    On this machine no more is read than these. From a store comes the whole file: its footer and the pieces would be
    several requests, and a request takes as long as some megabytes.

    Raises:
        StorageError: one of those `needed` is not there.
    """
    if storage.is_local(uri):
        with suppress(OSError, pa.ArrowException, ValueError):  # read anew below, to say why
            return _chosen(pq.ParquetFile(Storage.absolute(uri)), names, needed, None)
    with _as_storage_error(uri):
        data = _bytes_of(uri, storage)
        return None if data is None else _chosen(pq.ParquetFile(pa.BufferReader(data)), names, needed, len(data))


def _chosen(file: pq.ParquetFile, names: Sequence[str], needed: Sequence[str], num_bytes: int | None) -> SomeRecords:
    with file:
        schema = file.schema_arrow
        _check_columns(schema.names, needed)
        chosen = [name for name in names if name in schema.names]
        return SomeRecords(file.read(chosen, use_threads=False), schema, num_bytes)


def _bytes_of(uri: str, storage: Storage) -> bytes | None:
    try:
        return storage.read_bytes(uri)
    except NotFound:
        if storage.leads_nowhere(uri):
            raise StorageError(
                f"{uri} is a link to a file that is not there: mount the disk that it lies on, or remove the link"
            ) from None
        return None


@contextmanager
def _as_storage_error(uri: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StorageError(
            f"{uri} is not a Parquet file of records ({' '.join(str(error).split())}): `stillreel verify --repair` "
            "makes it anew from the videos; or restore it, or write to another output"
        ) from error


def _check_columns(names: Collection[str], needed: Sequence[str]) -> None:
    if missing := [name for name in needed if name not in names]:
        raise ValueError(f"it has no column {missing[0]}")


def parsed(data: bytes) -> pa.Table:
    """The records in the bytes of a file.

    Raises:
        ValueError: it is damaged, or no Parquet file.
    """
    try:
        return pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:  # OSError: a page that cannot be decompressed
        raise ValueError(" ".join(str(error).split())) from error


def to_parquet(table: pa.Table, own: Sequence[str] | None) -> bytes:
    """The bytes of a file of these records, of whose columns `own` are ours; None: those that it has marked so."""
    sink = pa.BufferOutputStream()
    if own is not None:
        table = table.replace_schema_metadata({_MARK: json.dumps(list(own))})
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def only_mark(schema: pa.Schema) -> pa.Schema:
    """The schema of a file, of whose metadata what `newer_columns` looks at is kept."""
    mark = (schema.metadata or {}).get(_MARK)
    return schema.with_metadata(None if mark is None else {_MARK: mark})


def newer_columns(schema: pa.Schema, own: Collection[str]) -> list[str]:
    """The columns of a file that a newer version of stillreel has added to its own."""
    try:
        marked = json.loads((schema.metadata or {}).get(_MARK, b"[]"))
    except ValueError:
        return []
    known = marked if isinstance(marked, list) else []
    return [name for name in known if isinstance(name, str) and name not in own and name in schema.names]


def rewrite_records(
    uri: str,
    change: Callable[[pa.Table | None], pa.Table | None],
    own: Sequence[str] | None,
    storage: Storage,
    check_lease: Callable[[], None],
) -> None:
    """Replace a file by what `change` makes of it, in one step, unless somebody else has changed it.

    Args:
        change: takes None where there is no file, and gives None where nothing is to be written.
        own: as in `to_parquet`.
        check_lease: asked right before the file is written.

    Raises:
        ValueError: the file is damaged, or what `change` raises.
        StorageError: the store fails, or somebody else has changed the file.
    """
    version = storage.version(uri)  # before the content: one that is too old is refused
    try:
        table = parsed(storage.read_bytes(uri))
    except NotFound:
        table = None
    changed = change(table)
    if changed is None or (table is not None and changed.equals(table, check_metadata=False)):
        return
    check_lease()
    storage.replace_bytes(uri, to_parquet(changed, own), version)


def drop_records(uri: str, clip_ids: Collection[str], storage: Storage, check_lease: Callable[[], None]) -> None:
    """Write a file anew without these clips."""
    dropped = pa.array(clip_ids, pa.string())

    def kept(table: pa.Table | None) -> pa.Table | None:
        return None if table is None else table.filter(pc.invert(pc.is_in(table["clip_id"], dropped)))

    with _as_storage_error(uri):
        rewrite_records(uri, kept, None, storage, check_lease)


def extras_of(schema: pa.Schema, own: Collection[str]) -> pa.Schema:
    """The pass-through columns among those of a file: all but its `own`."""
    return pa.schema([field for field in schema if field.name not in own])


def no_rows(schema: pa.Schema) -> pa.Table:
    """A table of none, also of types of which `Schema.empty_table` knows nothing: UUIDs within lists."""
    return pa.table([pa.nulls(0, field.type) for field in schema], schema=schema)
