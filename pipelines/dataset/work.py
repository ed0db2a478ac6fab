"""Work files: the rows that a run is to make, kept beside the dataset until each of them has ended.

So they are, too, the list of what an interrupted run had begun.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors import scratch
from actors.errors import StorageError
from actors.generators.base import Generator
from actors.records import reserved_names
from actors.storage import Storage
from pipelines.dataset.layout import Layout, RunFolder, run_of_work_file
from pipelines.dataset.records import extras_of

# Rows of one work file: 20 to 50 MB of them, of which the driver holds a few files at a time.
WORK_ROWS = 100_000
# A work file is written before it takes up more memory than this, however long the rows' captions are.
_WORK_BYTES = 256 * 2**20
# Rows that a reader of a work file decodes at once.
_ROW_GROUP = 10_000


@dataclass(frozen=True, slots=True)
class WorkFile:
    """One Parquet file of rows to make (`actors.records.work_schema`, then the pass-through columns)."""

    uri: str
    rows: int


class WorkWriter:
    """Collects planned rows into work files of at most `WORK_ROWS` rows and `_WORK_BYTES`."""

    def __init__(self, run: RunFolder, storage: Storage) -> None:
        self.files: list[WorkFile] = []
        self._run = run
        self._storage = storage
        self._waiting: list[pa.Table] = []

    def add(self, rows: pa.Table) -> None:
        """Take rows; they are stored after the next `flush`."""
        waiting = sum(table.num_rows for table in self._waiting)
        size = sum(table.nbytes for table in self._waiting)
        if self._waiting and (waiting + rows.num_rows > WORK_ROWS or size + rows.nbytes > _WORK_BYTES):
            self.flush()
        self._waiting.append(rows)

    def flush(self) -> None:
        """Store what was taken."""
        if not self._waiting:
            return
        work = pa.concat_tables(self._waiting)
        uri = self._run.work_file(len(self.files))
        with scratch.folder() as temporary:
            local = temporary / "work.parquet"
            pq.write_table(work, local, row_group_size=_ROW_GROUP, compression="zstd")
            self._storage.put_file(uri, local)
        self.files.append(WorkFile(uri, work.num_rows))
        self._waiting = []


def read_work(uri: str, columns: Sequence[str], storage: Storage) -> pa.Table:
    """Only these columns of a work file.

    Raises:
        StorageError: it is damaged, or of another version.
    """
    with storage.open(uri) as file, _as_storage_error(uri):
        return pq.ParquetFile(file).read(list(columns)).select(list(columns))


def extras_of_work(uri: str, generator: type[Generator[Any, Any]], storage: Storage) -> pa.Schema:
    """The pass-through columns of a work file."""
    with storage.open(uri) as file, _as_storage_error(uri):
        return extras_of(pq.read_schema(file), reserved_names(generator))


@contextmanager
def _as_storage_error(uri: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, KeyError) as error:
        said = " ".join(str(error).split())
        raise StorageError(
            f"{uri}, which an interrupted run left, is no work file that can be read ({said}): remove it, and the "
            "clips that it lists and that were not committed are made again"
        ) from error


def left_work(layout: Layout, storage: Storage) -> Iterator[tuple[str, RunFolder]]:
    """The work files that lie about, which are of runs that did not come to their end; each with its run."""
    for uri in storage.list_files(layout.runs, suffix=".parquet"):
        run = run_of_work_file(uri)
        if run and Storage.parent(run.uri) == layout.runs:  # a copy that somebody keeps is no run
            yield uri, run


def remove_work(run: RunFolder, files: Sequence[WorkFile], storage: Storage) -> None:
    """Each row has ended: else the next run would look in them for clips whose records did not arrive."""
    for file in files:
        storage.remove(file.uri)
    storage.prune(run.work)
