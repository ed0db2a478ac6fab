"""The share of time in which GPUs are busy while the pipeline feeds them, with a model that sleeps instead.

    python -m benchmarks.gpu_busy [--actors 4] [--clips 80] [--seconds 2]

A clip takes its `--seconds` on a GPU that is not there and becomes 44 MB of frames, as with SVD-XT. Everything else is
the pipeline: the picture is a JPEG that is fetched and decoded for each clip, the frames go through Ray's object store,
the last stage hashes them instead of encoding, which two cores could not do for four GPUs. A GPU counts as busy while
the model sleeps, and as idle at all else: while frames leave the model or Ray hands over the next picture. The share is
that of the time between the moment at which all GPUs have begun and the one at which the first has no more work. Ends
non-zero below the limit.
"""

import argparse
import hashlib
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from rich.console import Console
from rich.table import Table

from actors.contracts import Generated, Loaded, Made
from actors.runner.actor import MakeStage
from benchmarks.make_checkpoints import TINY_SIZES, make_svd_checkpoint
from benchmarks.null_model import NullFinish, NullGenerate
from pipelines import run
from pipelines.config import load_config

_MIN_SHARE = 0.97
_WIDTH, _HEIGHT, _FRAMES = 1024, 576, 25
_SECONDS = "STILLREEL_BENCHMARK_SECONDS"  # Ray hands the environment on to a local cluster's workers
# With 180 MB a GPU, Ray Data held the next clip back for its budget, and the GPUs were busy for 58 to 90 % of the
# time. A machine with GPUs has gigabytes of store for each (30 % of its memory).
_STORE_MB_PER_ACTOR = 750


class SleepingGenerate(NullGenerate):
    """Sleeps, and repeats the picture; notes when it slept in a file of its own."""

    def __init__(self, num_frames: int, notes: Path) -> None:
        super().__init__(num_frames)
        self._notes = notes / f"{os.getpid()}.txt"
        self._seconds = float(os.environ[_SECONDS])

    def __call__(self, image: Loaded) -> Generated:
        """As `NullGenerate`, in its time."""
        begun = time.time()
        time.sleep(self._seconds)
        with self._notes.open("a") as file:
            file.write(f"{begun} {time.time()}\n")
        return super().__call__(image)


class HashingFinish(NullFinish):
    """Writes no file; its record says the frames' SHA-256."""

    columns = NullFinish.columns.append(pa.field("sha256", pa.string()))

    def __call__(self, clip: Generated) -> Made:
        """As `NullFinish`."""
        row = clip.row.with_columns(sha256=hashlib.sha256(clip.frames_FHWC.data).hexdigest())
        return super().__call__(Generated(row, clip.frames_FHWC))


def main() -> int:
    """Run, read the notes, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=int, default=4)
    parser.add_argument("--clips", type=int, default=80)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    os.environ[_SECONDS] = str(arguments.seconds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = load_config([], _job(folder, arguments.actors, arguments.clips))
        stages: dict[str, MakeStage] = {
            "generate": partial(SleepingGenerate, config.generation.num_frames, _notes(folder)),
            "finish": HashingFinish,
        }
        summary = run.run(config, Console(quiet=True), None, stand_ins=stages)
        assert (summary.made, summary.status) == (arguments.clips, "done"), summary
        slept = [np.loadtxt(path, ndmin=2) for path in _notes(folder).iterdir()]
    assert len(slept) == arguments.actors, len(slept)
    share, window_s, gaps_s = busy_share(slept)
    table = Table("what", "figure", "limit")
    table.add_row("GPUs, clips, seconds a clip", f"{arguments.actors}, {arguments.clips}, {arguments.seconds:g}", "")
    table.add_row("seconds looked at", f"{window_s:.0f}", "")
    table.add_row(
        "between two clips, median and longest, ms", f"{np.median(gaps_s) * 1000:.0f}, {gaps_s.max() * 1000:.0f}", ""
    )
    table.add_row("busy share", f"{share:.1%}", f"at least {_MIN_SHARE:.0%}")
    Console().print(table)
    return int(share < _MIN_SHARE)


def busy_share(slept: list[np.ndarray]) -> tuple[float, float, np.ndarray]:
    """From the begins and ends (seconds) of each GPU's work: the busy share, the window and the gaps, in seconds."""
    opens = max(times[0, 0] for times in slept)
    closes = min(times[-1, 1] for times in slept)
    assert closes > opens, "one GPU ran out of work before all had begun: use more clips"
    inside = [np.clip(times, opens, closes) for times in slept]
    busy_s = sum(float((times[:, 1] - times[:, 0]).sum()) for times in inside)
    gaps_s = np.concatenate([times[1:, 0] - times[:-1, 1] for times in slept])
    return busy_s / ((closes - opens) * len(slept)), closes - opens, gaps_s


def _notes(folder: Path) -> Path:
    return folder / "notes"


def _job(folder: Path, actors: int, clips: int) -> list[str]:
    """A manifest of so many clips of one picture, and the settings of a job over it."""
    _notes(folder).mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (_HEIGHT // 8, _WIDTH // 8, 3), np.uint8)
    Image.fromarray(noise).resize((_WIDTH, _HEIGHT)).save(folder / "picture.jpg")
    rows = "".join(f"picture.jpg,{seed}\n" for seed in range(clips))
    (folder / "rows.csv").write_text("uri,seed\n" + rows)
    make_svd_checkpoint(folder / "model", sizes=TINY_SIZES)  # only its name goes into the clips
    settings = {
        "manifest": folder / "rows.csv",
        "output": folder / "out",
        "image.width": _WIDTH,
        "image.height": _HEIGHT,
        "model.source": folder / "model",
        "generation.num_frames": _FRAMES,
        "workers.generate": f"{{actors: {actors}, num_gpus: 0, num_cpus: 0}}",
        "workers.finish": "{actors: 1, num_gpus: 0, num_cpus: 0}",
        "ray.num_cpus": 2,
        "ray.object_store_mb": actors * _STORE_MB_PER_ACTOR,
    }
    return [f"{name}={value}" for name, value in settings.items()]


if __name__ == "__main__":
    sys.exit(main())
