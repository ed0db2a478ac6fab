"""Whether all records of a dataset have the same columns: readers take these from whichever file they open first."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from actors.generators import DEFAULT_GENERATOR, GENERATORS
from actors.generators.base import Generator
from actors.records import FAILURE_SCHEMA, clip_schema, known_columns
from pipelines.dataset.records import newer_columns
from pipelines.upkeep import kinds
from pipelines.upkeep.findings import Problem

# What pandas adds when it writes a table that it has filtered: numbers of rows.
_INDEX = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True, slots=True)
class Columns:
    """Those that each file of records is to have, of clips and of failures; `own` are ours among those of clips."""

    made: pa.Schema
    failed: pa.Schema
    own: list[str]

    @classmethod
    def of(cls, generator: str, extras: pa.Schema) -> "Columns":
        """Those of a dataset of this generator, with these pass-through columns."""
        own = clip_schema(_known(generator))
        made, failed = (
            pa.schema([*schema, *(one for one in extras if one.name not in schema.names)])
            for schema in (own, FAILURE_SCHEMA)
        )
        return cls(made, failed, own.names)


@dataclass(slots=True)
class _Alike:
    """Files whose columns are the same."""

    schema: pa.Schema
    is_failures: bool
    files: list[tuple[str, str]] = field(default_factory=list)  # URI of the part, and its generator


@dataclass(slots=True)
class Schemas:
    """The columns of all files of records that were looked at; few are different."""

    alike: list[_Alike] = field(default_factory=list)

    def add(self, uri: str, schema: pa.Schema, generators: Mapping[str, int]) -> None:
        """Of a part, and the generators that its rows name."""
        made_by = sorted(generators, key=lambda name: -generators[name])
        self._take(schema, uri, ",".join(made_by), is_failures=False)

    def add_failures(self, uri: str, schema: pa.Schema) -> None:
        """Of a file of failures."""
        self._take(schema, uri, "", is_failures=True)

    def _take(self, schema: pa.Schema, uri: str, generator: str, *, is_failures: bool) -> None:
        for alike in self.alike:
            if alike.is_failures == is_failures and alike.schema.equals(schema, check_metadata=True):
                alike.files.append((uri, generator))
                return
        self.alike.append(_Alike(schema, is_failures, [(uri, generator)]))

    def extras(self, generator: str) -> pa.Schema:
        """The pass-through columns of all files; of two types that of more files."""
        types: dict[str, Counter[pa.DataType]] = {}
        for alike in self.alike:
            not_extra = {*_own(generator, is_failures=alike.is_failures), *_newer(alike)}
            for one in alike.schema:
                if one.name not in not_extra and not _INDEX.fullmatch(one.name):
                    weight = 0 if pa.types.is_null(one.type) else len(alike.files)
                    types.setdefault(one.name, Counter())[one.type] += weight
        return pa.schema([pa.field(name, counts.most_common(1)[0][0]) for name, counts in types.items()])

    def columns(self, generator: str) -> Columns:
        """All columns that the files are to have."""
        return Columns.of(generator, self.extras(generator))

    def problems(self, generator: str) -> Iterator[Problem]:
        """The files whose columns are not those of a dataset of this generator."""
        columns = self.columns(generator)
        for alike in self.alike:
            full = columns.failed if alike.is_failures else columns.made
            kind, said = _fault(alike, full)
            for uri, made_by in alike.files:
                if made_by not in ("", generator):
                    yield Problem(kinds.OTHER_GENERATOR, uri, said=f"made by {made_by}")
                elif kind is not None:
                    yield Problem(kind, uri, said=said)


def conform(table: pa.Table, full: pa.Schema) -> pa.Table:
    """A file's rows with exactly these columns; what it lacks is null.

    Raises:
        ValueError: a value does not fit the type of its column, or a column would be lost.
    """
    more = [name for name in table.column_names if name not in full.names and not _INDEX.fullmatch(name)]
    if more:
        raise ValueError(f"it has more columns: {', '.join(more)}")
    columns = []
    for one in full:
        if one.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, one.type))
            continue
        column = table[one.name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        columns.append(column.cast(one.type))
    return pa.table(columns, schema=full)


def _fault(alike: _Alike, full: pa.Schema) -> tuple[kinds.Kind | None, str]:
    if newer := _newer(alike):
        return kinds.NEWER, f"it has the columns {', '.join(newer)}"
    odd = [one for one in alike.schema if one.name in full.names and not _fits(one.type, full.field(one.name).type)]
    if odd:
        one = odd[0]
        return kinds.FOREIGN_SCHEMA, f"{one.name} is {one.type}, and is to be {full.field(one.name).type}"
    if missing := [name for name in full.names if name not in alike.schema.names]:
        return kinds.OLDER_SCHEMA, f"without {', '.join(missing)}"
    same = len(alike.schema) == len(full) and all(
        (mine.name, mine.type) == (its.name, its.type) for mine, its in zip(alike.schema, full, strict=True)
    )
    return (None, "") if same else (kinds.OTHER_TYPES, "")


def _fits(mine: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values may be the same in both types; whether they are, their conversion says."""
    if pa.types.is_dictionary(mine):
        mine = mine.value_type
    checks = (_is_text, _is_number, _is_moment)
    return pa.types.is_null(mine) or mine == wanted or any(check(mine) and check(wanted) for check in checks)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_moment(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None)


def _newer(alike: _Alike) -> list[str]:
    if alike.is_failures:
        return newer_columns(alike.schema, FAILURE_SCHEMA.names)
    return newer_columns(alike.schema, known_columns())


def _own(generator: str, *, is_failures: bool) -> frozenset[str]:
    return frozenset(FAILURE_SCHEMA.names if is_failures else clip_schema(_known(generator)).names)


def _known(generator: str) -> type[Generator[Any, Any]]:
    return GENERATORS.get(generator, GENERATORS[DEFAULT_GENERATOR])
