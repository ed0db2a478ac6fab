"""Bytes go to and from the device through pinned memory, for which the host does not wait: none comes late or twice."""

from fractions import Fraction
from typing import TypedDict

import numpy as np
import torch

from actors.rife.interpolate import Interpolator
from actors.rife.runner import Runner
from actors.rife.untrained import crossfade_net
from actors.svd.sampler import generate, generate_frames, to_uint8
from benchmarks.pan import pan
from benchmarks.speed.clips import parameters
from tests.gpu.pair import CASE, RIFE, Pair, precision


class HowLong(TypedDict):
    num_frames: int
    num_inference_steps: int


HOW_LONG = HowLong(num_frames=CASE.num_frames, num_inference_steps=CASE.steps)


def test_a_clip_has_arrived_whole_when_it_is_given_out(pair: Pair) -> None:
    arguments = pair.uncompiled, pair.image[np.newaxis], [parameters(CASE)]
    (decoded_FCHW,) = generate_frames(*arguments, **HOW_LONG)
    assert np.array_equal(generate(*arguments, **HOW_LONG).frames_BFHWC[0], to_uint8(decoded_FCHW).cpu().numpy())


def test_a_clip_that_is_held_stays_what_it_is_while_the_next_ones_are_made(pair: Pair) -> None:
    arguments = pair.uncompiled, pair.image[np.newaxis], [parameters(CASE)]
    held = generate(*arguments, **HOW_LONG).frames_BFHWC
    before = held.copy()
    for _ in range(2):
        generate(pair.uncompiled, 255 - pair.image[np.newaxis], [parameters(CASE)], **HOW_LONG)
    assert np.array_equal(held, before)


def test_clips_lie_in_pinned_memory(gpu: torch.device, pair: Pair) -> None:
    made = generate(pair.uncompiled, pair.image[np.newaxis], [parameters(CASE)], **HOW_LONG)
    assert torch.from_numpy(made.frames_BFHWC).is_pinned()


def test_interpolated_frames_that_are_held_stay_what_they_are(device: torch.device) -> None:
    interpolator = Interpolator.load(RIFE, device=device, precision=precision(device), compile=False)
    frames_FHWC = pan(12, width=128, height=64)
    copies = [f.copy() for f in interpolator.frames(frames_FHWC, factor=Fraction(3), pairs_per_batch=2)]
    held = list(interpolator.frames(frames_FHWC, factor=Fraction(3), pairs_per_batch=2))
    assert len(held) == 34
    assert np.array_equal(np.stack(held), np.stack(copies))


def test_bytes_go_there_and_back_whatever_else_the_device_does(device: torch.device) -> None:
    runner = Runner(crossfade_net(), device=device, precision="fp32", compile=False)
    arrays = [np.random.default_rng(seed).integers(0, 255, (2, 64, 96, 3), np.uint8) for seed in range(8)]
    waits = []
    for array in arrays:
        busy = torch.randn(1024, 1024, device=device)
        on_device = runner.upload(array)
        for _ in range(4):
            busy = busy @ busy / 32
        waits.append(runner.download(255 - on_device))
        del on_device, busy
    for array, wait in zip(arrays, waits, strict=True):
        assert np.array_equal(wait(), 255 - array)
