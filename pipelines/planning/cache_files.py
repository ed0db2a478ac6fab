"""Parquet files that may be lost: what is not whole, or not as this version writes it, counts as not there."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import StorageError
from actors.storage import Storage

# Raised when the files mean something else, or when the same manifest or part begins to give other rows.
VERSION = 1
_KEY = b"stillreel.index"
# Files that are read at once: from a store that is latency, not work.
_READERS = 16


def write_cache(uri: str, table: pa.Table, storage: Storage) -> None:
    """Write a table, whole or not at all.

    Raises:
        StorageError: the store failed.
    """
    sink = pa.BufferOutputStream()
    table = table.combine_chunks().replace_schema_metadata({_KEY: str(VERSION)})
    repeated = [name for name in ("schema", "generators", "reasons") if name in table.schema.names]
    # Hashes cannot be compressed. Each page has a checksum: a bit that has changed would make a clip seem done.
    pq.write_table(
        table, sink, compression="none", use_dictionary=repeated, write_statistics=False, write_page_checksum=True
    )
    storage.put_bytes(uri, sink.getvalue().to_pybytes())


def list_cache(folder: str, storage: Storage) -> list[str]:
    """URIs of the Parquet files directly in a folder, sorted; none where it cannot be listed."""
    try:
        names = storage.list_names(folder)
    except StorageError:
        return []
    return [Storage.join(folder, name) for name in sorted(names) if name.endswith(".parquet")]


def read_caches(uris: Sequence[str], schema: pa.Schema, storage: Storage) -> dict[str, pa.Table]:
    """Of these files those that this version has written, by URI in the order given; several are read at once."""
    with ThreadPoolExecutor(_READERS) as readers:
        tables = readers.map(lambda uri: _read(uri, schema, storage), uris)
        return {uri: table for uri, table in zip(uris, tables, strict=True) if table is not None}


def _read(uri: str, schema: pa.Schema, storage: Storage) -> pa.Table | None:
    try:
        data = storage.read_bytes(uri)
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        metadata = file.schema_arrow.metadata or {}
        if metadata.get(_KEY) != str(VERSION).encode() or not file.schema_arrow.equals(schema):
            return None
        return file.read(use_threads=False).combine_chunks()
    except (StorageError, pa.ArrowException, OSError, ValueError):
        return None
