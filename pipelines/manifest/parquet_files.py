"""Parquet as a manifest: dictionary-encoded columns, and the 64-bit and view variants of text, count as plain ones."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import ManifestError
from actors.storage import Storage
from pipelines.manifest import files
from pipelines.manifest.files import Batch
from pipelines.manifest.opening import check_names, empty, one_line
from pipelines.manifest.parquet_images import batches_with_images

_PARQUET_BUFFER_BYTES = 2**20  # pages are streamed: a column chunk of images may be gigabytes
# Spark and Impala write INT96, which has no unit. In nanoseconds, pyarrow's own choice, 9999-12-31 becomes 1816.
_INT96_UNIT = "us"


class ParquetManifest:
    """A Parquet file, read in batches across its row groups.

    Attributes:
        fields: its columns as they are encoded, with what the file says of each.
    """

    def __init__(self, storage: Storage, uri: str) -> None:
        self.uri, self._storage = uri, storage
        with self._opened(exact=True) as file:
            self.fields = file.schema_arrow
            self.schema = plain_schema(self.fields)
            self._bytes_per_row = _bytes_per_row(file.metadata)
        check_names(uri, self.schema.names)

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        """As in `ManifestFile`."""
        schema = pa.schema([self.schema.field(name) for name in names])
        size = max(1, min(max_rows, int(files.BATCH_BYTES / max(self._bytes_per_row, 1.0))))
        first = 1
        with self._opened() as file:
            for batch in file.iter_batches(size, columns=list(names)):
                table = pa.Table.from_batches([batch]).select(list(names)).cast(schema)
                check_text(self.uri, first, table)
                yield Batch(table, pa.array(range(first, first + len(table)), pa.int64()))
                first += len(table)

    def batches_with_images(self, names: Sequence[str], image: str, max_rows: int, *, hashed: bool) -> Iterator[Batch]:
        """As `batches`, and where the images of the column `image` lie."""
        schema = pa.schema([self.schema.field(name) for name in names])
        first = 1
        with self._opened(exact=True) as file:
            for batch, images in batches_with_images(file, names, image, max_rows, hashed=hashed):
                rows = range(first, first + batch.num_rows)
                table = pa.Table.from_batches([batch]).cast(schema)
                check_text(self.uri, first, table)
                yield Batch(table, pa.array(rows, pa.int64()), images=images)
                first += batch.num_rows

    @contextmanager
    def _opened(self, *, exact: bool = False) -> Iterator[pq.ParquetFile]:
        with self._storage.open_exact(self.uri) if exact else self._storage.open(self.uri) as stream:
            if stream.seek(0, io.SEEK_END) == 0:
                raise empty(self.uri)
            try:
                yield pq.ParquetFile(stream, buffer_size=_PARQUET_BUFFER_BYTES, coerce_int96_timestamp_unit=_INT96_UNIT)
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                reason = one_line(str(error))
                raise ManifestError(f"{self.uri} is not a whole Parquet file, though named so ({reason})") from error


def check_text(uri: str, first: int, table: pa.Table) -> None:
    """Refuse text that is not UTF-8: Parquet's readers and writers trust each other in that."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            last = first + len(table) - 1
            raise ManifestError(f"{uri}: column {name} is damaged in one of rows {first} to {last}: {error}") from error


def _bytes_per_row(metadata: pq.FileMetaData) -> float:
    """Uncompressed size of a row, averaged over the row group where it is largest.

    Columns that nobody reads count, too: pyarrow ends the process when asked for the size of a column whose statistics
    are damaged.
    """
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    return max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=0.0)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The columns without their encodings, and with what the file says of them (`pipelines.manifest.looking`)."""
    said = {key: text for key, text in (schema.metadata or {}).items() if key == b"huggingface"}
    return pa.schema([pa.field(field.name, _plain(field.type)) for field in schema], said)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type without its encoding."""
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    return _without_encodings(kind)


def _without_encodings(kind: pa.DataType) -> pa.DataType:  # noqa: PLR0911 - a line for each type
    """Without dictionaries and views, also within other types, where Arrow can join and pick neither."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()

    def plain(field: pa.Field) -> pa.Field:
        return field.with_type(_without_encodings(field.type))

    if pa.types.is_struct(kind):
        return pa.struct([plain(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(plain(kind.key_field), plain(kind.item_field), kind.keys_sorted)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(plain(kind.value_field), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(plain(kind.value_field))
    return pa.list_(plain(kind.value_field)) if pa.types.is_list(kind) else kind
