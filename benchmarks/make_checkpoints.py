"""Make small checkpoints of the very classes that the real ones are made of, with random weights.

For tests and benchmarks that need the code of the networks and not their pictures. The same seed gives the same bytes,
so what is generated from it can be compared between machines and between versions.
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import diffusers
import torch
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from actors.svd import few_step
from actors.svd.original_config import CLIP_HEAD_WIDTH, SCHEDULER

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
    clip_projection: int  # width of the image embedding
    clip_layers: int = 2
    clip_heads: int = 2
    clip_feed_forward: int = 2  # times the width
    clip_activation: str = "quick_gelu"
    layers_per_block: int = 1
    micro_embedding: int = 32  # for each of frame rate, motion and noise


# For tests at 16 or 32 pixels: every kind of block once, the VAE shrinks 2 times.
TINY_SIZES = SvdSizes(
    num_frames=14,
    unet_channels=(32, 64),
    unet_heads=(1, 2),
    vae_channels=(32, 32),
    clip_width=32,
    clip_patch=56,
    clip_projection=32,
)

# The same with heads as wide as SVD's, which a single file does not tell.
ONE_FILE_SIZES = replace(
    TINY_SIZES,
    unet_channels=(64, 128),
    clip_width=CLIP_HEAD_WIDTH,
    clip_heads=1,
    clip_activation="gelu",
)

# `stabilityai/stable-video-diffusion-img2vid-xt`: 1.52 billion parameters in the UNet, 0.63 in CLIP, 0.10 in the VAE.
SVD_XT_SIZES = SvdSizes(
    num_frames=25,
    unet_channels=(320, 640, 1280, 1280),
    unet_heads=(5, 10, 20, 20),
    vae_channels=(128, 256, 512, 512),
    clip_width=1280,
    clip_patch=14,
    clip_projection=1024,
    clip_layers=32,
    clip_heads=16,
    clip_feed_forward=4,
    clip_activation="gelu",
    layers_per_block=2,
    micro_embedding=256,
)


def make_svd_checkpoint(
    folder: Path, *, seed: int = 0, sizes: SvdSizes = TINY_SIZES, is_distilled: bool = False
) -> Path:
    """Write an SVD checkpoint with random weights into `folder` (diffusers layout, safetensors) and return it.

    `is_distilled`: with the scheduler of AnimateLCM-SVD-xt.
    """
    generator = torch.Generator().manual_seed(seed)
    networks = {"vae": new_vae(sizes), "unet": new_unet(sizes), "image_encoder": new_image_encoder(sizes)}
    for name, network in networks.items():
        draw_weights(network, generator).save_pretrained(folder / name)
    EulerDiscreteScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    CLIPImageProcessorPil().save_pretrained(folder / "feature_extractor")
    if is_distilled:
        (folder / "scheduler/scheduler_config.json").write_text(json.dumps(FEW_STEP_SCHEDULER, indent=2) + "\n")
    (folder / "model_index.json").write_text(json.dumps(_MODEL_INDEX, indent=2) + "\n")
    return folder


def new_vae(sizes: SvdSizes) -> AutoencoderKLTemporalDecoder:
    """diffusers' VAE, with PyTorch's own first weights."""
    return AutoencoderKLTemporalDecoder(
        block_out_channels=sizes.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * len(sizes.vae_channels),
        layers_per_block=sizes.layers_per_block,
    )


def new_unet(sizes: SvdSizes) -> UNetSpatioTemporalConditionModel:
    """diffusers' UNet, with PyTorch's own first weights."""
    attending = len(sizes.unet_channels) - 1  # the innermost level has no attention, as in SVD
    return UNetSpatioTemporalConditionModel(
        block_out_channels=sizes.unet_channels,
        down_block_types=("CrossAttnDownBlockSpatioTemporal",) * attending + ("DownBlockSpatioTemporal",),
        up_block_types=("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * attending,
        num_attention_heads=sizes.unet_heads,
        layers_per_block=sizes.layers_per_block,
        cross_attention_dim=sizes.clip_projection,
        addition_time_embed_dim=sizes.micro_embedding,
        projection_class_embeddings_input_dim=3 * sizes.micro_embedding,
        num_frames=sizes.num_frames,
    )


def new_image_encoder(sizes: SvdSizes) -> CLIPVisionModelWithProjection:
    """transformers' CLIP, with its own first weights."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=sizes.clip_width,
            intermediate_size=sizes.clip_feed_forward * sizes.clip_width,
            projection_dim=sizes.clip_projection,
            num_hidden_layers=sizes.clip_layers,
            num_attention_heads=sizes.clip_heads,
            image_size=CLIP_IMAGE_PIXELS,
            patch_size=sizes.clip_patch,
            hidden_act=sizes.clip_activation,
        )
    )


def draw_weights(network: N, generator: torch.Generator) -> N:
    """The same network, every parameter filled in so that signals keep their size on their way.

    Matrices and kernels are normal with variance 1 / fan-in, the gains of norms are 1, and biases and blending factors
    are normal with deviation 0.1. PyTorch's own defaults shrink signals threefold in every layer: all frames come out
    grey, and a test that compares frames would pass whatever happened on the way.
    """
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, device=generator.device)
            if parameter.ndim >= 2:
                parameter.copy_(noise / math.sqrt(parameter[0].numel()))
            elif "norm" in name and name.endswith("weight"):
                parameter.fill_(1.0)
            else:
                parameter.copy_(0.1 * noise)
    return network
