"""Where the images in a Parquet manifest lie, found without reading them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.manifest.pictures import leaf_of, path_of

# Rows whose other columns are read at once.
_ROWS_AT_ONCE = 10_000
# Bytes of images held at once, where they have to be read.
_BYTES_AT_ONCE = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Embedded:
    """The images that some rows carry: an entry a row.

    Attributes:
        column: path of the binary column in the file's schema, such as `image.bytes`.
        group, row: where the image lies: row group, and row in that, from 0 (int32). Whether one does is seen when it
            is loaded: the file's statistics tell how many rows have none, and not which, and pyarrow ends the process
            where these are damaged.
        path: what the file calls the image (string; as Hugging Face embeds one), or null.
        sha256: of its bytes (string), where these were asked for and there is one; else null.
    """

    column: str
    group: pa.Array
    row: pa.Array
    path: pa.Array
    sha256: pa.Array


def batches_with_images(
    file: pq.ParquetFile, names: Sequence[str], image: str, max_rows: int, *, hashed: bool
) -> Iterator[tuple[pa.RecordBatch, Embedded]]:
    """The columns `names`, and where the images of the column `image` lie (binary, or a struct of `bytes` and `path`).

    Images are read only where `hashed` asks for it.
    """
    kind = file.schema_arrow.field(image).type
    leaf, path = image, None
    if pa.types.is_struct(kind):
        leaf, path = f"{image}.{leaf_of(kind)}", path_of(kind)
    columns = [*names, *([f"{image}.{path}"] if path else []), *([leaf] if hashed else [])]
    for group in range(file.num_row_groups):
        first = 0
        for batch in _of_group(file, group, columns, max_rows, hashed=hashed):
            rows = range(first, first + batch.num_rows)
            yield batch.select(list(names)), _embedded(batch, (image, leaf, path), group, rows, hashed=hashed)
            first += batch.num_rows


def _of_group(
    file: pq.ParquetFile, group: int, columns: list[str], max_rows: int, *, hashed: bool
) -> Iterator[pa.RecordBatch]:
    facts = file.metadata.row_group(group)
    size = min(max_rows, _ROWS_AT_ONCE)
    if hashed:
        size = max(1, min(size, int(_BYTES_AT_ONCE * facts.num_rows / max(facts.total_byte_size, 1))))
    if columns:
        yield from file.iter_batches(size, row_groups=[group], columns=columns)
        return
    for first in range(0, facts.num_rows, size):  # nothing is read, and the rows are there all the same
        rows = min(size, facts.num_rows - first)
        yield pa.RecordBatch.from_arrays([pa.nulls(rows)], names=[""])


def _embedded(
    batch: pa.RecordBatch, where: tuple[str, str, str | None], group: int, rows: range, *, hashed: bool
) -> Embedded:
    size = len(rows)
    image, leaf, path = where
    paths, sha256 = pa.nulls(size, pa.string()), pa.nulls(size, pa.string())
    if path is not None:
        paths = pc.cast(pc.struct_field(batch.column(image), path), pa.string())
    if hashed:
        data = batch.column(image)
        data = pc.cast(data if image == leaf else pc.struct_field(data, leaf[len(image) + 1 :]), pa.large_binary())
        views = (one.as_buffer() if one.is_valid else b"" for one in data)
        sha256 = pa.array([hashlib.sha256(view).hexdigest() if len(view) else None for view in views], pa.string())
    groups = pa.repeat(pa.scalar(group, pa.int32()), size)
    return Embedded(leaf, groups, pa.array(rows, pa.int32()), paths, sha256)
