"""CSV and TSV as a manifest: all columns are text; an empty field is null, `""` is empty text."""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import dropwhile
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pa_csv

from actors.errors import ManifestError
from actors.storage import Storage
from pipelines.manifest import files
from pipelines.manifest.column_names import is_uri_name
from pipelines.manifest.files import Batch
from pipelines.manifest.opening import check_names, one_line, opened_text, text_lines

# pyarrow reads up to 32 blocks of CSV ahead. A row of one line may be longer than a block, up to what follows.
_CSV_BLOCK_BYTES = 4 * 2**20
_CSV_LINE_BYTES = 512 * 2**20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# What stands before the header: lines of nothing, or of nothing but empty fields, as spreadsheets write them; and the
# line that tells Excel the separator.
_BLANK = " \t,;\r\n"
_BLANK_LINES = re.compile(rb"(?:(?:[ \t,;]*|[Ss][Ee][Pp]=[,;\t])(?:\r\n|\n|\r(?!\Z)))*")
_SEPARATORS = re.compile(r"[,;|\t]")


class CsvManifest:
    """CSV with a header; quoted fields may span lines."""

    def __init__(self, storage: Storage, uri: str, delimiter: str) -> None:
        self.uri, self._storage, self._delimiter = uri, storage, delimiter
        with text_lines(storage, uri) as lines:
            header = _csv_header(uri, lines, delimiter)
        # pandas writes its index under an empty name.
        self._header = [name.strip() or f"column_{number}" for number, name in enumerate(header, 1)]
        check_names(uri, self._header)
        _check_header(uri, self._header)
        self.schema = pa.schema([pa.field(name, pa.string()) for name in self._header])

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        """As in `ManifestFile`."""
        first = 2
        last_value: str | None = None
        with opened_text(self._storage, self.uri) as stream:
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
        ragged: list[str] = []
        rows, blank = 1, 0

        def refuse(row: pa_csv.InvalidRow) -> str:
            nonlocal blank
            if not row.text.strip():  # a blank line, though with blanks in it; pyarrow counts it
                blank += 1
                return "skip"
            count = f"{row.actual_columns} fields where the header has {row.expected_columns}"
            ragged.append(f", row {row.number - blank}: {count}: {one_line(row.text)[:60]}")
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


class _CsvBlocks:
    """A stream for pyarrow, which needs the end of a line in every block, and the header in the first line.

    Attributes:
        end: the last byte read that is not white space.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._begun = False
        self.end = b""
        self.closed = False

    def read(self, _size: int = -1) -> bytes:
        data = self._block()
        if not self._begun:
            self._begun = True
            data = data.removeprefix(_BYTE_ORDER_MARK)
            while not data.strip(_BLANK.encode()) and (more := self._block()):
                data = data[_blank_lines(data) :] + more
            data = data[_blank_lines(data) :]
        return data

    def _block(self) -> bytes:
        pieces = [self._stream.read(_CSV_BLOCK_BYTES)]
        while pieces[-1] and not _has_line_end(pieces[-1]) and len(pieces) * _CSV_BLOCK_BYTES <= _CSV_LINE_BYTES:
            pieces.append(self._stream.read(_CSV_BLOCK_BYTES) or b"\n")
        data = b"".join(pieces)
        if data.strip():
            self.end = data.rstrip()[-1:]
        return data


def _blank_lines(data: bytes) -> int:
    """Bytes of whole blank lines that `data` begins with."""
    match = _BLANK_LINES.match(data)
    return match.end() if match else 0


def _has_line_end(data: bytes) -> bool:
    return b"\n" in data or b"\r" in data


def _csv_header(uri: str, lines: Iterator[str], delimiter: str) -> list[str]:
    try:
        return next(csv.reader(dropwhile(_is_before_header, lines), delimiter=delimiter))
    except StopIteration:
        raise ManifestError(f"{uri} is empty: expected a header with the names of the columns") from None
    except csv.Error as error:
        raise ManifestError(f"{uri} does not begin with a header: {error}") from error


def _is_before_header(line: str) -> bool:
    match = _BLANK_LINES.match(line.encode())
    return match is not None and match.end() == len(line.encode())


def _check_header(uri: str, header: Sequence[str]) -> None:
    """Raise ManifestError where the first line is a row already, or is separated by something else."""
    for name in header:
        if files.format_of(name) == "images" and ("/" in name or len(header) == 1):
            raise ManifestError(
                f"{uri} does not begin with a header: its first line names the image {one_line(name)[:60]!r}; write "
                "the columns' names above it, such as image_uri"
            )
    parts = _SEPARATORS.split(header[0]) if len(header) == 1 else []
    if len(parts) > 1 and any(map(is_uri_name, parts)):
        raise ManifestError(
            f"{uri} has the one column {one_line(header[0])[:60]!r}: its fields must be separated by commas (.csv) or "
            "tabs (.tsv)"
        )


def _csv_complaint(ragged: Sequence[str], rows: int, error: pa.ArrowInvalid) -> str:
    if ragged:
        return ragged[0]
    if "invalid UTF8" in str(error):
        return f" is not UTF-8 text ({error}): save it as UTF-8"
    if "straddl" in str(error):
        return (
            f": a row after row {rows} is too long, or a quotation mark in it is never closed; rows of several lines "
            f"may have {_CSV_BLOCK_BYTES // 2**20} MiB here: write larger ones as Parquet"
        )
    return f" cannot be read as CSV: {error}"
