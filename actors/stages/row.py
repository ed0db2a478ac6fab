"""What the stages share: the row's columns for failures, what stands in for a row's pixels, and its parameters."""

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
NO_OUTCOME = {"outcome": ""}
_PARAMETERS = [field.name for field in PARAMETER_FIELDS]


def rows_of(batch: dict[str, npt.NDArray[Any]]) -> list[Row]:
    """The rows of a batch that Ray Data hands over in NumPy's format."""
    size = len(next(iter(batch.values())))
    return [{name: column[index] for name, column in batch.items()} for index in range(size)]


def as_batch(row: Row) -> dict[str, Any]:
    """A batch of one row: pixels of different shapes never meet in one array."""
    return {name: value[np.newaxis] if isinstance(value, np.ndarray) else [value] for name, value in row.items()}


def failed(row: Row, stage: str, error: Exception) -> Row:
    """The row marked as failed at `stage`."""
    return {**row, "stage": stage, "error_type": type(error).__name__, "error": str(error) or repr(error)}


def parameters(row: Row) -> dict[str, Any]:
    """The clip's parameters as Python numbers: Ray hands them over as NumPy scalars in batches, not so in rows."""
    return {name: np.asarray(row[name]).item() for name in _PARAMETERS}
