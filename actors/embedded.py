"""Images that lie within a file of the manifest: read from where they are, never copied."""

import io
from collections.abc import Iterator
from contextlib import suppress
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.contracts import LANCE_GROUP, TAR_GROUP, Place
from actors.embedded_arrow import MAGIC, STREAM_MAGIC, ArrowBatches
from actors.embedded_lance import OpenFragment
from actors.embedded_tar import OpenTar
from actors.errors import ImageError
from actors.storage import Storage

# What is asked of the store at once, and how much of a row group is decoded at once. A column of images may be
# gigabytes, and the store's latency of 50 ms is spread over so many bytes.
_REQUEST_BYTES = 8 * 2**20
_BATCH_BYTES = 16 * 2**20


class EmbeddedImages:
    """Reads images of tars and Lance tables, one by one, and of Parquet and Arrow files, forwards.

    A row group is read once where its rows are asked for in order. It holds one batch of a row group and one request.
    Not for several threads.
    """

    def __init__(self, storage: Storage, max_bytes: int | None = None) -> None:
        """`max_bytes`: a larger member of a tar is not read, nor a larger value of a Lance table given out."""
        self._storage, self._max_bytes = storage, max_bytes
        self._open: _OpenGroup | None = None
        self._singles: OpenTar | OpenFragment | None = None

    def read(self, place: Place) -> bytes | None:
        """The image's bytes, as they stand there; None where there are none.

        Raises:
            ImageError: the file has changed since it was planned, or is damaged there.
            StorageError: it cannot be read.
        """
        if place.group in (TAR_GROUP, LANCE_GROUP):
            return self._single(place) or None
        if self._open is None or not self._open.reaches(place):
            self.close()
            self._open = _OpenGroup(place, self._storage)
        try:
            data = self._open.value(place.row)
        except ImageError:
            raise  # and the rows after it get the same answer without reading again
        except Exception:
            self.close()
            raise
        return data or None

    def close(self) -> None:
        """Let go of what is open."""
        for opened in (self._open, self._singles):
            if opened is not None:
                opened.close()
        self._open = self._singles = None

    def _single(self, place: Place) -> bytes | None:
        if self._singles is None or self._singles.file != place.file:
            self.close()
            kind = OpenTar if place.group == TAR_GROUP else OpenFragment
            self._singles = kind(place.file, self._storage)
        return self._singles.read(place, self._max_bytes)


class _OpenGroup:
    """One column of one row group of Parquet, or of a record batch or stream of Arrow, read forwards."""

    def __init__(self, place: Place, storage: Storage) -> None:
        self._place = place
        self._stream = storage.open_exact(place.file)
        self._damage: ImageError | None = None
        self._first, self._values = 0, pa.array([], pa.binary())  # the batch in hand, and the row it begins with
        self._batches = self._read()

    def reaches(self, place: Place) -> bool:
        """Whether `value` can give this image without reading from the start again."""
        mine = self._place
        return (place.file, place.column, place.group) == (mine.file, mine.column, mine.group) and (
            place.row >= self._first
        )

    def value(self, row: int) -> bytes | None:
        """The value of a row not before the batch in hand."""
        while row >= self._first + len(self._values):
            if self._damage is not None:
                raise self._damage
            try:
                values = next(self._batches)
            except StopIteration:
                self._damage = ImageError(f"{self._place.file} has changed since it was planned: run again")
            except (pa.ArrowException, OSError, MemoryError) as error:
                reason = " ".join(str(error).split())
                where = f"row group {self._place.group + 1} of {self._place.file}"
                self._damage = ImageError(f"{where} is damaged: {reason}")
            else:
                self._first, self._values = self._first + len(self._values), values
        value: bytes | None = self._values[row - self._first].as_py()
        return value

    def close(self) -> None:
        with suppress(Exception):
            self._stream.close()

    def _read(self) -> Iterator[pa.Array]:
        """The values of the column, batch by batch; nothing where the file has no such group or column."""
        start = self._stream.read(len(MAGIC))
        self._stream.seek(0)
        is_arrow = start is not None and start.startswith((MAGIC, STREAM_MAGIC))
        yield from self._read_arrow() if is_arrow else self._read_parquet()

    def _read_parquet(self) -> Iterator[pa.Array]:
        place = self._place
        file = pq.ParquetFile(self._stream, buffer_size=_REQUEST_BYTES)
        if place.group >= file.num_row_groups:
            return
        facts = file.metadata.row_group(place.group)
        rows = max(1, int(_BATCH_BYTES * facts.num_rows / max(facts.total_byte_size, 1)))
        for batch in file.iter_batches(rows, row_groups=[place.group], columns=[place.column]):
            column = batch.column(0)
            yield column.field(0) if pa.types.is_struct(column.type) else column

    def _read_arrow(self) -> Iterator[pa.Array]:
        place = self._place
        file = ArrowBatches(io.BufferedReader(cast("io.RawIOBase", self._stream), _REQUEST_BYTES))
        names = [place.column] if place.column in file.schema.names else place.column.rsplit(".", 1)
        if names[0] not in file.schema.names:
            return
        if file.is_indexed:
            with suppress(IndexError):
                yield _leaf(file.read_one(place.group, names[:1]).column(0), names)
            return
        for batch in file.read(names[:1]):
            yield _leaf(batch.column(0), names)


def _leaf(column: pa.Array, names: list[str]) -> pa.Array:
    return pc.struct_field(column, names[1]) if len(names) > 1 else column
