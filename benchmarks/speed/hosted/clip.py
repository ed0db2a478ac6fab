"""Seconds of a clip and of its steps, of any pipeline of diffusers, whoever calls it. Axes: F frames, H W pixels."""

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from diffusers import DiffusionPipeline

from actors.contracts import Pixels
from actors.repeating import Repeating
from benchmarks.speed.clock import seconds_of

_LEVELS = 255
_LOOK_S = 0.002


@dataclass(slots=True)
class Marks:
    """Points in time: of the GPU's work, which nothing waits for; without a GPU, of the CPU's."""

    points: list[Any] = field(default_factory=list)

    def add(self) -> None:
        """Now."""
        if torch.cuda.is_available():
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self.points.append(event)
        else:
            self.points.append(time.process_time())

    def between_s(self) -> list[float]:
        """Seconds from each to the next."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            return [
                one.elapsed_time(next_one) / 1000 for one, next_one in zip(self.points, self.points[1:], strict=False)
            ]
        return [next_one - one for one, next_one in zip(self.points, self.points[1:], strict=False)]


@dataclass(frozen=True, slots=True)
class Timing:
    """A clip.

    Attributes:
        whole_s: all of it, the frames on the host.
        call_s: within the pipeline's own call.
        before_s: of that, until the first step begins.
        steps_s: of each step: the transformer, with and without prompt, and the scheduler.
        after_s: from the last step's end: the decoder, and what makes frames of its numbers.
    """

    whole_s: float
    call_s: float
    before_s: float
    steps_s: list[float]
    after_s: float

    @property
    def step_s(self) -> float:
        """A step, where all are alike."""
        return median(self.steps_s)

    @property
    def mean_step_s(self) -> float:
        """A step, where they are not."""
        return fmean(self.steps_s)

    @property
    def host_share(self) -> float:
        """Of the clip's seconds, those beyond the pipeline's call."""
        return (self.whole_s - self.call_s) / self.whole_s

    def clip_s(self, steps: int) -> float:
        """A clip of so many steps."""
        return self.whole_s + (steps - len(self.steps_s)) * self.step_s


def timed(pipeline: DiffusionPipeline, make: Callable[[], Pixels]) -> tuple[Pixels, Timing]:
    """The clip that `make` has `pipeline` make, by one call of it."""
    calls: list[float] = []
    marks, frames = Marks(), list[Pixels]()
    with _marked(pipeline, marks, calls):
        whole_s = seconds_of(lambda: frames.append(make()))
    before_s, *steps_s, after_s = marks.between_s()
    (call_s,) = calls
    return frames[0], Timing(whole_s, call_s, before_s, steps_s, after_s)


def levels(frames_FHWC: Any) -> Pixels:
    """Frames as pipelines give them, 0..1 or pictures of PIL, as levels 0..255."""
    given = np.asarray(frames_FHWC)
    if given.dtype == np.uint8:
        return given
    rounded: Pixels = (given * _LEVELS).round().clip(0, _LEVELS).astype(np.uint8)
    return rounded


def host_growth(make: Callable[[], Pixels]) -> tuple[Pixels, int]:
    """The clip, and the bytes by which this process grew at most while it was made, looked at every 2 ms."""
    begun = _resident_bytes()
    most = [begun]
    with Repeating("host growth", lambda: most.append(_resident_bytes()), _LOOK_S):
        frames_FHWC = make()
    return frames_FHWC, max(most) - begun


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _marked(pipeline: DiffusionPipeline, marks: Marks, calls: list[float]) -> Iterator[None]:
    """Marks where a call begins, where its steps do, after each, and where it ends; `calls` gets its seconds."""
    kind, scheduler = type(pipeline), type(pipeline.scheduler)
    call, bar, step = kind.__call__, pipeline.progress_bar, scheduler.step

    @functools.wraps(call)
    def marked_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        given: list[Any] = []

        def run() -> None:
            marks.add()
            given.append(call(self, *args, **kwargs))
            marks.add()

        calls.append(seconds_of(run))
        return given[0]

    @functools.wraps(bar)
    def marked_bar(*args: Any, **kwargs: Any) -> Any:  # a pipeline asks for it right before its first step
        marks.add()
        return bar(*args, **kwargs)

    @functools.wraps(step)
    def marked_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = step(self, *args, **kwargs)
        if self is pipeline.scheduler:  # and not its copy for sound
            marks.add()
        return given

    with (
        patch.object(kind, "__call__", marked_call),
        patch.object(pipeline, "progress_bar", marked_bar),
        patch.object(scheduler, "step", marked_step),
    ):
        yield
