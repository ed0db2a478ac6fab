"""Where the images in a Parquet manifest lie, found without reading them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# Rows whose other columns are read at once.
_ROWS_AT_ONCE = 10_000
# Bytes of images held at once, where they have to be read.
_BYTES_AT_ONCE = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Embedded:
    """The images that some rows carry: an entry a row.

    Attributes:
        column: path of the binary column in the file's schema, such as `image.bytes`.
        group, row: where the image lies: row group, and row in that, from 0 (int32).
        is_there: whether it does (bool).
        path: what the file calls the image (string; as Hugging Face embeds one), or null.
        sha256: of its bytes (string), where these were asked for; else null.
    """

    column: str
    group: pa.Array
    row: pa.Array
    is_there: pa.Array
    path: pa.Array
    sha256: pa.Array


def batches_with_images(
    file: pq.ParquetFile, names: Sequence[str], image: str, max_rows: int, *, hashed: bool
) -> Iterator[tuple[pa.RecordBatch, Embedded]]:
    """The columns `names`, and where the images of the column `image` lie (binary, or a struct of `bytes` and `path`).

    Images are read only where `hashed` asks for it, and in row groups in which some rows have one and others have none:
    the file's statistics tell how many, and not which.
    """
    kind = file.schema_arrow.field(image).type
    leaf, beside = (f"{image}.bytes", [f"{image}.path"]) if pa.types.is_struct(kind) else (image, [])
    index = next(i for i in range(len(file.schema)) if file.schema.column(i).path == leaf)
    for group in range(file.num_row_groups):
        facts = file.metadata.row_group(group)
        nulls = _num_nulls(facts.column(index))
        is_read = hashed or nulls not in (0, facts.num_rows)
        columns = [*names, *beside, *([leaf] if is_read else [])]
        first = 0
        for batch in _of_group(file, group, columns, max_rows, are_read=is_read):
            rows = range(first, first + batch.num_rows)
            yield batch.select(list(names)), _embedded(batch, image, leaf, group, rows, is_read=is_read, nulls=nulls)
            first += batch.num_rows


def _num_nulls(column: pq.ColumnChunkMetaData) -> int | None:
    statistics = column.statistics
    return statistics.null_count if statistics is not None and statistics.has_null_count else None


def _of_group(
    file: pq.ParquetFile, group: int, columns: list[str], max_rows: int, *, are_read: bool
) -> Iterator[pa.RecordBatch]:
    facts = file.metadata.row_group(group)
    size = min(max_rows, _ROWS_AT_ONCE)
    if are_read:
        size = max(1, min(size, int(_BYTES_AT_ONCE * facts.num_rows / max(facts.total_byte_size, 1))))
    if columns:
        yield from file.iter_batches(size, row_groups=[group], columns=columns)
        return
    for first in range(0, facts.num_rows, size):  # nothing is read, and the rows are there all the same
        rows = min(size, facts.num_rows - first)
        yield pa.RecordBatch.from_arrays([pa.nulls(rows)], names=[""])


def _embedded(
    batch: pa.RecordBatch, image: str, leaf: str, group: int, rows: range, *, is_read: bool, nulls: int | None
) -> Embedded:
    size = len(rows)
    path, sha256 = pa.nulls(size, pa.string()), pa.nulls(size, pa.string())
    is_there = pa.repeat(pa.scalar(nulls == 0), size)
    if image != leaf:
        path = pc.cast(pc.struct_field(batch.column(image), "path"), pa.string())
    if is_read:
        data = batch.column(image)
        data = pc.cast(data if image == leaf else pc.struct_field(data, "bytes"), pa.large_binary())
        is_there = pc.fill_null(pc.greater(pc.binary_length(data), 0), False)
        pairs = zip(data, is_there.to_pylist(), strict=True)
        hashes = [hashlib.sha256(one.as_buffer()).hexdigest() if there else None for one, there in pairs]
        sha256 = pa.array(hashes, pa.string())
    groups = pa.repeat(pa.scalar(group, pa.int32()), size)
    return Embedded(leaf, groups, pa.array(rows, pa.int32()), is_there, path, sha256)
