"""The clips that a manifest asks for: each of its rows, times the variants, each with its id."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from actors.clip_rates import clip_rates
from actors.contracts import PLACE_SCHEMA
from actors.errors import ConfigError, VideoError
from actors.generators import GENERATORS
from actors.records import WORK_FIELDS, reserved_names
from actors.storage import Storage
from pipelines.config import Config
from pipelines.dataset.work import WORK_ROWS
from pipelines.manifest import spellings
from pipelines.manifest.reader import ManifestReader, read_manifest
from pipelines.manifest.rows import RowProblems
from pipelines.planning.identity import Identity, derived_seed

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
    )
    if clash := sorted({name for variant in config.variants for name in variant} & set(reader.overrides)):
        raise ConfigError(
            f"variants: {', '.join(clash)} is also a column of the manifest, so one of the two would be ignored; "
            "rename the column or remove it from variants"
        )
    return reader


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


def clips_of(chunk: pa.Table, variant: Mapping[str, Any], config: Config, identity: Identity) -> pa.Table:
    """A chunk of the manifest as rows of a work file, but for their part and attempts."""
    size = chunk.num_rows
    own = {name: _values(name, chunk, variant, config) for name in type(config.generation).varying()}
    problems = [problem or "" for problem in chunk["problem"].to_pylist()]
    images = [
        f"{problem}\0{image}" if problem else image for image, problem in zip(_known_by(chunk), problems, strict=True)
    ]
    clip_ids = list(identity.clip_ids(own, images))
    seeds = zip(clip_ids, own["seed"], strict=True)
    own["seed"] = [derived_seed(clip_id) if seed is None else seed for clip_id, seed in seeds]
    columns = {
        "clip_id": clip_ids,
        "image_uri": chunk["image_uri"],
        **_places(chunk),
        "problem": problems,
        **{name: [value] * size for name, value in config.parameters_of_all().items()},
        **own,
    }
    fields = [field for field in WORK_FIELDS if field.name not in _PLACED] + type(config.generation).columns()
    return pa.table({field.name: columns[field.name] for field in fields}, schema=pa.schema(fields))


def wanted_clips(reader: ManifestReader, config: Config, identity: Identity) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The manifest's chunks as clips, and the pass-through columns beside them.

    The variants of an image come one after the other: it is fetched and decoded once for all of them.
    """
    variants = expand_variants(config.variants)
    for plain in reader.chunks():
        chunk = _with_rate_problems(plain, config, reader.problems)
        clips = pa.concat_tables([clips_of(chunk, variant, config, identity) for variant in variants])
        of_image = np.arange(clips.num_rows).reshape(len(variants), chunk.num_rows).T.ravel()
        extras = chunk.select(reader.extras.names)
        yield clips.take(of_image), extras.take(of_image % chunk.num_rows)


def _values(name: str, chunk: pa.Table, variant: Mapping[str, Any], config: Config) -> list[Any]:
    default = getattr(config.generation, name)
    given = [variant[name]] * chunk.num_rows if name in variant else []
    if name in chunk.column_names:
        given = chunk[name].to_pylist()
    return [default if value is None else value for value in given] or [default] * chunk.num_rows


def _with_rate_problems(chunk: pa.Table, config: Config, problems: RowProblems) -> pa.Table:
    """The chunk, with those rows marked and counted whose own fps does not fit the configuration's rates."""
    if "fps" not in chunk.column_names:
        return chunk  # known to fit (`pipelines.config`)
    marked: list[str | None] = chunk["problem"].to_pylist()
    for index, (uri, fps) in enumerate(zip(chunk["image_uri"].to_pylist(), chunk["fps"].to_pylist(), strict=True)):
        if marked[index] or fps is None:
            continue
        try:
            clip_rates(fps, config.interpolation, config.video)
        except VideoError as error:
            marked[index] = str(error)
            problems.add(str(error), f"{uri}: {error}")
    column = chunk.schema.get_field_index("problem")
    return chunk.set_column(column, chunk.schema.field(column), pa.array(marked, chunk.schema.field(column).type))


def _known_by(chunk: pa.Table) -> list[str]:
    """What each image is known by."""
    if "image_identity" in chunk.column_names:
        identities: list[str] = chunk["image_identity"].to_pylist()
        return identities
    return spellings.identities(chunk["image_uri"])


def _places(chunk: pa.Table) -> dict[str, pa.Array]:
    """Where the manifest holds images itself; else nothing."""
    nothing = {field.name: pa.nulls(chunk.num_rows, field.type) for field in PLACE_SCHEMA}
    return {name: chunk[name] if name in chunk.column_names else null for name, null in nothing.items()}
