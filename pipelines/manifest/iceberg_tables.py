"""Iceberg tables: `pyiceberg` reads their metadata and deletes, and the data files that these name are Parquet.

No catalog is asked. A table is named by its folder, or by the metadata file that the catalog has for it.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from actors.errors import ManifestError
from actors.storage import NotFound, Storage
from pipelines.manifest.opening import check_names
from pipelines.manifest.parquet_files import ParquetManifest, plain_schema
from pipelines.manifest.table_parquet import Deleted, TableParquet, View
from pipelines.manifest.tables import ICEBERG_METADATA, METADATA_FILE, Wanted, explained, no_version, reader_of

# `00003-6f2d.metadata.json` of a catalog, `v3.metadata.json` of Hadoop's tables.
_NUMBER = re.compile(r"v?(\d+).*\.metadata\.json")
_HINT = "version-hint.text"
_FIELD_ID = b"PARQUET:field_id"


def iceberg_files(uri: str, storage: Storage, wanted: Wanted) -> Iterator[TableParquet]:
    """The data files of a snapshot, by name.

    Raises:
        ManifestError: there is no such table or snapshot, or something in it cannot be followed.
    """
    library = reader_of("iceberg", uri, "pyiceberg.table")
    named = METADATA_FILE.fullmatch(uri)
    table_uri = named[1] if named else uri
    metadata_uri = uri if named else _newest_metadata(uri, storage)
    with explained(f"{uri} cannot be read as an Iceberg table", storage):
        table = _opened(library, metadata_uri, storage, table_uri, wanted)
        scan = _scan(table, uri, wanted.version)
        schema = scan.projection()
        columns = _arrow_schema(schema)
        tasks = _tasks(scan, table_uri)
    check_names(uri, columns.names)
    by_schema = f"{schema!r}"
    for task in sorted(tasks, key=lambda task: str(task.file.file_path)):
        facts = [task.file.file_size_in_bytes, task.file.record_count, by_schema]
        deletes = sorted(f"{file.file_path} {file.record_count}" for file in task.delete_files)
        file = table.io.uri_of(task.file.file_path)
        wanted.check_place(table_uri, file)
        yield TableParquet(
            storage,
            file,
            columns,
            version=hashlib.sha256(repr([*facts, *deletes]).encode()).hexdigest()[:32],
            base=table_uri,
            view=partial(_view, table=table, schema=schema, task=task),
        )


def _newest_metadata(table: str, storage: Storage) -> str:
    """The metadata file of the newest version that was committed, as far as a folder can tell."""
    folder = f"{table}/{ICEBERG_METADATA}"
    names = storage.list_names(folder) if storage.is_folder(folder) else set()
    found = {name: int(match[1]) for name in names if (match := _NUMBER.fullmatch(name)) is not None}
    if not found:
        raise ManifestError(f"{table} is no Iceberg table: there is no *.metadata.json in its {ICEBERG_METADATA}")
    if _HINT in names:
        hint = storage.read_bytes(f"{folder}/{_HINT}").decode("utf-8", "replace").strip()
        for name in (hint, f"v{hint}.metadata.json", f"{hint}.metadata.json"):
            if name in found:
                return f"{folder}/{name}"
    newest = sorted(name for name, number in found.items() if number == max(found.values()))
    if len(newest) > 1:
        raise ManifestError(
            f"{table}: which version is the newest, only its catalog knows ({' and '.join(newest)}): name the metadata "
            f"file that the catalog has, manifest={folder}/{newest[0]}"
        )
    return f"{folder}/{newest[0]}"


def _opened(library: Any, metadata_uri: str, storage: Storage, table_uri: str, wanted: Wanted) -> Any:
    from pyiceberg.catalog.noop import NoopCatalog
    from pyiceberg.serializers import FromInputFile

    from pipelines.manifest.iceberg_io import StorageIO

    files = StorageIO(storage, table_uri, wanted)
    return library.StaticTable(
        identifier=("table",),
        metadata=FromInputFile.table_metadata(files.new_input(metadata_uri)),
        metadata_location=metadata_uri,
        io=files,
        catalog=NoopCatalog("table"),
    )


def _scan(table: Any, uri: str, version: int | str | None) -> Any:
    if version is None:
        return table.scan()
    metadata = table.metadata
    snapshot = version
    if isinstance(version, str):
        if version not in metadata.refs:
            names = ", ".join(sorted(metadata.refs)) or "none"
            raise no_version(uri, version, f"the table's branches and tags are {names}")
        snapshot = metadata.refs[version].snapshot_id
    if metadata.snapshot_by_id(snapshot) is None:
        newest = metadata.current_snapshot_id
        raise no_version(uri, version, f"the table has no such snapshot; the newest is {newest}")
    return table.scan(snapshot_id=snapshot)


def _tasks(scan: Any, table: str) -> list[Any]:
    try:
        tasks = list(scan.plan_files())
    except NotFound as error:
        raise ManifestError(
            f"{table}: a file that the table's metadata names is gone ({error}): name newer metadata, or the place "
            "where the table was written; a table that was moved names its old place"
        ) from error
    except ValueError as error:
        if "equality delete" in str(error):
            raise ManifestError(
                f"{table}: the table has equality deletes, as Flink writes them, which the reader does not follow: "
                "compact the table (rewrite_data_files), and run again"
            ) from error
        raise
    for task in tasks:
        if task.file.file_format.name != "PARQUET":
            raise ManifestError(
                f"{table}: the table has data in {task.file.file_format.name}, and only Parquet is read: rewrite it "
                "(write.format.default=parquet, rewrite_data_files)"
            )
    return tasks


def _arrow_schema(schema: Any) -> pa.Schema:
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    fields = schema_to_pyarrow(schema, include_field_ids=False)
    return plain_schema(pa.schema([pa.field(field.name, _short(field.type)) for field in fields]))


def _short(kind: pa.DataType) -> pa.DataType:
    """A type without the 64-bit variants, which are this library's way and not the table's."""
    types = pa.types
    if types.is_large_string(kind):
        return pa.string()
    if types.is_large_binary(kind):
        return pa.binary()
    if types.is_list(kind) or types.is_large_list(kind):
        return pa.list_(kind.value_field.with_type(_short(kind.value_type)))
    if types.is_struct(kind):
        return pa.struct([field.with_type(_short(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(*(field.with_type(_short(field.type)) for field in (kind.key_field, kind.item_field)))
    return kind


def _view(file: ParquetManifest, *, table: Any, schema: Any, task: Any) -> View:
    """How a data file shows the table: columns are found by their numbers, whatever they were called then.

    Raises:
        ManifestError: the file's columns have no numbers.
    """
    columns = _columns_by_id(file, table)
    names = {field.name: columns[field.field_id] for field in schema.fields if field.field_id in columns}
    missing = [field for field in schema.fields if field.field_id not in columns]
    kinds = {field.name: field.type for field in file.fields}
    unlike = [
        field.name
        for field in schema.fields
        if field.name in names and _is_unlike(field.field_type, kinds[names[field.name]])
    ]
    with explained(f"{file.uri}: what was deleted of this file cannot be read", table.io.storage):
        deleted = _deleted(table, task)
    return View(names, _constants(missing, table, task), unlike, deleted)


def _columns_by_id(file: ParquetManifest, table: Any) -> dict[int, str]:
    by_id = {number: field.name for field in file.fields if (number := _number(field)) is not None}
    if by_id:
        return by_id
    mapping = table.metadata.name_mapping()  # of files that were not written for the table
    if mapping is None:
        raise ManifestError(
            f"{file.uri}: the columns of this data file have no numbers, by which Iceberg knows them: rewrite the table"
        )
    there = set(file.schema.names)
    return {one.field_id: name for one in mapping.root for name in one.names if name in there}


def _number(field: pa.Field) -> int | None:
    text = (field.metadata or {}).get(_FIELD_ID)
    return None if text is None else int(text)


def _is_unlike(kind: Any, stored: pa.DataType) -> bool:
    """Whether the fields within a column have other names in the file, or the same names for other fields."""
    if hasattr(kind, "element_type"):
        return _is_unlike(kind.element_type, stored.value_type)
    if hasattr(kind, "key_type"):
        return _is_unlike(kind.key_type, stored.key_type) or _is_unlike(kind.value_type, stored.item_type)
    if not pa.types.is_struct(stored):
        return False
    own = {field.name: field for field in kind.fields}
    by_id = {field.field_id: field.name for field in kind.fields}
    for field in stored:
        number = _number(field)
        if number is not None and by_id.get(number, field.name) != field.name:
            return True
        if field.name in own:
            same = own[field.name]
            if number not in (None, same.field_id) or _is_unlike(same.field_type, field.type):
                return True
    return False


def _constants(missing: list[Any], table: Any, task: Any) -> dict[str, pa.Scalar]:
    """Of columns that the file lacks: the value of its partition, or the one that older rows have by default."""
    from pyiceberg.transforms import IdentityTransform

    spec = table.metadata.specs().get(task.file.spec_id)
    parts = (
        {}
        if spec is None
        else {
            part.source_id: place
            for place, part in enumerate(spec.fields)
            if isinstance(part.transform, IdentityTransform)
        }
    )
    kinds = _arrow_schema_of(missing)
    found: dict[str, pa.Scalar] = {}
    for field in missing:
        value = task.file.partition[parts[field.field_id]] if field.field_id in parts else field.initial_default
        if value is not None:
            found[field.name] = pa.scalar(value, kinds[field.name])
    return found


def _arrow_schema_of(fields: list[Any]) -> Mapping[str, pa.DataType]:
    from pyiceberg.schema import Schema

    return {field.name: field.type for field in _arrow_schema(Schema(*fields))}


def _deleted(table: Any, task: Any) -> Deleted | None:
    from pyiceberg.io.pyarrow import _read_all_delete_files  # which a scan of its own would give as whole tables only

    if not task.delete_files:
        return None
    found = _read_all_delete_files(table.io, [task]).get(task.file.file_path, [])
    kept = np.ones(task.file.record_count, bool)
    for positions in found:
        kept[positions.to_numpy()] = False
    return Deleted(pa.array(kept))
