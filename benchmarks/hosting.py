"""What hosting a pipeline of diffusers costs beside the pipeline itself, on the CPU, with the tests' tiny checkpoints.

    python -m benchmarks.hosting [--rows 1000] [--turns 5] [--only ltx wan21 ...]

For each class one row, one thread, fp32, clips of two steps:

beyond the call   CPU time of `Host.animate` outside of the pipeline's own call, of its whole; the least of the turns
as stock          whether the frames are those of the stock pipeline, called by itself, to the last bit
the same twice    whether a clip has the same bytes again, after another clip
arrays            how many of the frames' size are made of tensors after the call; "own": the frames lie in one of them
encoder calls     how often texts are encoded for so many rows with 10 prompts among them, in turn; a row is cut off
                  where its steps would begin. An encoder that looks at the image is asked each time. Beside it: passes
                  of the text encoder, of which the prompt and the negative one need one each

The tiny networks take some ten milliseconds, a thousandth of real ones: a share here is the upper end. Ends non-zero
where an aim is missed.
"""

import argparse
import functools
import inspect
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.cosmos import pipeline_cosmos2_5_predict
from PIL import Image
from rich.console import Console
from rich.table import Table

from actors.contracts import Pixels
from actors.generators.diffusers.parameters import DiffusersParameters
from actors.generators.diffusers.settings import DiffusersModelSettings
from actors.hosting.host import Host
from actors.settings import ImageSettings
from actors.storage import Storage
from benchmarks.speed.hosted.clip import levels, timed
from tests.tiny_pipelines import TINY, Tiny
from tests.tiny_pipelines.cosmos import install_guardrail

_MAX_SHARE = 0.05
_PROMPTS = 10
_STEPS = 2
_SEED = 5
_WARM_TURNS = 2


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a class.

    Attributes:
        call_ms, beyond_ms: CPU time within the pipeline's own call, and beside it.
        is_as_stock, is_same_twice: of the frames.
        arrays: of the frames' size that the host makes of tensors.
        is_own_memory: whether the frames lie in one of these.
        encoder_calls, encoder_passes: for all rows.
        sees_image: whether the text encoder takes the image as well.
    """

    name: str
    call_ms: float
    beyond_ms: float
    is_as_stock: bool
    is_same_twice: bool
    arrays: int
    is_own_memory: bool
    encoder_calls: int
    encoder_passes: int
    sees_image: bool

    @property
    def share(self) -> float:
        """Of a clip's time, that beyond the pipeline's call."""
        return self.beyond_ms / (self.call_ms + self.beyond_ms)

    @property
    def misses(self) -> list[str]:
        """What is not as it should be."""
        reached = {
            "beyond the call": self.share <= _MAX_SHARE,
            "as stock": self.is_as_stock,
            "the same twice": self.is_same_twice,
            "arrays": self.arrays == 1 and self.is_own_memory,
            "encoder calls": self.sees_image or self.encoder_calls == _PROMPTS,
        }
        return [name for name, well in reached.items() if not well]


class _Cut(Exception):  # noqa: N818 - ends a row on purpose
    """The row has come to its steps."""


def measure(tiny: Tiny, *, rows: int, turns: int) -> Figures:
    """All figures of a class."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny.save(folder)
        host, clip = _hosted(tiny, folder)
        pipeline = host._ready()
        image = np.random.default_rng(0).integers(0, 255, (tiny.height, tiny.width, 3), dtype=np.uint8)
        with _arrays_from_tensors(type(pipeline)) as arrays:
            frames = host.animate(image, clip)
        large = [start for start, size in arrays if size >= frames.nbytes]
        host.animate(image[::-1].copy(), clip.model_copy(update={"prompt": "a dog", "seed": _SEED + 1}))
        again = host.animate(image, clip)
        timings = [timed(pipeline, lambda: host.animate(image, clip))[1] for _ in range(turns + _WARM_TURNS)]
        timings = timings[_WARM_TURNS:]
        calls, passes = _encoder_calls(host, pipeline, image, clip, rows)
        return Figures(
            tiny.name,
            call_ms=1000 * min(timing.call_s for timing in timings),
            beyond_ms=1000 * min(timing.whole_s - timing.call_s for timing in timings),
            is_as_stock=np.array_equal(frames, _by_stock(tiny, folder, image)),
            is_same_twice=np.array_equal(frames, again),
            arrays=len(large),
            is_own_memory=frames.ctypes.data in large,
            encoder_calls=calls,
            encoder_passes=passes,
            sees_image="image" in inspect.signature(type(pipeline).encode_prompt).parameters,
        )


