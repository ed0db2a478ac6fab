"""The manifest's own columns, which stay with the driver and are joined to the records when these are committed."""

from collections import deque
from collections.abc import Sequence

import pyarrow as pa

from actors.storage import Storage
from pipelines.dataset.records import no_rows
from pipelines.dataset.work import WorkFile, read_work


class PassThrough:
    """The pass-through columns of the rows that are on their way.

    A work file is read when the first of its rows comes back, and let go when the last one is committed. Rows come back
    roughly in the order of the files, so a few of these are in memory at a time, however many there are.
    """

    def __init__(self, work: Sequence[WorkFile], schema: pa.Schema, storage: Storage) -> None:
        self._waiting = deque(work if len(schema) else ())
        self._schema = schema
        self._storage = storage
        self._files: list[_File] = []

    @property
    def num_open(self) -> int:
        """Work files whose columns are in memory."""
        return len(self._files)

    def of(self, clip_ids: Sequence[str]) -> pa.Table:
        """The columns of these clips, in this order.

        Raises:
            StorageError: a work file cannot be read.
        """
        if not len(self._schema) or not clip_ids:
            return no_rows(self._schema)
        return pa.concat_tables([self._file_of(clip_id).row(clip_id) for clip_id in clip_ids])

    def let_go(self, clip_ids: Sequence[str]) -> None:
        """These clips are committed."""
        for clip_id in clip_ids:
            for file in self._files:
                file.position.pop(clip_id, None)
        self._files = [file for file in self._files if file.position]

    def _file_of(self, clip_id: str) -> "_File":
        for file in self._files:
            if clip_id in file.position:
                return file
        while self._waiting:
            file = _File(self._waiting[0], self._schema, self._storage)
            self._files.append(file)
            self._waiting.popleft()  # not before it was read, which can fail and is tried again
            if clip_id in file.position:
                return file
        raise AssertionError(f"no work file has the clip {clip_id}")


class _File:
    """One work file: the rows that are not committed yet, by clip."""

    def __init__(self, work: WorkFile, schema: pa.Schema, storage: Storage) -> None:
        table = read_work(work.uri, ["clip_id", *schema.names], storage)
        self.position: dict[str, int] = {clip_id: row for row, clip_id in enumerate(table["clip_id"].to_pylist())}
        self._extras = table.select(schema.names).combine_chunks()

    def row(self, clip_id: str) -> pa.Table:
        """The columns of one clip."""
        return self._extras.slice(self.position[clip_id], 1)
