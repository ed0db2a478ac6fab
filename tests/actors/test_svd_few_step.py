"""Distilled checkpoints, against multistep consistency sampling written down once more."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor

from actors.errors import ConfigError
from actors.generators.svd.settings import SvdParameters
from actors.svd.conditioning import condition
from actors.svd.model import SvdModel, load
from actors.svd.sampler import clip_noise, decode, generate_frames, noise_schedule, to_float
from benchmarks.make_checkpoints import TINY_SIZES, make_svd_checkpoint

PARITY = 1e-4  # on frames of -1..1: rounding through the whole network, many times over
FRAMES, HEIGHT, WIDTH = 3, 16, 24


def changed(clip: SvdParameters, **changes: Any) -> SvdParameters:
    return clip.model_copy(update=changes)


CLIP = SvdParameters(
    seed=11, fps=7, motion_bucket_id=127, noise_aug_strength=0.02, min_guidance_scale=1.0, max_guidance_scale=1.2
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_svd_checkpoint(tmp_path_factory.mktemp("few-step") / "svd", sizes=TINY_SIZES, is_distilled=True)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> SvdModel:
    return load(checkpoint, precision="fp32", device="cpu", is_distilled=True)


@pytest.fixture(scope="module")
def unet(checkpoint: Path) -> UNetSpatioTemporalConditionModel:
    """diffusers' own."""
    return UNetSpatioTemporalConditionModel.from_pretrained(checkpoint, subfolder="unet").eval()


def picture() -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 3, WIDTH), np.linspace(0, 2, HEIGHT))
    waves = np.stack([np.sin(x + c) * np.cos(y + c) for c in range(3)], axis=-1)
    return np.round((waves + 1) * 127.5).astype(np.uint8)


@torch.no_grad()
def reference(model: SvdModel, unet: UNetSpatioTemporalConditionModel, clip: SvdParameters, steps: int) -> Tensor:
    """The frames (F, C, H, W), -1..1: algorithm 1 of Song et al. 2023 with AnimateLCM's levels and diffusers' UNet."""
    assert clip.seed is not None
    generator = torch.Generator().manual_seed(clip.seed)
    image_noise = torch.randn(1, 3, HEIGHT, WIDTH, generator=generator)
    shape = (1, FRAMES, 4, HEIGHT // 2, WIDTH // 2)
    x = torch.randn(shape, generator=generator) * math.sqrt(700.0**2 + 1)
    given = condition(model, to_float(picture()[None], model.device), image_noise, [clip], FRAMES)
    ramp = np.arange(steps) * (40 // steps) / 39
    sigmas = (700 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 700 ** (1 / 7))) ** 7
    scales = torch.linspace(clip.min_guidance_scale, clip.max_guidance_scale, FRAMES)[None, :, None, None, None]
    for step, sigma in enumerate(sigmas):
        inputs = torch.cat([torch.cat([x, x]) / math.sqrt(sigma**2 + 1), given.image_latents_NFChw], dim=2)
        timestep = torch.tensor(0.25 * math.log(sigma))
        velocity = unet(inputs, timestep, given.image_embeddings_N1D, given.added_time_ids_N3).sample
        velocity = velocity[:1] + scales * (velocity[1:] - velocity[:1])
        x = x / (sigma**2 + 1) - velocity * sigma / math.sqrt(sigma**2 + 1)
        if step + 1 < steps:
            x = x + sigmas[step + 1] * torch.randn(shape, generator=generator)
    return decode(model, x[0])


def made(model: SvdModel, clip: SvdParameters, steps: int) -> Tensor:
    return next(generate_frames(model, picture()[None], [clip], num_frames=FRAMES, num_inference_steps=steps))


@pytest.mark.parametrize("steps", [1, 4])
def test_frames_are_those_of_multistep_consistency_sampling(
    model: SvdModel, unet: UNetSpatioTemporalConditionModel, steps: int
) -> None:
    expected = reference(model, unet, CLIP, steps)
    assert expected.std() > 0.1, "frames all of one grey would agree with anything"
    torch.testing.assert_close(made(model, CLIP, steps), expected, rtol=0, atol=PARITY)


def test_every_seed_has_its_own_noise_and_always_the_same(model: SvdModel) -> None:
    assert torch.equal(made(model, CLIP, 4), made(model, CLIP, 4))
    assert (made(model, changed(CLIP, seed=12), 4) - made(model, CLIP, 4)).abs().max() > 10 * PARITY
    size = {"height": HEIGHT, "width": WIDTH, "num_frames": FRAMES}
    image, latents, *fresh = clip_noise(model, 11, **size, num_renoised=3)
    again = clip_noise(model, 11, **size)
    assert all(torch.equal(one, other) for one, other in zip((image, latents), again, strict=True))
    assert [noise.shape for noise in fresh] == [latents.shape] * 3


def test_levels_are_taken_from_the_highest_on(model: SvdModel) -> None:
    schedule = noise_schedule(model, 4)
    assert schedule.num_renoised == 3
    np.testing.assert_allclose(schedule.sigmas, [700.0, 128.56, 13.678, 0.49688, 0.0], rtol=1e-3)
    np.testing.assert_allclose(schedule.timesteps_S.numpy(), 0.25 * np.log(schedule.sigmas[:-1]), rtol=1e-5)
    assert schedule.initial_sigma == pytest.approx(math.sqrt(700**2 + 1))
    assert noise_schedule(model, 40).sigmas[-2] == pytest.approx(0.002)


def test_more_steps_than_levels_are_refused(model: SvdModel) -> None:
    with pytest.raises(ConfigError, match=r"num_inference_steps=41: this few-step checkpoint knows 40 noise levels"):
        noise_schedule(model, 41)
