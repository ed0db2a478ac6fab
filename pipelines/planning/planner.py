"""The plan: of the clips that are wanted those which the dataset lacks, in parts and work files.

The manifest streams through in chunks. What the dataset holds, and what this plan has met so far, are arrays of hashes
(`pipelines.planning.hashes`), so ten million clips are planned in some hundred megabytes.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from actors.generators import GENERATORS
from actors.records import work_schema
from actors.storage import Storage
from pipelines.config import Config
from pipelines.dataset.card_licences import MOST
from pipelines.dataset.layout import PART_CLIPS, RunFolder
from pipelines.dataset.shard import WHOLE, Shard
from pipelines.dataset.speeds import History
from pipelines.dataset.work import WorkFile, WorkWriter
from pipelines.manifest.readings import Later, Source
from pipelines.manifest.rows import RowProblems
from pipelines.planning.clips import expand_variants, open_manifest, wanted_clips
from pipelines.planning.holdings import Holdings, check_extras, check_generator
from pipelines.planning.identity import Identity
from pipelines.planning.interpolated_times import notes_on_times
from pipelines.planning.known_files import FilesOfPlan, KnownFiles
from pipelines.planning.made_images import MadeImages
from pipelines.planning.sieve import Sieve


@dataclass(frozen=True, slots=True)
class Retry:
    """Which of the clips that failed before are tried again; None means any."""

    stage: str | None = None
    error_type: str | None = None

    def takes(self, stage: str, error_type: str) -> bool:
        """Whether a failure at this stage, of this kind, is one of them."""
        return self.stage in (None, stage) and self.error_type in (None, error_type)


@dataclass(slots=True)
class Plan:
    """What a run would do, in numbers, and the work files where these were asked for.

    Attributes:
        shard: whose numbers these are, all but `images` and `wanted`.
        wanted, mine: rows that the manifest asks for, and those of them that are the shard's.
        spoilt: of those `to_do`, how many the manifest spoils: they fail at once.
        history: how long such clips have taken.
        older: parts of an older version, which get the columns that they lack before the run writes.
        image_licences: those that the rows `to_do` have, the first few of many; None of images without one.
    """

    shard: Shard = WHOLE
    images: int = 0
    wanted: int = 0
    mine: int = 0
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
    older: list[int] = field(default_factory=list)
    image_licences: list[str | None] = field(default_factory=list)

    def add_licences(self, licences: pa.ChunkedArray) -> None:
        """Take those of rows to do."""
        if len(self.image_licences) <= MOST:  # one more tells that there are more
            known = dict.fromkeys([*self.image_licences, *pc.unique(licences).to_pylist()])
            self.image_licences = list(known)[: MOST + 1]


def make_plan(
    config: Config,
    storage: Storage,
    holdings: Holdings,
    revisions: tuple[str, str],
    *,
    run: RunFolder | None = None,
    retry: Retry | None = None,
    files: KnownFiles | None = None,
) -> Plan:
    """Read the manifest and decide what is to be made.

    Args:
        revisions: from `model_revisions`.
        run: in whose folder work files go; None plans only.
        retry: plan the clips that failed before and that it takes, and only those.
        files: what earlier plans have found in the manifest's files; those that have changed since are noted there.

    Raises:
        ManifestError: the manifest cannot be read, or its pass-through columns do not fit the dataset.
        ConfigError: variants and manifest give the same parameter, or the dataset is of another generator.
    """
    check_generator(holdings, config.generator)
    reader = open_manifest(config, storage)
    extras = check_extras(reader.extras, holdings.extras)
    plan = Plan(config.run.share, notes=list(reader.notes), problems=reader.problems, extras=extras)
    plan.older = sorted(holdings.older)
    if reader.overrides:
        plan.notes.append(f"columns of the manifest override the configuration: {', '.join(reader.overrides)}")
    plan.notes += notes_on_times(config, storage)
    sieve = Sieve(holdings, None if retry is None else retry.takes, plan)
    parts = _PartAllocator(holdings.part_sizes, plan.shard)
    writer = WorkWriter(run, storage) if run is not None else None
    identity = Identity(config, *revisions)
    known = (files or KnownFiles()).of(config, identity)
    reader.passes = partial(_passes, known, sieve, reader.problems)
    reader.made = MadeImages(holdings.parts, storage).sha256_of
    schema = pa.schema([*work_schema(GENERATORS[config.generator]), *extras])
    for clips in wanted_clips(reader, config, identity):
        known.note(clips.spans, clips.hashes)
        judged = sieve.choose(clips.hashes)
        if not len(judged.chosen):
            continue
        numbers = [parts.take() if part < 0 else part for part in judged.parts.tolist()]
        rows, others = clips.rows(judged.chosen)
        plan.to_do += rows.num_rows
        plan.spoilt += pc.sum(pc.not_equal(rows["problem"], "")).as_py()
        plan.rows_per_part.update(numbers)
        plan.add_licences(rows["image_license"])
        if writer is not None:
            placed = rows.append_column("part", pa.array(numbers, pa.int32()))
            placed = placed.append_column("attempts", pa.array(judged.attempts, pa.int32()))
            writer.add(_beside(placed, others, schema))
    known.keep()
    plan.notes += reader.closing_notes()
    plan.notes += _of_dataset(holdings, plan, is_retry=retry is not None)
    plan.notes += _of_shard(plan, config)
    if writer is not None:
        writer.flush()
        plan.work = writer.files
    plan.images = plan.wanted // len(expand_variants(config.variants))
    return plan


def _passes(known: FilesOfPlan, sieve: Sieve, problems: RowProblems, source: Source, file: Later) -> int | None:
    """Count the clips of a manifest's file without reading it, where they are known and none of them is to be made."""
    facts = known.find(source, file)
    if facts is None:
        return None
    judged = sieve.judge(facts.hashes)
    if len(judged.chosen):
        return None
    sieve.count(judged)
    for reason, (count, texts) in facts.problems.items():
        problems.add_many(reason, count, texts)
    if source.tally is not None:
        source.tally.add(facts.left_out)
    return len(facts.hashes)


