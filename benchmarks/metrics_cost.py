"""What metrics cost: rows a second with them against without, in short runs that take turns.

    python -m benchmarks.metrics_cost [--rows 1500] [--pairs 5]

As `benchmarks.overhead`, with stages that do nothing, on a Ray of this machine. Ends non-zero below the aim.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.null_model import null_stages
from benchmarks.overhead import Sampler, job_settings, split
from pipelines import run
from pipelines.config import load_config

_MIN_SHARE = 0.97
_SETTINGS = {"with": "true", "without": "false"}


def main() -> int:
    """Run pairs, each the other way round than the one before; print both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    rows, pairs = arguments.rows, arguments.pairs
    rates: dict[str, list[float]] = {name: [] for name in _SETTINGS}
    cpu_ms: dict[str, list[float]] = {name: [] for name in _SETTINGS}
    for number in range(pairs):
        names = list(_SETTINGS) if number % 2 else list(reversed(_SETTINGS))
        for name in names:
            rate, milliseconds = _one(rows, metrics=_SETTINGS[name])
            rates[name].append(rate)
            cpu_ms[name].append(milliseconds)
    table = Table("what", *_SETTINGS, "ratio")
    share = _show(table, "rows/s, from the first row to the last", rates)
    _show(table, "CPU ms a row, all processes and their starts", cpu_ms)
    Console().print(table, f"medians of {pairs} runs of {rows:,} rows each; the aim: {_MIN_SHARE:.0%} of the rows/s")
    return int(share < _MIN_SHARE)


def _show(table: Table, what: str, values: dict[str, list[float]]) -> float:
    middle = {name: median(values[name]) for name in _SETTINGS}
    spread = {name: f"{middle[name]:.2f} ({min(values[name]):.2f} to {max(values[name]):.2f})" for name in _SETTINGS}
    share = middle["with"] / middle["without"]
    table.add_row(what, *spread.values(), f"{share:.1%}")
    return share


def _one(rows: int, metrics: str) -> tuple[float, float]:
    """Rows a second, and milliseconds of CPU a row."""
    sampler = Sampler()
    with tempfile.TemporaryDirectory() as folder, split(rows, sampler) as edges:
        config = load_config([], [*job_settings(Path(folder), rows), f"run.metrics={metrics}"])
        sampler.start()
        summary = run.run(config, Console(quiet=True), None, stand_ins=null_stages(config.generation.num_frames))
        sampler.stop()
    assert (summary.made, summary.status) == (rows, "done"), summary
    begin, end = edges
    return rows / (end - begin), sampler.cpu_s / rows * 1000


if __name__ == "__main__":
    sys.exit(main())
