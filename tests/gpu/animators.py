"""What a job's worker holds, for clips small enough for a test."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from actors.contracts import Pixels
from actors.generators.svd.settings import NO_SHORTCUTS, FastSettings, SvdModelSettings, SvdParameters
from actors.svd.animator import Animator
from benchmarks.make_checkpoints import TINY_SIZES
from tests.gpu.pair import precision

# UNet and CLIP take more than the activations of a small clip, the decoder's activations the most with a large one.
MANY_WEIGHTS = replace(
    TINY_SIZES,
    unet_channels=(192, 384, 384),
    unet_heads=(3, 6, 6),
    vae_channels=(128, 128, 128, 128),
    clip_width=512,
    clip_heads=8,
    clip_layers=16,
    clip_feed_forward=4,
    clip_patch=28,
    clip_projection=512,
    layers_per_block=2,
)
# Compiled in seconds, and again it is the decoder whose activations take the most.
FEW_LAYERS = replace(TINY_SIZES, vae_channels=(64, 64, 64, 64))
CLIP = SvdParameters(
    seed=5, fps=7, motion_bucket_id=127, noise_aug_strength=0.02, min_guidance_scale=1.0, max_guidance_scale=3.0
)


def animator(
    checkpoint: Path, device: torch.device, *, frames: int = 4, fast: FastSettings = NO_SHORTCUTS, **model: Any
) -> Animator:
    """Uncompiled, where `model` does not say otherwise."""
    settings = SvdModelSettings(**{"source": str(checkpoint), "precision": precision(device), "compile": False} | model)
    generation = SvdParameters(num_frames=frames, num_inference_steps=2)
    return Animator(checkpoint, settings, generation, fast, device=device)


def image(*, width: int = 96, height: int = 64) -> Pixels:
    """Noise."""
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def frames_of(made: Animator, picture: Pixels) -> Pixels:
    """The clip, F H W C."""
    clips = made.animate(picture, CLIP)
    assert clips.finite == (True,)
    frames_FHWC: Pixels = clips.frames_BFHWC[0].copy()
    return frames_FHWC
