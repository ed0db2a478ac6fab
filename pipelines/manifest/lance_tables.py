"""Lance tables, all of which `lance` reads. Their fragments are the manifest's files."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from actors.contracts import LANCE_GROUP
from actors.embedded_lance import is_blob_v2, lance_file, lance_uri, names_other_files
from actors.errors import ManifestError
from actors.object_store_options import object_store_options
from actors.storage import Storage
from pipelines.manifest import files
from pipelines.manifest.files import Batch
from pipelines.manifest.opening import check_names
from pipelines.manifest.parquet_files import check_text, plain_schema
from pipelines.manifest.parquet_images import embedded_in
from pipelines.manifest.pictures import path_of
from pipelines.manifest.tables import Wanted, explained, no_version, reader_of

# A row's address: its fragment, and in the lower 32 bits its place there.
_ADDRESS = "_rowaddr"
_PLACE_BITS = 0xFFFFFFFF
# Batches that the library reads before they are asked for; each may be files.BATCH_BYTES.
_AHEAD = 2


def lance_files(uri: str, storage: Storage, wanted: Wanted) -> Iterator["LanceFragment"]:
    """The fragments of a version, in the order in which they were added.

    Raises:
        ManifestError: there is no such table or version, or a part of it lies elsewhere.
    """
    with explained(f"{uri} cannot be read as a Lance table", storage):
        dataset = _opened(uri, storage, wanted.version)
        schema = plain_schema(pa.schema([_plain_blob(field) for field in dataset.schema]))
        fragments = dataset.get_fragments()
        version = dataset.version
    check_names(uri, schema.names)
    for fragment in fragments:
        facts = fragment.metadata.to_json()
        parts = [*facts["files"], facts["deletion_file"] or {}]
        if any(part.get("base_id") is not None for part in parts):
            raise ManifestError(f"{uri}: the table has files elsewhere (a shallow clone), which are not read: copy it")
        yield LanceFragment(uri, storage, dataset, fragment, schema, version)


class LanceFragment:
    """A fragment of a table.

    Attributes:
        schema: the table's.
        version, base: as in `TableFile`.
        images_uri: what `actors.contracts.Place` calls it.
    """

    def __init__(
        self, table: str, storage: Storage, dataset: Any, fragment: Any, schema: pa.Schema, version: int
    ) -> None:
        self.uri, self.base, self.schema = f"{table}#fragment={fragment.fragment_id}", table, schema
        self._storage, self._dataset, self._fragment = storage, dataset, fragment
        self.images_uri = lance_file(table, version, fragment.fragment_id)
        facts = json.dumps([fragment.metadata.to_json(), str(schema)], sort_keys=True)
        self.version = hashlib.sha256(facts.encode()).hexdigest()[:32]

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        """As in `ManifestFile`."""
        for batch in self._read(list(names), max_rows):
            yield self._of_table(batch, names)

    def batches_with_images(self, names: Sequence[str], image: str, max_rows: int, *, hashed: bool) -> Iterator[Batch]:
        """As in `HoldsImages`."""
        kind = self.schema.field(image).type
        path = path_of(kind) if pa.types.is_struct(kind) else None
        beside = [image] if hashed else [f"{image}.{path}"] if path else []
        first = 0
        for batch in self._read(list(dict.fromkeys([*names, *beside])), max_rows):
            of_image = batch
            if path and not hashed:
                only = pa.StructArray.from_arrays([batch[f"{image}.{path}"]], [path])
                of_image = pa.RecordBatch.from_arrays([only], [image])
            rows = range(first, first + batch.num_rows)
            images = embedded_in(of_image, image, kind, LANCE_GROUP, rows, hashed=hashed)
            yield replace(self._of_table(batch, names), images=images)
            first += batch.num_rows

    def _read(self, columns: list[str], max_rows: int) -> Iterator[pa.RecordBatch]:
        with explained(f"{self.uri} cannot be read, as after a clean-up of old versions", self._storage):
            for name in columns:
                if name in self.schema.names and is_blob_v2(self._dataset.schema.field(name).type):
                    self._check_blobs(name, max_rows)
            yield from self._fragment.to_batches(
                columns=columns,
                batch_size=max_rows,
                batch_size_bytes=files.BATCH_BYTES,
                batch_readahead=_AHEAD,
                with_row_address=True,
                blob_handling="all_binary",
            )

    def _check_blobs(self, name: str, max_rows: int) -> None:
        described = self._fragment.to_batches(columns=[name], batch_size=max_rows, blob_handling="blobs_descriptions")
        if any(names_other_files(batch.column(0)) for batch in described):
            raise ManifestError(
                f"{self.uri}: column {name} names files elsewhere, which are not read: write the images into the "
                "table, or their URIs into a column of text"
            )

    def _of_table(self, batch: pa.RecordBatch, names: Sequence[str]) -> Batch:
        schema = pa.schema([self.schema.field(name) for name in names])
        table = pa.Table.from_batches([batch.select(list(names))]).cast(schema)
        rows = pc.cast(pc.add(pc.bit_wise_and(batch[_ADDRESS], _PLACE_BITS), 1), pa.int64())
        check_text(self.uri, rows[0].as_py() if len(rows) else 1, table)
        return Batch(table, rows)


def _opened(uri: str, storage: Storage, version: int | str | None) -> Any:
    library = reader_of("lance", uri)
    where = {"uri": lance_uri(uri), "storage_options": object_store_options(uri, storage.options) or None}
    newest = library.dataset(**where)
    if version is None:
        return newest
    if isinstance(version, str) and version not in (tags := newest.tags.list()):
        raise no_version(uri, version, f"the table's tags are {', '.join(sorted(tags)) or 'none'}")
    if isinstance(version, int) and version not in (known := [one["version"] for one in newest.versions()]):
        raise no_version(
            uri, version, f"the table has the versions {min(known)} to {max(known)}, less those cleaned up"
        )
    return library.dataset(**where, version=version)


def _plain_blob(field: pa.Field) -> pa.Field:
    return pa.field(field.name, pa.binary()) if is_blob_v2(field.type) else field
