"""One job over simulated GPUs, watched while clips take as long as they are told to, one pace after the other."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from ray.data import DataContext
from rich.console import Console

from actors.contracts import Ending
from benchmarks.scale.cpu import CpuTimes
from benchmarks.scale.stages import FINISH_SHARE, SleepingFinish, SleepingGenerate
from pipelines import run
from pipelines.config import load_config
from pipelines.dataset.work import WorkFile
from pipelines.driver.ray_private import Callback
from pipelines.graph import Graph
from tests.clusters import Head, environment, simulated_head

# More than a job makes: it is interrupted when all of its paces have been watched.
_ROWS = 50_000
# Of SVD-XT's clips, and of one that costs nothing.
_FULL_SIZE, _SMALL = (1024, 576, 25), (16, 16, 2)
# As docs/cluster.md advises.
_STORE_BYTES_PER_GPU, _SMALL_STORE_BYTES = 750_000_000, 200_000_000
# After a change of pace, until what was begun before it is out: two clips of a GPU, and so many seconds for Ray.
_SETTLES_S = 4.0
_CPUS = 2


@dataclass(frozen=True, slots=True)
class Pace:
    """So many seconds a clip, watched for so long."""

    clip_s: float
    watched_s: float


@dataclass(frozen=True, slots=True)
class Job:
    """So many GPUs that generate; `is_full_size`: with 44 MB of frames a clip, else 2 kB."""

    gpus: int
    paces: Sequence[Pace]
    is_full_size: bool = False

    @property
    def finishers(self) -> int:
        """Actors of the last stage."""
        return ceil(self.gpus * FINISH_SHARE)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen of one pace.

    Attributes:
        actors: of both stages.
        turns: how often Ray Data's loop came round.
        cpu_s: CPU-seconds by role (`benchmarks.scale.cpu`).
    """

    actors: int
    clip_s: float
    is_full_size: bool
    rows: int
    turns: int
    seconds: float
    cpu_s: dict[str, float] = field(default_factory=dict)

    @property
    def turns_per_s(self) -> float:
        """See `benchmarks.scale.model.Driver`."""
        return self.turns / self.seconds

    @property
    def rows_per_s(self) -> float:
        """As they came."""
        return self.rows / self.seconds

    def cores(self, *roles: str) -> float:
        """CPU-seconds a second of these together."""
        return sum(self.cpu_s[role] for role in roles) / self.seconds


def watched(job: Job) -> list[Sample]:
    """Run a job on a Ray head of its own, in a process of its own: the driver begins afresh.

    Raises:
        RuntimeError: it did not come to its end; its own words are above.
    """
    store_bytes = job.gpus * _STORE_BYTES_PER_GPU if job.is_full_size else _SMALL_STORE_BYTES
    with simulated_head(cpus=_CPUS, gpus=job.gpus, store_bytes=store_bytes) as head:
        command = [sys.executable, "-m", "benchmarks.scale.jobs", head.address, str(head.pid), json.dumps(asdict(job))]
        done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the job of {job.gpus} simulated GPUs failed")
    return [Sample(**sample) for sample in json.loads(done.stdout.splitlines()[-1])]


def _drive(head: Head, job: Job) -> list[Sample]:
    """The driver's side: this process."""
    with tempfile.TemporaryDirectory() as name, _counted() as endings:
        folder = Path(name)
        config = load_config([], _settings(folder, head, job))
        pace = folder / "pace"
        _tell(pace, job.paces[0].clip_s)
        watcher = _Watcher(job, pace, endings, CpuTimes(head.pid))
        watcher.start()
        DataContext.get_current().custom_execution_callback_classes.append(_Turns)
        stages: dict[str, Any] = {
            "generate": partial(SleepingGenerate, config.generation.num_frames, pace),
            "finish": partial(SleepingFinish, pace),
        }
        run.run(config, Console(quiet=True), None, stand_ins=stages)
        watcher.join()
    return watcher.samples


class _Watcher(threading.Thread):
    """Waits until all GPUs are at work, changes the pace and looks; then it interrupts the run."""

    def __init__(self, job: Job, pace: Path, endings: list[int], times: CpuTimes) -> None:
        super().__init__(name="watcher", daemon=True)
        self.samples: list[Sample] = []
        self._job, self._pace, self._endings, self._times = job, pace, endings, times

    def run(self) -> None:
        """Until the last pace has been watched."""
        # All workers have started and each has made clips: what a first call costs is behind them.
        while self._endings[0] < 3 * self._job.gpus:
            time.sleep(0.2)
        for pace in self._job.paces:
            _tell(self._pace, pace.clip_s)
            time.sleep(_SETTLES_S + 2 * pace.clip_s)
            self.samples.append(self._watch(pace))
        _tell(self._pace, 0.0)
        os.kill(os.getpid(), signal.SIGINT)

    def _watch(self, pace: Pace) -> Sample:
        before, rows, turns, begun = self._times.look(), self._endings[0], _Turns.count, time.monotonic()
        time.sleep(pace.watched_s)
        after, rows, seconds = self._times.look(), self._endings[0] - rows, time.monotonic() - begun
        turns = _Turns.count - turns
        taken = {role: max(0.0, after[role] - before[role]) for role in after}
        actors = self._job.gpus + self._job.finishers
        return Sample(actors, pace.clip_s, self._job.is_full_size, rows, turns, seconds, taken)


class _Turns(Callback):
    """Counts how often Ray Data's loop comes round."""

    count = 0

    def on_execution_step(self, executor: Any) -> None:  # noqa: ARG002 - as Ray Data calls it
        """Once more."""
        _Turns.count += 1


def _tell(pace: Path, seconds: float) -> None:
    """In one step: stages read it at any time."""
    new = pace.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(pace)


@contextmanager
def _counted() -> Iterator[list[int]]:
    """How many rows have ended, within the block."""
    count = [0]
    endings = Graph.endings

    def counted(graph: Graph, work: Sequence[WorkFile]) -> Iterator[Ending]:
        for ending in endings(graph, work):
            count[0] += 1
            yield ending

    with patch.object(Graph, "endings", counted):
        yield count


def _settings(folder: Path, head: Head, job: Job) -> list[str]:
    """A manifest of one picture, and the settings of a job over it. Nothing is committed while it is watched."""
    width, height, frames = _FULL_SIZE if job.is_full_size else _SMALL
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(noise).resize((width, height)).save(folder / "picture.jpg")
    pq.write_table(pa.table({"uri": ["picture.jpg"] * _ROWS, "seed": list(range(_ROWS))}), folder / "rows.parquet")
    settings = {
        "generator": "null",
        "manifest": folder / "rows.parquet",
        "output": folder / "out",
        "image.width": width,
        "image.height": height,
        "generation.num_frames": frames,
        "workers.generate": f"{{actors: {job.gpus}, num_gpus: 1, num_cpus: 0}}",
        "workers.finish": f"{{actors: {job.finishers}, num_gpus: 0, num_cpus: 0}}",
        "ray.address": head.address,
        "run.flush_s": 100_000,
        "run.grace_s": 60,
    }
    return [f"{name}={value}" for name, value in settings.items()]


def _main() -> None:
    address, pid, text = sys.argv[1:]
    said = json.loads(text)
    job = Job(said["gpus"], [Pace(**pace) for pace in said["paces"]], said["is_full_size"])
    print(json.dumps([asdict(sample) for sample in _drive(Head(address, "", int(pid)), job)]))


if __name__ == "__main__":
    _main()
