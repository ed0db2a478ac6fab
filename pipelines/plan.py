"""From the manifest to the clips still to be made: ids, variants, what is already there, parts, work files.

The manifest streams through in chunks. What the dataset holds, and what this plan has met so far, are sorted arrays of
64-bit hashes (8 bytes a clip), so ten million clips are planned in some hundred megabytes.
"""

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from actors import scratch, video
from actors.errors import CheckpointError, ConfigError, ManifestError, StorageError
from actors.fingerprint import fingerprint
from actors.records import CLIP_SCHEMA, FAILURE_SCHEMA, PLACE_FIELDS, WORK_SCHEMA
from actors.settings import describe_tier
from actors.storage import NotFound, Storage
from actors.svd.checkpoint import revision_of
from pipelines.config import CLIP_PARAMETERS, Config
from pipelines.manifest import read_manifest
from pipelines.manifest_rows import RowProblems

# Clips in one part: its metadata file is rewritten as a whole at each commit, and a folder of so many files lists fast.
PART_CLIPS = 512
# Rows of one work file: 20 to 50 MB of them, of which the driver holds a few files at a time.
WORK_ROWS = 100_000
# A work file is written before it takes up more memory than this, however long the rows' captions are.
_WORK_BYTES = 256 * 2**20
# Rows that a reader of a work file decodes at once.
_ROW_GROUP = 10_000
# Part files read at once when the dataset is looked through: listing a store is latency, not work.
_READERS = 16
# Raised when the same parameters begin to give other pixels, so that old clips and new ones keep different ids.
_PIXELS_VERSION = 1

# What a pass-through column cannot be called, because a row or a record of ours has a column of that name.
RESERVED_NAMES = frozenset({*CLIP_SCHEMA.names, *FAILURE_SCHEMA.names, *WORK_SCHEMA.names})

# Settings of the sections that describe a clip which do not change it; all others are part of its id.
WITHOUT_EFFECT_ON_CLIPS = {
    "image": {"max_megapixels", "max_megabytes"},
    # The content counts, by its revision; how it is held changes no more than the rounding.
    "model": {"source", "revision", "device", "cache_dir", "compile", "memory", "feed_forward_pieces"},
    "interpolation": {"weights", "device", "compile", "pairs_per_batch"},
}

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class FailedBefore:
    """Where an earlier failure of a clip is kept, how often it was tried, and why it failed the last time."""

    part: int
    attempts: int
    stage: str
    error_type: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Which of the clips that failed before are tried again; None means any."""

    stage: str | None = None
    error_type: str | None = None

    def takes(self, failed: FailedBefore) -> bool:
        """Whether this failure is one of them."""
        return self.stage in (None, failed.stage) and self.error_type in (None, failed.error_type)


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the dataset already holds.

    Attributes:
        done: sorted hashes of the clips in `data/`.
        failed: clips in `failures/`, by hash.
        part_sizes: rows (clips and failures) of each part.
        extras: the pass-through columns that the dataset began with; None where it has no row yet.
    """

    done: Hashes
    failed: dict[int, FailedBefore]
    part_sizes: dict[int, int]
    extras: pa.Schema | None


@dataclass(frozen=True, slots=True)
class WorkFile:
    """One Parquet file of rows to make (`WORK_SCHEMA`, then the pass-through columns)."""

    uri: str
    rows: int


@dataclass(slots=True)
class Plan:
    """What a run would do, in numbers, and the work files where these were asked for."""

    images: int = 0
    wanted: int = 0
    duplicates: int = 0
    already_there: int = 0
    failed_before: int = 0
    to_do: int = 0
    problems: RowProblems = field(default_factory=RowProblems)
    notes: list[str] = field(default_factory=list)
    extras: pa.Schema = field(default_factory=lambda: pa.schema([]))
    rows_per_part: Counter[int] = field(default_factory=Counter)
    work: list[WorkFile] = field(default_factory=list)


def model_revisions(config: Config) -> tuple[str, str]:
    """What identifies the content of the SVD checkpoint and of the interpolation weights ("" where there are none)."""
    options = config.storage.options
    weights = config.interpolation.weights
    revision = revision_of(
        config.model.source, revision=config.model.revision, variant=config.model.variant, storage_options=options
    )
    try:
        return revision, fingerprint(weights, options) if weights else ""
    except NotFound as error:
        raise CheckpointError(
            f"interpolation.weights={weights} does not exist: name a file of RIFE weights, or null for none"
        ) from error


