"""Small parts, which many small runs have left, become parts of up to `PART_CLIPS` rows; no video changes.

A video has to move with its record, because `file_name` is relative to the part's folder. It is done under the lease of
the whole dataset, for each part that takes in others in this order:

1. Each video gets its place in the target, too: a second name on this machine, a copy that the store makes elsewhere.
2. The target's records are written, with those of the sources.
3. The sources' records are removed, if they are what was merged: from here on each clip is listed once.
4. The videos' former places are removed.

At each moment each clip is listed at least once, and its file is there. A kill in between leaves clips that are listed
twice, or videos that lie in two parts, of which the next `compact` and `verify --repair` keep one.

The last part keeps its number, and no other gets a new one: numbers that new parts take only grow.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from actors.errors import RunError
from actors.records import FAILURE_SCHEMA
from actors.storage import Storage
from pipelines.dataset.layout import PART_CLIPS, Layout, upkeep_id
from pipelines.dataset.lease import held
from pipelines.dataset.records import read_records, to_parquet
from pipelines.upkeep import kinds
from pipelines.upkeep.looking import column
from pipelines.upkeep.moving import Mover
from pipelines.upkeep.places import READERS
from pipelines.upkeep.repairing import LEASE_S, mend
from pipelines.upkeep.schemas import Columns, conform
from pipelines.upkeep.whole import Whole, look_at

# What a compact that was killed leaves; a repair clears it up.
_LEFT_BY_COMPACT = {kinds.TWICE, kinds.COPIES, kinds.FAILED_TWICE, kinds.NO_METADATA}
# What stands in nobody's way.
_HARMLESS = {kinds.STALE_LEASE, kinds.OLD_LEASES, kinds.NO_CARD, kinds.SILENT}

# Videos that are copied or removed between two looks at the lease: seconds on any store.
_VIDEOS_PER_LOOK = 64


@dataclass(slots=True)
class Merges:
    """What is to become one.

    Attributes:
        into: of each part that takes in others, these.
        empty: parts without a row, which go.
        parts: how many there are before.
        rows: that move, of clips and of failures.
        links: parts that are links, and stay as they are.
    """

    into: dict[int, list[int]] = field(default_factory=dict)
    empty: list[int] = field(default_factory=list)
    parts: int = 0
    rows: int = 0
    links: int = 0

    @property
    def parts_after(self) -> int:
        """How many there will be."""
        return self.parts - len(self.empty) - sum(map(len, self.into.values()))


def plan_merges(sizes: dict[int, int], links: Sequence[int] = ()) -> Merges:
    """Decide which parts become one, so that few rows move: the largest of the small parts take in the smaller ones.

    Args:
        sizes: of each part its rows, of clips and of failures.
    """
    last = max(sizes, default=0)
    small = [part for part, rows in sizes.items() if rows < PART_CLIPS and part not in links]
    merges = Merges(parts=len(sizes), links=len(links))
    merges.empty = sorted(part for part in small if not sizes[part] and part != last)
    room: dict[int, int] = {}
    for part in sorted(small, key=lambda part: (part != last, -sizes[part], part)):
        if not sizes[part] and part != last:
            continue
        target = next((one for one, left in room.items() if part != last and sizes[part] <= left), None)
        if target is None:
            room[part] = PART_CLIPS - sizes[part]
        else:
            merges.into.setdefault(target, []).append(part)
            merges.rows += sizes[part]
            room[target] -= sizes[part]
    return merges


def compact(layout: Layout, storage: Storage, *, dry_run: bool) -> Merges:
    """Merge small parts; what was merged, or with `dry_run` what would be.

    Raises:
        ConfigError: there is no dataset.
        BusyError: another run writes to it.
        RunError: `verify` finds something wrong with it.
    """
    if dry_run:
        return _merges(look_at(layout, storage, deep=False), layout, storage)
    if not storage.exists(layout.lease):
        look_at(layout, storage, deep=False)  # which says where there is no dataset
    run_id = upkeep_id("compact")
    with held(layout, storage, run_id=run_id, lease_s=LEASE_S) as lease:
        mover = Mover(layout, storage, run_id, lease.check)
        whole = look_at(layout, storage, deep=False, run_id=run_id)
        _check(whole, layout)
        if set(whole.findings.kinds) & _LEFT_BY_COMPACT:
            whole, _ = mend(mover, deep=False)
        merges = _merges(whole, layout, storage)
        for target, sources in merges.into.items():
            _merge(target, sources, whole.columns, mover)
        for part in merges.empty:
            _remove_empty(part, mover)
    return merges


def _merges(whole: Whole, layout: Layout, storage: Storage) -> Merges:
    _check(whole, layout)
    sizes = {part: whole.sizes[part] + whole.failed[part] for part in {*whole.sizes, *whole.failed}}
    links = [part for part in sizes if _is_link(layout.part(part), storage)]
    return plan_merges(sizes, links)


def _check(whole: Whole, layout: Layout) -> None:
    """Raise RunError where something is wrong that is not of a former compact."""
    wrong = [kind for kind in whole.findings.kinds if kind not in _LEFT_BY_COMPACT | _HARMLESS]
    if wrong:
        said = "; ".join(f"{whole.findings.counts[kind]:,} {kind.said}" for kind in wrong)
        raise RunError(
            f"{layout.root} is not whole ({said}): first `stillreel verify {layout.root} --repair`, then compact it"
        )


def _is_link(folder: str, storage: Storage) -> bool:
    return storage.is_local(folder) and os.path.islink(storage.native_path(folder))  # noqa: PTH114 - a string


def _merge(target: int, sources: Sequence[int], columns: Columns, mover: Mover) -> None:
    """Have one part take in others."""
    layout, storage = mover.layout, mover.storage
    read = [_read(source, mover) for source in sources]
    made, failed, videos = list[pa.Table](), list[pa.Table](), list[tuple[str, str]]()
    for source, (failures, rows) in zip(sources, read, strict=True):
        if rows.table is not None:
            made.append(conform(rows.table, columns.made))
            names = column(rows.table, "file_name")
            videos += [(layout.video(source, name), layout.video(target, name)) for name in names]
        if failures.table is not None and failures.table.num_rows:
            failed.append(conform(failures.table, columns.failed))
    _each(videos, lambda pair: mover.copy(*pair), mover)
    if made:
        mover.rewrite(layout.metadata(target), lambda table: _joined(table, made, columns.made), columns.own)
    if failed:
        mover.rewrite(
            layout.failures_of(target), lambda table: _joined(table, failed, columns.failed), FAILURE_SCHEMA.names
        )
    for files in read:
        _remove_records(files, mover)
    _each(videos, lambda pair: storage.remove(pair[0]), mover)
    for source in sources:
        storage.prune(layout.part(source))


def _each(videos: Sequence[tuple[str, str]], step: Callable[[tuple[str, str]], None], mover: Mover) -> None:
    """Do a step with each video, and look at the lease between."""
    with ThreadPoolExecutor(READERS) as workers:
        for first in range(0, len(videos), _VIDEOS_PER_LOOK):
            mover.check_lease()
            list(workers.map(step, videos[first : first + _VIDEOS_PER_LOOK]))


def _joined(table: pa.Table, others: Sequence[pa.Table], full: pa.Schema) -> pa.Table:
    own = [conform(table, full)] if table.num_rows else []
    return pa.concat_tables([*own, *others]).sort_by("clip_id")


def _remove_empty(part: int, mover: Mover) -> None:
    """Remove the records of a part that had no row when it was looked at, and has none now."""
    files = _read(part, mover)
    if not any(file.table is not None and file.table.num_rows for file in files):
        _remove_records(files, mover)


@dataclass(frozen=True, slots=True)
class _Read:
    """A file of records as it was read; None of one that is not there."""

    uri: str
    table: pa.Table | None
    version: str | None


def _read(part: int, mover: Mover) -> tuple[_Read, _Read]:
    """The failures and the clips of a part."""

    def one(uri: str) -> _Read:
        version = mover.storage.version(uri)  # before the content: one that is too old is refused
        return _Read(uri, read_records(uri, mover.storage), version)

    return one(mover.layout.failures_of(part)), one(mover.layout.metadata(part))


def _remove_records(files: Sequence[_Read], mover: Mover) -> None:
    """Of a part whose rows all stand elsewhere, or that has none, unless somebody else has written them meanwhile.

    More stores write by a condition than remove by one. So the rows go by a write; what is removed has none.
    """
    storage = mover.storage
    for file in files:
        version = file.version
        if file.table is not None and file.table.num_rows:
            mover.check_lease()
            version = storage.replace_bytes(file.uri, to_parquet(file.table.slice(0, 0), None), version)
        if file.table is not None:
            mover.check_lease()
            storage.remove_unchanged(file.uri, version)
        storage.prune(Storage.parent(file.uri))
