"""What metrics cost: rows a second of two runs beside each other, one with them and one without.

    python -m benchmarks.metrics_cost [--rows 1000] [--pairs 4]

As `benchmarks.overhead`, with stages that do nothing, each on a Ray of its own. Both want all of the machine and get
half of it, whatever else it does: so their ratio says more than their rates. Counted are the rows that end while both
are at work. Ends non-zero below the aim.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from unittest.mock import patch

from rich.console import Console

from actors.contracts import Ending
from benchmarks.null_model import null_stages
from benchmarks.overhead import job_settings
from pipelines import run
from pipelines.config import load_config
from pipelines.dataset.work import WorkFile
from pipelines.graph import Graph

_MIN_SHARE = 0.97
_READY = "ready"
_STARTS = 5
_SETTINGS = {"with": "true", "without": "false"}


def main() -> int:
    """Run pairs, started in turns the other way round; print the rates and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--one", choices=_SETTINGS.values(), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_one(arguments.rows, arguments.one)))
        return 0
    shares = []
    for number in range(arguments.pairs):
        rates = _pair(arguments.rows, is_reversed=bool(number % 2))
        shares.append(rates["with"] / rates["without"])
        said = ", ".join(f"{rates[name]:.1f} rows/s {name}" for name in _SETTINGS)
        print(f"pair {number + 1}: {said} metrics: {shares[-1]:.1%}", flush=True)
    print(f"median: {median(shares):.1%} (the aim: at least {_MIN_SHARE:.0%})")
    return int(median(shares) < _MIN_SHARE)


def _pair(rows: int, *, is_reversed: bool) -> dict[str, float]:
    """Rows a second of both, while both are at work. They start one after the other, and begin together."""
    names = list(reversed(_SETTINGS)) if is_reversed else list(_SETTINGS)
    processes = {name: _ready(rows, _SETTINGS[name]) for name in names}
    ended: dict[str, list[float]] = {}
    for process in processes.values():
        assert process.stdin is not None
        process.stdin.write("begin\n")
        process.stdin.flush()
    for name, process in processes.items():
        out, _ = process.communicate()
        if process.returncode:
            sys.exit(f"the run {name} metrics failed, as it says above")
        ended[name] = json.loads(out.splitlines()[-1])
    begin, end = max(moments[0] for moments in ended.values()), min(moments[-1] for moments in ended.values())
    return {name: sum(begin <= moment <= end for moment in moments) / (end - begin) for name, moments in ended.items()}


def _ready(rows: int, metrics: str) -> "subprocess.Popen[str]":
    """A run that waits to be told when to begin; started again where its Ray did not, as on a machine that is busy."""
    command = [sys.executable, "-m", "benchmarks.metrics_cost", f"--rows={rows}", "--one", metrics]
    for _ in range(_STARTS):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if any(line.strip() == _READY for line in iter(process.stdout.readline, "")):
            return process
        process.communicate()
    sys.exit("no run of it starts, as they say above")


def _one(rows: int, metrics: str) -> list[float]:
    """The moments at which the rows of a run ended, in order."""
    with tempfile.TemporaryDirectory() as folder, _noted() as moments:
        config = load_config([], [*job_settings(Path(folder), rows), f"run.metrics={metrics}"])
        summary = run.run(config, Console(quiet=True), None, stand_ins=null_stages(config.generation.num_frames))
    assert (summary.made, summary.status) == (rows, "done"), summary
    return moments


@contextmanager
def _noted() -> Iterator[list[float]]:
    """The moments at which rows end within the block, of a clock that all processes share; told when to begin."""
    moments: list[float] = []
    endings = Graph.endings

    def noted(graph: Graph, work: Sequence[WorkFile]) -> Iterator[Ending]:
        print(_READY, flush=True)
        sys.stdin.readline()
        for ending in endings(graph, work):
            moments.append(time.monotonic())
            yield ending

    with patch.object(Graph, "endings", noted):
        yield moments


if __name__ == "__main__":
    sys.exit(main())
