"""Record batches of Arrow IPC, whichever of its two forms a file has; none of it is trusted."""

import io
from collections.abc import Iterator, Sequence

import pyarrow as pa

MAGIC = b"ARROW1"  # of the form with an index; a stream has none, and is read from its start
# What a stream begins with, since Arrow 0.15.
STREAM_MAGIC = b"\xff\xff\xff\xff"


class ArrowBatches:
    """A file's batches.

    Attributes:
        schema: all columns.
        is_indexed: whether batches can be read in any order, and only what is wanted of them; a stream is read from its
            start to its end.

    Raises:
        ArrowException, OSError: the file is damaged; also while it is read.
    """

    def __init__(self, stream: io.RawIOBase | io.BufferedReader) -> None:
        """`stream`: at its start, and open for as long as batches are read."""
        self._stream = stream
        self.is_indexed = stream.read(len(MAGIC)) == MAGIC
        stream.seek(0)
        self._reader = pa.ipc.open_file(stream) if self.is_indexed else pa.ipc.open_stream(stream)
        self.schema: pa.Schema = self._reader.schema

    def read(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """These columns of all batches; of a stream, once."""
        if not self.is_indexed:
            return self._of_stream(columns)
        return (self.read_one(number, columns) for number in range(self._reader.num_record_batches))

    def read_one(self, number: int, columns: Sequence[str]) -> pa.RecordBatch:
        """The same of one batch of a file with an index.

        Raises:
            IndexError: there are not so many.
        """
        if number >= self._reader.num_record_batches:
            raise IndexError(number)
        # None would mean all of them: then the rows are those of a column that is small, or else of the first.
        small = (number for number, field in enumerate(self.schema) if pa.types.is_primitive(field.type))
        fields = [self.schema.get_field_index(name) for name in columns] or [next(small, 0)]
        some = pa.ipc.open_file(self._stream, options=pa.ipc.IpcReadOptions(included_fields=fields))
        return _checked(some.get_batch(number), columns)

    def _of_stream(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for batch in self._reader:
            yield _checked(batch, columns)
        # Cut off between two batches it would seem to be whole.
        self._stream.seek(-len(STREAM_MAGIC), io.SEEK_END)
        if self._stream.read(len(STREAM_MAGIC)) != bytes(len(STREAM_MAGIC)):
            raise pa.ArrowInvalid("it has no end mark: was its writer interrupted?")


def _checked(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """Some columns, validated: pyarrow takes offsets as they stand, and would end the process with wrong ones."""
    batch = batch.select(list(columns))
    for column in batch.columns:
        column.validate(full=True)
    return batch
