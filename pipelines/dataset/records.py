"""The dataset's Parquet files of records, read."""

from collections.abc import Callable, Collection

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.errors import StorageError
from actors.storage import NotFound, Storage


def read_records(uri: str, storage: Storage) -> pa.Table | None:
    """One metadata or failures file; None where there is none, such as before the first commit of a part.

    Raises:
        StorageError: it is damaged, cannot be read, or is a link that leads nowhere.
    """
    try:
        return pq.read_table(pa.BufferReader(storage.read_bytes(uri)))
    except NotFound:
        if storage.leads_nowhere(uri):
            raise StorageError(
                f"{uri} is a link to a file that is not there: mount the disk that it lies on, or remove the link"
            ) from None
        return None
    except pa.ArrowInvalid as error:
        raise StorageError(f"{uri} is not a Parquet file ({error}): restore it, or write to another output") from error


def drop_records(uri: str, clip_ids: Collection[str], storage: Storage, check_lease: Callable[[], None]) -> None:
    """Write a file anew without these clips, while it is what was read; `check_lease` is asked right before that."""
    version = storage.version(uri)
    table = read_records(uri, storage)
    if table is None:
        return
    kept = table.filter(pc.invert(pc.is_in(table["clip_id"], pa.array(clip_ids, pa.string()))))
    sink = pa.BufferOutputStream()
    pq.write_table(kept, sink, compression="zstd")
    check_lease()
    storage.replace_bytes(uri, sink.getvalue().to_pybytes(), version)


def extras_of(schema: pa.Schema, own: Collection[str]) -> pa.Schema:
    """The pass-through columns among those of a file: all but its `own`."""
    return pa.schema([field for field in schema if field.name not in own])


def no_rows(schema: pa.Schema) -> pa.Table:
    """A table of none, also of types of which `Schema.empty_table` knows nothing: UUIDs within lists."""
    return pa.table([pa.nulls(0, field.type) for field in schema], schema=schema)
