"""The columns of work files and of the dataset's two kinds of records.

A *row* is a clip still to be made. It ends as exactly one *record*: a line of `metadata.parquet` (`clip_schema`) or of
`failures/` (`FAILURE_SCHEMA`). The schemas are what users' queries rely on: a test freezes them. Their columns are
declared where they are made: by the stages, and by the generator's parameters.
"""

from functools import cache
from typing import Any

import pyarrow as pa

from actors.contracts import PLACE_SCHEMA
from actors.file_tag import is_seconds
from actors.generators import GENERATORS
from actors.generators.base import Generator
from actors.runner.contract import ContractError, seconds_column
from actors.stages import NAMES
from actors.stages.finish import Finish
from actors.stages.generate import Generate, generate_columns
from actors.stages.load import Load

# All that have a place in the graph, in its order.
STAGES = (Load, Generate, Finish)
assert tuple(stage.name for stage in STAGES) == NAMES

# Of each row that the plan writes; the clip's parameters stand beside them.
WORK_FIELDS = (
    pa.field("clip_id", pa.string()),
    pa.field("part", pa.int32()),
    pa.field("attempts", pa.int32()),  # earlier attempts that failed
    pa.field("image_uri", pa.string()),
    pa.field("image_license", pa.string()),
    *PLACE_SCHEMA,
    pa.field("problem", pa.string()),  # why the manifest's row cannot be used; "" where it can
)

FAILURE_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("image_uri", pa.string()),
        pa.field("stage", pa.string()),
        pa.field("error_type", pa.string()),
        pa.field("error", pa.string()),
        pa.field("attempts", pa.int32()),
        pa.field("created_at", pa.timestamp("us", tz="UTC")),
    ]
)

# What a reader looks for first stands first.
_FIRST = ("clip_id", "file_name", "image_uri")


def work_schema(generator: type[Generator[Any, Any]]) -> pa.Schema:
    """The columns of a work file; pass-through columns of the manifest follow."""
    return pa.schema([*WORK_FIELDS, *generator.Parameters.columns()])


@cache
def clip_schema(generator: type[Generator[Any, Any]]) -> pa.Schema:
    """The columns of a clip's record: what each stage adds, the parameters before those of `generate`, times last.

    Raises:
        ContractError: a parameter has the name of a stage's column.
    """
    own = {name for stage in STAGES for name in stage.columns.names} | {*generate_columns(generator).names}
    if clash := set(generator.Parameters.model_fields) & own - {"num_frames"}:  # as many as the file holds
        said = f"a stage gives a column {min(clash)}; rename the parameter"
        raise ContractError(f"generator {generator.name}: {said}")
    fields = [pa.field("clip_id", pa.string()), pa.field("image_uri", pa.string())]
    seconds = [pa.field(seconds_column(stage.name), pa.float64()) for stage in STAGES]
    for stage in STAGES:
        parameters = generator.Parameters.columns() if stage is Generate else []
        fields += parameters + list(generate_columns(generator) if stage is Generate else stage.columns)
    by_name: dict[str, pa.Field] = {}
    for field in fields:  # of two, the later: `num_frames` is what the file holds
        by_name.pop(field.name, None)
        by_name[field.name] = field
    first = [by_name.pop(name) for name in _FIRST]
    return pa.schema([*first, *by_name.values(), *seconds, pa.field("created_at", pa.timestamp("us", tz="UTC"))])


def known_columns() -> frozenset[str]:
    """All columns of a clip's record that this version knows, of whichever generator."""
    return frozenset(name for generator in GENERATORS.values() for name in clip_schema(generator).names)


def step_seconds() -> list[str]:
    """The columns that say where a clip's seconds went, in order: of each stage its steps, or the whole of it."""
    columns = []
    for stage in STAGES:
        steps = [name for name in stage.columns.names if is_seconds(name)]
        columns += steps or [seconds_column(stage.name)]
    return columns


@cache
def reserved_names(generator: type[Generator[Any, Any]]) -> frozenset[str]:
    """What a pass-through column cannot be called in a dataset of this generator."""
    schemas = (clip_schema(generator), work_schema(generator), FAILURE_SCHEMA)
    return frozenset(name for schema in schemas for name in schema.names)