def clip_identity(config: Config, revision: str, weights_revision: str) -> "hashlib._Hash":
    """The part of every clip_id that all clips of a run share: whatever changes pixels or the bytes of the file.

    Each setting is named here or in `WITHOUT_EFFECT_ON_CLIPS`; settings that have no effect beside the others are left
    out, and defaults that the encoder would choose are filled in.
    """
    image, interpolation, encoding = config.image, config.interpolation, video.resolved(config.video)
    shared: dict[str, Any] = {
        "pixels_version": _PIXELS_VERSION,
        "model_revision": revision,
        "image": image.model_dump(include={"width", "height", "orientation", "fit"}),
        "model": config.model.model_dump(include={"variant", "precision", "decode_chunk_frames"}),
        "generation": config.generation.model_dump(include={"num_frames", "num_inference_steps"}),
        "video": encoding.model_dump(mode="json", include={"codec", "fps", "crf", "preset", "pixel_format", "threads"}),
    }
    if config.model.tier != "exact":  # exact clips keep the ids that they had before there were tiers
        shared["tier"] = describe_tier(config.model.tier, config.fast)
    if image.fit == "pad":
        shared["pad_color"] = image.pad_color
    if interpolation.weights is not None:
        fields = {"factor", "target_fps", "loop", "scene_cut_threshold", "precision"}
        shared["interpolation"] = interpolation.model_dump(mode="json", include=fields)
        shared["weights_revision"] = weights_revision
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode())


def read_holdings(output: str, storage: Storage) -> Holdings:
    """Look through the dataset's metadata and failures, a few files at a time."""
    clip_files = [
        storage.join(folder, "metadata.parquet") for folder in storage.list_folders(storage.join(output, "data"))
    ]
    failure_files = storage.list_files(storage.join(output, "failures"), suffix=".parquet")
    sizes: Counter[int] = Counter()
    done: list[Hashes] = [np.empty(0, np.uint64)]
    failed: dict[int, FailedBefore] = {}
    extras: pa.Schema | None = None
    with ThreadPoolExecutor(_READERS) as readers:
        for uri, table in zip(clip_files, readers.map(lambda uri: read_records(uri, storage), clip_files)):
            if table is not None:
                done.append(_hashes(table["clip_id"].to_pylist()))
                sizes[_part_of(uri)] += table.num_rows
                extras = extras or _extras_of(table.schema)
        for uri, table in zip(failure_files, readers.map(lambda uri: read_records(uri, storage), failure_files)):
            if table is None:  # a run that retries has just removed it
                continue
            part = _part_of(uri)
            sizes[part] += table.num_rows
            extras = extras or _extras_of(table.schema)
            reasons = (table[name].to_pylist() for name in ("attempts", "stage", "error_type"))
            for key, *reason in zip(_hashes(table["clip_id"].to_pylist()).tolist(), *reasons):
                failed[key] = FailedBefore(part, *reason)
    return Holdings(np.unique(np.concatenate(done)), failed, dict(sizes), extras)


def make_plan(
    config: Config,
    storage: Storage,
    holdings: Holdings,
    revisions: tuple[str, str],
    *,
    work_folder: str | None = None,
    retry: Retry | None = None,
) -> Plan:
    """Read the manifest and decide what is to be made.

    Args:
        revisions: from `model_revisions`.
        work_folder: where work files go; None plans only.
        retry: plan the clips that failed before and that it takes, and only those.

    Raises:
        ManifestError: the manifest cannot be read, or its pass-through columns do not fit the dataset.
    """
    plan = Plan()
    parts = _PartAllocator(holdings.part_sizes)
    writer = _WorkWriter(work_folder, storage) if work_folder is not None else None
    seen = np.empty(0, np.uint64)
    for rows, extras in _clip_rows(config, storage, clip_identity(config, *revisions), plan):
        plan.extras = check_extras(extras.schema, holdings.extras)
        hashes = _hashes(rows["clip_id"].to_pylist())
        first = np.zeros(len(hashes), bool)
        first[np.unique(hashes, return_index=True)[1]] = True
        new = first & ~_contains(seen, hashes)
        seen = _merge(seen, hashes[new])
        done = new & _contains(holdings.done, hashes)
        before = [holdings.failed.get(key) for key in hashes.tolist()]
        failed = new & ~done & np.array([earlier is not None for earlier in before], bool)
        plan.duplicates += int((~new).sum())
        plan.already_there += int(done.sum())
        plan.failed_before += int(failed.sum())
        chosen = np.flatnonzero(new & ~done & ~failed)
        if retry is not None:
            tried = [one is not None and retry.takes(one) for one in before]
            chosen = np.flatnonzero(failed & np.array(tried, bool))
        if not len(chosen):
            continue
        earlier = [before[row] for row in chosen]
        numbers = [one.part if one else parts.take() for one in earlier]
        plan.to_do += len(chosen)
        plan.rows_per_part.update(numbers)
        if writer is not None:
            attempts = [one.attempts if one else 0 for one in earlier]
            writer.add(_work_table(rows.take(chosen), extras.take(chosen), plan.extras, numbers, attempts))
    if writer is not None:
        writer.flush()
        plan.work = writer.files
    return plan


