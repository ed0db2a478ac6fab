"""The demo's UNet: SVD's objective on clips of moving pictures.

Letters in names: B batch, F frames, C channels, H height, W width (of latents where the name says latents).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks.train_demo import data
from benchmarks.train_demo.autoencoder import ANCHOR, CELL, LATENT_CHANNELS, LinearEncoder, anchor

CHANNELS = (96, 96, 128)
HEADS = (2, 2, 2)
CLIP_WIDTH = 32
CLIP_SIZE_PX = 224  # what the pipeline resizes every image to
MICRO_EMBEDDING = 32  # sines and cosines for each of fps, motion bucket and noise strength
BATCH, HEIGHT_PX, WIDTH_PX = 3, 64, 96  # a step's clips: smaller than the demo's, so that there can be more of them
OUTPUT_ANCHOR = 24.0  # large beside the latents, so that the last group norm hardly changes their scale
SHIFTED_ANCHOR = 8.0  # what the norm makes of it: still linear in the activation, and fine enough in bfloat16
CONDITIONING_DROPOUT = 0.07
# About SVD's own, plus a few of the whole range that the sampler walks through.
LOG_SIGMA_MEAN, LOG_SIGMA_STD = 0.6, 1.4
WHOLE_RANGE_SHARE = 0.1
# EDM's weight would let noise levels far below this, where there is little to decide, rule the gradient.
FAINT_NOISE = 0.15
SIGMA_MIN, SIGMA_MAX = 0.002, 700.0
LOG_AUGMENTATION_MEAN, LOG_AUGMENTATION_STD, MAX_AUGMENTATION = -3.5, 1.0, 1.0
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def new_image_encoder(seed: int = 0) -> CLIPVisionModelWithProjection:
    """A small CLIP with random weights, frozen: the picture itself reaches the UNet through the latents."""
    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=CLIP_WIDTH,
        intermediate_size=CLIP_WIDTH,
        projection_dim=CLIP_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=CLIP_SIZE_PX,
        patch_size=32,
    )
    return CLIPVisionModelWithProjection(config).eval().requires_grad_(False)


@torch.no_grad()
def clip_embeddings(encoder: CLIPVisionModelWithProjection, images_BCHW: torch.Tensor) -> torch.Tensor:
    """B,1,CLIP_WIDTH of images in -1..1, prepared as the pipeline does."""
    resized = (_resize_with_antialiasing(images_BCHW, (CLIP_SIZE_PX, CLIP_SIZE_PX)) + 1) / 2
    mean, std = (torch.tensor(values, device=resized.device)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    embeddings: torch.Tensor = encoder(pixel_values=(resized - mean) / std).image_embeds
    return embeddings[:, None]


def new_unet(latent_rms: float) -> UNetSpatioTemporalConditionModel:
    """The stock class at the demo's size, which at first answers with the conditioning image in every frame.

    Attention only where cells are 16 pixels: motion is decided there.
    """
    unet = UNetSpatioTemporalConditionModel(
        sample_size=data.WIDTH // CELL,
        in_channels=2 * LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlockSpatioTemporal", "DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"),
        up_block_types=("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
        block_out_channels=CHANNELS,
        addition_time_embed_dim=MICRO_EMBEDDING,
        projection_class_embeddings_input_dim=3 * MICRO_EMBEDDING,
        layers_per_block=1,
        cross_attention_dim=CLIP_WIDTH,
        num_attention_heads=HEADS,
        num_frames=data.NUM_FRAMES,
    )
    _anchor(unet)
    _quiet_branches(unet)
    _start_from_still_clip(unet, latent_rms)
    return unet


@torch.no_grad()
def _anchor(unet: Any) -> None:
    """Two constant channels in every group wherever the residual stream starts: group norms then keep brightness."""
    stream = [unet.conv_in]
    for module in unet.modules():
        if type(module).__name__ in ("Downsample2D", "Upsample2D"):
            stream.append(module.conv)
        elif isinstance(getattr(module, "conv_shortcut", None), nn.Conv2d):
            stream.append(module.conv_shortcut)
    anchor(stream)


@torch.no_grad()
def _quiet_branches(unet: Any) -> None:
    """Start every residual branch, and the output, at zero."""
    for module in unet.modules():
        name = type(module).__name__
        if name in ("ResnetBlock2D", "TemporalResnetBlock"):
            module.conv2.weight.zero_()
            module.conv2.bias.zero_()
        elif name == "TransformerSpatioTemporalModel":
            module.proj_out.weight.zero_()
            module.proj_out.bias.zero_()
    unet.conv_out.weight.zero_()
    unet.conv_out.bias.zero_()


@torch.no_grad()
def _start_from_still_clip(unet: Any, latent_rms: float) -> None:
    """Lead the scaled image latents, with either sign, past all blocks to the output: v = -image at high noise.

    Each keeps to the first channel of a group of the group norms, beside that group's two anchors: (s, A, -A) becomes
    (s - m, A - m, -A - m) with m a third of the mean of s, which the anchors of the opposite sign's group give back.
    """
    plus = 3 * torch.arange(LATENT_CHANNELS)
    minus = plus + 3 * LATENT_CHANNELS
    image = LATENT_CHANNELS + torch.arange(LATENT_CHANNELS)
    for channels, sign in ((plus, 1.0), (minus, -1.0)):
        unet.conv_in.weight[channels] = 0
        unet.conv_in.weight[channels, image, 1, 1] = sign / latent_rms
        unet.conv_in.bias[channels] = 0
    merge = unet.up_blocks[-1].resnets[-1].spatial_res_block.conv_shortcut  # of the last block and of conv_in's output
    registers = torch.cat([plus, minus])
    for channel in range(3):
        merge.weight[registers + channel] = 0
    merge.weight[registers, CHANNELS[0] + registers] = 1
    merge.bias.view(32, 3)[:, 1:] *= OUTPUT_ANCHOR / ANCHOR
    unet.conv_norm_out.weight.fill_(OUTPUT_ANCHOR * (2 / 3) ** 0.5)
    unet.conv_norm_out.bias[torch.cat([plus, minus]) + 1] = SHIFTED_ANCHOR - OUTPUT_ANCHOR
    outputs = torch.arange(LATENT_CHANNELS)
    unet.conv_out.weight[outputs, plus, 1, 1] = -1
    unet.conv_out.weight[outputs, minus, 1, 1] = 1
    unet.conv_out.weight[outputs, plus + 1, 1, 1] = 0.5
    unet.conv_out.weight[outputs, minus + 1, 1, 1] = -0.5


@dataclass(frozen=True, slots=True)
class Batch:
    """What one training step needs."""

    latents_BFCHW: torch.Tensor  # scaled
    image_latents_BCHW: torch.Tensor  # not scaled, of the augmented first frames
    embeddings_B1D: torch.Tensor
    time_ids_B3: torch.Tensor


class ClipMaker:
    """Draws training batches: clips, their latents, and the conditioning."""

    def __init__(self, pictures: data.Pictures, encoder: LinearEncoder, latent_rms: float) -> None:
        self.pictures = pictures
        self.encoder = encoder
        self.latent_rms = latent_rms
        self.device = encoder.out.weight.device
        self.image_encoder = new_image_encoder().to(self.device)

    @torch.no_grad()
    def batch(self, rng: np.random.Generator, size: int, height: int, width: int) -> Batch:
        """`size` clips of height x width pixels with their conditioning, some of it dropped."""
        buckets = rng.integers(1, 256, size)
        speeds = buckets / 255 * data.MAX_SPEED_PX
        motions = [data.random_motion(rng, float(speed), height, width) for speed in speeds]
        rendered = [self.pictures.clip(rng, motion, data.NUM_FRAMES, height, width) for motion in motions]
        clips = torch.stack(rendered).to(self.device) * 2 - 1
        latents = self.encoder(clips.flatten(0, 1)).unflatten(0, (size, -1)) / self.latent_rms
        strengths = self._augmentation_strengths(rng, size)
        first = clips[:, 0] + strengths[:, None, None, None] * torch.randn_like(clips[:, 0])
        kept = torch.from_numpy(rng.random(size) >= CONDITIONING_DROPOUT).float().to(self.device)
        fps = torch.from_numpy(rng.integers(3, 31, size)).float()
        return Batch(
            latents,
            self.encoder(first) * kept[:, None, None, None],
            clip_embeddings(self.image_encoder, clips[:, 0]) * kept[:, None, None],
            torch.stack([fps - 1, torch.from_numpy(buckets).float(), strengths.cpu()], dim=1).to(self.device),
        )

    def _augmentation_strengths(self, rng: np.random.Generator, size: int) -> torch.Tensor:
        strengths = np.exp(rng.normal(LOG_AUGMENTATION_MEAN, LOG_AUGMENTATION_STD, size))
        return torch.from_numpy(np.minimum(strengths, MAX_AUGMENTATION)).float().to(self.device)


def random_sigmas(rng: np.random.Generator, size: int) -> torch.Tensor:
    """Noise levels to train at."""
    log_sigmas = rng.normal(LOG_SIGMA_MEAN, LOG_SIGMA_STD, size)
    anywhere = rng.uniform(math.log(SIGMA_MIN), math.log(SIGMA_MAX), size)
    log_sigmas = np.where(rng.random(size) < WHOLE_RANGE_SHARE, anywhere, log_sigmas)
    return torch.from_numpy(np.exp(np.clip(log_sigmas, math.log(SIGMA_MIN), math.log(SIGMA_MAX)))).float()


def training_loss(unet: nn.Module, maker: ClipMaker, rng: np.random.Generator) -> torch.Tensor:
    """The loss of a new batch."""
    batch = maker.batch(rng, BATCH, HEIGHT_PX, WIDTH_PX)
    return denoising_loss(unet, batch, random_sigmas(rng, BATCH).to(maker.device)).mean()


def denoising_loss(unet: nn.Module, batch: Batch, sigmas_B: torch.Tensor) -> torch.Tensor:
    """Mean squared error of v, per clip (B): the EDM loss with weight (sigma^2 + 1) / (sigma^2 + FAINT_NOISE^2)."""
    sigma = sigmas_B[:, None, None, None, None]
    noisy = batch.latents_BFCHW + sigma * torch.randn_like(batch.latents_BFCHW)
    norm = (sigma**2 + 1).sqrt()
    target_v = (noisy / norm**2 - batch.latents_BFCHW) * norm / sigma
    image_latents = batch.image_latents_BCHW[:, None].expand(-1, noisy.shape[1], -1, -1, -1)
    with torch.autocast(noisy.device.type, torch.bfloat16):
        v = unet(
            torch.cat([noisy / norm, image_latents], dim=2),
            0.25 * sigmas_B.log(),
            encoder_hidden_states=batch.embeddings_B1D,
            added_time_ids=batch.time_ids_B3,
            return_dict=False,
        )[0]
    weight = sigmas_B**2 / (sigmas_B**2 + FAINT_NOISE**2)
    error_B: torch.Tensor = (v.float() - target_v).square().flatten(1).mean(dim=1)
    return weight * error_B
