"""What a finished dataset must be, and what is wrong with it."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors.storage import Storage
from pipelines.dataset.layout import Layout


@dataclass(slots=True)
class Audit:
    """The rows of a dataset held against its files."""

    clips: dict[str, dict[str, Any]] = field(default_factory=dict)  # by clip_id
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    duplicated: int = 0  # rows beyond the first of a clip, in data/ and failures/ together
    mismatched: int = 0  # rows whose file is missing or is not the one that the row describes

    def lost(self, wanted: int) -> int:
        """How many of `wanted` rows are neither a clip nor a failure."""
        return wanted - len(self.clips.keys() | self.failures.keys())


def audit(output: str, storage: Storage) -> Audit:
    """Read every row and every video of a dataset."""
    result = Audit()
    rows: Counter[str] = Counter()
    layout = Layout(output)
    records = storage.list_files(layout.data, suffix=".parquet") + storage.list_files(
        layout.failures, suffix=".parquet"
    )
    for uri in records:
        table = pq.read_table(pa.BufferReader(storage.read_bytes(uri)))
        kind = result.clips if uri.startswith(layout.data) else result.failures
        for row in table.to_pylist():
            rows[row["clip_id"]] += 1
            kind[row["clip_id"]] = row
            if kind is result.clips:
                result.mismatched += not _is_as_described(
                    storage.join(storage.parent(uri), row["file_name"]), row, storage
                )
    result.duplicated = sum(count - 1 for count in rows.values())
    return result


def stored_videos(output: str, storage: Storage) -> set[str]:
    """clip_ids of the videos that are there as a whole, listed or not."""
    names = (uri.rpartition("/")[2] for uri in storage.list_files(storage.join(output, "data"), suffix=".mp4"))
    return {name.partition(".")[0] for name in names if not name.startswith(".")}


def _is_as_described(uri: str, row: dict[str, Any], storage: Storage) -> bool:
    if not storage.exists(uri):
        return False
    data = storage.read_bytes(uri)
    return (len(data), hashlib.sha256(data).hexdigest()) == (row["bytes"], row["sha256"])