def check_extras(wanted: pa.Schema, existing: pa.Schema | None) -> pa.Schema:
    """The pass-through columns that are written: those which the dataset began with.

    One fixed schema from the first row on: readers take it from whichever file they open first. A column that the
    manifest no longer has becomes null; one that the dataset does not know, or knows with another type, is refused.
    """
    if existing is None:
        return wanted
    surplus = [name for name in wanted.names if name not in existing.names]
    changed = [
        f"{name} is {wanted.field(name).type}, was {existing.field(name).type}"
        for name in wanted.names
        if name in existing.names and wanted.field(name).type != existing.field(name).type
    ]
    if surplus or changed:
        reasons = [*(f"{name} is new" for name in surplus), *changed]
        raise ManifestError(
            f"the manifest's columns do not fit those of the dataset: {'; '.join(reasons)}. "
            f"Choose columns with columns.passthrough=[{','.join(existing.names)}], or write to another output"
        )
    return existing


def expand_variants(variants: Sequence[Mapping[str, Sequence[Any]]]) -> list[dict[str, Any]]:
    """Every combination of parameters that the config's `variants` name; one empty combination where there are none.

    `[{seed: [1, 2], motion_bucket_id: [40, 127]}, {seed: [3]}]` gives five.
    """
    if not variants:
        return [{}]
    combinations = []
    for variant in variants:
        combinations += [dict(zip(variant, values)) for values in itertools.product(*variant.values())]
    return combinations


