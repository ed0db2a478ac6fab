"""Which items a stage takes and gives, as its annotations say; whether it kept to that."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any, get_type_hints

from actors.contracts import Item, Row, Stage


class ContractError(Exception):
    """A stage does not do what it says: a bug in its code, whatever the row."""


def takes(stage: type[Stage[Any, Any]]) -> type[Any]:
    """The class of the items that it is called with."""
    return _annotation(stage, "item")


def gives(stage: type[Stage[Any, Any]]) -> type[Any]:
    """The class of the items that it returns."""
    return _annotation(stage, "return")


@cache  # asked for with each row
def _annotation(stage: type[Stage[Any, Any]], name: str) -> type[Any]:
    hints = get_type_hints(stage.__call__)
    if name == "item":
        hints.pop("return", None)
        name = next(iter(hints), name)
    if name not in hints:
        raise ContractError(f"{stage.__name__}.__call__ has no annotations for what it takes and gives")
    kind: type[Any] = hints[name]
    return kind


def check_chain(stages: Sequence[type[Stage[Any, Any]]]) -> None:
    """Raise ContractError where a stage takes what the one before it does not give, or two write one column."""
    columns: dict[str, str] = {}
    for before, after in pairwise(stages):
        if gives(before) is not takes(after):
            given, taken = gives(before).__name__, takes(after).__name__
            raise ContractError(f"{before.name} gives {given}, and {after.name} after it takes {taken}")
    for stage in stages:
        for column in [*stage.columns.names, seconds_column(stage.name)]:
            if column in columns:
                raise ContractError(f"both {columns[column]} and {stage.name} give the column {column}")
            columns[column] = stage.name


def seconds_column(stage: str) -> str:
    """The column with the seconds that a stage took for a clip."""
    return f"{stage}_s"


def check_kept(stage: Stage[Any, Any], row: Row, given: Item) -> None:
    """Raise ContractError unless the stage has made of this row what it says: one item, and its columns."""
    expected = gives(type(stage))
    if not isinstance(given, expected):
        raise ContractError(f"{stage.name} gave {type(given).__name__}, and not one {expected.__name__}")
    if given.row.clip_id != row.clip_id:
        raise ContractError(f"{stage.name} gave another row than it was called with")
    added, promised = given.row.columns.keys() - row.columns.keys(), set(stage.columns.names)
    if missing := promised - added:
        raise ContractError(f"{stage.name} did not give the column {', '.join(sorted(missing))}")
    if surplus := added - promised:
        raise ContractError(f"{stage.name} gave the column {', '.join(sorted(surplus))}, which it does not declare")
