"""How items travel from stage to stage through Ray: as batches of one row.

Arrow and Ray take time for each column. So an item has one for each of its arrays of pixels, and one, `item`, of JSON
for all else: numbers (NumPy's too), text and None. One row, because pixels of different shapes cannot meet in an array.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, get_type_hints

import numpy as np
import numpy.typing as npt

from actors.contracts import PLACE_SCHEMA, Ending, Failed, Item, Made, Pixels, Place, Planned, Row, Unstarted
from actors.runner.contract import ContractError

ITEM_COLUMN = "item"


def planned(work: Mapping[str, Any]) -> Planned | Failed:
    """A row of a work file (`actors.records.work_schema`); one that the manifest spoils has failed already."""
    parameters = dict(work)
    clip_id, part, attempts, image_uri = (parameters.pop(name) for name in ("clip_id", "part", "attempts", "image_uri"))
    file, column, group, in_group, fallback = (parameters.pop(name) for name in PLACE_SCHEMA.names)
    problem, image_license = parameters.pop("problem"), parameters.pop("image_license")
    row = Row(clip_id, part, attempts, image_uri, parameters)
    if problem:
        return Failed(row, "manifest", "ManifestError", problem)
    return Planned(row, None if file is None else Place(file, column, group, in_group), fallback, image_license)


def pack(item: Item, kind: type[Item]) -> dict[str, Any]:
    """A batch of one item, which is a `kind` unless its row has failed or was not begun with."""
    pixels = pixel_fields(kind)
    is_whole = isinstance(item, kind)
    names = [field.name for field in fields(item)]  # type: ignore[arg-type] # each item is a dataclass
    rest = {name: getattr(item, name) for name in names if name not in pixels and name != "row"}
    row = item.row
    rest |= {
        "kind": type(item).__name__,
        "row": [row.clip_id, row.part, row.attempts, row.image_uri, row.parameters, row.columns],
    }
    return {
        ITEM_COLUMN: [json.dumps(rest, default=lambda number: number.item())],
        **{name: (getattr(item, name) if is_whole else nothing)[np.newaxis] for name, nothing in pixels.items()},
    }


def unpack(
    batch: Mapping[str, Sequence[Any] | npt.NDArray[Any]], kind: type[Item]
) -> Iterator[Item | Failed | Unstarted]:
    """The items of a batch, however many, that were packed one by one: pixels and numbers as they were.

    Raises:
        ContractError: they are no `kind`.
    """
    pixels = pixel_fields(kind)
    for index, text in enumerate(batch[ITEM_COLUMN]):
        values = json.loads(text)
        row = Row(*values.pop("row"))
        if (name := values.pop("kind")) == kind.__name__:
            make: Any = kind
            yield make(row=row, **values, **{name: batch[name][index] for name in pixels})
        elif name == Failed.__name__:
            yield Failed(row, **values)
        elif name == Unstarted.__name__:
            yield Unstarted(row)
        else:
            raise ContractError(f"a {kind.__name__} was expected, and a {name} came")


def endings(texts: Sequence[str]) -> Iterator[Ending]:
    """What the last stage gave out, without the rows that the run did not begin with."""
    for item in unpack({ITEM_COLUMN: texts}, Made):
        if isinstance(item, Made | Failed):
            yield item


@cache
def pixel_fields(kind: type[Item]) -> dict[str, Pixels]:
    """The fields of an item that are pixels, each with what stands there for a row that has failed.

    The number of axes stays: `frames_FHWC` has four.
    """
    names = [name for name, hint in get_type_hints(kind).items() if hint == Pixels]
    return {name: np.zeros((*[0] * (len(name.rpartition("_")[2]) - 1), 3), np.uint8) for name in names}
