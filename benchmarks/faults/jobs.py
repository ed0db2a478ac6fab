"""Jobs that are quick enough to be killed a hundred times: a tiny checkpoint of the real classes, small pictures."""

import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from PIL import Image

from actors.rife import weights
from actors.rife.untrained import crossfade_net
from benchmarks.make_checkpoints import TINY_SIZES, make_svd_checkpoint
from tests.clusters import environment

# Ray's processes end within seconds of the one that started them.
_GONE_WITHIN_S = 40.0


@dataclass(frozen=True, slots=True)
class Models:
    """The checkpoints that all trials share."""

    svd: Path
    rife: Path

    def sections(self) -> dict[str, Any]:
        """Of a configuration: clips of these."""
        return {
            "image": {"width": 32, "height": 32, "orientation": "landscape"},
            "model": {"source": str(self.svd), "precision": "fp32"},
            "generation": {"num_frames": 3, "num_inference_steps": 2},
            "interpolation": {"weights": str(self.rife), "factor": 2, "precision": "fp32"},
        }


@dataclass(frozen=True, slots=True)
class NoModels:
    """Clips that no model makes: their workers start sooner. More frames take longer to encode."""

    num_frames: int = 3
    width: int = 96
    height: int = 64

    def sections(self) -> dict[str, Any]:
        """Of a configuration."""
        return {
            "generator": "null",
            "image": {"width": self.width, "height": self.height},
            "generation": {"num_frames": self.num_frames},
        }


def make_models(folder: Path) -> Models:
    """Write a tiny SVD checkpoint and a RIFE network that cross-fades."""
    folder.mkdir(parents=True, exist_ok=True)
    rife = folder / "rife.safetensors"
    weights.save(crossfade_net(), rife)
    return Models(make_svd_checkpoint(folder / "svd", sizes=TINY_SIZES), rife)


def write_pictures(folder: Path, count: int) -> None:
    """`count` different small pictures."""
    folder.mkdir(parents=True)
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
        Image.fromarray(noise).resize((96, 64), Image.Resampling.BICUBIC).save(folder / f"{number:05d}.png")


def write_config(path: Path, models: Models | NoModels, manifest: str, output: str, **sections: dict[str, Any]) -> Path:
    """The configuration of a trial's job."""
    tree: dict[str, Any] = {
        "manifest": manifest,
        "output": output,
        **models.sections(),
        "video": {"threads": 1},
        "workers": {
            "load": {"num_cpus": 0.5},
            "generate": {"actors": 1, "num_gpus": 0, "num_cpus": 0},
            "finish": {"actors": 1, "num_gpus": 0, "num_cpus": 0},
        },
        "run": {"flush_s": 1, "max_failed_share": 1},
        "ray": {"object_store_mb": 100, "num_cpus": 2},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section
    path.write_text(yaml.safe_dump(tree))
    return path


def start(config: Path, *arguments: str, log: Path) -> psutil.Popen:
    """`stillreel run`, its output in a file."""
    with log.open("ab") as out:
        return psutil.Popen(
            [sys.executable, "-m", "pipelines", "run", "--config", str(config), *arguments],
            env=environment() | {"OMP_NUM_THREADS": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def finish(config: Path, *arguments: str, log: Path, timeout_s: float = 1800) -> int:
    """Run to the end and give the exit code."""
    job = start(config, *arguments, log=log)
    try:
        return int(job.wait(timeout_s))
    finally:
        end_all(family(job))


def family(job: psutil.Popen) -> list[psutil.Process]:
    """The job and every process below it."""
    try:
        return [job, *job.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end_all(processes: list[psutil.Process]) -> int:
    """Wait until these are gone, and kill those that stay; the number of them.

    Ray's own agents outlive a driver that was killed by more than a minute, and do nothing: they are not waited for.
    """
    agents = [process for process in processes if is_agent(process)]
    others = [process for process in processes if process not in agents]
    _, alive = psutil.wait_procs(others, timeout=_GONE_WITHIN_S)
    for process in [*alive, *agents]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs([*alive, *agents], timeout=10)
    return len(alive)


def is_agent(process: psutil.Process) -> bool:
    """Whether this is one of the processes in which each of Ray's nodes reports on itself."""
    try:
        return "Agent" in " ".join(process.cmdline()[:1])
    except psutil.Error:
        return False
