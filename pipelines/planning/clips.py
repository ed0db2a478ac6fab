"""The clips that a manifest asks for: each of its rows, times the variants, each with its id."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from actors.clip_rates import clip_rates
from actors.contracts import PLACE_SCHEMA
from actors.errors import ConfigError, VideoError
from actors.generators import GENERATORS
from actors.records import WORK_FIELDS, reserved_names
from actors.storage import Storage
from pipelines.config import Config
from pipelines.dataset.work import WORK_ROWS
from pipelines.manifest import spellings
from pipelines.manifest.chunks import Chunk
from pipelines.manifest.read import read_manifest
from pipelines.manifest.reader import ManifestReader
from pipelines.manifest.rows import RowProblems
from pipelines.manifest.templates import column_of, find_templates, takes_own
from pipelines.planning.hashes import hashes_of_digests
from pipelines.planning.identity import Identity, derived_seed, id_texts

# What a work row has that is known only when it is given its place.
_PLACED = ("part", "attempts")


def open_manifest(config: Config, storage: Storage) -> ManifestReader:
    """The manifest of a configuration.

    Raises:
        ManifestError: it cannot be read.
        ConfigError: a variant names a column of it.
    """
    generator = GENERATORS[config.generator]
    reader = read_manifest(
        config.sources,
        columns=config.columns,
        parameters=generator.Parameters,
        storage=storage,
        chunk_rows=max(1, WORK_ROWS // len(expand_variants(config.variants))),
        reserved=reserved_names(generator),
        output=config.output,
        schemes=config.storage.schemes,
        prefixes=config.storage.prefixes,
        private_networks=config.storage.private_networks,
        max_image_bytes=config.image.max_bytes,
        templates=find_templates(generator.Parameters, config.generation.model_dump(), config.variants),
        check=partial(_with_rate_problems, config),
    )
    varied = {name for variant in config.variants for name, texts in variant.items() if not _all_take(name, texts)}
    if clash := sorted(varied & set(reader.overrides)):
        raise ConfigError(
            f"variants: {', '.join(clash)} is also a column of the manifest, so one of the two would be ignored; "
            "rename the column or remove it from variants"
        )
    return reader


def _all_take(name: str, texts: Sequence[Any]) -> bool:
    """Whether a variant's values are all made of the column of that name."""
    return all(takes_own(name, text) for text in texts)


def expand_variants(variants: Sequence[Mapping[str, Sequence[Any]]]) -> list[dict[str, Any]]:
    """Every combination of parameters that the config's `variants` name; one empty combination where there are none.

    `[{seed: [1, 2], motion_bucket_id: [40, 127]}, {seed: [3]}]` gives five.
    """
    if not variants:
        return [{}]
    combinations = []
    for variant in variants:
        combinations += [dict(zip(variant, values, strict=True)) for values in itertools.product(*variant.values())]
    return combinations


class WantedClips:
    """The clips of a chunk of the manifest; rows of them are made for those alone that are to be made.

    The variants of an image come one after the other: it is fetched and decoded once for all of them.

    Attributes:
        hashes: of all, in this order.
        spans: the files that they are of, in order, and how many are of each.
    """

    def __init__(self, chunk: Chunk, config: Config, identity: Identity, extras: Sequence[str]) -> None:
        self._table, self._config, self._extras = chunk.table, config, extras
        self._variants = expand_variants(config.variants)
        images = _images(chunk.table)
        each = [identity.digests(_own(chunk.table, variant, config), images) for variant in self._variants]
        self._digests = np.stack(each, axis=1).reshape(len(each) * len(images), -1)
        self.hashes = hashes_of_digests(self._digests)
        self.spans = [(reading, rows * len(each)) for reading, rows in chunk.spans]

    def rows(self, positions: npt.NDArray[np.intp]) -> tuple[pa.Table, pa.Table]:
        """Clips as rows of a work file, but for their part and attempts; and the pass-through columns beside them."""
        of_image, of_variant = np.divmod(positions, len(self._variants))
        tables, order = [], []
        for number, variant in enumerate(self._variants):
            (at,) = np.nonzero(of_variant == number)
            clip_ids = id_texts(self._digests[positions[at]])
            tables.append(_clips_of(self._table.take(of_image[at]), variant, self._config, clip_ids))
            order.append(at)
        clips = pa.concat_tables(tables).take(np.argsort(np.concatenate(order)))
        return clips, self._table.select(self._extras).take(of_image)


