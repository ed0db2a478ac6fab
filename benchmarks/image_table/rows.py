"""The rows of the table: files of every arrangement, and what their pixels must be by the formulas of the formats."""

from collections.abc import Iterator

from benchmarks.image_table import other_rows, png_rows, tiff_rows
from benchmarks.image_table.pictures import Row


def rows() -> Iterator[Row]:
    """All of them."""
    yield from png_rows.rows()
    yield from tiff_rows.rows()
    yield from other_rows.rows()
