"""The rows of a manifest's files in tables of an even size, and which file each row is of."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipelines.manifest.readings import Reading

# A chunk of long rows ends earlier.
CHUNK_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of the manifest.

    Attributes:
        table: of the reader's schema.
        spans: the files that they are of, in order, and how many rows are of each.
    """

    table: pa.Table
    spans: Sequence[tuple[Reading, int]]


def limited(tables: Iterable[tuple[pa.Table, Reading]], limit: int | None) -> Iterator[tuple[pa.Table, Reading]]:
    """The first rows alone; all without a limit."""
    left = limit
    for table, reading in tables:
        yield (table if left is None else table.slice(0, left)), reading
        if left is not None:
            left -= len(table)
            if left <= 0:
                return


def regrouped(tables: Iterable[tuple[pa.Table, Reading]], max_rows: int) -> Iterator[Chunk]:
    """The same rows in tables of `max_rows`, and fewer where CHUNK_BYTES come first."""
    waiting: list[tuple[pa.Table, Reading]] = []
    rows = size = 0
    for table, reading in tables:
        if waiting and size + table.nbytes > CHUNK_BYTES:
            yield _together(waiting)
            waiting, rows, size = [], 0, 0
        while rows + len(table) >= max_rows:
            head = table.slice(0, max_rows - rows)
            yield _together([*waiting, (head, reading)])
            table, waiting, rows, size = table.slice(len(head)), [], 0, 0  # noqa: PLW2901 - what is left of it
        if len(table):
            waiting.append((table, reading))
            rows, size = rows + len(table), size + table.nbytes
    if waiting:
        yield _together(waiting)


def _together(pieces: Sequence[tuple[pa.Table, Reading]]) -> Chunk:
    table = pa.concat_tables([table for table, _ in pieces]).combine_chunks()
    return Chunk(table, [(reading, len(table)) for table, reading in pieces])