def wanted_clips(reader: ManifestReader, config: Config, identity: Identity) -> Iterator[WantedClips]:
    """The manifest's chunks as clips."""
    for chunk in reader.pieces():
        yield WantedClips(chunk, config, identity, reader.extras.names)


def _own(chunk: pa.Table, variant: Mapping[str, Any], config: Config) -> dict[str, list[Any]]:
    """The parameters that clips of one run may differ in."""
    return {name: _values(name, chunk, variant, config) for name in type(config.generation).varying()}


def _clips_of(chunk: pa.Table, variant: Mapping[str, Any], config: Config, clip_ids: list[str]) -> pa.Table:
    size = chunk.num_rows
    own = _own(chunk, variant, config)
    seeds = zip(clip_ids, own["seed"], strict=True)
    own["seed"] = [derived_seed(clip_id) if seed is None else seed for clip_id, seed in seeds]
    columns = {
        "clip_id": clip_ids,
        "image_uri": chunk["image_uri"],
        **_places(chunk),
        "image_license": _column_or_nulls(chunk, "image_license", pa.string()),
        "problem": pc.fill_null(chunk["problem"], ""),
        **{name: [value] * size for name, value in config.parameters_of_all().items()},
        **own,
    }
    fields = [field for field in WORK_FIELDS if field.name not in _PLACED] + type(config.generation).columns()
    return pa.table({field.name: columns[field.name] for field in fields}, schema=pa.schema(fields))


def _values(name: str, chunk: pa.Table, variant: Mapping[str, Any], config: Config) -> list[Any]:
    common = variant.get(name, getattr(config.generation, name))
    template = column_of(name, common)
    defaults = chunk[template].to_pylist() if template in chunk.column_names else [common] * chunk.num_rows
    if name not in chunk.column_names or takes_own(name, common):
        return defaults
    given = chunk[name].to_pylist()
    return [default if value is None else value for value, default in zip(given, defaults, strict=True)]


def _with_rate_problems(config: Config, chunk: pa.Table, problems: RowProblems) -> pa.Table:
    """The chunk, with those rows marked and counted whose own fps does not fit the configuration's rates."""
    if "fps" not in chunk.column_names:
        return chunk  # known to fit (`pipelines.config`)
    marked: list[str | None] = chunk["problem"].to_pylist()
    faults = {fps: _fault_of_rate(fps, config) for fps in chunk["fps"].unique().to_pylist() if fps is not None}
    if not any(faults.values()):
        return chunk
    for index, (uri, fps) in enumerate(zip(chunk["image_uri"].to_pylist(), chunk["fps"].to_pylist(), strict=True)):
        if not marked[index] and (fault := faults.get(fps)):
            marked[index] = fault
            problems.add(fault, f"{uri}: {fault}")
    column = chunk.schema.get_field_index("problem")
    return chunk.set_column(column, chunk.schema.field(column), pa.array(marked, chunk.schema.field(column).type))


def _fault_of_rate(fps: int, config: Config) -> str | None:
    try:
        clip_rates(fps, config.interpolation, config.video)
    except VideoError as error:
        return str(error)
    return None


def _images(chunk: pa.Table) -> list[str]:
    """What each image is known by; of a row with a problem, with that."""
    if "image_identity" in chunk.column_names:
        images: list[str] = chunk["image_identity"].to_pylist()
    else:
        images = spellings.identities(chunk["image_uri"])
    if chunk["problem"].null_count < chunk.num_rows:
        problems = chunk["problem"].to_pylist()
        images = [f"{problem}\0{image}" if problem else image for image, problem in zip(images, problems, strict=True)]
    return images


def _places(chunk: pa.Table) -> dict[str, pa.Array]:
    """Where the manifest holds images itself; else nothing."""
    return {field.name: _column_or_nulls(chunk, field.name, field.type) for field in PLACE_SCHEMA}


def _column_or_nulls(chunk: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
    return chunk[name] if name in chunk.column_names else pa.nulls(chunk.num_rows, kind)
