"""Decoded pixels against the formulas of the formats and against other decoders (benchmarks/image_table)."""

from collections import Counter

import pytest

from benchmarks.image_table.differences import outcome
from benchmarks.image_table.rows import rows


def wrong(step: int) -> tuple[Counter[str], list[str]]:
    """How many files of each format there were, and what is wrong with which."""
    found = [outcome(row) for number, row in enumerate(rows()) if number % step == 0]
    said = [f"{end.row.format} {end.row.what}: {end.difference} {end.refusal}" for end in found if end.is_wrong]
    return Counter(end.row.format for end in found), said


def test_a_share_of_the_table_is_right() -> None:
    numbers, said = wrong(step=7)
    assert not said
    assert sum(numbers.values()) > 200


@pytest.mark.slow
def test_all_of_the_table_is_right() -> None:
    numbers, said = wrong(step=1)
    assert not said
    assert numbers["PNG"] > 250
    assert numbers["TIFF"] > 1000
    assert set(numbers) == {"PNG", "TIFF", "BMP", "JPEG", "WebP", "GIF", "JPEG2000", "AVIF", "HEIF", "JXL"}