def _clip_rows(
    config: Config, storage: Storage, identity: "hashlib._Hash", plan: Plan
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The manifest's chunks as clips: `WORK_SCHEMA` without part and attempts, and the pass-through columns."""
    combinations = expand_variants(config.variants)
    reader = read_manifest(
        config.sources,
        columns=config.columns,
        storage=storage,
        chunk_rows=max(1, WORK_ROWS // len(combinations)),
        reserved=RESERVED_NAMES,
        output=config.output,
        schemes=config.storage.schemes,
        max_image_bytes=config.image.max_bytes,
    )
    plan.notes = list(reader.notes)
    if reader.overrides:
        plan.notes.append(f"columns of the manifest override the configuration: {', '.join(reader.overrides)}")
    plan.problems = reader.problems
    varied = {name for combination in combinations for name in combination}
    if clash := sorted(varied & set(reader.overrides)):
        raise ConfigError(
            f"variants: {', '.join(clash)} is also a column of the manifest, so one of the two would be ignored; "
            "rename the column or remove it from variants"
        )
    for chunk in reader.chunks():
        plan.images += chunk.num_rows
        plan.wanted += chunk.num_rows * len(combinations)
        rows = pa.concat_tables([_rows_of(chunk, combination, config, identity) for combination in combinations])
        # The variants of an image one after the other: it is fetched and decoded once for all of them.
        of_image = np.arange(rows.num_rows).reshape(len(combinations), chunk.num_rows).T.ravel()
        extras = chunk.select(reader.extras.names)
        yield rows.take(of_image), extras.take(of_image % chunk.num_rows)


def _rows_of(chunk: pa.Table, variant: Mapping[str, Any], config: Config, identity: "hashlib._Hash") -> pa.Table:
    size = chunk.num_rows
    parameters: dict[str, list[Any]] = {}
    for name in CLIP_PARAMETERS:
        default = getattr(config.generation, name)
        if name in variant:
            parameters[name] = [default if variant[name] is None else variant[name]] * size
        elif name in chunk.column_names:
            parameters[name] = [default if value is None else value for value in chunk[name].to_pylist()]
        else:
            parameters[name] = [default] * size
    target_fps = config.interpolation.target_fps
    problems = [
        problem
        or (f"fps {fps} is above interpolation.target_fps {target_fps}" if target_fps and fps > target_fps else "")
        for problem, fps in zip(chunk["problem"].to_pylist(), parameters["fps"])
    ]
    known = chunk["image_identity" if "image_identity" in chunk.column_names else "image_uri"]
    clip_ids = [
        _clip_id(identity, values, f"{problem}\0{image}" if problem else image)
        for image, problem, *values in zip(known.to_pylist(), problems, *parameters.values())
    ]
    parameters["seed"] = [
        _derived_seed(clip_id) if seed is None else seed for clip_id, seed in zip(clip_ids, parameters["seed"])
    ]
    columns = {
        "clip_id": clip_ids,
        "image_uri": chunk["image_uri"],
        **{
            name: chunk[name] if name in chunk.column_names else pa.nulls(size, WORK_SCHEMA.field(name).type)
            for name in PLACE_FIELDS
        },
        "problem": problems,
        **parameters,
    }
    schema = pa.schema([WORK_SCHEMA.field(name) for name in WORK_SCHEMA.names if name in columns])
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _clip_id(identity: "hashlib._Hash", values: Sequence[Any], image: str) -> str:
    digest = identity.copy()
    # The image comes last: whatever a URI holds, it cannot pass for a parameter.
    digest.update("\0".join([*map(repr, values), image]).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _derived_seed(clip_id: str) -> int:
    """32 bits of the id, because torch's CPU generator uses no more of a seed."""
    return int(clip_id[-8:], 16)


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


def _work_table(
    rows: pa.Table, extras: pa.Table, extras_schema: pa.Schema, parts: list[int], attempts: list[int]
) -> pa.Table:
    columns = {
        **{name: rows[name] for name in rows.column_names},
        "part": parts,
        "attempts": attempts,
        **{
            name: extras[name] if name in extras.column_names else pa.nulls(rows.num_rows, kind)
            for name, kind in zip(extras_schema.names, extras_schema.types)
        },
    }
    schema = pa.schema([*WORK_SCHEMA, *extras_schema])
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


class _WorkWriter:
    """Collects planned rows into work files of at most `WORK_ROWS` rows and, with images in them, `_WORK_BYTES`."""

    def __init__(self, folder: str, storage: Storage) -> None:
        self.files: list[WorkFile] = []
        self._folder = folder
        self._storage = storage
        self._waiting: list[pa.Table] = []

    def add(self, rows: pa.Table) -> None:
        waiting = sum(table.num_rows for table in self._waiting)
        if self._waiting and (waiting + rows.num_rows > WORK_ROWS or self._bytes() + rows.nbytes > _WORK_BYTES):
            self.flush()
        self._waiting.append(rows)

    def flush(self) -> None:
        if not self._waiting:
            return
        work = pa.concat_tables(self._waiting)
        uri = self._storage.join(self._folder, f"work-{len(self.files):05d}.parquet")
        with scratch.folder() as temporary:
            local = temporary / "work.parquet"
            pq.write_table(work, local, row_group_size=_ROW_GROUP, compression="zstd")
            self._storage.put_file(uri, local)
        self.files.append(WorkFile(uri, work.num_rows))
        self._waiting = []

    def _bytes(self) -> int:
        return sum(table.nbytes for table in self._waiting)


def _hashes(clip_ids: Sequence[str]) -> Hashes:
    return np.fromiter((int(clip_id[:16], 16) for clip_id in clip_ids), np.uint64, len(clip_ids))


def _contains(sorted_hashes: Hashes, hashes: Hashes) -> npt.NDArray[np.bool_]:
    if not len(sorted_hashes):
        return np.zeros(len(hashes), bool)
    positions = np.searchsorted(sorted_hashes, hashes)
    positions[positions == len(sorted_hashes)] = 0
    return np.asarray(sorted_hashes[positions] == hashes)


def _merge(sorted_hashes: Hashes, new: Hashes) -> Hashes:
    new = np.sort(new)
    return np.insert(sorted_hashes, np.searchsorted(sorted_hashes, new), new)


def read_records(uri: str, storage: Storage) -> pa.Table | None:
    """One metadata or failures file; None where there is none, such as before the first commit of a part."""
    try:
        return pq.read_table(pa.BufferReader(storage.read_bytes(uri)))
    except NotFound:
        return None
    except pa.ArrowInvalid as error:
        raise StorageError(f"{uri} is not a Parquet file ({error}): restore it, or write to another output") from error


def _extras_of(schema: pa.Schema) -> pa.Schema:
    known = {*CLIP_SCHEMA.names, *FAILURE_SCHEMA.names}
    return pa.schema([schema.field(name) for name in schema.names if name not in known])


def _part_of(uri: str) -> int:
    """The number in `.../part-00007/metadata.parquet` or `.../part-00007.parquet`."""
    path = Path(uri)
    stem = path.parent.name if path.name == "metadata.parquet" else path.stem
    if not (match := re.fullmatch(r"part-(\d{5,})", stem)):
        raise StorageError(f"{uri} is not a part of a stillreel dataset: move it elsewhere, or write to another output")
    return int(match[1])
