"""What the pipeline itself costs: rows a second, and memory over many rows, with stages that do nothing.

    python -m benchmarks.overhead [--rows 20000]

One Ray on this machine, one actor a stage, one tiny image for all rows. The slope is that of a line through the samples
after the first third, when all processes have started; Ray itself keeps about 8 kB for each row of an execution, and
executions are split after 100,000 rows. Ends non-zero over a limit.
"""

import argparse
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.null_model import NullFinish, NullGenerate
from pipelines import run
from pipelines.config import load_config
from pipelines.graph import Stages

_MIN_ROWS_PER_S = 50.0
_MAX_MB_PER_1000_ROWS = {"driver": 12.0, "workers": 2.0, "ray": 4.0}
_SAMPLE_INTERVAL_S = 1.0


class Sampler(threading.Thread):
    """Resident memory of this process, of Ray's workers and of Ray's own processes, once a second, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, dict[str, float]]] = []
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Until `stop`."""
        while not self._stop_asked.wait(_SAMPLE_INTERVAL_S):
            self.samples.append((time.monotonic(), _memory_mb()))

    def stop(self) -> None:
        """End the thread."""
        self._stop_asked.set()
        self.join()

    def slope_mb_per_s(self, name: str) -> float:
        """Of a line through the last two thirds of the samples."""
        late = self.samples[len(self.samples) // 3 :]
        return float(np.polyfit([at for at, _ in late], [memory[name] for _, memory in late], 1)[0])

    def last_mb(self, name: str) -> float:
        """The last sample's."""
        return self.samples[-1][1][name]


def main() -> int:
    """Run, sample, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    rows: int = parser.parse_args().rows
    sampler = Sampler()
    with tempfile.TemporaryDirectory() as name:
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
    missed = rows / seconds < _MIN_ROWS_PER_S
    for who, limit in _MAX_MB_PER_1000_ROWS.items():
        slope = sampler.slope_mb_per_s(who) * seconds / rows * 1000
        table.add_row(f"{who}, MB per 1,000 rows", f"{slope:+.2f}", f"{limit:g}")
        table.add_row(f"{who}, MB at the end", f"{sampler.last_mb(who):.0f}", "")
        missed |= slope > limit
    Console().print(table)
    return int(missed)


def _job(folder: Path, rows: int) -> list[str]:
    """A manifest of so many rows, alike but for their seeds, and the settings of a job over it."""
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(noise).save(folder / "picture.png")
    pq.write_table(pa.table({"uri": ["picture.png"] * rows, "seed": list(range(rows))}), folder / "rows.parquet")
    (folder / "model").mkdir()
    settings = {
        "manifest": folder / "rows.parquet",
        "output": folder / "out",
        "image.width": 16,
        "image.height": 16,
        "model.source": folder / "model",
        "generation.num_frames": 2,
        "workers.load.num_cpus": 0.5,
        "workers.generate": "{actors: 1, num_gpus: 0, num_cpus: 0}",
        "workers.interpolate": "{actors: 1, num_gpus: 0, num_cpus: 0}",
        "ray.num_cpus": 2,
        "ray.object_store_mb": 200,
    }
    return [f"{name}={value}" for name, value in settings.items()]


def _memory_mb() -> dict[str, float]:
    me = psutil.Process()
    memory = {"driver": me.memory_info().rss / 1e6, "workers": 0.0, "ray": 0.0}
    for process in me.children(recursive=True):
        with suppress(psutil.Error):
            kind = "workers" if process.name().startswith("ray::") else "ray"
            memory[kind] += process.memory_full_info().uss / 1e6
    return memory


if __name__ == "__main__":
    sys.exit(main())