def _of_dataset(holdings: Holdings, plan: Plan, *, is_retry: bool) -> Iterator[str]:
    """Notes on what somebody has done to the dataset."""
    if plan.lost:
        what = "run without --retry-failed makes them again" if is_retry else "they are made again"
        yield f"clips of the dataset whose videos are gone: {plan.lost:,}; {what}"
    if others := int(plan.shard.owns_each(holdings.lost.parts).sum()) - plan.lost:
        yield f"clips of the dataset whose videos are gone, and which this manifest does not ask for: {others:,}"
    if holdings.older:
        said = "they get them before the run writes" if plan.shard.is_whole else "first `stillreel verify --repair`"
        yield f"parts of an older version of stillreel, without some of the columns: {len(holdings.older):,}; {said}"
    if holdings.foreign:
        said = f"among the parts of the dataset lie files or folders that are none: {len(holdings.foreign):,}"
        yield f"{said}, such as {holdings.foreign[0]}; they are passed over"


def _of_shard(plan: Plan, config: Config) -> Iterator[str]:
    """A note where several drivers may meet on one cluster."""
    generate = config.workers.generate
    if not plan.shard.is_whole and config.ray.address is not None and generate.actors == "auto" and generate.num_gpus:
        yield (
            f"{plan.shard.name} takes all GPUs of its Ray cluster (workers.generate.actors=auto): give each shard a "
            "cluster of its own, or numbers of actors"
        )


class _PartAllocator:
    """Hands out numbers of the shard's parts: fills those of the dataset that have room, then opens the next.

    A new one is above all that any shard has: below them may be numbers of parts that `compact` has merged into others.
    """

    def __init__(self, sizes: Mapping[int, int], shard: Shard) -> None:
        own = sorted(filter(shard.owns, sizes))
        rooms = ((part, PART_CLIPS - sizes[part]) for part in own if sizes[part] < PART_CLIPS)
        above = max(sizes, default=-1) + 1
        new = itertools.count(next(filter(shard.owns, itertools.count(above))), shard.count)
        self._rooms = itertools.chain(rooms, zip(new, itertools.repeat(PART_CLIPS)))
        self._part, self._room = next(self._rooms)

    def take(self) -> int:
        if not self._room:
            self._part, self._room = next(self._rooms)
        self._room -= 1
        return self._part


def _beside(rows: pa.Table, extras: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows and their pass-through columns, in one table of this schema; null where the manifest lacks a column."""
    tables: Sequence[pa.Table] = (rows, extras)
    columns = {name: table[name] for table in tables for name in table.column_names}
    nothing = {field.name: pa.nulls(rows.num_rows, field.type) for field in schema if field.name not in columns}
    return pa.table({name: (columns | nothing)[name] for name in schema.names}, schema=schema)
