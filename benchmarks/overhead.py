"""What the pipeline itself costs: rows a second, and memory over many rows, with stages that do nothing.

    python -m benchmarks.overhead [--rows 20000] [--executions 1]

One Ray on this machine, one actor a stage, one tiny image for all rows. The slope is that of a line through the samples
after the first third, when all processes have started. Within an execution Ray Data keeps about 8 kB in the driver for
each row, which the next execution uses again; they are split after 100,000 rows. With `--executions` the rows are split
into so many, and the driver's memory at the end of each shows what stays. Ends non-zero over a limit.
"""

import argparse
import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from rich.table import Table

from actors.records import Outcome
from benchmarks.make_checkpoints import TINY_SIZES, make_svd_checkpoint
from benchmarks.null_model import NullFinish, NullGenerate
from pipelines import plan, run
from pipelines.config import load_config
from pipelines.graph import Graph, Stages
from pipelines.plan import WorkFile

_MIN_ROWS_PER_S = 50.0
_MAX_MB_PER_1000_ROWS = {"driver": 12.0, "workers": 2.0, "ray": 4.0}
_MAX_DRIVER_MB_PER_1000_ROWS_THAT_STAYS = 2.0
_SAMPLE_INTERVAL_S = 1.0
_SAMPLES_PER_LOOK_AT_MEMORY = 5  # which takes 0.1 s of a core
# Workers in which Ray does its own bookkeeping: no code of ours runs there.
_OF_RAY_ITSELF = ("Agent", "_StatsActor", "_AutoscalingCoordinatorActor", "ActorLocationTracker")
# Of the median of the workers' sum: with less, not all of them have started, or some have ended; with more, those of an
# execution that is over have not ended yet.
_ALL_AT_WORK = (0.8, 1.15)


class Sampler(threading.Thread):
    """Now and then: resident memory of this process, of Ray's workers and of Ray's own processes, in MB; CPU time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, dict[str, float]]] = []
        self._cpu_s: dict[int, float] = {}  # by process
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Until `stop`."""
        for number in itertools.count():
            if self._stop_asked.wait(_SAMPLE_INTERVAL_S):
                break
            if number % _SAMPLES_PER_LOOK_AT_MEMORY == 0:
                self.samples.append((time.monotonic(), _memory_mb()))
            for process in _processes():
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    self._cpu_s[process.pid] = times.user + times.system

    def stop(self) -> None:
        """End the thread."""
        self._stop_asked.set()
        self.join()

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all processes until their last sample."""
        return sum(self._cpu_s.values())

    def slope_mb_per_s(self, name: str) -> float:
        """Of a line through the last two thirds of the samples."""
        late = self._at_work()[len(self._at_work()) // 3 :]
        return float(np.polyfit([at for at, _ in late], [memory[name] for _, memory in late], 1)[0])

    def last_mb(self, name: str) -> float:
        """The last sample's."""
        return self._at_work()[-1][1][name]

    def _at_work(self) -> list[tuple[float, dict[str, float]]]:
        """Without those at Ray's start and end, and between two executions."""
        typical = float(np.median([memory["workers"] for _, memory in self.samples]))
        least, most = (share * typical for share in _ALL_AT_WORK)
        return [sample for sample in self.samples if least < sample[1]["workers"] < most]


def main() -> int:
    """Run, sample, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--executions", type=int, default=1)
    arguments = parser.parse_args()
    rows: int = arguments.rows
    sampler = Sampler()
    with tempfile.TemporaryDirectory() as name, _split(ceil(rows / arguments.executions)) as ends_mb:
        config = load_config([], _job(Path(name), rows))
        sampler.start()
        started = time.monotonic()
        stages = Stages(generate=NullGenerate, finish=NullFinish)
        summary = run.run(config, Console(quiet=True), None, stages=stages)
        seconds = time.monotonic() - started
        sampler.stop()
    assert (summary.made, summary.status) == (rows, "done"), summary
    table = Table("what", "figure", "limit")
    table.add_row("rows/s, from start to end", f"{rows / seconds:.0f}", f"at least {_MIN_ROWS_PER_S:g}")
    table.add_row("CPU ms a row, all processes and their starts", f"{sampler.cpu_s / rows * 1000:.1f}", "")
    missed = rows / seconds < _MIN_ROWS_PER_S
    for who, limit in _MAX_MB_PER_1000_ROWS.items():
        slope = sampler.slope_mb_per_s(who) * seconds / rows * 1000
        table.add_row(f"{who}, MB per 1,000 rows", f"{slope:+.2f}", f"{limit:g}")
        table.add_row(f"{who}, MB at the end", f"{sampler.last_mb(who):.0f}", "")
        missed |= slope > limit
    table.add_row("driver, MB at the end of each execution", ", ".join(f"{memory:.0f}" for memory in ends_mb), "")
    if len(ends_mb) > 1:
        stays = (ends_mb[-1] - ends_mb[0]) / (rows * (1 - 1 / len(ends_mb))) * 1000
        limit = _MAX_DRIVER_MB_PER_1000_ROWS_THAT_STAYS
        table.add_row("driver, from execution to execution, MB per 1,000 rows", f"{stays:+.2f}", f"{limit:g}")
        missed |= stays > limit
    Console().print(table)
    return int(missed)


@contextmanager
def _split(rows: int) -> Iterator[list[float]]:
    """Executions of so many rows; gives the driver's memory at the end of each, in MB, as they end."""
    ends_mb: list[float] = []
    outcomes = Graph.outcomes

    def measured(graph: Graph, work: Sequence[WorkFile]) -> Iterator[Outcome]:
        yield from outcomes(graph, work)
        ends_mb.append(_memory_mb()["driver"])

    with (
        patch.object(plan, "WORK_ROWS", rows),
        patch.object(run, "WORK_ROWS", rows),
        patch.object(Graph, "outcomes", measured),
    ):
        yield ends_mb


def _job(folder: Path, rows: int) -> list[str]:
    """A manifest of so many rows, alike but for their seeds, and the settings of a job over it."""
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(noise).save(folder / "picture.png")
    pq.write_table(pa.table({"uri": ["picture.png"] * rows, "seed": list(range(rows))}), folder / "rows.parquet")
    make_svd_checkpoint(folder / "model", sizes=TINY_SIZES)  # only its name goes into the clips
    settings = {
        "manifest": folder / "rows.parquet",
        "output": folder / "out",
        "image.width": 16,
        "image.height": 16,
        "model.source": folder / "model",
        "generation.num_frames": 2,
        "workers.generate": "{actors: 1, num_gpus: 0, num_cpus: 0}",
        "workers.interpolate": "{actors: 1, num_gpus: 0, num_cpus: 0}",
        "ray.num_cpus": 2,
        "ray.object_store_mb": 200,
    }
    return [f"{name}={value}" for name, value in settings.items()]


def _processes() -> list[psutil.Process]:
    """This process first, then all that it has started."""
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def _memory_mb() -> dict[str, float]:
    me, *others = _processes()
    memory = {"driver": me.memory_info().rss / 1e6, "workers": 0.0, "ray": 0.0}
    for process in others:
        with suppress(psutil.Error):
            title = " ".join(process.cmdline()[:1])
            is_worker = title.startswith("ray::") and not any(name in title for name in _OF_RAY_ITSELF)
            kind = "workers" if is_worker else "ray"
            memory[kind] += process.memory_full_info().uss / 1e6
    return memory


if __name__ == "__main__":
    sys.exit(main())
