"""The whole dataset looked at, part by part: what is in it, and what is wrong with it."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from actors.errors import ConfigError
from actors.generators import DEFAULT_GENERATOR
from actors.storage import Storage
from pipelines.dataset.layout import Layout, part_of
from pipelines.planning.hashes import Hashes, contains, hashes_of
from pipelines.upkeep import kinds
from pipelines.upkeep.doubles import Rows, find_doubles
from pipelines.upkeep.findings import Findings, Problem
from pipelines.upkeep.judging import Judged, judge
from pipelines.upkeep.leases import Writers, look_at_writers
from pipelines.upkeep.looking import Look, is_clip_id, kind_of, look_at_failures, look_at_part
from pipelines.upkeep.places import READERS, Entry, Folder, in_order, list_all, list_data
from pipelines.upkeep.schemas import Columns, Schemas

# Videos that no row lists, and that are looked into without --deep: half a minute of them.
_JUDGED = 200
# Of a dataset that lacks fewer, a person can say which.
_FEW = 10
# What a run that writes may be about to do.
_OF_RUNS = (kinds.VIDEO_GONE, kinds.OTHER_SIZE, kinds.OTHER_CONTENT, kinds.UPLOADS, kinds.MADE_AND_FAILED)
# Told when all else has been seen.
_HELD_BACK = (*_OF_RUNS, kinds.FOREIGN)


@dataclass(slots=True)
class Whole:
    """What a dataset holds, and what is wrong with it.

    Attributes:
        sizes: of each part the rows in `data/`; of `failed`, in `failures/`.
        num_bytes: of the videos that are listed and there.
        judged: the videos that no row lists, and that were looked into.
        good: sorted hashes of the clips that are listed and there.
        models: of each `model_revision` its `model`.
        generator: of most rows; None where there is none.
        of_runs: videos and rows that a run which writes is about to list or to make.
        stray: the looks at folders whose name is no part's and that hold records.
        leads_to: paths within the dataset that listed links lead to.
    """

    findings: Findings
    writers: Writers = field(default_factory=Writers)
    sizes: Counter[int] = field(default_factory=Counter)
    failed: Counter[int] = field(default_factory=Counter)
    num_bytes: int = 0
    judged: list[Judged] = field(default_factory=list)
    good: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    models: dict[str, str] = field(default_factory=dict)
    generators: Counter[str] = field(default_factory=Counter)
    of_runs: int = 0
    stray: list[Look] = field(default_factory=list)
    schemas: Schemas = field(default_factory=Schemas)
    leads_to: set[str] = field(default_factory=set)

    @property
    def generator(self) -> str | None:
        """What made its clips."""
        return next((name for name, _ in self.generators.most_common(1)), None)

    @property
    def num_rows(self) -> int:
        """Clips that are listed."""
        return self.sizes.total()

    @property
    def columns(self) -> Columns:
        """All columns that the files of records are to have."""
        return self.schemas.columns(self.generator or DEFAULT_GENERATOR)


def look_at(layout: Layout, storage: Storage, *, deep: bool, all_of_it: bool = False, run_id: str = "") -> Whole:
    """Look at all of a dataset; nothing is written.

    Args:
        all_of_it: keep each problem, and look into each video that no row lists.
        run_id: of whoever looks while it holds the lease.

    Raises:
        ConfigError: there is no dataset.
        StorageError: the store does not answer.
    """
    whole = Whole(Findings(all_of_it))
    _Looking(whole, layout, storage, deep=deep, all_of_it=all_of_it, run_id=run_id).look()
    return whole


class _Looking:
    """One look at a dataset, in steps that fill `whole`."""

    def __init__(
        self, whole: Whole, layout: Layout, storage: Storage, *, deep: bool, all_of_it: bool, run_id: str
    ) -> None:
        self._whole, self._layout, self._storage = whole, layout, storage
        self._deep, self._all, self._run_id = deep, all_of_it, run_id
        self._rows, self._failed = Rows(), Rows()
        self._loose: list[str] = []
        self._held_back: list[Problem] = []
        self._targets: set[str] = set()

    def look(self) -> None:
        layout, storage, whole = self._layout, self._storage, self._whole
        whole.writers = look_at_writers(layout, storage, self._run_id)
        with ThreadPoolExecutor(READERS) as pool:
            folders = self._folders()
            for look in in_order(pool, partial(look_at_part, storage=storage, deep=self._deep), folders):
                self._take(look)
            self._look_at_failures(pool)
            self._ask_again(pool)
            whole.good = self._rows.good
            self._loose = [uri for uri in self._loose if not self._is_led_to(uri)]
            self._judge(pool)
        for problem in find_doubles(self._rows, self._failed, storage):
            self._add(problem)
        self._tell_held_back()
        for problem in whole.schemas.problems(whole.generator or DEFAULT_GENERATOR):
            self._add(problem)
        for problem in whole.writers.problems:
            whole.findings.add(problem)
        self._look_around()

    def _folders(self) -> Iterator[Folder]:
        """Those of `data/` that are looked into; what else lies there is told."""
        data, storage = self._layout.data, self._storage
        if storage.leads_nowhere(data):
            self._add(Problem(kinds.NOWHERE, data))
        for found in list_data(data, storage):
            if isinstance(found, Entry):
                uri = f"{data}/{found.name}"
                kind = kind_of(found, uri)
                if kind is None:
                    self._loose.append(uri)
                else:
                    self._add(Problem(kind, uri))
            elif self._is_own(found):
                yield found

    def _is_own(self, folder: Folder) -> bool:
        """Whether a folder is looked into; else it is told."""
        if folder.number is None and folder.name.startswith((".", "_")):
            self._add(Problem(kinds.HIDDEN, folder.uri))
            return False
        if folder.target:
            root = self._storage.native_path(self._layout.root)
            if folder.target in self._targets or _is_within(folder.target, root):
                self._add(Problem(kinds.PART_TWICE, folder.uri))
                return False
            self._targets.add(folder.target)
        return True

    def _take(self, look: Look) -> None:
        """Count what was found in a folder of `data/`."""
        whole = self._whole
        if look.number is None:
            self._take_stray(look)
            return
        whole.sizes[look.number] += look.num_rows
        whole.num_bytes += look.num_bytes
        whole.generators.update(look.generators)
        whole.models |= look.models
        self._loose += look.loose
        self._rows.add(look)
        root = os.path.realpath(self._storage.native_path(self._layout.root)) if look.leads_to else ""
        whole.leads_to |= {path for path in look.leads_to if path.startswith(f"{root}/")}
        if look.schema is not None:
            whole.schemas.add(look.uri, look.schema, look.generators)
            if not look.num_rows:
                self._add(Problem(kinds.NO_ROWS, look.uri))
        for problem in look.problems:
            self._add(problem)

    def _take_stray(self, look: Look) -> None:
        """A folder of no part's name: one with records may be a part that somebody has renamed."""
        if look.schema is not None and look.num_rows:
            self._whole.stray.append(look)
            self._add(Problem(kinds.STRAY_PART, look.uri))
            return
        self._loose += look.loose
        for problem in look.problems:
            is_ours = problem.kind in (kinds.UPLOADS, kinds.HIDDEN, kinds.NOWHERE)
            self._add(problem if is_ours else Problem(kinds.FOREIGN, problem.uri))

    def _look_at_failures(self, pool: ThreadPoolExecutor) -> None:
        failures, storage = self._layout.failures, self._storage
        if storage.leads_nowhere(failures):
            self._add(Problem(kinds.NOWHERE, failures))
        files = []
        for entry in list_all(failures, storage):
            uri = f"{failures}/{entry.name}"
            number = part_of(uri)
            if number is not None and entry.kind == "file" and uri == self._layout.failures_of(number):
                files.append((uri, number))
            else:
                self._add(Problem(kind_of(entry, uri) or kinds.FOREIGN, uri))
        for look in in_order(pool, lambda file: look_at_failures(*file, storage), files):
            assert look.number is not None
            self._whole.failed[look.number] += look.num_rows
            self._failed.add(look)
            if look.schema is not None:
                self._whole.schemas.add_failures(look.uri, look.schema)
            for problem in look.problems:
                self._add(problem)

    def _add(self, problem: Problem) -> None:
        if problem.kind in _HELD_BACK:
            self._held_back.append(problem)  # until it is known what runs do meanwhile
        else:
            self._whole.findings.add(problem)

    def _ask_again(self, pool: ThreadPoolExecutor) -> None:
        """What a run that writes is doing is no problem: it stores a video first, and lists it later."""
        whole, before = self._whole, self._whole.writers
        whole.writers = before.together(look_at_writers(self._layout, self._storage, self._run_id))
        if not whole.writers.alive and whole.writers.newest == before.newest:
            return
        folders = {self._folder_of(uri) for uri in [*self._loose, *(problem.uri for problem in self._held_back)]}
        again = [
            Folder(uri, partial(list_all, uri, self._storage)) for uri in sorted(folders) if part_of(uri) is not None
        ]
        looks = list(in_order(pool, partial(look_at_part, storage=self._storage, deep=self._deep), again))
        seen = {(problem.kind, problem.uri) for look in looks for problem in look.problems}
        loose = {uri for look in looks for uri in look.loose}
        looked = {look.uri for look in looks}
        held_back = [
            one for one in self._held_back if self._folder_of(one.uri) not in looked or (one.kind, one.uri) in seen
        ]
        self._held_back = [one for one in held_back if not self._is_of_run(one)]
        self._loose = [uri for uri in self._loose if self._folder_of(uri) not in looked or uri in loose]
        kept = [uri for uri in self._loose if not self._is_made_by_run(_name_in(uri))]
        whole.of_runs += len(held_back) - len(self._held_back) + len(self._loose) - len(kept)
        self._loose = kept

    def _folder_of(self, uri: str) -> str:
        """The folder in `data/` that something lies in."""
        data = self._layout.data
        return f"{data}/{uri[len(data) + 1 :].partition('/')[0]}" if uri.startswith(f"{data}/") else ""

    def _is_led_to(self, uri: str) -> bool:
        """Whether a file is what a listed link leads to."""
        leads_to = self._whole.leads_to
        return bool(leads_to) and os.path.realpath(self._storage.native_path(uri)) in leads_to

    def _is_of_run(self, problem: Problem) -> bool:
        if problem.kind is kinds.UPLOADS:
            return bool(self._whole.writers.alive)
        return self._is_made_by_run(problem.clip_id)

    def _is_made_by_run(self, clip_id: str) -> bool:
        return is_clip_id(clip_id) and bool(contains(self._whole.writers.clips, hashes_of([clip_id]))[0])

    def _judge(self, pool: ThreadPoolExecutor) -> None:
        """Look into the videos that no row lists."""
        whole = self._whole
        looked_into = self._loose if self._all or self._deep else self._loose[:_JUDGED]
        for judged in in_order(pool, partial(judge, generator=whole.generator, storage=self._storage), looked_into):
            whole.judged.append(judged)
        if not whole.generators:  # all records are lost
            whole.generators.update(str(one.record["generator"]) for one in whole.judged if one.record)
        for judged in whole.judged:
            self._add(Problem(self._kind_of(judged), judged.uri, judged.clip_id, judged.said))
        for uri in self._loose[len(looked_into) :]:
            self._add(Problem(kinds.UNKNOWN_VIDEO, uri))

    def _kind_of(self, judged: Judged) -> kinds.Kind:
        if judged.record is None:
            return kinds.SPOILT
        if contains(self._whole.good, hashes_of([judged.clip_id]))[0]:
            return kinds.COPIES
        number, _, name = judged.uri[len(self._layout.data) + 1 :].partition("/")
        is_placed = part_of(number) is not None and name == judged.file_name
        return kinds.UNLISTED if is_placed else kinds.MISPLACED

    def _tell_held_back(self) -> None:
        """Rows without videos: of a few it is said which, of most of a dataset that it is half a copy."""
        whole = self._whole
        found = {judged.clip_id for judged in whole.judged}
        gone = [problem for problem in self._held_back if problem.kind is kinds.VIDEO_GONE]
        lacking = sum(problem.clip_id not in found for problem in gone)
        is_half = lacking > max(_FEW, whole.num_rows // 2)
        for problem in self._held_back:
            if problem.kind is kinds.FOREIGN and self._is_led_to(problem.uri):
                continue
            if problem.kind is kinds.MADE_AND_FAILED and self._is_of_run(problem):
                continue
            kind = kinds.HALF if is_half and problem.kind is kinds.VIDEO_GONE else problem.kind
            whole.findings.add(replace(problem, kind=kind))

    def _look_around(self) -> None:
        """The card; and whether there is a dataset at all."""
        layout, storage, whole = self._layout, self._storage, self._whole
        if storage.exists(layout.card):
            return
        is_one = whole.sizes or whole.failed or whole.writers.alive or whole.findings.counts
        if not is_one and not storage.list_names(layout.lease):
            raise ConfigError(f"{layout.root} is no dataset of stillreel: name the folder or URI that `output` named")
        whole.findings.add(Problem(kinds.NO_CARD, layout.card))


def _name_in(uri: str) -> str:
    """What a video is called, without its ending."""
    return uri.rpartition("/")[2].partition(".")[0]


def _is_within(folder: str, root: str) -> bool:
    """Whether a folder lies in the dataset, or the dataset in it."""
    real = os.path.realpath(root).rstrip("/") + "/"
    return f"{folder.rstrip('/')}/".startswith(real) or real.startswith(f"{folder.rstrip('/')}/")
