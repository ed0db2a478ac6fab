"""Delta tables as Spark and Databricks write them, which `deltalake` reads and does not write: logs made by hand."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyroaring import BitMap

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_MAGIC = 1681511377  # of a deletion vector in the portable format


def field(name: str, kind: Any, physical: str | None = None) -> dict[str, Any]:
    """A column of the log's schema; `physical`: what the files call it, such as `col-3`."""
    metadata: dict[str, Any] = {}
    if physical is not None:
        number = int(physical.rpartition("-")[2])
        metadata = {"delta.columnMapping.physicalName": physical, "delta.columnMapping.id": number}
    return {"name": name, "type": kind, "nullable": True, "metadata": metadata}


def add(
    folder: Path, name: str, table: pa.Table, *, partition: Mapping[str, str] | None = None, deleted: Sequence[int] = ()
) -> dict[str, Any]:
    """Write a data file, and give the action that adds it without the rows `deleted`."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / name)
    action: dict[str, Any] = {
        "path": name,
        "partitionValues": dict(partition or {}),
        "size": (folder / name).stat().st_size,
        "modificationTime": 5,
        "dataChange": True,
        "stats": json.dumps({"numRecords": len(table)}),
    }
    return {"add": action | ({"deletionVector": _vector(deleted)} if deleted else {})}


def commit(
    folder: Path,
    version: int,
    actions: Sequence[dict[str, Any]],
    *,
    fields: Sequence[dict[str, Any]] = (),
    features: Sequence[str] = (),
    configuration: Mapping[str, str] | None = None,
    partition: Sequence[str] = (),
) -> None:
    """Write a version of the log; with `fields`, it begins with what the table is."""
    begin: list[dict[str, Any]] = []
    if fields:
        protocol = {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": list(features),
            "writerFeatures": list(features),
        }
        metadata = {
            "id": "x",
            "format": {"provider": "parquet", "options": {}},
            "schemaString": json.dumps({"type": "struct", "fields": list(fields)}),
            "partitionColumns": list(partition),
            "configuration": dict(configuration or {}),
            "createdTime": 1,
        }
        begin = [{"protocol": protocol}, {"metaData": metadata}]
    (folder / "_delta_log").mkdir(parents=True, exist_ok=True)
    (folder / f"_delta_log/{version:020d}.json").write_text("\n".join(map(json.dumps, [*begin, *actions])))


def _vector(rows: Sequence[int]) -> dict[str, Any]:
    """A deletion vector within the log, as PROTOCOL.md of Delta describes it."""
    data = struct.pack("<iqi", _MAGIC, 1, 0) + BitMap(rows).serialize()
    return {
        "storageType": "i",
        "pathOrInlineDv": _z85(data + bytes(-len(data) % 4)),
        "sizeInBytes": len(data),
        "cardinality": len(rows),
    }


def _z85(data: bytes) -> str:
    text = ""
    for start in range(0, len(data), 4):
        number = int.from_bytes(data[start : start + 4], "big")
        text += "".join(_Z85[number // 85**place % 85] for place in range(4, -1, -1))
    return text
