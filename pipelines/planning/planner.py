"""The plan: of the clips that are wanted those which the dataset lacks, in parts and work files.

The manifest streams through in chunks. What the dataset holds, and what this plan has met so far, are arrays of hashes
(`pipelines.planning.hashes`), so ten million clips are planned in some hundred megabytes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from actors.generators import GENERATORS
from actors.records import work_schema
from actors.storage import Storage
from pipelines.config import Config
from pipelines.dataset.layout import PART_CLIPS, RunFolder
from pipelines.dataset.work import WorkFile, WorkWriter
from pipelines.manifest.rows import RowProblems
from pipelines.money.history import History
from pipelines.planning.clips import expand_variants, open_manifest, wanted_clips
from pipelines.planning.hashes import Hashes, contains, hashes_of, merge
from pipelines.planning.holdings import FailedBefore, Holdings, check_extras, check_generator
from pipelines.planning.identity import Identity
from pipelines.planning.interpolated_times import notes_on_times


@dataclass(frozen=True, slots=True)
class Retry:
    """Which of the clips that failed before are tried again; None means any."""

    stage: str | None = None
    error_type: str | None = None

    def takes(self, failed: FailedBefore) -> bool:
        """Whether this failure is one of them."""
        return self.stage in (None, failed.stage) and self.error_type in (None, failed.error_type)


@dataclass(slots=True)
class Plan:
    """What a run would do, in numbers, and the work files where these were asked for.

    Attributes:
        spoilt: of those `to_do`, how many the manifest spoils: they fail at once.
        history: how long such clips have taken.
    """

    images: int = 0
    wanted: int = 0
    duplicates: int = 0
    already_there: int = 0
    failed_before: int = 0
    lost: int = 0
    to_do: int = 0
    spoilt: int = 0
    problems: RowProblems = field(default_factory=RowProblems)
    notes: list[str] = field(default_factory=list)
    extras: pa.Schema = field(default_factory=lambda: pa.schema([]))
    rows_per_part: Counter[int] = field(default_factory=Counter)
    work: list[WorkFile] = field(default_factory=list)
    history: History = field(default_factory=History)


def make_plan(
    config: Config,
    storage: Storage,
    holdings: Holdings,
    revisions: tuple[str, str],
    *,
    run: RunFolder | None = None,
    retry: Retry | None = None,
) -> Plan:
    """Read the manifest and decide what is to be made.

    Args:
        revisions: from `model_revisions`.
        run: in whose folder work files go; None plans only.
        retry: plan the clips that failed before and that it takes, and only those.

    Raises:
        ManifestError: the manifest cannot be read, or its pass-through columns do not fit the dataset.
        ConfigError: variants and manifest give the same parameter, or the dataset is of another generator.
    """
    check_generator(holdings, config.generator)
    reader = open_manifest(config, storage)
    extras = check_extras(reader.extras, holdings.extras)
    plan = Plan(notes=list(reader.notes), problems=reader.problems, extras=extras)
    if reader.overrides:
        plan.notes.append(f"columns of the manifest override the configuration: {', '.join(reader.overrides)}")
    plan.notes += notes_on_times(config, storage)
    sieve = _Sieve(holdings, retry, plan)
    parts = _PartAllocator(holdings.part_sizes)
    writer = WorkWriter(run, storage) if run is not None else None
    for clips, others in wanted_clips(reader, config, Identity(config, *revisions)):
        chosen, earlier = sieve.choose(hashes_of(clips["clip_id"].to_pylist()))
        numbers = [parts.take() if one is None else one.part for one in earlier]
        plan.to_do += len(chosen)
        plan.spoilt += pc.sum(pc.not_equal(clips["problem"].take(pa.array(chosen)), "")).as_py() or 0
        plan.rows_per_part.update(numbers)
        if writer is not None and len(chosen):
            attempts = [0 if one is None else one.attempts for one in earlier]
            placed = clips.take(chosen).append_column("part", pa.array(numbers, pa.int32()))
            placed = placed.append_column("attempts", pa.array(attempts, pa.int32()))
            schema = pa.schema([*work_schema(GENERATORS[config.generator]), *extras])
            writer.add(_beside(placed, others.take(chosen), schema))
    plan.notes += reader.closing_notes()
    plan.notes += _of_dataset(holdings, plan, is_retry=retry is not None)
    if writer is not None:
        writer.flush()
        plan.work = writer.files
    plan.images = plan.wanted // len(expand_variants(config.variants))
    return plan


def _of_dataset(holdings: Holdings, plan: Plan, *, is_retry: bool) -> Iterator[str]:
    """Notes on what somebody has done to the dataset."""
    if plan.lost:
        what = "run without --retry-failed makes them again" if is_retry else "they are made again"
        yield f"clips of the dataset whose videos are gone: {plan.lost:,}; {what}"
    if others := len(holdings.lost) - plan.lost:
        yield f"clips of the dataset whose videos are gone, and which this manifest does not ask for: {others:,}"
    if holdings.foreign:
        said = f"among the parts of the dataset lie files or folders that are none: {len(holdings.foreign):,}"
        yield f"{said}, such as {holdings.foreign[0]}; they are passed over"


@dataclass(frozen=True, slots=True)
class _Known:
    """The place in the dataset of a clip that is made again, and how often it was tried."""

    part: int
    attempts: int


class _Sieve:
    """Lets each clip through once that is to be made, and counts the others in the plan."""

    def __init__(self, holdings: Holdings, retry: Retry | None, plan: Plan) -> None:
        self._holdings, self._retry, self._plan = holdings, retry, plan
        self._seen: Hashes = np.empty(0, np.uint64)

    def choose(self, hashes: Hashes) -> tuple[npt.NDArray[np.intp], list[_Known | None]]:
        """The positions of the clips to make, and what the dataset has of them: a failure, or a row without a video."""
        first = np.zeros(len(hashes), bool)
        first[np.unique(hashes, return_index=True)[1]] = True
        new = first & ~contains(self._seen, hashes)
        self._seen = merge(self._seen, hashes[new])
        holdings, plan = self._holdings, self._plan
        done = new & contains(holdings.done, hashes)
        keys = hashes.tolist()
        before = [holdings.failed.get(key) for key in keys]
        failed = new & ~done & np.array([earlier is not None for earlier in before], bool)
        parts = [holdings.lost.get(key) for key in keys] if holdings.lost else [None] * len(keys)
        lost = new & ~done & ~failed & np.array([part is not None for part in parts], bool)
        plan.wanted += len(hashes)
        plan.duplicates += int((~new).sum())
        plan.already_there += int(done.sum())
        plan.failed_before += int(failed.sum())
        plan.lost += int(lost.sum())
        chosen = np.flatnonzero(new & ~done & ~failed)
        if self._retry is not None:
            tried = [one is not None and self._retry.takes(one) for one in before]
            chosen = np.flatnonzero(failed & np.array(tried, bool))
        return chosen, [_known(before[row], parts[row]) for row in chosen]


def _known(failed: FailedBefore | None, part: int | None) -> _Known | None:
    """Of a failure, or of the part that lists a clip without its video."""
    if failed is not None:
        return _Known(failed.part, failed.attempts)
    return None if part is None else _Known(part, 0)


class _PartAllocator:
    """Hands out part numbers: fills the last part of the dataset first, then opens the next."""

    def __init__(self, sizes: Mapping[int, int]) -> None:
        self._part = max(sizes, default=0)
        self._size = sizes.get(self._part, 0)

    def take(self) -> int:
        if self._size >= PART_CLIPS:
            self._part, self._size = self._part + 1, 0
        self._size += 1
        return self._part


def _beside(rows: pa.Table, extras: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows and their pass-through columns, in one table of this schema; null where the manifest lacks a column."""
    tables: Sequence[pa.Table] = (rows, extras)
    columns = {name: table[name] for table in tables for name in table.column_names}
    nothing = {field.name: pa.nulls(rows.num_rows, field.type) for field in schema if field.name not in columns}
    return pa.table({name: (columns | nothing)[name] for name in schema.names}, schema=schema)
