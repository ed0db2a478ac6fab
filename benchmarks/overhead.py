"""What the pipeline itself costs: rows a second, and memory over many rows, with stages that do nothing.

    python -m benchmarks.overhead [--rows 20000] [--files 4]

One Ray on this machine, one actor a stage, one tiny image for all rows, which are planned into so many work files.
Growth of memory: for each process, the slope of a line through its samples, without the first third of the time.
Ends non-zero over a limit.
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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

from actors.contracts import Ending
from actors.repeating import Repeating
from benchmarks.make_checkpoints import TINY_SIZES, make_svd_checkpoint
from benchmarks.null_model import null_stages
from pipelines import run
from pipelines.config import load_config
from pipelines.dataset import work as work_files
from pipelines.dataset.work import WorkFile
from pipelines.graph import Graph
from pipelines.planning import clips

_MIN_ROWS_PER_S = 50.0
_MAX_MB_PER_1000_ROWS = {"driver": 1.3, "workers": 1.0, "ray": 4.0}  # the driver: 2 GB after a million rows
_SAMPLE_INTERVAL_S = 1.0
_SAMPLES_PER_LOOK_AT_MEMORY = 5  # which takes 0.1 s of a core
# Workers in which Ray does its own bookkeeping: no code of ours runs there.
_OF_RAY_ITSELF = ("Agent", "_StatsActor", "_AutoscalingCoordinatorActor", "ActorLocationTracker")
# A process that was there for less than this has no slope.
_MIN_SAMPLES = 6


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, or of several together, at one moment."""

    at: float  # seconds
    mb: float


class Sampler(Repeating):
    """Now and then: memory of this process, of each of Ray's workers and of Ray's own processes together; CPU time."""

    def __init__(self) -> None:
        super().__init__("sampler", self._sample, _SAMPLE_INTERVAL_S)
        self.driver: list[Memory] = []
        self.ray: list[Memory] = []
        self.workers: dict[int, list[Memory]] = {}  # by process
        self.names: dict[int, str] = {}  # of the workers, by what they did last
        self._cpu_s: dict[int, float] = {}  # by process
        self._samples = 0

    def _sample(self) -> None:
        if self._samples % _SAMPLES_PER_LOOK_AT_MEMORY == 0:
            self.look_at_memory()
        self._samples += 1
        for process in _processes():
            with suppress(psutil.Error):
                times = process.cpu_times()
                self._cpu_s[process.pid] = times.user + times.system

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all processes until their last sample."""
        return sum(self._cpu_s.values())

    def look_at_memory(self) -> float:
        """Take a sample; its time."""
        at = time.monotonic()
        me, *others = _processes()
        self.driver.append(Memory(at, me.memory_info().rss / 1e6))
        ray_mb = 0.0
        for process in others:
            with suppress(psutil.Error):
                title = " ".join(process.cmdline()[:1])
                mb = process.memory_full_info().uss / 1e6
                if title.startswith("ray::") and not any(name in title for name in _OF_RAY_ITSELF):
                    self.workers.setdefault(process.pid, []).append(Memory(at, mb))
                    if process.pid not in self.names or "IDLE" not in title:
                        self.names[process.pid] = stage_of(title)
                else:
                    ray_mb += mb
        self.ray.append(Memory(at, ray_mb))
        return at


def stage_of(title: str) -> str:
    """What a worker of Ray does, from its process's title, such as `ray::MapWorker(MapBatches(Generate)).submit`."""
    names: list[str] = re.findall(r"\w+", title.removeprefix("ray::").partition(")")[0])
    return names[-1]


def slope_mb_per_s(samples: Sequence[Memory], begin: float, end: float) -> float | None:
    """Of a line through the samples between two moments, without the first third of that time; None: too few."""
    late = [sample for sample in samples if begin + (end - begin) / 3 <= sample.at <= end]
    if len(late) < _MIN_SAMPLES:
        return None
    return float(np.polyfit([sample.at for sample in late], [sample.mb for sample in late], 1)[0])


def _last_mb(samples: Sequence[Memory], moment: float) -> float:
    return [sample.mb for sample in samples if sample.at <= moment][-1]


def main() -> int:
    """Run, sample, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--files", type=int, default=4)
    arguments = parser.parse_args()
    rows: int = arguments.rows
    sampler = Sampler()
    with tempfile.TemporaryDirectory() as name, _split(ceil(rows / arguments.files), sampler) as edges:
        config = load_config([], job_settings(Path(name), rows))
        sampler.start()
        started = time.monotonic()
        summary = run.run(config, Console(quiet=True), None, stand_ins=null_stages(config.generation.num_frames))
        seconds = time.monotonic() - started
        sampler.stop()
    assert (summary.made, summary.status) == (rows, "done"), summary
    table = Table("what", "figure", "limit")
    table.add_row("rows/s, from start to end", f"{rows / seconds:.0f}", f"at least {_MIN_ROWS_PER_S:g}")
    table.add_row("CPU ms a row, all processes and their starts", f"{sampler.cpu_s / rows * 1000:.1f}", "")
    loads = sum(name == "Generate" for name in sampler.names.values())
    table.add_row(f"model loads of the one actor, over {arguments.files} work files", str(loads), "1")
    missed = loads != 1
    missed |= _show_growth(table, sampler, edges, rows)
    Console().print(table)
    return int(missed or rows / seconds < _MIN_ROWS_PER_S)


def _show_growth(table: Table, sampler: Sampler, edges: Sequence[float], rows: int) -> bool:
    """The slopes while so many rows were made between two `edges`; whether one is over its limit."""
    begin, end = edges
    processes = [("driver", "driver", sampler.driver), ("ray", "Ray's own, together", sampler.ray)]
    processes += [("workers", sampler.names[pid], samples) for pid, samples in sampler.workers.items()]
    missed = False
    for kind, name, samples in processes:
        limit = _MAX_MB_PER_1000_ROWS[kind]
        if (slope := slope_mb_per_s(samples, begin, end)) is not None:
            per_1000_rows = slope * (end - begin) / rows * 1000
            now = _last_mb(samples, end)  # of a worker that has ended by then, too
            table.add_row(f"{name}, MB per 1,000 rows", f"{per_1000_rows:+.2f}  (to {now:.0f} MB)", f"{limit:g}")
            missed |= per_1000_rows > limit
        elif kind != "workers":
            table.add_row(f"{name}, MB per 1,000 rows", "too few rows", f"{limit:g}")
    return missed


@contextmanager
def _split(rows: int, sampler: Sampler) -> Iterator[list[float]]:
    """Work files of so many rows; gives the moments at which the first row begins and the last one ends."""
    edges: list[float] = []
    endings = Graph.endings

    def measured(graph: Graph, work: Sequence[WorkFile]) -> Iterator[Ending]:
        edges.append(sampler.look_at_memory())
        yield from endings(graph, work)
        edges.append(sampler.look_at_memory())

    with (
        patch.object(work_files, "WORK_ROWS", rows),
        patch.object(clips, "WORK_ROWS", rows),
        patch.object(Graph, "endings", measured),
    ):
        yield edges


def job_settings(folder: Path, rows: int) -> list[str]:
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
        "workers.finish": "{actors: 1, num_gpus: 0, num_cpus: 0}",
        "ray.num_cpus": 2,
        "ray.object_store_mb": 200,
    }
    return [f"{name}={value}" for name, value in settings.items()]


def _processes() -> list[psutil.Process]:
    """This process first, then all that it has started."""
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


if __name__ == "__main__":
    sys.exit(main())
