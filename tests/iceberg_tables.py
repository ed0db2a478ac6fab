"""Iceberg tables without a server: a catalog in memory, and deletes, which `pyiceberg` reads and does not write."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.serializers import ToOutputFile
from pyiceberg.table import StaticTable, Table
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.typedef import Record


@contextmanager
def catalog(folder: Path | str, **properties: str) -> Iterator[InMemoryCatalog]:
    """With the namespace `n`, whose tables are in `folder`/n."""
    warehouse = f"file://{folder}" if isinstance(folder, Path) else folder
    made = InMemoryCatalog("m", warehouse=warehouse, **properties)
    try:
        made.create_namespace("n")
        yield made
    finally:
        made.close()


def create(made: InMemoryCatalog, name: str, table: pa.Table, **properties: str) -> Table:
    """A table with these rows."""
    new = made.create_table(f"n.{name}", table.schema, properties=properties)
    new.append(table)
    return new


class _Deletes(ManifestWriterV2):  # type: ignore[misc] # it has no types here
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def delete_rows(table: Table, file: str, rows: Sequence[int], *, by_equality: bool = False) -> str:
    """Commit that rows of a data file are gone, and give the new metadata file.

    `by_equality`: as Flink says so, by values; which ones does not matter here.
    """
    files, metadata = PyArrowFileIO(), table.metadata
    snapshot_id, folder = metadata.current_snapshot_id + 1, f"{table.location()}/metadata"
    deletes = f"{table.location()}/data/deletes-{snapshot_id}.parquet"
    pq.write_table(
        pa.table({"file_path": pa.array([file] * len(rows), pa.string()), "pos": pa.array(rows, pa.int64())}),
        deletes.removeprefix("file://"),
    )
    entry = DataFile.from_args(
        content=DataFileContent.EQUALITY_DELETES if by_equality else DataFileContent.POSITION_DELETES,
        file_path=deletes,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=len(rows),
        file_size_in_bytes=Path(deletes.removeprefix("file://")).stat().st_size,
        equality_ids=[1] if by_equality else None,
    )
    entry.spec_id = metadata.default_spec_id
    output = files.new_output(f"{folder}/deletes-{snapshot_id}.avro")
    with _Deletes(metadata.spec(), metadata.schema(), output, snapshot_id, "null") as writer:
        added = ManifestEntryStatus.ADDED
        writer.add_entry(ManifestEntry.from_args(status=added, snapshot_id=snapshot_id, data_file=entry))
    number = metadata.last_sequence_number + 1
    listed = f"{folder}/snap-{snapshot_id}.avro"
    parent = metadata.current_snapshot()
    with write_manifest_list(2, files.new_output(listed), snapshot_id, parent.snapshot_id, number, "null") as manifests:
        manifests.add_manifests([*parent.manifests(files), writer.to_manifest_file()])
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        parent_snapshot_id=parent.snapshot_id,
        sequence_number=number,
        timestamp_ms=metadata.last_updated_ms + 1,
        manifest_list=listed,
        summary=Summary(Operation.DELETE),
        schema_id=metadata.current_schema_id,
    )
    changed: dict[str, Any] = {
        "snapshots": [*metadata.snapshots, snapshot],
        "current_snapshot_id": snapshot_id,
        "last_sequence_number": number,
        "refs": {"main": metadata.refs["main"].model_copy(update={"snapshot_id": snapshot_id})},
    }
    place = f"{folder}/{99900 + number}-deletes.metadata.json"
    ToOutputFile.table_metadata(metadata.model_copy(update=changed), files.new_output(place))
    return place.removeprefix("file://")


def read_by_the_library(metadata_file: str, **scan: Any) -> list[dict[str, Any]]:
    """All rows, as `pyiceberg` reads them."""
    return sorted(
        StaticTable.from_metadata(metadata_file).scan(**scan).to_arrow().to_pylist(), key=itemgetter("image_uri")
    )
