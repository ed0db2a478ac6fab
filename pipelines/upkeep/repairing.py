"""What `verify --repair` does, and in which order.

It holds the lease of the whole dataset, so nothing else writes. It looks, mends, and looks again, until nothing is left
that it may mend:

1. Clips that interrupted runs had finished are listed, as a run does it (`pipelines.dataset.recover`).
2. What is in the way goes into `_orphans/`: foreign files, halves of uploads, files of records that cannot be read,
   videos that are not what their row says. A folder that was a part becomes one again.
3. Finished videos that no row lists go to their place, and then into the records.
4. Rows that are wrong leave the records; a copy of them is kept in `_orphans/`.
5. All files of records get the same columns.

A kill at any moment loses nothing, because of three rules. A file is at its new place before it leaves the old one. A
video is at its place before a row lists it. A row of a clip whose video is good leaves only where another row lists the
clip. A video that is not what its row says goes before that row: a row without a video is made again by the next run,
while a damaged video without a row might be taken for a finished one.

Nothing is deleted but names that are empty, and what `recover` clears away after itself. What a listed link leads to
stays where it is.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from actors.errors import ConfigError, RunError, StorageError
from actors.records import FAILURE_SCHEMA
from actors.storage import Storage
from pipelines.dataset import card
from pipelines.dataset.layout import Layout, is_metadata, metadata_in, part_of, upkeep_id
from pipelines.dataset.lease import held
from pipelines.dataset.recover import recover_file
from pipelines.dataset.work import left_work
from pipelines.upkeep import kinds
from pipelines.upkeep.extending import extend
from pipelines.upkeep.judging import Judged, row_of
from pipelines.upkeep.looking import Look, column, is_clip_id, names_of
from pipelines.upkeep.moving import Mover
from pipelines.upkeep.places import list_all
from pipelines.upkeep.rows import Wrong, mended
from pipelines.upkeep.schemas import conform
from pipelines.upkeep.whole import Whole, look_at

# A repair that does not answer for so long has lost its lease.
LEASE_S = 120.0
# Looks at the dataset: each mends what the one before it has laid open.
_PASSES = 8
_TO_ORPHANS = (
    *(kinds.PART_TWICE, kinds.FOREIGN, kinds.UPLOADS, kinds.SPOILT, kinds.OTHER_SIZE, kinds.OTHER_CONTENT),
    *(kinds.DAMAGED_METADATA, kinds.DAMAGED_FAILURES),
)
# Parts into whose records nothing can be written.
_CLOSED = (kinds.FOREIGN_SCHEMA, kinds.OTHER_GENERATOR, kinds.NEWER)


def repair(layout: Layout, storage: Storage, *, deep: bool) -> tuple[Whole, Counter[str]]:
    """Mend what can be mended; what is left, and how often what was done.

    Raises:
        ConfigError: there is no dataset.
        BusyError: another run writes to it.
        RunError: a newer version has written to it.
        StorageError: the store failed.
    """
    if not storage.exists(layout.lease):
        look_at(layout, storage, deep=False)  # which says where there is no dataset
    run_id = upkeep_id("repair")
    with held(layout, storage, run_id=run_id, lease_s=LEASE_S) as lease:
        mover = Mover(layout, storage, run_id, lease.check)
        return mend(mover, deep=deep)


def mend(mover: Mover, *, deep: bool) -> tuple[Whole, Counter[str]]:
    """The same under a lease that is held."""
    done: Counter[str] = Counter()
    for _ in range(_PASSES):
        _take_in_work(mover, done)
        whole = look_at(mover.layout, mover.storage, deep=deep, all_of_it=True, run_id=mover.run_id)
        if newer := whole.findings.of(kinds.NEWER):
            raise RunError(
                f"{newer[0].uri} was written by a newer version of stillreel ({newer[0].said}): use that one"
            )
        before, mover.needed = done.total(), whole.leads_to
        _Pass(mover, whole, done).mend()
        if done.total() == before:
            break
        deep = False  # what it tells is moved away by now
    return whole, done


def _take_in_work(mover: Mover, done: Counter[str]) -> None:
    """List what interrupted runs had finished."""
    for uri, run in left_work(mover.layout, mover.storage):
        try:
            recovered = recover_file(mover.layout, uri, run, mover.storage, mover.check_lease)
        except ConfigError:  # of another version, which is to take it in
            continue
        except StorageError as error:
            if isinstance(error.__cause__, pa.ArrowException | KeyError):
                done["work files that could not be read were moved into _orphans/"] += mover.orphan(uri)
            continue  # once the records that are damaged are out of the way
        mover.storage.remove(uri)
        mover.storage.prune(run.work)
        done["work files of interrupted runs were cleared away"] += 1
        done["finished clips of interrupted runs were listed"] += recovered


class _Pass:
    """What one look at the dataset has found, mended."""

    def __init__(self, mover: Mover, whole: Whole, done: Counter[str]) -> None:
        self._mover, self._whole, self._done = mover, whole, done
        self._layout, self._storage = mover.layout, mover.storage
        self._found = whole.findings
        self._columns = whole.columns
        self._full, self._own = self._columns.made, self._columns.own
        self._closed = {problem.uri for kind in _CLOSED for problem in self._found.of(kind)}
        self._parts, self._taken = set(whole.sizes), {*whole.sizes, *whole.failed}

    def mend(self) -> None:
        """One step after the other; what lays open new things ends the pass."""
        before = self._done.total()
        for step in (self._clear_away, self._take_in_videos):
            step()
            if self._done.total() > before:
                return
        self._mend_rows()
        self._mend_failures()
        self._mend_schemas()
        self._mend_card()

    # --- 2. Out of the way --------------------------------------------------------------------------------------------

    def _clear_away(self) -> None:
        for kind in _TO_ORPHANS:
            for problem in self._found.of(kind):
                if self._mover.orphan(problem.uri):
                    self._done[f"{kind.said}: moved into _orphans/"] += 1
        for problem in self._found.of(kinds.MISNAMED_METADATA):
            place = metadata_in(Storage.parent(problem.uri))
            is_free = not self._storage.exists(place)
            done = self._mover.move(problem.uri, place) if is_free else self._mover.orphan(problem.uri)
            self._done["records got their right name" if is_free else "misnamed records: moved into _orphans/"] += done
        good = set(self._whole.good.tolist())
        for look in self._whole.stray:
            own = set(look.hashes[look.is_good].tolist())
            if own <= good:
                done = self._mover.orphan_folder(look.uri)
                self._done["folders of no part's name, of whose clips none is new: moved into _orphans/"] += done
            else:
                self._adopt(look)
                good |= own
                self._done["folders with clips became parts"] += 1

    def _adopt(self, look: Look) -> None:
        """Make a part of a folder; on a store the records come after the videos."""
        named = re.search(r"\d+", look.uri.rpartition("/")[2])
        number = int(named[0]) if named and len(named[0]) <= 8 else None  # noqa: PLR2004 - as many as a part may have
        place = self._layout.part(number if number is not None and number not in self._parts else self._next())
        self._taken.add(part_of(place) or 0)
        self._parts.add(part_of(place) or 0)
        if self._storage.is_local(look.uri):
            self._mover.move(look.uri, place)
            return
        names = sorted((entry.name for entry in list_all(look.uri, self._storage)), key=is_metadata)
        for name in names:
            self._mover.copy(f"{look.uri}/{name}", f"{place}/{name}")
        for name in names:
            self._storage.remove(f"{look.uri}/{name}")

    def _next(self) -> int:
        return max(self._taken, default=-1) + 1

    # --- 3. Finished videos ---------------------------------------------------------------------------------------

    def _take_in_videos(self) -> None:
        gone = {
            problem.clip_id: problem.uri for kind in (kinds.VIDEO_GONE, kinds.HALF) for problem in self._found.of(kind)
        }
        copies = {problem.uri for problem in self._found.of(kinds.COPIES)}
        listed: defaultdict[str, list[Judged]] = defaultdict(list)
        seen: set[str] = set()
        new_part = self._layout.part(self._next())
        for judged in self._whole.judged:
            if not judged.record or judged.record["generator"] != self._whole.generator or judged.clip_id in seen:
                continue
            if judged.uri in copies:
                self._done["videos that lie elsewhere as well: moved into _orphans/"] += self._mover.orphan(judged.uri)
                continue
            seen.add(judged.clip_id)
            part = self._part_of(judged, gone, new_part)
            if part is None:
                continue
            place = f"{part}/{judged.file_name}"
            if judged.uri != place and not self._mover.move(judged.uri, place):
                continue
            listed[part].append(judged)
        for part, videos in listed.items():
            self._list(part, videos)
            self._done["finished videos were listed"] += len(videos)

    def _part_of(self, judged: Judged, gone: dict[str, str], new_part: str) -> str | None:
        """The folder of the part that is to list a video; None where there is none yet."""
        if judged.clip_id in gone:
            part = Storage.parent(gone[judged.clip_id])
        else:
            data = self._layout.data
            part = f"{data}/{judged.uri[len(data) + 1 :].partition('/')[0]}"
            if part_of(part) is None:
                part = new_part
        place = f"{part}/{judged.file_name}"
        if part in self._closed or (judged.uri != place and self._storage.exists(place)):
            return None
        return part

    def _list(self, part: str, videos: Sequence[Judged]) -> None:
        """Write the rows of videos that are at their place; what an older row of a clip knows beside them is kept."""
        schema = pa.schema([one for one in self._full if one.name in self._own])
        fresh = pa.concat_tables([row_of(video.record or {}, schema) for video in videos])
        facts = {video.clip_id: video for video in videos}

        def change(table: pa.Table) -> pa.Table:
            old = (
                {}
                if not table.num_rows
                else {row["clip_id"]: row for row in table.to_pylist() if row["clip_id"] in facts}
            )
            rows = [self._row(row, old.get(row["clip_id"]), facts[row["clip_id"]]) for row in fresh.to_pylist()]
            stays = [clip_id not in facts for clip_id in table["clip_id"].to_pylist()] if table.num_rows else []
            kept = conform(table.filter(pa.array(stays, pa.bool_())), self._full) if table.num_rows else None
            added = pa.Table.from_pylist(rows, schema=self._full)
            return added if kept is None else pa.concat_tables([kept, added]).sort_by("clip_id")

        self._mover.rewrite(metadata_in(part), change, self._own)

    def _row(self, row: dict[str, Any], old: dict[str, Any] | None, video: Judged) -> dict[str, Any]:
        """A row from what a video says, beside what its former row and other rows tell."""
        if old is not None and old.get("sha256") == row["sha256"]:
            return old | {"file_name": video.file_name}
        model = self._whole.models.get(row.get("model_revision") or "")
        known = {name: value for name, value in row.items() if value is not None}
        return (old or {}) | {"model": model} | known | {"file_name": video.file_name, "created_at": datetime.now(UTC)}

    # --- 4. Rows --------------------------------------------------------------------------------------------------

    def _mend_rows(self) -> None:
        wrong: defaultdict[str, Wrong] = defaultdict(Wrong)
        for problem in self._found.of(kinds.VIDEO_GONE):
            wrong[Storage.parent(problem.uri)].gone.add(problem.clip_id)
        for kind in (kinds.WRONG_NAME, kinds.NO_CLIP_ID, kinds.TWICE):
            for problem in self._found.of(kind):
                part = Storage.parent(problem.uri)
                if part_of(problem.uri) is None or not problem.uri.startswith(self._layout.data):
                    continue  # of failures
                wrong[part].has_others = True
                if kind is kinds.TWICE and problem.said.startswith("kept in"):
                    wrong[part].elsewhere.add(problem.clip_id)
        for part, what in wrong.items():
            if part not in self._closed:
                self._mend_part(part, what)

    def _mend_part(self, part: str, wrong: Wrong) -> None:
        sizes = {entry.name: entry.size for entry in list_all(part, self._storage) if entry.kind == "file"}
        uri = metadata_in(part)

        def change(table: pa.Table) -> pa.Table:
            after = mended(table, wrong, sizes)
            for name, right in after.renamed.items():
                self._mover.move(f"{part}/{name}", f"{part}/{right}")
            self._mover.keep(after.dropped, uri)
            self._done["rows were taken out of the records"] += after.dropped.num_rows
            self._done["rows were corrected"] += after.changed
            return after.kept

        self._mover.rewrite(uri, change, self._own)
        for clip_id in wrong.elsewhere:
            for name in names_of(clip_id):
                if name in sizes:
                    self._done["second videos of a clip: moved into _orphans/"] += self._mover.orphan(f"{part}/{name}")

    def _mend_failures(self) -> None:
        drops: defaultdict[str, set[str]] = defaultdict(set)
        for kind in (kinds.MADE_AND_FAILED, kinds.FAILED_TWICE, kinds.NO_CLIP_ID):
            for problem in self._found.of(kind):
                if problem.uri.startswith(f"{self._layout.failures}/"):
                    is_again = problem.said == "a second time"
                    drops[problem.uri] |= set() if is_again else {problem.clip_id}
        for uri, clip_ids in drops.items():
            self._drop_failures(uri, clip_ids)

    def _drop_failures(self, uri: str, clip_ids: set[str]) -> None:
        def change(table: pa.Table) -> pa.Table:
            ids, attempts = column(table, "clip_id"), column(table, "attempts")
            most: dict[str, int] = {}
            for row, (clip_id, count) in enumerate(zip(ids, attempts, strict=True)):
                known = most.get(clip_id)
                if is_clip_id(clip_id) and (known is None or (count or 0) > (attempts[known] or 0)):
                    most[clip_id] = row
            stays = [most.get(clip_id) == row and clip_id not in clip_ids for row, clip_id in enumerate(ids)]
            self._mover.keep(table.filter(pa.array([not one for one in stays], pa.bool_())), uri)
            self._done["rows were taken out of the failures"] += len(stays) - sum(stays)
            return table.filter(pa.array(stays, pa.bool_()))

        self._mover.rewrite(uri, change, FAILURE_SCHEMA.names)

    # --- 5. Columns, and the rest -----------------------------------------------------------------------------------

    def _mend_schemas(self) -> None:
        uris = [problem.uri for kind in (kinds.OLDER_SCHEMA, kinds.OTHER_TYPES) for problem in self._found.of(kind)]
        self._done["files of records got the columns of the others"] += extend(uris, self._columns, self._mover)

    def _mend_card(self) -> None:
        if self._found.of(kinds.NO_CARD):
            card.write(self._layout, self._storage)
            self._done["README.md was written"] += 1
