"""Work rows for the tasks of the first stage: those together that are best loaded one after the other."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from actors.contracts import LANCE_GROUP, TAR_GROUP
from actors.secrets import without_secrets
from actors.storage import Storage

# Images that one task loads, one after the other: a task costs Ray as much as loading a small image.
IMAGES_PER_TASK = 8
_ROWS_AT_ONCE = 1000

WorkRow = dict[str, Any]


def feed(batch: Mapping[str, Any], *, columns: Sequence[str], storage: Storage) -> Iterator[dict[str, list[str]]]:
    """Read work files in turn and give out their rows in groups.

    In: `uri` of work files. Out, one by one: `rows`, the rows of one group with these columns, a line of JSON each.
    """
    with without_secrets():
        for uri in batch["uri"]:
            with storage.open(str(uri)) as stream:
                batches = pq.ParquetFile(stream).iter_batches(_ROWS_AT_ONCE, columns=list(columns))
                for group in groups(row for part in batches for row in part.to_pylist()):
                    yield as_group(group)


def as_group(rows: Sequence[WorkRow]) -> dict[str, list[str]]:
    """Rows as one row of Ray's."""
    return {"rows": ["\n".join(map(json.dumps, rows))]}


def rows_of(batch: Mapping[str, Any]) -> Iterator[list[WorkRow]]:
    """The rows that `feed` has put together, so many at a time that the ledger is asked about at once."""
    lines = itertools.chain.from_iterable(str(text).split("\n") for text in batch["rows"])
    while rows := [json.loads(line) for line in itertools.islice(lines, IMAGES_PER_TASK)]:
        yield rows


def groups(rows: Iterator[WorkRow]) -> Iterator[list[WorkRow]]:
    """Rows whose images lie in one row group of one file together, so that it is read once; all others by eights.

    Of a web server a file comes as a whole, so all images of such a file are together. Those of a tar and of a Lance
    table are each read by themselves.
    """
    for place, together in itertools.groupby(rows, _file_and_group):
        if place is not None:
            yield list(together)
            continue
        while some := list(itertools.islice(together, IMAGES_PER_TASK)):
            yield some


def _file_and_group(row: WorkRow) -> tuple[str, str, int] | None:
    file = row["image_file"]
    if file is None:
        return None
    if Storage.scheme(file) in ("http", "https"):
        return file, "", 0
    return None if row["image_group"] in (TAR_GROUP, LANCE_GROUP) else (file, row["image_column"], row["image_group"])
