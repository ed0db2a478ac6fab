"""The same clip has the same bytes: a second time, on another worker, in a batch."""

from fractions import Fraction

import numpy as np
import torch

from actors.rife.interpolate import Interpolator
from actors.svd.sampler import generate
from benchmarks.pan import pan
from benchmarks.speed.clips import by_own, parameters
from tests.gpu.pair import CASE, HOW, RIFE, Pair, precision


@HOW
def test_a_second_time(pair: Pair, how: str) -> None:
    assert np.array_equal(pair.clip(how), pair.clip(how))


def test_on_another_worker_which_compiles_for_itself(pair: Pair) -> None:
    assert np.array_equal(by_own(pair.another_compiled(), pair.image, CASE), pair.clip("compiled"))


def test_in_a_batch(pair: Pair) -> None:
    clips = [parameters(CASE).model_copy(update={"seed": seed}) for seed in (1, parameters(CASE).seed)]
    images = np.stack([pair.image[::-1], pair.image])
    made = generate(pair.compiled, images, clips, num_frames=CASE.num_frames, num_inference_steps=CASE.steps)
    assert np.array_equal(made.frames_BFHWC[1], pair.clip("compiled"))
    assert not np.array_equal(made.frames_BFHWC[0], made.frames_BFHWC[1])


def test_of_interpolated_frames(device: torch.device) -> None:
    frames_FHWC = pan(3, width=128, height=64)
    first, second = (
        np.stack(
            list(
                Interpolator.load(RIFE, device=device, precision=precision(device), compile=False).frames(
                    frames_FHWC, factor=Fraction(4), pairs_per_batch=4
                )
            )
        )
        for _ in range(2)
    )
    assert np.array_equal(first, second)
