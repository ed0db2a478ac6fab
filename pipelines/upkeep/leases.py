"""Who writes to a dataset, or did: its leases, and the work files of runs."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from pydantic import ValidationError

from actors.errors import StorageError
from actors.storage import NotFound, Storage
from pipelines.dataset.beats import BEAT_S, Beat
from pipelines.dataset.layout import Layout, lease_number
from pipelines.dataset.lease import Holder, read_holder
from pipelines.dataset.work import left_work, read_work
from pipelines.planning.hashes import Hashes, hashes_of
from pipelines.upkeep import kinds
from pipelines.upkeep.findings import Problem

# A run whose lease is renewed beats every `BEAT_S`; one whose store is slow is not silent yet.
_SILENT = timedelta(seconds=30 * BEAT_S)


@dataclass(slots=True)
class Writers:
    """Those that write while the dataset is looked at.

    Attributes:
        alive: who holds a lease that is not over.
        clips: hashes of the clips that are theirs to make.
        newest: the highest lease of each folder of leases.
        problems: of leases and work files.
    """

    alive: list[Holder] = field(default_factory=list)
    clips: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    newest: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    @property
    def runs(self) -> list[str]:
        """The ids of the runs that write, or of what else holds a lease."""
        return [holder.run_id for holder in self.alive]

    def together(self, later: "Writers") -> "Writers":
        """Those of two looks; of its problems the later one knows."""
        alive = {holder.run_id: holder for holder in [*self.alive, *later.alive]}
        return Writers(list(alive.values()), np.union1d(self.clips, later.clips), later.newest, later.problems)


def look_at_writers(layout: Layout, storage: Storage, without: str = "") -> Writers:
    """Read the leases, and which clips the work files of live runs list.

    Args:
        without: the run_id of whoever looks while it holds the lease itself.
    """
    writers = Writers()
    for folder in [layout.lease, *storage.list_folders(layout.lease)]:
        _look_at_lease(folder, writers, layout, storage, without)
    found = []
    for uri, run in left_work(layout, storage):
        if run.uri not in {layout.run(run_id).uri for run_id in writers.runs}:
            writers.problems.append(Problem(kinds.LEFT_WORK, uri))
            continue
        with suppress(StorageError):  # its run has just come to its end
            found.append(hashes_of(read_work(uri, ["clip_id"], storage)["clip_id"]))
    writers.clips = np.unique(np.concatenate([writers.clips, *found]))
    return writers


def _look_at_lease(folder: str, writers: Writers, layout: Layout, storage: Storage, without: str) -> None:
    names = sorted(storage.list_names(folder))
    numbers = sorted(number for number in map(lease_number, names) if number is not None)
    for name in names:
        if lease_number(name) is None:
            kind = kinds.UPLOADS if Storage.is_temporary(f"{folder}/{name}") else kinds.FOREIGN
            if kind is kinds.UPLOADS or not name.startswith((".", "_")):
                writers.problems.append(Problem(kind, f"{folder}/{name}"))
    if not numbers:
        return
    files = [f"{folder}/{name}" for name in names if lease_number(name) is not None]
    writers.newest.add(files[-1])
    writers.problems += [Problem(kinds.OLD_LEASES, uri) for uri in files[:-1]]
    try:
        holder = read_holder(files[-1], storage)
    except ValueError:  # pydantic's, too
        writers.problems.append(Problem(kinds.DAMAGED_LEASE, files[-1]))
        return
    if holder is None or holder.run_id == without:
        return
    if not holder.is_over:
        writers.alive.append(holder)
        writers.problems += _silence(holder, layout, storage)
    elif not holder.is_released:
        writers.problems.append(Problem(kinds.STALE_LEASE, files[-1], said=f"of run {holder.run_id}"))


def _silence(holder: Holder, layout: Layout, storage: Storage) -> Iterator[Problem]:
    """Of a run whose lease is renewed, and that does not say how it is."""
    uri = layout.run(holder.run_id).heartbeat
    try:
        beat = Beat.model_validate_json(storage.read_bytes(uri))
    except (NotFound, ValidationError):  # a repair has none
        return
    if datetime.now(UTC) - beat.beaten_at > _SILENT:
        yield Problem(kinds.SILENT, uri, said=f"run {holder.run_id} of {holder.name}")
