"""The rows of a pipeline of diffusers: stock first, then each way to host it. Axes: F frames, H W pixels, C colours."""

import gc
import traceback
from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from actors.contracts import Pixels
from benchmarks.psnr import psnr
from benchmarks.speed.clock import Budget, seconds_of
from benchmarks.speed.hosted.clip import Timing, host_growth, levels, timed
from benchmarks.speed.hosted.models import MODELS, Clip, TextEncoder, random_pipeline, small_pipeline
from benchmarks.speed.hosted.ways import WAYS, Way, by_stock, hosted
from benchmarks.speed.results import Aim, Results, at_most
from benchmarks.train_demo import data

# Of the first clip, which only warms up: both halves of a guided step, and the second, which reads what the first left.
_WARM_STEPS = 2
_COMPILE_S = 90.0
_MAX_HOST_SHARE = 0.05
# Beside the frames themselves, of their size: Python's and the driver's own.
_MAX_COPIES = 1.5


class HostedBench:
    """A model on a device, and what the stock pipeline made of it."""

    def __init__(self, results: Results, budget: Budget, clip: Clip, device: torch.device) -> None:
        self.results, self.budget, self.clip, self.device = results, budget, clip, device
        photograph = Image.fromarray(data.held_out_photograph("rocket.jpg"))
        self.image = photograph.resize((clip.width, clip.height), Image.Resampling.BICUBIC)
        self.stock_timing: Timing | None = None
        self.stock_frames_FHWC: Pixels | None = None

    def measure(self, stock: DiffusionPipeline, ways: Collection[str]) -> None:
        """All rows; what one way raises is a row of its own."""
        self._stock(stock)
        for name in ways:
            left_s, needed_s = self.budget.left_s(), self._needed_s(WAYS[name])
            if left_s < needed_s:
                self.results.fail(name, f"not begun: {left_s:.0f} s left, it may need {needed_s:.0f}")
                continue
            try:
                self._way(stock, name, WAYS[name])
            except Exception as error:  # noqa: BLE001 - it is a row, and other ways still run
                if WAYS[name].is_optional:
                    self.results.add(name, f"not here: {str(error)[:200]}")
                else:
                    traceback.print_exc()
                    self.results.fail(name, f"{type(error).__name__}: {str(error)[:300]}")
            gc.collect()
            torch.cuda.empty_cache()

    def _stock(self, stock: DiffusionPipeline) -> None:
        warm_s = seconds_of(lambda: by_stock(stock, self.image, self.clip, _WARM_STEPS))
        frames, timing = timed(stock, lambda: by_stock(stock, self.image, self.clip, self.clip.timed_steps))
        self.stock_frames_FHWC, self.stock_timing = levels(frames), timing
        assert self.stock_frames_FHWC.std() > 1, "diffusers made a clip of one colour"
        self._report("stock", timing, WAYS["exact"], warm_s)

    def _way(self, stock: DiffusionPipeline, name: str, way: Way) -> None:
        with hosted(stock, way, self.clip, self.device) as (pipeline, host, parameters):
            image_HWC = np.asarray(self.image)
            warm = parameters.model_copy(update={"num_inference_steps": _WARM_STEPS})
            warm_s = seconds_of(lambda: host.animate(image_HWC, warm))
            frames_FHWC, timing = timed(pipeline, lambda: host.animate(image_HWC, parameters))
            self._report(name, timing, way, warm_s)
            self._compare(name, frames_FHWC, timing)
            if name == "exact":
                self._host_memory(lambda: host.animate(image_HWC, warm))

    def _report(self, name: str, timing: Timing, way: Way, warm_s: float) -> None:
        add, steps = self.results.add, self.clip.timed_steps
        add(f"{name}: the first clip, {_WARM_STEPS} steps", warm_s, "s")
        if way.alike:
            add(f"{name}: a step", timing.step_s, "s", slowest=max(timing.steps_s))
        else:
            short_s, whole_s = min(timing.steps_s), max(timing.steps_s)
            add(f"{name}: a step, mean of {steps}", timing.mean_step_s, "s", shortest=short_s, longest=whole_s)
        add(f"{name}: before the steps, after them", [timing.before_s, timing.after_s], "s")
        add(f"{name}: a clip of {steps} steps", timing.whole_s, "s")
        if way.alike and steps != self.clip.steps:
            add(f"{name}: a clip of {self.clip.steps} steps, from its parts", timing.clip_s(self.clip.steps), "s")

    def _compare(self, name: str, frames_FHWC: Pixels, timing: Timing) -> None:
        assert self.stock_timing is not None
        assert self.stock_frames_FHWC is not None
        add, stock = self.results.add, self.stock_timing
        add(f"{name} against stock, a step", stock.mean_step_s / timing.mean_step_s, "x")
        add(f"{name} against stock, a clip", stock.whole_s / timing.whole_s, "x")
        if name == "exact":
            equal = bool(np.array_equal(frames_FHWC, self.stock_frames_FHWC))
            add(f"{name}: frames as stock's, to the last bit", equal, aim=Aim("True", equal, of_speed=False))
            share = timing.host_share
            add(
                f"{name}: beyond the pipeline's call",
                100 * share,
                "%",
                at_most(100 * share, 100 * _MAX_HOST_SHARE, " %"),
            )
        else:
            add(f"{name}: frames against stock's, PSNR", psnr(self.stock_frames_FHWC, frames_FHWC), "dB")

    def _host_memory(self, make: Callable[[], Pixels]) -> None:
        """What the host needs for a clip; without a GPU the networks work in it, too."""
        if self.device.type == "cuda":
            frames_FHWC, grown = host_growth(make)
            copies = grown / frames_FHWC.nbytes
            self.results.add("exact: most of the host's memory, in clips", copies, "", at_most(copies, _MAX_COPIES))

    def _needed_s(self, way: Way) -> float:
        """What a way may take, as stock is; none in a rehearsal."""
        if self.device.type != "cuda" or self.stock_timing is None:
            return 0.0
        return 2 * self.stock_timing.whole_s + (_COMPILE_S if "compile" in way.model else 0.0)


def measure(
    results: Results,
    budget: Budget,
    name: str,
    *,
    is_tiny: bool,
    ways: Collection[str],
    text_encoder: TextEncoder,
    size: tuple[int, int, int] | None,
    steps: int | None,
) -> None:
    """Make the model, and measure it.

    Args:
        name: of `MODELS`.
        is_tiny: a rehearsal on the CPU, of the same class with few and narrow layers.
        ways: of `WAYS`, in that order.
        text_encoder: T5's XXL, or one of a layer: a prompt is encoded once, whatever number of clips it has.
        size: width, height and frames of clips; the model's own if None.
        steps: that are made; the model's own if None.
    """
    model, device = MODELS[name], torch.device("cpu" if is_tiny else "cuda")
    clip = model.small_clip if is_tiny else model.clip
    if size is not None:
        clip = replace(clip, width=size[0], height=size[1], num_frames=size[2])
    if steps is not None:
        clip = replace(clip, timed_steps=steps)
    made: list[DiffusionPipeline] = []
    seconds = seconds_of(
        lambda: made.append(small_pipeline(model) if is_tiny else random_pipeline(model, device, text_encoder))
    )
    kind = "small" if is_tiny else text_encoder
    results.add(f"{name}, {clip}, random weights, {kind} text encoder: made", seconds, "s")
    HostedBench(results, budget, clip, device).measure(made[0], ways)
