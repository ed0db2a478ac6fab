"""Make small checkpoints of the very classes that the real ones are made of, with random weights.

For tests and benchmarks that need the code of the networks and not their pictures. The same seed gives the same bytes,
so what is generated from it can be compared between machines and between versions.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import diffusers
import torch
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from actors.svd import few_step

# The scheduler of `stabilityai/stable-video-diffusion-img2vid-xt`, its `scheduler_config.json` to the letter.
SVD_SCHEDULER = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "sigma_max": 700.0,
    "sigma_min": 0.002,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "timestep_type": "continuous",
    "use_karras_sigmas": True,
}

# That of `wangfuyun/AnimateLCM-SVD-xt`, a checkpoint distilled for few steps, as its authors construct it.
FEW_STEP_SCHEDULER = {
    "_class_name": few_step.SCHEDULER,
    "clip_denoised": False,
    "num_train_timesteps": 40,
    "rho": 7,
    "s_noise": 1.0,
    "sigma_data": 1.0,
    "sigma_max": 700.0,
    "sigma_min": 0.002,
}

_MODEL_INDEX = {
    "_class_name": "StableVideoDiffusionPipeline",
    "_diffusers_version": diffusers.__version__,
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "unet": ["diffusers", "UNetSpatioTemporalConditionModel"],
    "vae": ["diffusers", "AutoencoderKLTemporalDecoder"],
}

# CLIP sees 224 pixels in every SVD checkpoint, and diffusers' own pipeline knows no other size.
CLIP_IMAGE_PIXELS = 224

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class SvdSizes:
    """Width and depth of a checkpoint; channels are multiples of 32, the groups of every GroupNorm in these classes."""

    num_frames: int
    unet_channels: tuple[int, ...]
    unet_heads: tuple[int, ...]
    vae_channels: tuple[int, ...]  # the VAE shrinks an image by 2 ** (len - 1)
    clip_width: int
    clip_patch: int
    layers_per_block: int = 1


# For tests at 16 or 32 pixels: every kind of block once, the VAE shrinks 2 times.
TINY_SIZES = SvdSizes(
    num_frames=14,
    unet_channels=(32, 64),
    unet_heads=(1, 2),
    vae_channels=(32, 32),
    clip_width=32,
    clip_patch=56,
)


def make_svd_checkpoint(
    folder: Path, *, seed: int = 0, sizes: SvdSizes = TINY_SIZES, is_distilled: bool = False
) -> Path:
    """Write an SVD checkpoint with random weights into `folder` (diffusers layout, safetensors) and return it.

    `is_distilled`: with the scheduler of AnimateLCM-SVD-xt.
    """
    generator = torch.Generator().manual_seed(seed)
    networks = {"vae": _vae(sizes), "unet": _unet(sizes), "image_encoder": _image_encoder(sizes)}
    for name, network in networks.items():
        _drawn(network, generator).save_pretrained(folder / name)
    EulerDiscreteScheduler(**SVD_SCHEDULER).save_pretrained(folder / "scheduler")
    CLIPImageProcessorPil().save_pretrained(folder / "feature_extractor")
    if is_distilled:
        (folder / "scheduler/scheduler_config.json").write_text(json.dumps(FEW_STEP_SCHEDULER, indent=2) + "\n")
    (folder / "model_index.json").write_text(json.dumps(_MODEL_INDEX, indent=2) + "\n")
    return folder


def new_unet(sizes: SvdSizes, *, seed: int) -> UNetSpatioTemporalConditionModel:
    """diffusers' UNet with random weights."""
    return _drawn(_unet(sizes), torch.Generator().manual_seed(seed))


def new_vae(sizes: SvdSizes, *, seed: int) -> AutoencoderKLTemporalDecoder:
    """diffusers' VAE with random weights."""
    return _drawn(_vae(sizes), torch.Generator().manual_seed(seed))


def _vae(sizes: SvdSizes) -> AutoencoderKLTemporalDecoder:
    return AutoencoderKLTemporalDecoder(
        block_out_channels=sizes.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * len(sizes.vae_channels),
        layers_per_block=sizes.layers_per_block,
    )


def _unet(sizes: SvdSizes) -> UNetSpatioTemporalConditionModel:
    attending = len(sizes.unet_channels) - 1  # the innermost level has no attention, as in SVD
    return UNetSpatioTemporalConditionModel(
        block_out_channels=sizes.unet_channels,
        down_block_types=("CrossAttnDownBlockSpatioTemporal",) * attending + ("DownBlockSpatioTemporal",),
        up_block_types=("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * attending,
        num_attention_heads=sizes.unet_heads,
        layers_per_block=sizes.layers_per_block,
        cross_attention_dim=sizes.clip_width,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=3 * 32,
        num_frames=sizes.num_frames,
    )


def _image_encoder(sizes: SvdSizes) -> CLIPVisionModelWithProjection:
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=sizes.clip_width,
            intermediate_size=2 * sizes.clip_width,
            projection_dim=sizes.clip_width,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=CLIP_IMAGE_PIXELS,
            patch_size=sizes.clip_patch,
        )
    )


def _drawn(network: N, generator: torch.Generator) -> N:
    """The network, every parameter filled in so that signals keep their size through the network.

    Matrices and kernels are normal with variance 1 / fan-in, the gains of norms are 1, and biases and blending factors
    are normal with deviation 0.1. PyTorch's own defaults shrink signals threefold in every layer: all frames come out
    grey, and a test that compares frames would pass whatever happened on the way.
    """
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.copy_(noise / math.sqrt(parameter[0].numel()))
            elif "norm" in name and name.endswith("weight"):
                parameter.fill_(1.0)
            else:
                parameter.copy_(0.1 * noise)
    return network
