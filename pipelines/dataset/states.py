"""How the runs of a dataset are, asked of the dataset itself.

Who asks needs a listing of the leases, and of each share that was ever leased who held it last; then, of the division
that was renewed last, what each run says of itself. A dataset without shards takes three requests in all.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from actors.errors import RunError, StorageError
from actors.storage import Storage
from pipelines.dataset.beats import BEAT_S, ENDED, Beat, read_beat
from pipelines.dataset.layout import Layout, RunFolder, is_upkeep
from pipelines.dataset.lease import Holder, last_holders
from pipelines.dataset.shard import WHOLE, Shard

_BY_CONCERN = ("running", "stale", "failed")
# Beats that are read beside each other.
_READERS = 16


@dataclass(frozen=True, slots=True)
class State:
    """What is known of the last run of a share of a dataset.

    Attributes:
        word: running, done, failed (also stopped, interrupted, broken off) or stale (it should live, and does not).
        beat: None of a run that found nothing to do, or that has not beaten yet.
    """

    word: Literal["running", "done", "failed", "stale"]
    holder: Holder
    beat: Beat | None


@dataclass(frozen=True, slots=True)
class States:
    """Of all shares of the division that was written last; of a dataset that was written as a whole, its one.

    Attributes:
        by_shard: None of a share that no run has begun.
    """

    by_shard: Mapping[Shard, State | None]

    @property
    def of_whole(self) -> State | None:
        """The only one, where the dataset was written as a whole."""
        return self.known[0] if len(self.by_shard) == 1 else None

    @property
    def known(self) -> list[State]:
        """Those of the shares that were begun."""
        return [state for state in self.by_shard.values() if state is not None]

    @property
    def word(self) -> Literal["running", "done", "failed", "stale", "missing"]:
        """The worst of all; missing: of those that have begun all are done, and some have not."""
        if found := {state.word for state in self.known} - {"done"}:
            return max(found, key=_BY_CONCERN.index)
        return "done" if len(self.known) == len(self.by_shard) else "missing"

    @property
    def is_running(self) -> bool:
        """Whether any run is at work."""
        return any(state.word == "running" for state in self.known)


def read_states(layout: Layout, storage: Storage) -> States:
    """Ask a dataset how its last runs are.

    Raises:
        RunError: this is no dataset, or of a newer version, or the record of a run is damaged.
        StorageError: the store does not answer.
    """
    try:
        holders: Mapping[Shard, Holder] = last_holders(layout, storage)
    except StorageError:
        _check_no_file(layout, storage)
        raise
    if not holders:
        _check_no_file(layout, storage)
        raise RunError(f"{layout.root} is no dataset of stillreel: no run has ever written there")
    last = max(holders, key=lambda shard: holders[shard].renewed_at)
    if holders[last].is_released and is_upkeep(holders[last].run_id):
        last, holders = _before_upkeep(holders, layout, storage)

    def state_of(shard: Shard) -> State | None:
        holder = holders.get(shard)
        return None if holder is None else _state_of(holder, read_beat(layout.run(holder.run_id).heartbeat, storage))

    with ThreadPoolExecutor(_READERS) as readers:
        return States(dict(zip(last.division, readers.map(state_of, last.division), strict=True)))


def _state_of(holder: Holder, beat: Beat | None) -> State:
    if beat is not None and beat.phase in ENDED:
        return State("done" if beat.phase == "done" else "failed", holder, beat)
    if holder.is_released:
        found_nothing = beat is None and not holder.was_ended  # to do, and has left no folder
        return State("done" if found_nothing else "failed", holder, beat)
    silent = datetime.now(UTC) - (beat.beaten_at if beat else holder.renewed_at)
    is_stale = holder.is_over and silent > timedelta(seconds=2 * BEAT_S)
    return State("stale" if is_stale else "running", holder, beat)


def _before_upkeep(
    holders: Mapping[Shard, Holder], layout: Layout, storage: Storage
) -> tuple[Shard, Mapping[Shard, Holder]]:
    """Which share was written last before a repair or a compact took the lease of the whole, and who held each then.

    Those of shards are still there. Of the whole there is the newest run that left a folder.
    """
    for uri in reversed(storage.list_folders(layout.runs)):
        run = RunFolder(uri)
        beat = read_beat(run.heartbeat, storage)
        if beat is not None:
            return run.shard, {**holders, WHOLE: replace(holders[WHOLE], run_id=beat.run_id)}
    shards = [shard for shard in holders if not shard.is_whole]
    return max(shards, key=lambda shard: holders[shard].renewed_at, default=WHOLE), holders


def _check_no_file(layout: Layout, storage: Storage) -> None:
    """Raise RunError where the place of the dataset is a file's."""
    with suppress(StorageError):  # a folder, or nothing
        storage.size(layout.root)
        raise RunError(f"{layout.root} is a file and no dataset: give the folder that `output` names")
