"""Our networks and clips against diffusers', in half precision.

Both round; neither is right. So each is held against diffusers' network in fp32 on the CPU, and ours may be no further
from it than diffusers' own is, but for a share: where sums are taken in another order, errors differ by chance.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch

from actors.rife.interpolate import Interpolator
from actors.svd.sampler import decode, noise_schedule
from benchmarks.pan import pan
from benchmarks.psnr import psnr
from benchmarks.speed.clips import by_stock
from tests.gpu.pair import CASE, HOW, RIFE, SMALL_SIZES, Pair, precision, relative_error

FURTHER = 1.5
# fp16 has 11 bits: 0.0005 a rounding, and there are some hundred in a row.
MAX_ERROR = 0.01


@HOW
@torch.no_grad()
def test_the_unet_is_as_near_to_what_is_right_as_the_stock_one(pair: Pair, how: str) -> None:
    own = pair.own(how)
    height, width = CASE.height // own.pixel_multiple, CASE.width // own.pixel_multiple
    inputs = pair.random(2, CASE.num_frames, 8, height, width)
    embeddings = pair.random(2, 1, SMALL_SIZES.clip_projection)
    time_ids = torch.tensor([[6.0, 127.0, 0.02]] * 2, device=pair.device)
    times = noise_schedule(own, 3).timesteps_S
    terms = own.unet.terms(times, embeddings, time_ids, CASE.num_frames)
    for timestep, of_step in zip(times, terms, strict=True):
        precise = pair.precise.unet(*pair.as_precise(inputs, timestep, embeddings, time_ids)).sample
        stock = relative_error(pair.stock.unet(inputs, timestep, embeddings, time_ids).sample, precise)
        ours = relative_error(own.unet(inputs, of_step).velocity_NFChw, precise)
        assert 0 < ours < min(FURTHER * stock, MAX_ERROR), f"{ours:.2e} against stock's {stock:.2e}"


@HOW
@torch.no_grad()
def test_the_decoder_is_as_near_to_what_is_right_as_the_stock_one(pair: Pair, how: str) -> None:
    own = pair.own(how)
    height, width = CASE.height // own.pixel_multiple, CASE.width // own.pixel_multiple
    latents = pair.random(CASE.num_frames, 4, height, width)
    (precise_latents,) = pair.as_precise(latents)
    precise = pair.precise.vae.decode(precise_latents, num_frames=CASE.num_frames).sample
    stock = relative_error(pair.stock.vae.decode(latents, num_frames=CASE.num_frames).sample, precise)
    ours = relative_error(decode(own, own.latent_scale * latents.float()), precise)
    assert 0 < ours < min(FURTHER * stock, MAX_ERROR), f"{ours:.2e} against stock's {stock:.2e}"


@HOW
def test_a_clip_is_the_stock_one(pair: Pair, how: str) -> None:
    stock = by_stock(pair.stock, pair.image, CASE, pair.noise)
    assert stock.std() > 10, "it shows something"
    assert psnr(stock, pair.clip(how)) > 40


@pytest.mark.parametrize("is_compiled", [False, True])
def test_rife_in_half_precision_is_rife(device: torch.device, is_compiled: bool) -> None:
    if is_compiled and device.type == "cpu":
        pytest.skip("takes minutes on a CPU, and shows nothing about a GPU")
    frames_FHWC = pan(3, width=128, height=64)
    right, made = (
        np.stack(list(interpolator.frames(frames_FHWC, factor=Fraction(4), pairs_per_batch=4)))
        for interpolator in (
            Interpolator.load(RIFE, device="cpu", precision="fp32", compile=False),
            Interpolator.load(RIFE, device=device, precision=precision(device), compile=is_compiled),
        )
    )
    assert made.shape == (9, 64, 128, 3)
    assert psnr(right, made) > 45
