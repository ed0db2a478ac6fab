"""Which content images had that are gone, by the records of the clips that were made of them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from actors.storage import Storage
from pipelines.dataset.layout import metadata_in
from pipelines.dataset.records import read_columns

_COLUMNS = ("image_uri", "image_sha256")
# Files of records that are read at once.
_READERS = 16


class MadeImages:
    """Of a dataset; nothing is read before the first image is asked for. 150 bytes a clip."""

    def __init__(self, parts: Sequence[str], storage: Storage) -> None:
        self._parts, self._storage = parts, storage
        self._table: pa.Table | None = None

    def sha256_of(self, uris: Sequence[str]) -> list[str | None]:
        """The SHA-256 of what was at each URI when the last clip was made of it; None where there is none.

        Raises:
            StorageError: a file of records cannot be read.
        """
        if self._table is None:
            with ThreadPoolExecutor(_READERS) as readers:
                tables = readers.map(self._read, reversed(self._parts))  # later clips are in later parts
                self._table = pa.concat_tables([_table([], []), *tables]).combine_chunks()
        at = pc.index_in(pa.array(uris, pa.string()), self._table["image_uri"])
        found: list[str | None] = self._table["image_sha256"].take(at).to_pylist()
        return found

    def _read(self, part: str) -> pa.Table:
        some = read_columns(metadata_in(part), _COLUMNS, self._storage, ())
        if some is None or some.table.num_columns < len(_COLUMNS):
            return _table([], [])
        known = some.table.filter(pc.is_valid(some.table["image_sha256"]))
        return _table(*(known[name] for name in _COLUMNS))


def _table(uris: Any, contents: Any) -> pa.Table:
    """One schema for all, also where a dataset that somebody has edited has other types of text."""
    columns = (pa.array([], pa.string()) if not len(one) else pc.cast(one, pa.string()) for one in (uris, contents))
    return pa.table(dict(zip(_COLUMNS, columns, strict=True)))