def _hosted(tiny: Tiny, folder: Path) -> tuple[Host, DiffusersParameters]:
    settings = DiffusersModelSettings(source=str(folder), precision="fp32", device="cpu", compile=False)
    free = settings.hosted(Storage()).call.free
    sides = {"width": max(tiny.width, tiny.height), "height": min(tiny.width, tiny.height)}
    parameters, _ = settings.settled(
        DiffusersParameters(
            num_frames=tiny.clip_frames or tiny.num_frames,
            num_inference_steps=_STEPS,
            prompt="a cat",
            seed=_SEED,
            extra={name: value for name, value in tiny.extra.items() if name in free},
        ),
        ImageSettings(**sides, orientation="landscape" if tiny.width >= tiny.height else "portrait"),
        Storage(),
    )
    return Host(folder, settings, parameters, device=torch.device("cpu")), parameters


def _by_stock(tiny: Tiny, folder: Path, image: Pixels) -> Pixels:
    """The same clip by the class alone, as `tests.tiny_pipelines` calls it."""
    pipeline = getattr(diffusers, tiny.class_name).from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    picture = Image.fromarray(image)
    given = {tiny.image_argument: picture if tiny.image_argument == "image" else [picture]}
    arguments = tiny.arguments(**given, prompt="a cat", num_inference_steps=_STEPS)
    torch.manual_seed(_SEED)
    with torch.no_grad():
        return levels(pipeline(**arguments, generator=torch.Generator("cpu").manual_seed(_SEED)).frames[0])


def _encoder_calls(host: Host, pipeline: Any, image: Pixels, clip: DiffusersParameters, rows: int) -> tuple[int, int]:
    """How often texts are encoded for the rows, each cut off before its steps, and passes of the text encoder."""
    before, passes = host.encoder_calls, [0]

    def count(*_: object) -> None:
        passes[0] += 1

    @functools.wraps(pipeline.scheduler.set_timesteps)
    def cut(*_: object, **__: object) -> None:
        raise _Cut

    hook = pipeline.text_encoder.register_forward_hook(count)
    try:
        with patch.object(pipeline.scheduler, "set_timesteps", cut):
            for row in range(rows):
                changes = {"prompt": f"prompt {row % _PROMPTS}", "seed": row}
                try:
                    host.animate(image, clip.model_copy(update=changes))
                except _Cut:
                    continue
                raise AssertionError(f"{type(pipeline).__name__} makes clips without asking its scheduler for steps")
    finally:
        hook.remove()
    return host.encoder_calls - before, passes[0]


@contextmanager
def _arrays_from_tensors(kind: Any) -> Iterator[list[tuple[int, int]]]:
    """Where each array lies that NumPy is given of a tensor after the last call of a pipeline, and its bytes."""
    given: list[tuple[int, int]] = []
    to_array, call = torch.Tensor.numpy, kind.__call__

    def noting(tensor: torch.Tensor, **how: Any) -> Any:
        array = to_array(tensor, **how)
        given.append((array.ctypes.data, array.nbytes))
        return array

    @functools.wraps(call)
    def called(self: Any, *args: Any, **how: Any) -> Any:
        video = call(self, *args, **how)
        given.clear()  # Cosmos has its frames looked at as an array
        return video

    with patch.object(torch.Tensor, "numpy", noting), patch.object(kind, "__call__", called):
        yield given


@contextmanager
def _cosmos_packages() -> Iterator[None]:
    """As if those were installed that real checkpoints of Cosmos ask for; its guardrail fetches gated models."""
    functional = SimpleNamespace(to_tensor=lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255)
    vision = SimpleNamespace(transforms=SimpleNamespace(functional=functional))
    with pytest.MonkeyPatch.context() as installed:
        install_guardrail(installed)
        installed.setattr(pipeline_cosmos2_5_predict, "torchvision", vision, raising=False)
        installed.setattr("actors.generators.diffusers.settings.find_spec", lambda _name: True)
        yield


def table_of(figures: list[Figures], rows: int) -> Table:
    """A line for each class."""
    table = Table(
        "class", "call, ms", f"beyond it (<= {_MAX_SHARE:.0%})", "as stock", "the same twice", "arrays (1, own)",
        f"encoder calls, {rows:,} rows ({_PROMPTS})", "passes", "missed",
    )  # fmt: skip
    for one in figures:
        table.add_row(
            one.name,
            f"{one.call_ms:.1f}",
            f"{one.beyond_ms:.1f} ms, {one.share:.1%}",
            str(one.is_as_stock),
            str(one.is_same_twice),
            f"{one.arrays}{', own' if one.is_own_memory else ''}",
            f"{one.encoder_calls:,}{', sees the image' if one.sees_image else ''}",
            f"{one.encoder_passes:,}",
            ", ".join(one.misses),
        )
    return table


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, help="whose texts are encoded")
    parser.add_argument("--turns", type=int, default=5, help="whole clips; the cheapest counts")
    parser.add_argument("--only", nargs="+", choices=TINY, default=list(TINY), help="of the tiny checkpoints")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with _cosmos_packages():
        figures = [measure(TINY[name], rows=arguments.rows, turns=arguments.turns) for name in arguments.only]
    Console(width=None if sys.stdout.isatty() else 170).print(table_of(figures, arguments.rows))
    return int(any(one.misses for one in figures))


if __name__ == "__main__":
    sys.exit(main())
