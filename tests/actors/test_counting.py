"""How numbers of things, and sizes, are said."""

import pytest

from actors.counting import counted, file_size, times


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1_234_567, "1,234,567 rows"), (0.5, "0.5 rows")]
)
def test_things(number: float, said: str) -> None:
    assert counted(number, "row") == said


def test_things_of_another_plural_and_times() -> None:
    assert [counted(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]
    assert [times(number) for number in (1, 2, 1000)] == ["once", "2 times", "1,000 times"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (12_345, "12.3 kB"),
        (999_949, "999.9 kB"), (999_951, "1.0 MB"), (4_500_000_000, "4.5 GB"), (2_500_000_000_000_000, "2,500.0 TB"),
    ],
)  # fmt: skip
def test_sizes(number: int, said: str) -> None:
    assert file_size(number) == said
