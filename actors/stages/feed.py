"""Work rows for the tasks that load: those together that are best loaded one after the other."""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow.parquet as pq

from actors.records import WORK_SCHEMA
from actors.stages.row import Row
from actors.storage import Storage

# Images that one task loads, one after the other: a task costs Ray as much as loading a small image.
IMAGES_PER_TASK = 8
_ROWS_AT_ONCE = 1000


def feed(batch: Mapping[str, Any], *, storage: Storage) -> Iterator[dict[str, list[str]]]:
    """Read work files in turn and give out their rows in groups.

    In: `uri` of work files. Out, one by one: `rows`, the rows of one group (`WORK_SCHEMA`), a line of JSON each.
    """
    for uri in batch["uri"]:
        with storage.open(str(uri)) as stream:
            batches = pq.ParquetFile(stream).iter_batches(_ROWS_AT_ONCE, columns=WORK_SCHEMA.names)
            for group in groups(row for part in batches for row in part.to_pylist()):
                yield {"rows": ["\n".join(map(json.dumps, group))]}


def groups(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Rows whose images lie in one row group of one file together, so that it is read once; all others by eights.

    Of a web server a file comes as a whole, so all images of such a file are together.
    """
    for place, together in itertools.groupby(rows, _file_and_group):
        if place is not None:
            yield list(together)
            continue
        while some := list(itertools.islice(together, IMAGES_PER_TASK)):
            yield some


def _file_and_group(row: Row) -> tuple[str, str, int] | None:
    file = row["image_file"]
    if file is None:
        return None
    return file, row["image_column"], -1 if Storage.scheme(file) in ("http", "https") else row["image_group"]
