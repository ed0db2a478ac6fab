"""How the runs of a dataset are, asked of the dataset itself.

Who asks needs a listing of the leases, and of each share that was ever leased who held it last; then, of the division
that was renewed last, what each run says of itself. A dataset without shards takes three requests in all. A run that
found nothing to do has left nothing: then a listing of the runs, and what the last one says that made something.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Literal

from actors.errors import RunError, StorageError
from actors.storage import Storage
from pipelines.dataset.beats import BEAT_S, ENDED, Beat, read_beat
from pipelines.dataset.generations import MAX_CLOCK_SKEW_S
from pipelines.dataset.layout import Layout, RunFolder, is_upkeep
from pipelines.dataset.lease import Holder, last_holders
from pipelines.dataset.shard import WHOLE, Shard

_BY_CONCERN = ("running", "stale", "unreadable", "failed")
# Whose last beat is older by two of these may be at work on a machine whose clock differs: the next beat would tell.
_LOOK_AGAIN_S = 2 * BEAT_S
# No clock is expected to be wrong by more.
_CLOCKS_DIFFER = timedelta(minutes=15)
# Beats that are read beside each other.
_READERS = 16


@dataclass(frozen=True, slots=True)
class State:
    """What is known of the last run of a share of a dataset.

    Attributes:
        word: running, done, failed (also too many failed rows, stopped, interrupted, broken off), stale (it should
            live, and does not) or unreadable (what one of several shards says of itself).
        holder: who held the lease last.
        beat: of that run, or where it found nothing to do, of the last one that had something; None of none.
        found_nothing: the last run has found nothing to do.
    """

    word: Literal["running", "done", "failed", "stale", "unreadable"]
    holder: Holder
    beat: Beat | None
    found_nothing: bool = False
    problem: str = ""  # of one that is unreadable


@dataclass(frozen=True, slots=True)
class States:
    """Of all shares of the division that was written last; of a dataset that was written as a whole, its one.

    Attributes:
        by_shard: None of a share that no run has begun.
        since: who has found nothing to do in the whole dataset after the last runs of these shards.
    """

    by_shard: Mapping[Shard, State | None]
    since: Holder | None = None

    @property
    def of_whole(self) -> State | None:
        """The only one, where the dataset was written as a whole."""
        return self.known[0] if len(self.by_shard) == 1 else None

    @property
    def known(self) -> list[State]:
        """Those of the shares that were begun."""
        return [state for state in self.by_shard.values() if state is not None]

    @property
    def word(self) -> Literal["running", "done", "failed", "stale", "unreadable", "missing"]:
        """The worst of all; missing: of those that have begun all are done, and some have not."""
        if self.since is not None:
            return _settled([state.beat for state in self.known])
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
        raise RunError(
            f"{layout.root} is no dataset of stillreel: no run has ever written there, or one that was just submitted "
            "has not begun"
        )
    last = max(holders, key=lambda shard: holders[shard].renewed_at)
    if holders[last].is_released and is_upkeep(holders[last].run_id):
        last, holders = _before_upkeep(holders, layout, storage)

    states = _states_of(last.division, holders, layout, storage)
    whole = states.of_whole
    if whole is not None and whole.found_nothing and whole.beat is not None:
        made_by = layout.run(whole.beat.run_id).shard
        if not made_by.is_whole:
            return replace(_states_of(made_by.division, holders, layout, storage), since=whole.holder)
    return states


def _states_of(division: Sequence[Shard], holders: Mapping[Shard, Holder], layout: Layout, storage: Storage) -> States:
    """Ask each run of a division how it is."""
    runs = _Runs(layout, storage)

    def state_of(shard: Shard) -> State | None:
        holder = holders.get(shard)
        if holder is None:
            return None
        try:
            beat = read_beat(layout.run(holder.run_id).heartbeat, storage)
        except RunError as error:
            if len(division) == 1:
                raise
            return State("unreadable", holder, None, problem=str(error))
        if beat is None and holder.is_released and not holder.was_ended:  # nothing to do, so it has left no folder
            past = runs.last_beat(shard)
            return State(_settled([past]), holder, past, found_nothing=True)
        state = _state_of(holder, beat)
        if beat is not None and _may_be_the_clocks(state, beat):
            time.sleep(_LOOK_AGAIN_S)
            again = read_beat(layout.run(holder.run_id).heartbeat, storage) or beat
            if again.phase in ENDED:
                return _state_of(holder, again)
            return State("stale" if again.beaten_at == beat.beaten_at else "running", holder, again)
        return state

    with ThreadPoolExecutor(_READERS) as readers:
        return States(dict(zip(division, readers.map(state_of, division), strict=True)))


def _settled(beats: Sequence[Beat | None]) -> Literal["done", "failed"]:
    """What runs came to after which nothing is left to do: that rows failed stays, that one ended early does not."""
    return "failed" if any(beat is not None and beat.failed_too_often for beat in beats) else "done"


class _Runs:
    """What the runs of a dataset have left, listed when it is first asked for."""

    def __init__(self, layout: Layout, storage: Storage) -> None:
        self._layout, self._storage = layout, storage
        self._lock = Lock()
        self._folders: list[RunFolder] | None = None

    def last_beat(self, shard: Shard) -> Beat | None:
        """Of the last run of a share, of the whole the last one of any share; None where none has left one."""
        for run in self._newest_first():
            if shard.is_whole or run.shard == shard:
                beat = read_beat(run.heartbeat, self._storage)
                if beat is not None:
                    return beat
        return None

    def _newest_first(self) -> list[RunFolder]:
        with self._lock:
            if self._folders is None:
                uris = self._storage.list_folders(self._layout.runs)
                self._folders = [RunFolder(uri) for uri in sorted(uris, reverse=True)]
            return self._folders


def _state_of(holder: Holder, beat: Beat | None) -> State:
    if beat is not None and beat.phase in ENDED:
        return State("done" if beat.went_well else "failed", holder, beat)
    if holder.is_released:
        return State("failed", holder, beat)
    silent = datetime.now(UTC) - (beat.beaten_at if beat else holder.renewed_at)
    is_stale = holder.is_over and silent > timedelta(seconds=2 * BEAT_S)
    return State("stale" if is_stale else "running", holder, beat)


def _may_be_the_clocks(state: State, beat: Beat) -> bool:
    """Whether the machine that asks and the one that runs may tell times that differ."""
    if state.holder.is_gone or state.holder.is_released or beat.phase in ENDED:
        return False
    silent = datetime.now(UTC) - beat.beaten_at
    return silent < -timedelta(seconds=MAX_CLOCK_SKEW_S) or (state.word == "stale" and silent < _CLOCKS_DIFFER)


def _before_upkeep(
    holders: Mapping[Shard, Holder], layout: Layout, storage: Storage
) -> tuple[Shard, Mapping[Shard, Holder]]:
    """Which share was written last before a repair or a compact took the lease of the whole, and who held each then.

    Those of shards are still there. Of the whole there is the newest run that left a folder.
    """
    beat = _Runs(layout, storage).last_beat(WHOLE)
    if beat is not None:
        return layout.run(beat.run_id).shard, {**holders, WHOLE: replace(holders[WHOLE], run_id=beat.run_id)}
    shards = [shard for shard in holders if not shard.is_whole]
    return max(shards, key=lambda shard: holders[shard].renewed_at, default=WHOLE), holders


def _check_no_file(layout: Layout, storage: Storage) -> None:
    """Raise RunError where the place of the dataset is a file's."""
    with suppress(StorageError):  # a folder, or nothing
        storage.size(layout.root)
        raise RunError(f"{layout.root} is a file and no dataset: give the folder that `output` names")
