"""What a repair and `compact` do to files: each step under the lease, each such that a kill after it loses nothing."""

import os
from collections.abc import Callable

import pyarrow as pa

from actors.storage import NotFound, Storage
from pipelines.dataset.layout import Layout
from pipelines.dataset.records import rewrite_records, to_parquet
from pipelines.upkeep.places import list_all, own_path

# Of a file that is moved away twice in one repair.
_NAMES = 1000


class Mover:
    """Changes files of a dataset for as long as `check_lease` does not raise.

    Attributes:
        needed: paths of this machine that listed links lead to; what is there is no orphan.
    """

    def __init__(self, layout: Layout, storage: Storage, run_id: str, check_lease: Callable[[], None]) -> None:
        self.layout, self.storage, self.run_id = layout, storage, run_id
        self.check_lease = check_lease
        self.needed: set[str] = set()

    def orphan(self, uri: str) -> bool:
        """Move a file, a link, or a folder of this machine into `_orphans/`.

        False where it has gone meanwhile, and where it stays because a listed link leads to it.
        """
        if self._is_needed(uri):
            return False
        place = self.layout.orphan(self.run_id, uri)
        names = (place if not number else f"{place}.{number}" for number in range(_NAMES))
        return self.move(uri, next(name for name in names if not self._is_taken(name)))

    def orphan_folder(self, uri: str) -> bool:
        """Move all of a folder into `_orphans/`; False as of `orphan`."""
        if self.storage.is_local(uri):
            return self.orphan(uri)
        for entry in list_all(uri, self.storage):
            self.orphan(f"{uri}/{entry.name}")
        return True

    def move(self, uri: str, to: str) -> bool:
        """Give a file another place, which is to be free; False where it has gone meanwhile."""
        self.check_lease()
        try:
            self.storage.move(uri, to)
        except NotFound:
            return False
        self.storage.prune(Storage.parent(uri))
        return True

    def copy(self, uri: str, to: str) -> None:
        """Have a file at another place, too; where a file of its size is there, an earlier try has copied it."""
        if self._is_taken(to) and self.storage.size(to) == self.storage.size(uri):
            return
        self.storage.copy(uri, to)

    def rewrite(self, uri: str, change: Callable[[pa.Table], pa.Table], own: list[str]) -> None:
        """Replace a file of records by what `change` makes of it, in one step, unless somebody else has changed it."""
        rewrite_records(
            uri,
            lambda table: change(pa.table({}) if table is None else table),
            own,
            self.storage,
            self.check_lease,
        )

    def keep(self, rows: pa.Table, uri: str) -> None:
        """Put rows that are about to leave a file of records where they can be looked up."""
        if rows.num_rows:
            self.check_lease()
            self.storage.put_bytes(self.layout.dropped_rows(self.run_id, uri), to_parquet(rows, rows.column_names))

    def _is_needed(self, uri: str) -> bool:
        """Whether a listed link leads to a file, or into a folder."""
        if not self.needed or not self.storage.is_local(uri):
            return False
        path = own_path(self.storage.native_path(uri))
        return path in self.needed or any(one.startswith(f"{path}/") for one in self.needed)

    def _is_taken(self, uri: str) -> bool:
        if self.storage.is_local(uri):
            return os.path.lexists(self.storage.native_path(uri))
        return self.storage.exists(uri)
