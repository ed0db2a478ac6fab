"""What the stages share: how a row travels, its columns for failures, what stands in for its pixels, its parameters."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from actors.records import PARAMETER_FIELDS

Row = dict[str, Any]
Pixels = npt.NDArray[np.uint8]

NO_IMAGE: Pixels = np.zeros((0, 0, 3), np.uint8)
NO_FRAMES: Pixels = np.zeros((0, 0, 0, 3), np.uint8)
WELL = {"stage": "", "error_type": "", "error": ""}
# The `stage` of a row that a run which is to end does not begin with, and what the last stage makes of it.
UNSTARTED = "unstarted"
NO_OUTCOME = ""
_PARAMETERS = [field.name for field in PARAMETER_FIELDS]


def pack(row: Row) -> dict[str, Any]:
    """A batch of one row for Ray Data: a column for each array of pixels, and one, `row`, of JSON for all else.

    Arrow and Ray take time for each column. One row, because pixels of different shapes cannot meet in one array. All
    else is numbers (NumPy's too), strings and None.
    """
    pixels = {name: value for name, value in row.items() if isinstance(value, np.ndarray)}
    rest = {name: value for name, value in row.items() if name not in pixels}
    return {
        "row": [json.dumps(rest, default=lambda number: number.item())],
        **{name: value[np.newaxis] for name, value in pixels.items()},
    }


def unpack(batch: Mapping[str, Sequence[Any] | npt.NDArray[Any]]) -> list[Row]:
    """The rows of a batch, however many, that were packed one by one: Python's own numbers, pixels as they were."""
    pixels = {name: column for name, column in batch.items() if name != "row"}
    return [
        json.loads(text) | {name: column[index] for name, column in pixels.items()}
        for index, text in enumerate(batch["row"])
    ]


def failed(row: Row, stage: str, error: Exception) -> Row:
    """The row marked as failed at `stage`."""
    message = (str(error) or repr(error)).encode("utf-8", "backslashreplace").decode()  # a file's name may be no UTF-8
    return {**row, "stage": stage, "error_type": type(error).__name__, "error": message}


def parameters(row: Row) -> dict[str, Any]:
    """The clip's own parameters."""
    return {name: row[name] for name in _PARAMETERS}
