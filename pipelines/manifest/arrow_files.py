"""Arrow IPC as a manifest: what `datasets.save_to_disk` writes (streams), and Feather (files with an index).

Both consist of record batches, each of which is held as a whole. A stream is read from its start to its end; of a file
with an index, only the columns that are wanted.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from actors.embedded_arrow import ArrowBatches
from actors.errors import ManifestError
from actors.storage import Storage
from pipelines.manifest.files import Batch
from pipelines.manifest.opening import check_names, empty, one_line
from pipelines.manifest.parquet_files import check_text, plain_schema
from pipelines.manifest.parquet_images import embedded_in

_FEATHER_1 = b"FEA1"


class ArrowManifest:
    """An Arrow file or stream."""

    def __init__(self, storage: Storage, uri: str) -> None:
        self.uri, self._storage = uri, storage
        self._is_indexed = False
        with self._opened() as file:
            self._is_indexed = file.is_indexed
            self.schema = plain_schema(file.schema)
            # Names within structs are decoded when they are asked for, which else others would do.
            " ".join(child.name for field in file.schema for child in field.flatten())
        check_names(uri, self.schema.names)

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        """As in `ManifestFile`."""
        first = 1
        with self._opened() as file:
            for batch in file.read(names):
                yield from self._rows(batch, names, first, max_rows)
                first += batch.num_rows

    def batches_with_images(self, names: Sequence[str], image: str, max_rows: int, *, hashed: bool) -> Iterator[Batch]:
        """As in `HoldsImages`. A stream counts as one group of rows: it is read from its start."""
        first = 1
        # Of a struct the path is wanted, and a column is read as a whole.
        needs_image = hashed or pa.types.is_struct(self.schema.field(image).type)
        wanted = list(dict.fromkeys([*names, *([image] if needs_image else [])]))
        with self._opened(exact=not needs_image and self._is_indexed) as file:
            kind = file.schema.field(image).type
            for number, batch in enumerate(file.read(wanted)):
                group, start = (number, 0) if file.is_indexed else (0, first - 1)
                images = embedded_in(batch, image, kind, group, range(start, start + batch.num_rows), hashed=hashed)
                at = 0
                for part in self._rows(batch, names, first, max_rows):
                    yield Batch(part.table, part.rows, images=images.slice(at, len(part.rows)))
                    at += len(part.rows)
                first += batch.num_rows

    def _rows(self, batch: pa.RecordBatch, names: Sequence[str], first: int, max_rows: int) -> Iterator[Batch]:
        schema = pa.schema([self.schema.field(name) for name in names])
        table = pa.Table.from_batches([batch.select(list(names))]).cast(schema)
        check_text(self.uri, first, table)
        for start in range(0, batch.num_rows, max_rows):
            rows = range(first + start, first + min(start + max_rows, batch.num_rows))
            yield Batch(table.slice(start, max_rows), pa.array(rows, pa.int64()))

    @contextmanager
    def _opened(self, *, exact: bool = False) -> Iterator[ArrowBatches]:
        with self._storage.open_exact(self.uri) if exact else self._storage.open(self.uri) as stream:
            if not (start := stream.read(4)):
                raise empty(self.uri)
            if start == _FEATHER_1:
                raise ManifestError(
                    f"{self.uri} is Feather of the first version, which is no Arrow file: write it anew, as Parquet or "
                    "with a pandas of today"
                )
            stream.seek(0)
            try:
                yield ArrowBatches(stream)
            except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
                reason = one_line(str(error))
                raise ManifestError(f"{self.uri} is not a whole Arrow file, though named so ({reason})") from error
