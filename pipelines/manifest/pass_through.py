"""The manifest's own columns, which travel through to the metadata: which, of what type, under what names."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import ManifestError
from pipelines.manifest.column_names import no_such_column
from pipelines.manifest.columns import ManifestColumns
from pipelines.manifest.readings import Source

# Put before the name of a pass-through column that would meet one of the dataset's own.
RENAME_PREFIX = "source_"
# As `columns.types` has them.
TYPES = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}


def passthrough_types(sources: Sequence[Source], columns: ManifestColumns) -> dict[str, pa.DataType]:
    """The pass-through columns of all sources, in order, with their types."""
    kinds: dict[str, pa.DataType] = {}
    origins: dict[str, str] = {}
    for source in sources:
        for name in source.roles.passthrough:
            kind = source.first.schema.field(name).type
            kind = TYPES[columns.types[name]] if name in columns.types else _stored(name, kind, source.first.uri)
            if kinds.setdefault(name, kind) != kind:
                raise ManifestError(other_type(name, kinds[name], origins[name], kind, source.first.uri))
            origins.setdefault(name, source.first.uri)
    known = list(dict.fromkeys(chain.from_iterable(source.first.schema.names for source in sources)))
    asked = [] if columns.passthrough == "all" else columns.passthrough
    for setting, names, there in (("passthrough", asked, known), ("types", columns.types, list(kinds))):
        for name in names:
            if name not in there:
                raise ManifestError(f"columns.{setting} names {name}, {no_such_column(name, there)}")
    return kinds


def _stored(name: str, kind: pa.DataType, uri: str) -> pa.DataType:
    """The type of a column in the dataset."""
    # A column of nothing but nulls has no type yet, and must have one before the dataset is begun.
    found = pa.string() if kind == pa.null() else stored_type(kind)
    if found is None:
        raise ManifestError(
            f"{uri}: column {name} is {kind!s:.100}, which the dataset cannot hold: write it as another type, or leave "
            "it out of columns.passthrough"
        )
    return found


@lru_cache
def stored_type(kind: pa.DataType) -> pa.DataType | None:
    """The type that a column has after it was written as Parquet and read again; None where that cannot be.

    Seconds become milliseconds, and date64 becomes date32, in which no value is lost. What a column goes through on its
    way into the metadata is tried on two nulls.
    """
    try:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"x": pa.nulls(2, kind), "y": [2, 1]}), sink)
        read = pq.read_table(pa.BufferReader(sink.getvalue()))
        together = pa.concat_tables([read.filter([True, False]), read.slice(1), read.take([0])]).combine_chunks()
        pa.nulls(2, kind).cast(read["x"].type)
        return together.sort_by("y").cast(read.schema)["x"].type
    except (pa.ArrowException, OSError):
        return None


def other_type(name: str, kind: pa.DataType, uri: str, other: pa.DataType, other_uri: str) -> str:
    """What is said of a column that has two types."""
    return (
        f"column {name} is {kind} in {uri} and {other} in {other_uri}: give it one type with "
        f"columns.types={{{name}: ...}}, or leave it out of columns.passthrough"
    )


def renamed(names: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """New names for columns, unlike those `taken` and each other in every case, as DuckDB and others want them."""
    used = {name.casefold() for name in taken}
    new_names: dict[str, str] = {}
    for name in names:
        new = name
        while new.casefold() in used:
            new = RENAME_PREFIX + new
        used.add(new.casefold())
        new_names[name] = new
    return new_names


def left_out(source: Source) -> list[str]:
    """Notes on columns with files that are neither animated nor passed through."""
    return [
        f"column {name} of the manifest holds files and stays out of the metadata; columns.passthrough can name it"
        for name in source.roles.kept_out
    ]
