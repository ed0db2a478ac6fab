"""The dataset's Parquet files of records, read and written."""

import json
from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import StorageError
from actors.storage import NotFound, Storage
from pipelines.dataset.layout import is_metadata

# Among the metadata of a file: the columns that are ours, as the version that wrote it knew them.
_MARK = b"stillreel.columns"


def read_records(uri: str, storage: Storage) -> pa.Table | None:
    """One metadata or failures file; None where there is none, such as before the first commit of a part.

    Raises:
        StorageError: it is damaged, cannot be read, or is a link that leads nowhere.
    """
    try:
        table = parsed(storage.read_bytes(uri))
        needed = {"clip_id", "file_name"} if is_metadata(uri.rpartition("/")[2]) else {"clip_id"}
        if missing := sorted(needed - set(table.column_names)):
            raise ValueError(f"it has no column {missing[0]}")  # noqa: TRY301 - told as damage is
    except NotFound:
        if storage.leads_nowhere(uri):
            raise StorageError(
                f"{uri} is a link to a file that is not there: mount the disk that it lies on, or remove the link"
            ) from None
        return None
    except ValueError as error:
        raise StorageError(
            f"{uri} is not a Parquet file of records ({error}): `stillreel verify --repair` makes it anew from "
            "the videos; or restore it, or write to another output"
        ) from error
    else:
        return table


def parsed(data: bytes) -> pa.Table:
    """The records in the bytes of a file.

    Raises:
        ValueError: it is damaged, or no Parquet file.
    """
    try:
        return pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:  # OSError: a page that cannot be decompressed
        raise ValueError(" ".join(str(error).split())) from error


def to_parquet(table: pa.Table, own: Sequence[str]) -> bytes:
    """The bytes of a file of these records, of whose columns `own` are ours, and not the manifest's."""
    sink = pa.BufferOutputStream()
    marked = table.replace_schema_metadata({_MARK: json.dumps(list(own))})
    pq.write_table(marked, sink, compression="zstd", write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def newer_columns(schema: pa.Schema, own: Collection[str]) -> list[str]:
    """The columns of a file that a newer version of stillreel has added to its own."""
    try:
        marked = json.loads((schema.metadata or {}).get(_MARK, b"[]"))
    except ValueError:
        return []
    known = marked if isinstance(marked, list) else []
    return [name for name in known if isinstance(name, str) and name not in own and name in schema.names]


def extras_of(schema: pa.Schema, own: Collection[str]) -> pa.Schema:
    """The pass-through columns among those of a file: all but its `own`."""
    return pa.schema([field for field in schema if field.name not in own])


def no_rows(schema: pa.Schema) -> pa.Table:
    """A table of none, also of types of which `Schema.empty_table` knows nothing: UUIDs within lists."""
    return pa.table([pa.nulls(0, field.type) for field in schema], schema=schema)
