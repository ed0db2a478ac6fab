"""Where the images in a manifest lie; in one of Parquet, found without reading them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

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
        column: path of the binary column in the file's schema, such as `image.bytes` (string; in a tar the member).
        group, row: where the image lies: row group, and row in that, from 0 (int32). Whether one does is seen when it
            is loaded: the file's statistics tell how many rows have none, and not which, and pyarrow ends the process
            where these are damaged. (In a tar: `actors.contracts.TAR_GROUP`, and the block of 512 bytes.)
        path: what the file calls the image (string; as Hugging Face embeds one), or null.
        sha256: of its bytes (string), where these were asked for and there is one; else null.
        name: what an image is called that no other column names (string); null: the file and its row.
    """

    column: pa.Array
    group: pa.Array
    row: pa.Array
    path: pa.Array
    sha256: pa.Array
    name: pa.Array

    def slice(self, first: int, count: int) -> "Embedded":
        """Those of some rows."""
        return Embedded(*(getattr(self, field.name).slice(first, count) for field in fields(self)))

    def filter(self, kept: pa.Array) -> "Embedded":
        """Those of the rows where `kept` is true."""
        return Embedded(*(getattr(self, field.name).filter(kept) for field in fields(self)))


def batches_with_images(
    file: pq.ParquetFile, names: Sequence[str], image: str, max_rows: int, *, hashed: bool
) -> Iterator[tuple[pa.RecordBatch, Embedded]]:
    """The columns `names`, and where the images of the column `image` lie (binary, or a struct of `bytes` and `path`).

    Images are read only where `hashed` asks for it.
    """
    kind = file.schema_arrow.field(image).type
    leaf, path = _parts(kind)
    whole = f"{image}.{leaf}" if leaf else image
    columns = [*names, *([f"{image}.{path}"] if path else []), *([whole] if hashed else [])]
    for group in range(file.num_row_groups):
        first = 0
        for batch in _of_group(file, group, columns, max_rows, hashed=hashed):
            rows = range(first, first + batch.num_rows)
            yield batch.select(list(names)), embedded_in(batch, image, kind, group, rows, hashed=hashed)
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


def embedded_in(
    batch: pa.RecordBatch, image: str, kind: pa.DataType, group: int, rows: range, *, hashed: bool
) -> Embedded:
    """The images of a batch whose rows have these places.

    Of the column `image`, of the type `kind`, it holds what was read: of a struct what the image is called, and the
    bytes where they are `hashed`.
    """
    size = len(rows)
    leaf, path = _parts(kind)
    paths, sha256 = pa.nulls(size, pa.string()), pa.nulls(size, pa.string())
    if path is not None:
        paths = pc.cast(pc.struct_field(batch.column(image), path), pa.string())
    if hashed:
        data = batch.column(image)
        data = pc.cast(pc.struct_field(data, leaf) if leaf else data, pa.large_binary())
        views = (one.as_buffer() if one.is_valid else b"" for one in data)
        sha256 = pa.array([hashlib.sha256(view).hexdigest() if len(view) else None for view in views], pa.string())
    return Embedded(
        column=pa.repeat(pa.scalar(f"{image}.{leaf}" if leaf else image), size),
        group=pa.repeat(pa.scalar(group, pa.int32()), size),
        row=pa.array(rows, pa.int32()),
        path=paths,
        sha256=sha256,
        name=pa.nulls(size, pa.string()),
    )


def _parts(kind: pa.DataType) -> tuple[str, str | None]:
    """Of a struct, the fields with the bytes and with what the image is called."""
    return (leaf_of(kind) or "", path_of(kind)) if pa.types.is_struct(kind) else ("", None)
