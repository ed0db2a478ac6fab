"""Decode each file of the table and hold its pixels against the formulas and against another decoder's.

    python -m benchmarks.image_table [--all]

Ends non-zero where a difference is over 2 of 255. Where there is no formula (lossy files), the other decoder alone
decides.
"""

import argparse
import sys
from collections import Counter, defaultdict

from rich.console import Console
from rich.table import Table

from benchmarks.image_table.differences import LARGEST, Outcome, outcome
from benchmarks.image_table.rows import rows


def main() -> None:
    """Print the table: each file, or the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="a line for each file")
    arguments = parser.parse_args()
    outcomes = [outcome(row) for row in rows()]
    worst: dict[str, float] = defaultdict(float)
    for found in outcomes:
        worst[found.row.format] = max(worst[found.row.format], found.difference or 0)
    Console().print(_each(outcomes) if arguments.all else _sums(outcomes, worst))
    wrong = [found for found in outcomes if found.is_wrong]
    for found in wrong:
        print(f"wrong: {found.row.format} {found.row.what}: {found.difference} {found.refusal or ''}")
    print(f"{len(outcomes)} files, {len(wrong)} wrong, largest difference {max(worst.values()):.1f} of 255")
    sys.exit(bool(wrong))


def _sums(outcomes: list[Outcome], worst: dict[str, float]) -> Table:
    table = Table(
        "format", "files", "refused", "held against another decoder", "largest difference", title=f"aim: {LARGEST}"
    )
    numbers = Counter(found.row.format for found in outcomes)
    for name, number in numbers.items():
        mine = [found for found in outcomes if found.row.format == name]
        refused = sum(found.refusal is not None for found in mine)
        seen = sum(found.of_other is not None for found in mine)
        table.add_row(name, str(number), str(refused), str(seen), f"{worst[name]:.1f}")
    return table


def _each(outcomes: list[Outcome]) -> Table:
    table = Table("file", "from the formulas", "from another decoder", "refused")
    for found in outcomes:
        cells = ["" if value is None else f"{value:.1f}" for value in (found.of_formula, found.of_other)]
        table.add_row(f"{found.row.format} {found.row.what}", *cells, found.refusal or "")
    return table


if __name__ == "__main__":
    main()
