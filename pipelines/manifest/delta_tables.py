"""Delta tables: `deltalake` reads their log, and the data files that it names are Parquet."""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from actors.errors import ManifestError
from actors.object_store_options import in_common_scheme, object_store_options
from actors.storage import Storage
from actors.uris import local_path
from pipelines.manifest.opening import check_names
from pipelines.manifest.parquet_files import ParquetManifest, plain_schema
from pipelines.manifest.table_parquet import Deleted, TableParquet, View
from pipelines.manifest.tables import Wanted, explained, no_version, reader_of

# Features of the protocol that are followed here, or that say how a table is written or cleaned up. Others may change
# which rows there are, or what they are.
_FEATURES = frozenset(
    {"columnMapping", "deletionVectors", "timestampNtz", "typeWidening", "v2Checkpoint", "vacuumProtocolCheck"}
)
_PHYSICAL_NAME = "delta.columnMapping.physicalName"
_FACTS = ("path", "size_bytes", "modification_time")
# Files of which a table may have millions.
_FILES_AT_ONCE = 10_000
_MAPPING_MODE = "delta.columnMapping.mode"


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What the log says of one version.

    Attributes:
        names: what the data files call each column.
        unlike: columns whose inner fields have other names there.
        added: the data files: path, size_bytes, modification_time, partition.
        deleted: the rows that were deleted of a file, by its URI.
    """

    schema: pa.Schema
    names: Mapping[str, str]
    unlike: Collection[str]
    added: pa.Table
    deleted: dict[str, Deleted]


def delta_files(uri: str, storage: Storage, wanted: Wanted) -> Iterator[TableParquet]:
    """The data files of a snapshot, in the order in which they were added.

    Raises:
        ManifestError: there is no such table or version, or something in it cannot be followed.
    """
    snapshot = _read(uri, storage, wanted.version)
    schema = snapshot.schema
    check_names(uri, schema.names)
    by_schema = hashlib.sha256(f"{schema}{snapshot.names}".encode()).hexdigest()[:16]
    added = snapshot.added.sort_by([("modification_time", "ascending"), ("path", "ascending")])
    for batch in added.to_batches(_FILES_AT_ONCE):
        partitions = batch["partition"] if "partition" in batch.schema.names else pa.nulls(len(batch))
        for path, size, modified, partition in zip(
            *(batch[name].to_pylist() for name in _FACTS), partitions, strict=True
        ):
            file = _place(uri, path)
            wanted.check_place(uri, file)
            deleted = snapshot.deleted.get(file)
            version = f"{size}-{modified}-{by_schema}"
            view = View(snapshot.names, _constants(partition, schema), snapshot.unlike, deleted)
            yield TableParquet(
                storage,
                file,
                schema,
                version=version if deleted is None else f"{version}-{deleted.digest}",
                base=uri,
                view=partial(_as_logged, view),
            )


def _read(uri: str, storage: Storage, version: int | str | None) -> _Snapshot:
    table = _opened(uri, storage, version)
    with explained(f"{uri}: the log of this Delta table cannot be read", storage):
        needed = set(table.protocol().reader_features or ())
        features = needed - _FEATURES
        mapping = table.metadata().configuration.get(_MAPPING_MODE, "none")
        if mapping not in ("none", "name"):
            features.add(f"{_MAPPING_MODE}={mapping}")
        if features:
            raise ManifestError(
                f"{uri}: this Delta table needs {', '.join(sorted(features))}, which is not read here: copy the rows "
                "into a table without it, or into Parquet files"
            )
        fields = json.loads(table.schema().to_json())["fields"] if mapping == "name" else []
        schema = plain_schema(pa.schema(table.schema().to_arrow()))
        added = pa.table(table.get_add_actions())
        names = {name: name for name in schema.names} | dict(map(_physical, fields))
        unlike = [field["name"] for field in fields if _is_unlike(field["type"])]
        return _Snapshot(
            schema,
            names,
            unlike,
            added.select([name for name in (*_FACTS, "partition") if name in added.column_names]),
            _deleted(table, uri, added["path"]) if "deletionVectors" in needed else {},
        )


def _opened(uri: str, storage: Storage, version: int | str | None) -> Any:
    deltalake = reader_of("delta", uri)
    where = {"table_uri": _for_library(uri), "storage_options": object_store_options(uri, storage.options) or None}
    if isinstance(version, str):
        raise no_version(uri, version, "the versions of a Delta table are whole numbers")
    with explained(f"{uri} cannot be read as a Delta table", storage):
        try:
            return deltalake.DeltaTable(**where, version=version)
        except deltalake.exceptions.TableNotFoundError as error:
            raise ManifestError(f"{uri} is no Delta table: there is no log of versions in its _delta_log") from error
        except deltalake.exceptions.DeltaError as error:
            if version is None:
                raise
            newest = deltalake.DeltaTable(**where).version()
            if not 0 <= version <= newest:
                raise no_version(uri, version, f"the newest version is {newest}") from error
            raise


def _as_logged(view: View, _file: ParquetManifest) -> View:
    """The log knows it, whatever is in the file."""
    return view


def _physical(field: Mapping[str, Any]) -> tuple[str, str]:
    return field["name"], field["metadata"].get(_PHYSICAL_NAME, field["name"])


def _is_unlike(kind: Any) -> bool:
    """Whether fields within a type have other names in the files."""
    if not isinstance(kind, dict):
        return False
    inner = kind.get("fields", [])
    if any(len(set(_physical(field))) > 1 or _is_unlike(field["type"]) for field in inner):
        return True
    return any(_is_unlike(kind.get(part)) for part in ("elementType", "keyType", "valueType"))


def _place(table: str, path: str) -> str:
    """The URI of a data file, whose path in the log is percent-encoded."""
    if Storage.scheme(path) == "file":
        return Storage.absolute(path)  # which decodes it
    path = unquote(path)
    return path if Storage.scheme(path) or path.startswith("/") else f"{table}/{path}"


def _constants(partition: pa.Scalar, schema: pa.Schema) -> dict[str, pa.Scalar]:
    if not isinstance(partition, pa.StructScalar):
        return {}
    return {name: value.cast(schema.field(name).type) for name, value in partition.items()}


def _deleted(table: Any, uri: str, paths: pa.ChunkedArray) -> dict[str, Deleted]:
    """The rows that are gone of each file that has lost some, by deletion vectors."""
    found = pa.RecordBatchReader.from_stream(table.deletion_vectors()).read_all()
    if not len(found):
        return {}
    own = {_place(_for_library(uri), path): _place(uri, path) for path in paths.to_pylist()}
    deleted: dict[str, Deleted] = {}
    for place, kept in zip(found[0].to_pylist(), found[1], strict=True):
        spellings = [str(local_path(place))] if Storage.is_local(place) else [place, unquote(place)]
        file = next((own[one] for one in spellings if one in own), None)
        if file is None:  # rather than rows that are there no longer
            raise ManifestError(f"{uri}: the table says what was deleted of a file that it does not have, {place}")
        deleted[file] = Deleted(kept.values)
    return deleted


def _for_library(uri: str) -> str:
    """The table as `deltalake` names it and its files."""
    return os.path.realpath(uri) if Storage.is_local(uri) else in_common_scheme(uri)
