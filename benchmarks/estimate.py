"""What `plan` estimates against what the run then took, with a generator that costs nothing.

    python -m benchmarks.estimate [--first 200] [--then 600] [--settings NAME ...]

For each of five settings: a run of some clips, the estimate for more of them, the run of those. Both runs are commands
of their own, which start a Ray of their own on this machine. Ends non-zero where one is off by more than 15 %.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from pipelines import run
from pipelines.config import load_config
from pipelines.money.estimate import estimated

_MAX_ERROR = 0.15
_PICTURES = 8
_SETTINGS = {
    "short": ("generation.num_frames=14",),
    "long": ("generation.num_frames=80",),
    "large": ("image.width=768", "image.height=432"),
    "slow encoder": ("video.codec=h265", "video.preset=medium"),
    "more actors": ("workers.generate.actors=2", "workers.finish.actors=2"),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One of the settings: seconds that were estimated, and that the run took."""

    name: str
    first_s: float
    estimated_s: float
    took_s: float

    @property
    def error(self) -> float:
        """How far off the estimate is, as a share of what the run took; above 0 where it was too long."""
        return (self.estimated_s - self.took_s) / self.took_s


def try_settings(name: str, overrides: tuple[str, ...], folder: Path, first: int, then: int) -> Trial:
    """Make `first` clips, estimate `then` more, and make those."""
    settings = [*_job(folder, first + then), *overrides]
    before = _run([*settings, f"columns.limit={first}"], first)
    config = load_config([], settings)
    time_s = estimated(run.plan_only(config, None), config).time_s
    assert time_s is not None, "there are clips, and a run, of these settings"
    return Trial(name, before, time_s, _run(settings, then))


def _run(settings: list[str], clips: int) -> float:
    """The command; seconds that its summary tells."""
    output = Path(next(one for one in settings if one.startswith("output=")).removeprefix("output="))
    before = set(output.rglob("summary.json"))
    command = [sys.executable, "-m", "pipelines", "run", "--config", str(output.parent / "none.yaml"), *settings]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (new,) = set(output.rglob("summary.json")) - before
    summary = json.loads(new.read_text())
    assert (summary["made"], summary["status"]) == (clips, "done"), summary
    return float(summary["elapsed_s"])


def _job(folder: Path, rows: int) -> list[str]:
    """A manifest of so many rows over a few pictures, which differ in their seeds; and the settings of a job."""
    for number in range(_PICTURES):
        noise = np.random.default_rng(number).integers(0, 255, (18, 32, 3), np.uint8)
        Image.fromarray(noise).resize((640, 360), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")
    with (folder / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("uri", "seed"), *((f"{seed % _PICTURES}.jpg", seed) for seed in range(rows))])
    (folder / "none.yaml").write_text("{}")
    settings = {
        "generator": "null",
        "manifest": folder / "rows.csv",
        "output": folder / "out",
        "image.width": 384,
        "image.height": 216,
        "generation.num_frames": 25,
        "workers.generate": "{actors: 1, num_gpus: 0, num_cpus: 0}",
        "workers.finish": "{actors: 1, num_gpus: 0, num_cpus: 0}",
        "ray.object_store_mb": 200,
    }
    return [f"{name}={value}" for name, value in settings.items()]


def main() -> int:
    """Try them all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=200)
    parser.add_argument("--then", type=int, default=600)
    parser.add_argument("--settings", nargs="*", default=list(_SETTINGS), choices=list(_SETTINGS))
    arguments = parser.parse_args()
    table = Table("settings", f"{arguments.first} clips, s", f"{arguments.then} more: estimated, s", "took, s", "error")
    missed, console = False, Console()
    for name in arguments.settings:
        with tempfile.TemporaryDirectory() as folder:
            trial = try_settings(name, _SETTINGS[name], Path(folder), arguments.first, arguments.then)
        row = [name, *(f"{one:.1f}" for one in (trial.first_s, trial.estimated_s, trial.took_s)), f"{trial.error:+.1%}"]
        table.add_row(*row)
        console.print(*row)  # each as it comes: the whole takes a quarter of an hour
        missed |= abs(trial.error) > _MAX_ERROR
    console.print(table)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
