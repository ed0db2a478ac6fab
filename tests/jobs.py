"""Small whole jobs for the tests: pictures, a config, and the command line, in this process or one of its own."""

import io
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pipelines.driver import ray_private
from tests.clusters import environment

ROOT = Path(__file__).parents[1]
# Half a second to encode a clip that no model makes.
SLOW_CLIPS = ("generation.num_frames=150", "image.width=480", "image.height=288")
_WIDE = {"COLUMNS": "120"}  # where a table would wrap
# Of a work row: all that a clip of SVD depends on beside its picture.
SVD_PARAMETERS: dict[str, Any] = {
    "num_frames": 3,
    "num_inference_steps": 2,
    "seed": 1,
    "fps": 7,
    "motion_bucket_id": 127,
    "noise_aug_strength": 0.02,
    "min_guidance_scale": 1.0,
    "max_guidance_scale": 3.0,
}


def write_pictures(folder: Path, count: int) -> list[Path]:
    """`count` different PNG files of different shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
        size = (120, 80) if number % 3 else (80, 120)
        path = folder / f"picture-{number:03d}.png"
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path)
        paths.append(path)
    return paths


def write_config(path: Path, manifest: object, output: object, svd_checkpoint: object, rife_weights: object) -> Path:
    """A config for the tiny checkpoints on a CPU: 3 generated frames become 5."""
    model = {"source": str(svd_checkpoint), "precision": "fp32"}
    generation = {"num_frames": 3, "num_inference_steps": 2}
    interpolation = {"weights": str(rife_weights), "factor": 2, "precision": "fp32"}
    return _write(path, manifest, output, model=model, generation=generation, interpolation=interpolation)


def write_null_config(path: Path, manifest: object, output: object, **sections: Any) -> Path:
    """A config without models: the picture moves, in 3 frames; `sections` take the place of the usual ones."""
    return _write(path, manifest, output, **{"generator": "null", "generation": {"num_frames": 3}} | sections)


def _write(path: Path, manifest: object, output: object, **sections: Any) -> Path:
    tree = {
        "manifest": [str(item) for item in manifest] if isinstance(manifest, list) else str(manifest),
        "output": str(output),
        "image": {"width": 96, "height": 64},
        "workers": {
            "load": {"num_cpus": 0.5},
            "generate": {"actors": 1, "num_gpus": 0, "num_cpus": 0},
            "finish": {"actors": 1, "num_gpus": 0, "num_cpus": 0},
        },
        "run": {"flush_s": 1, "log_interval_s": 1, "max_failed_share": 0.5},
        "ray": {"object_store_mb": 100, "num_cpus": 2},
    }
    path.write_text(yaml.safe_dump(tree | sections))
    return path


def in_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line in this process, which starts a second earlier: what ends it is an exit code here, too.

    A run that starts Ray is to name a cluster: one process cannot have a Ray of its own and then join another.
    """
    from pipelines import __main__ as cli

    def refuse() -> None:
        raise AssertionError("it would start a Ray of its own: add ray.address=...")

    out, err = io.StringIO(), io.StringIO()
    command, on_sigterm = list(map(str, arguments)), signal.getsignal(signal.SIGTERM)
    code: object = 0
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), chdir(ROOT):
        warnings.filterwarnings("ignore", module="ray")
        warnings.filterwarnings("ignore", category=ResourceWarning)  # what Ray leaves open
        patch.setattr(ray_private, "set_flags", refuse)
        patch.setattr(sys, "argv", ["stillreel", *command])
        patch.setenv("COLUMNS", _WIDE["COLUMNS"])
        try:
            with redirect_stdout(out), redirect_stderr(err):
                cli.main()
        except SystemExit as ended:
            code = ended.code
        finally:
            signal.signal(signal.SIGTERM, on_sigterm)
    assert isinstance(code, int | None), code
    return subprocess.CompletedProcess(command, code or 0, out.getvalue(), err.getvalue())


def stillreel(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command line, as a user runs it: `python -m pipelines ...`; `variables` are added to the environment."""
    return subprocess.run(
        _command(arguments),
        cwd=ROOT,
        env=environment() | _WIDE | variables,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@contextmanager
def running_stillreel(*arguments: object, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """The same, running: its standard output is a pipe to read lines from, and it does not outlive the block.

    `variables` are added to the environment of this process.
    """
    process = subprocess.Popen(
        _command(arguments),
        cwd=ROOT,
        env=environment() | _WIDE | {"PYTHONUNBUFFERED": "1"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _command(arguments: tuple[object, ...]) -> list[str]:
    return [sys.executable, "-m", "pipelines", *map(str, arguments)]
