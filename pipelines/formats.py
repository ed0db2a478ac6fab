"""The files a manifest may consist of, each read as a stream of Arrow tables with the columns that stand in it.

Column types never depend on which rows a block happens to hold:

- Parquet has its own; dictionary-encoded columns and the 64-bit and view variants of text are taken as plain ones.
- CSV and TSV: text, all of them (`columns.types` converts some); an empty field is null, `""` is empty text.
- JSON lines: found in a first pass over the whole file: boolean, int64, float64 or text. Objects, lists, and columns
  whose values have several types travel as JSON text.
"""

import csv
import gzip
import io
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, Protocol, TypeVar, cast

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from actors.errors import ManifestError
from actors.storage import Storage
from pipelines.parquet_images import Embedded, batches_with_images

Format = Literal["parquet", "csv", "tsv", "jsonl", "text", "images"]

EXTENSIONS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "text",
    **dict.fromkeys((".jpg", ".jpeg", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"), "images"),
}
URI_COLUMN = "image_uri"  # of the formats that have no header

# Bytes of rows held at once: a batch of embedded images must not be a hundred thousand of them.
BATCH_BYTES = 64 * 2**20
# pyarrow reads up to 32 blocks of CSV ahead. A row of one line may be longer than a block, up to what follows.
_CSV_BLOCK_BYTES = 4 * 2**20
_CSV_LINE_BYTES = 512 * 2**20
_PARQUET_BUFFER_BYTES = 2**20  # pages are streamed: a column chunk of images may be gigabytes
_JSON_ROWS = 10_000
# More is a cell that stands where a name belongs; it would be in every message and every schema.
_NAME_CHARACTERS = 1000
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one file.

    Attributes:
        table: the columns asked for.
        rows: each row's number in the file as a person would count: lines from 1 in text and JSON lines, rows from 1 in
            Parquet, rows in CSV with the header as row 1 (blank lines left out).
        misnamed: mask of the files whose names are not UTF-8, odd bytes of which the table spells as in `b\\udcff.jpg`.
        images: those that the rows carry, of a file that was read for them.
    """

    table: pa.Table
    rows: pa.Array
    misnamed: pa.Array | None = None
    images: Embedded | None = None


class ManifestFile(Protocol):
    """One file, or one list of images."""

    @property
    def uri(self) -> str: ...

    @property
    def schema(self) -> pa.Schema:
        """All its columns."""

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        """The columns `names`, at most `max_rows` rows at a time.

        Raises:
            ManifestError: the file is damaged.
            StorageError: it cannot be read.
        """


def open_file(storage: Storage, uri: str, kind: Format) -> ManifestFile:
    """Read what must be known before the rows: the columns and their types."""
    if not _is_utf8(uri):  # the names of its images begin with its own
        raise ManifestError(f"{_spelled(uri)}: this path is not UTF-8 text: rename it")
    if kind == "parquet":
        return ParquetManifest(storage, uri)
    if kind == "jsonl":
        return JsonLinesManifest(storage, uri)
    if kind == "text":
        return TextManifest(storage, uri)
    return CsvManifest(storage, uri, "\t" if kind == "tsv" else ",")


def format_of(uri: str) -> Format | None:
    """By the extension; None where it says nothing. `.gz` after a text format is looked through."""
    path = uri.partition("?")[0] if Storage.scheme(uri) in ("http", "https") else uri
    stem, _, extension = path.rpartition("/")[2].lower().rpartition(".")
    if extension == "gz":
        kind = EXTENSIONS.get("." + stem.rpartition(".")[2])
        return None if kind in ("parquet", "images") else kind
    return EXTENSIONS.get("." + extension) if stem else None


class ParquetManifest:
    """A Parquet file, read in batches across its row groups."""

    def __init__(self, storage: Storage, uri: str) -> None:
        self.uri, self._storage = uri, storage
        with self._opened(exact=True) as file:
            self._fields = file.schema_arrow
            self.schema = pa.schema([pa.field(field.name, _plain(field.type)) for field in self._fields])
            self._bytes_per_row = _bytes_per_row(file.metadata)
        _check_names(uri, self.schema.names)

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        schema = pa.schema([self.schema.field(name) for name in names])
        size = max(1, min(max_rows, int(BATCH_BYTES / max(self._bytes_per_row, 1.0))))
        first = 1
        with self._opened() as file:
            for batch in file.iter_batches(size, columns=list(names)):
                table = pa.Table.from_batches([batch]).select(list(names)).cast(schema)
                _check_text(self.uri, first, table)
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
                _check_text(self.uri, first, table)
                yield Batch(table, pa.array(rows, pa.int64()), images=images)
                first += batch.num_rows

    @contextmanager
    def _opened(self, *, exact: bool = False) -> Iterator[pq.ParquetFile]:
        with self._storage.open_exact(self.uri) if exact else self._storage.open(self.uri) as stream:
            if stream.seek(0, io.SEEK_END) == 0:
                raise _empty(self.uri)
            try:
                yield pq.ParquetFile(stream, buffer_size=_PARQUET_BUFFER_BYTES)
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                reason = _one_line(str(error))
                raise ManifestError(f"{self.uri} is not a whole Parquet file, though named so ({reason})") from error


class CsvManifest:
    """CSV with a header; quoted fields may span lines."""

    def __init__(self, storage: Storage, uri: str, delimiter: str) -> None:
        self.uri, self._storage, self._delimiter = uri, storage, delimiter
        with _text(storage, uri) as lines:
            header = _csv_header(uri, lines, delimiter)
        # pandas writes its index under an empty name.
        self._header = [name.strip() or f"column_{number}" for number, name in enumerate(header, 1)]
        _check_names(uri, self._header)
        self.schema = pa.schema([pa.field(name, pa.string()) for name in self._header])

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        first = 2
        last_value: str | None = None
        with _opened(self._storage, self.uri) as stream:
            blocks = _CsvBlocks(stream)
            for batch in self._read(blocks):
                table = pa.Table.from_batches([batch])
                last_value = table.column(table.num_columns - 1)[-1].as_py() if len(table) else last_value
                for start in range(0, len(table), max_rows):
                    rows = table.slice(start, max_rows)
                    yield Batch(rows.select(list(names)), pa.array(range(first, first + len(rows)), pa.int64()))
                    first += len(rows)
            if last_value and "\n" in last_value and blocks.end != b'"':
                raise ManifestError(f"{self.uri}, row {first - 1}: a quotation mark is opened and never closed")

    def _read(self, stream: "_CsvBlocks") -> Iterator[pa.RecordBatch]:
        ragged: list[pa_csv.InvalidRow] = []
        rows = 1

        def refuse(row: pa_csv.InvalidRow) -> str:
            ragged.append(row)
            return "error"

        try:
            for batch in pa_csv.open_csv(
                stream,
                # One thread, because otherwise a ragged row does not know its number.
                pa_csv.ReadOptions(
                    use_threads=False,
                    block_size=_CSV_BLOCK_BYTES + _CSV_LINE_BYTES,
                    column_names=self._header,
                    skip_rows_after_names=1,
                ),
                pa_csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=refuse),
                pa_csv.ConvertOptions(
                    column_types=self.schema,
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            ):
                yield batch
                rows += len(batch)
        except pa.ArrowInvalid as error:
            raise ManifestError(f"{self.uri}{_csv_complaint(ragged, rows, error)}") from error


class JsonLinesManifest:
    """One JSON object a line; a key that a line lacks is null."""

    def __init__(self, storage: Storage, uri: str) -> None:
        self.uri, self._storage = uri, storage
        kinds: dict[str, set[type]] = defaultdict(set)
        for _, row, _ in self._rows():
            for key, value in row.items():
                kinds[key].add(type(value) if type(value) is not int or -(2**63) <= value < 2**63 else object)
        _check_names(uri, list(kinds))
        self.schema = pa.schema([pa.field(name, _json_type(found)) for name, found in kinds.items()])

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        fields = [self.schema.field(name) for name in names]
        for numbers, rows in _batched(self._rows(), min(max_rows, _JSON_ROWS)):
            columns = [_json_column([row.get(field.name) for row in rows], field.type) for field in fields]
            yield Batch(pa.Table.from_arrays(columns, schema=pa.schema(fields)), pa.array(numbers, pa.int64()))

    def _rows(self) -> Iterator[tuple[int, Mapping[str, Any], int]]:
        """The number of each line, its object, and its length."""
        with _text(self._storage, self.uri) as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ManifestError(f"{self.uri}, line {number} is not JSON: {error}") from error
                except (ValueError, RecursionError) as error:  # a number of 5,000 digits, a thousand brackets
                    raise ManifestError(f"{self.uri}, line {number} cannot be read as JSON: {error}") from error
                if not isinstance(row, dict):
                    raise ManifestError(f"{self.uri}, line {number} is not a JSON object: {line.strip()[:60]}")
                yield number, row, len(line)


class TextManifest:
    """One URI a line; blank lines and lines that begin with # are left out."""

    def __init__(self, storage: Storage, uri: str) -> None:
        self.uri, self._storage = uri, storage
        self.schema = pa.schema([pa.field(URI_COLUMN, pa.string())])

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        with _text(self._storage, self.uri) as lines:
            stripped = ((number, line.strip()) for number, line in enumerate(lines, 1))
            kept = ((number, line) for number, line in stripped if line and not line.startswith("#"))
            yield from _uri_batches(kept, max_rows)


class ImageList:
    """URIs of images as a manifest: what a folder, a glob or a list holds."""

    uri = "the list of images"

    def __init__(self, images: Iterable[str]) -> None:
        self._images = images
        self.schema = pa.schema([pa.field(URI_COLUMN, pa.string())])

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        return _uri_batches(enumerate(self._images, 1), max_rows)


class _CsvBlocks:
    """A stream for pyarrow, which needs the end of a line in every block.

    Attributes:
        end: the last byte read that is not white space.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.end = b""
        self.closed = False

    def read(self, _size: int = -1) -> bytes:
        pieces = [self._stream.read(_CSV_BLOCK_BYTES)]
        while pieces[-1] and not _has_line_end(pieces[-1]) and len(pieces) * _CSV_BLOCK_BYTES <= _CSV_LINE_BYTES:
            pieces.append(self._stream.read(_CSV_BLOCK_BYTES) or b"\n")
        data = b"".join(pieces)
        if data.strip():
            self.end = data.rstrip()[-1:]
        return data


def _has_line_end(data: bytes) -> bool:
    return b"\n" in data or b"\r" in data


def _batched(numbered: Iterator[tuple[int, T, int]], max_rows: int) -> Iterator[tuple[list[int], list[T]]]:
    """Numbers and rows of (number, row, length), `max_rows` at a time, and fewer where BATCH_BYTES come first."""
    numbers: list[int] = []
    rows: list[T] = []
    size = 0
    for number, row, length in numbered:
        numbers.append(number)
        rows.append(row)
        size += length
        if len(rows) >= max_rows or size >= BATCH_BYTES:
            yield numbers, rows
            numbers, rows, size = [], [], 0
    if rows:
        yield numbers, rows


def _uri_batches(numbered: Iterator[tuple[int, str]], max_rows: int) -> Iterator[Batch]:
    for numbers, uris in _batched(((number, uri, len(uri)) for number, uri in numbered), max_rows):
        misnamed = pa.array([not _is_utf8(uri) for uri in uris])
        spelled = pa.array([_spelled(uri) for uri in uris], pa.string())
        yield Batch(pa.table({URI_COLUMN: spelled}), pa.array(numbers, pa.int64()), misnamed)


def _is_utf8(uri: str) -> bool:
    """Whether the name is text: Linux allows any bytes, and Python carries odd ones as lone surrogates."""
    try:
        uri.encode()
    except UnicodeEncodeError:
        return False
    return True


def _spelled(uri: str) -> str:
    return uri.encode("utf-8", "backslashreplace").decode()


@contextmanager
def _opened(storage: Storage, uri: str) -> Iterator[BinaryIO]:
    """The bytes of a text format, unpacked, and known not to be empty or UTF-16."""
    with storage.open(uri) as stream:
        _refuse_empty(uri, stream)
        try:
            unpacked = gzip.GzipFile(fileobj=stream) if uri.lower().endswith(".gz") else stream
            if unpacked.peek(2)[:2] in _UTF16_MARKS:
                raise ManifestError(f"{uri} is UTF-16 text: save it as UTF-8")
            yield cast(BinaryIO, unpacked)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ManifestError(f"{uri} is not a whole gzip file, though named so ({error})") from error


@contextmanager
def _text(storage: Storage, uri: str) -> Iterator[Iterator[str]]:
    """The lines of a UTF-8 file, with or without a byte order mark."""
    with _opened(storage, uri) as stream, io.TextIOWrapper(stream, "utf-8-sig") as lines:
        try:
            yield iter(lines)
        except UnicodeDecodeError as error:
            raise ManifestError(f"{uri} is not UTF-8 text ({error.reason}): save it as UTF-8") from error


def _refuse_empty(uri: str, stream: io.BufferedReader) -> None:
    if not stream.peek(1):
        raise _empty(uri)


def _empty(uri: str) -> ManifestError:
    return ManifestError(f"{uri} is empty: it has 0 bytes")


def _check_names(uri: str, names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if len(name) > _NAME_CHARACTERS:
            raise ManifestError(f"{uri}: a column's name has {len(name)} characters: {name[:60]!r}...; rename it")
        if "\0" in name or not _is_utf8(name):  # Arrow takes no half of an emoji, and its CSV reader no NUL
            raise ManifestError(f"{uri}: the name of column {name[:60]!r} holds what is no character; rename it")
        if count > 1:
            raise ManifestError(f"{uri}: column {name!r} appears {count} times; rename all but one")


def _check_text(uri: str, first: int, table: pa.Table) -> None:
    """Refuse text that is not UTF-8: Parquet's readers and writers trust each other in that."""
    for name, column in zip(table.column_names, table.columns):
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


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type without its encoding."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    return kind


def _csv_header(uri: str, lines: Iterator[str], delimiter: str) -> list[str]:
    try:
        return next(row for row in csv.reader(lines, delimiter=delimiter) if row)
    except StopIteration:
        raise ManifestError(f"{uri} is empty: expected a header with the names of the columns") from None
    except csv.Error as error:
        raise ManifestError(f"{uri} does not begin with a header: {error}") from error


def _csv_complaint(ragged: Sequence[pa_csv.InvalidRow], rows: int, error: pa.ArrowInvalid) -> str:
    if ragged:
        row = ragged[0]
        count = f"{row.actual_columns} fields where the header has {row.expected_columns}"
        return f", row {row.number}: {count}: {_one_line(row.text)[:60]}"
    if "invalid UTF8" in str(error):
        return f" is not UTF-8 text ({error}): save it as UTF-8"
    if "straddl" in str(error):
        return (
            f": a row after row {rows} is too long, or a quotation mark in it is never closed; rows of several lines "
            f"may have {_CSV_BLOCK_BYTES // 2**20} MiB here: write larger ones as Parquet"
        )
    return f" cannot be read as CSV: {error}"


def _json_type(found: set[type]) -> pa.DataType:
    found = found - {type(None)}
    if found == {bool}:
        return pa.bool_()
    if found == {int}:
        return pa.int64()
    if found and found <= {int, float}:
        return pa.float64()
    return pa.string()


def _json_column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.float64():  # Arrow takes no int for one that it would have to round
        return pa.array([value if value is None else float(value) for value in values], kind)
    if kind != pa.string():
        return pa.array(values, kind)
    texts = [
        value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values
    ]
    try:
        return pa.array(texts, kind)
    except UnicodeEncodeError:  # half an emoji, which JSON can spell and UTF-8 cannot
        return pa.array([text and text.encode("utf-8", "replace").decode() for text in texts], kind)
