"""The demo's autoencoder: a linear encoder, exact inside the stock Encoder class, and a trained temporal decoder.

Letters in names: B batch, C channels, H height, W width; lower case h, w are latent cells of CELL x CELL pixels.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder
from torch import nn

from benchmarks.train_demo import data

CELL = 4
LATENT_CHANNELS = 12
CHANNELS = (96, 96, 128)  # three and four channels per group of the group norms: room for anchors
NUM_SIGNALS = 32  # linear features at the latent level: 128 channels / 4 per group
LATENT_NOISE = 0.06  # of the latents' root mean square: what the decoder must bear from an imperfect UNet
PATCHES, PATCH_PX = 4, 56  # of a step on single frames
CLIP_PATCH_HEIGHT, CLIP_PATCH_WIDTH = 48, 64  # of a step on one clip
L1_WEIGHT = 0.05  # beside the squared error, for edges
PRINCIPAL_COMPONENT_PATCHES = 200
# Constant channels in every group of a group norm hold its scale still, so that the colours of an image pass through.
ENCODER_ANCHOR = 300.0
ANCHOR = 3.0


class LinearEncoder(nn.Module):
    """What the stock Encoder computes once `baked` has filled it: three linear convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(3, NUM_SIGNALS, 3, stride=2)
        self.down2 = nn.Conv2d(NUM_SIGNALS, NUM_SIGNALS, 3, stride=2)
        self.out = nn.Conv2d(NUM_SIGNALS, LATENT_CHANNELS, 3, padding=1)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Latents B,LATENT_CHANNELS,h,w of images in -1..1."""
        x = self.down1(F.pad(images_BCHW, (0, 1, 0, 1)))
        x = self.down2(F.pad(x, (0, 1, 0, 1)))
        latents: torch.Tensor = self.out(x)
        return latents

    @torch.no_grad()
    def start_from_principal_components(self, images_BCHW: torch.Tensor) -> None:
        """Set the weights to the principal components of CELL x CELL patches, half whitened."""
        patches = F.pixel_unshuffle(images_BCHW, CELL).movedim(1, -1).reshape(-1, 3 * CELL * CELL)
        mean = patches.mean(dim=0)
        centered = patches - mean
        basis, variances, _ = torch.linalg.svd(centered.T @ centered / len(centered))
        scale = variances[:LATENT_CHANNELS] ** -0.25
        components = (basis[:, :LATENT_CHANNELS] * scale).T.reshape(LATENT_CHANNELS, 3, CELL, CELL)
        for parameter in self.parameters():
            parameter.normal_(std=0.01 if parameter.ndim > 1 else 0.0)
        for color in range(3):
            for dy in range(2):
                for dx in range(2):
                    signal = 4 * color + 2 * dy + dx
                    self.down1.weight[signal] = 0
                    self.down1.weight[signal, color, dy, dx] = 1
                    self.down2.weight[:LATENT_CHANNELS, signal, :2, :2] = components[:, color, dy::2, dx::2]
        self.down2.weight[:LATENT_CHANNELS, 12:] = 0
        self.down2.weight[:LATENT_CHANNELS, :, 2] = 0
        self.down2.weight[:LATENT_CHANNELS, :, :, 2] = 0
        self.out.weight[:, :, 1, 1] += torch.eye(LATENT_CHANNELS, NUM_SIGNALS)
        self.out.bias = nn.Parameter(-(components.reshape(LATENT_CHANNELS, -1) @ mean))


def new_autoencoder() -> AutoencoderKLTemporalDecoder:
    """The stock class at the demo's size, its decoder ready to be trained on single frames."""
    vae = AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * len(CHANNELS),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        sample_size=96,
        scaling_factor=1.0,
    )
    _anchor_decoder(vae.decoder)
    _silence_temporal_layers(vae.decoder)
    return vae


@torch.no_grad()
def _anchor_decoder(decoder: Any) -> None:
    """Give two channels of every group large opposite biases wherever the residual stream starts anew."""
    stream = [decoder.conv_in, *(m.conv for m in decoder.modules() if type(m).__name__ == "Upsample2D")]
    stream += [m.conv_shortcut for m in decoder.modules() if isinstance(getattr(m, "conv_shortcut", None), nn.Conv2d)]
    anchor(stream)


@torch.no_grad()
def anchor(convolutions: Iterable[nn.Conv2d]) -> None:
    """Make the last two channels of every group nearly constant, with opposite signs."""
    for convolution in convolutions:
        per_group = convolution.out_channels // 32
        assert convolution.bias is not None
        bias = convolution.bias.view(32, per_group)
        bias.zero_()
        bias[:, -2] = ANCHOR
        bias[:, -1] = -ANCHOR
        convolution.weight.view(32, per_group, -1)[:, -2:] *= 0.3


@torch.no_grad()
def _silence_temporal_layers(decoder: Any) -> None:
    """Start the temporal branches as identities: clips then decode exactly as their single frames do."""
    for module in decoder.modules():
        if type(module).__name__ == "TemporalResnetBlock":
            module.conv2.weight.zero_()
            module.conv2.bias.zero_()
    decoder.time_conv_out.weight.zero_()
    decoder.time_conv_out.bias.zero_()
    decoder.time_conv_out.weight[:, :, 1, 0, 0] = torch.eye(3)


@torch.no_grad()
def bake(linear: LinearEncoder, vae: Any, latent_rms: float) -> None:
    """Fill the stock Encoder so that it computes `linear`, and set the posterior's noise and the scaling factor.

    The residual branches add nothing. At the last group norm every group holds (s, -s, +anchor, -anchor): mean 0 and a
    variance that the image hardly changes; silu(s) - silu(-s) = s undoes the activation.
    """
    encoder = vae.encoder
    for parameter in [*encoder.parameters(), *vae.quant_conv.parameters()]:
        parameter.zero_()
    for module in encoder.modules():
        if isinstance(module, nn.GroupNorm):
            module.weight.fill_(1.0)
    for color in range(3):
        encoder.conv_in.weight[color, color, 1, 1] = 1
    down1, down2 = (block.downsamplers[0].conv for block in encoder.down_blocks[:2])
    down1.weight[:NUM_SIGNALS, :3] = linear.down1.weight
    down1.bias[:NUM_SIGNALS] = linear.down1.bias
    down2.weight[:NUM_SIGNALS, :NUM_SIGNALS] = linear.down2.weight
    down2.bias[:NUM_SIGNALS] = linear.down2.bias
    shortcut = encoder.down_blocks[2].resnets[0].conv_shortcut
    signals = torch.arange(NUM_SIGNALS)
    shortcut.weight[4 * signals, signals] = 1
    shortcut.weight[4 * signals + 1, signals] = -1
    shortcut.bias[2::4] = ENCODER_ANCHOR
    shortcut.bias[3::4] = -ENCODER_ANCHOR
    encoder.conv_norm_out.weight.fill_(ENCODER_ANCHOR / 2**0.5)
    encoder.conv_norm_out.weight.view(-1, 4)[:, 2:] = 0
    encoder.conv_out.weight[:LATENT_CHANNELS, 0::4] = linear.out.weight
    encoder.conv_out.weight[:LATENT_CHANNELS, 1::4] = -linear.out.weight
    encoder.conv_out.bias[:LATENT_CHANNELS] = linear.out.bias
    log_variance = 2 * torch.tensor(LATENT_NOISE * latent_rms).log()
    encoder.conv_out.bias[LATENT_CHANNELS:] = log_variance
    vae.quant_conv.weight[:, :, 0, 0] = torch.eye(2 * LATENT_CHANNELS)
    vae.register_to_config(scaling_factor=1.0 / latent_rms)


def decode_frames(decoder: Any, latents_BCHW: torch.Tensor) -> torch.Tensor:
    """Images -1..1 of single frames, the temporal layers left out (they are identities at this stage)."""
    x = decoder.conv_in(latents_BCHW)
    for resnet in decoder.mid_block.resnets:
        x = resnet.spatial_res_block(x, None)
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            x = resnet.spatial_res_block(x, None)
        for upsampler in block.upsamplers or []:
            x = upsampler(x)
    x = decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x)))
    images: torch.Tensor = x
    return images


class FramePair(nn.Module):
    """Encoder and decoder as they are trained together, on single frames."""

    def __init__(self, pictures: data.Pictures, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = LinearEncoder()
        rng = np.random.default_rng(seed)
        self.encoder.start_from_principal_components(_patches(pictures, rng, PRINCIPAL_COMPONENT_PATCHES))
        self.vae = new_autoencoder()
        self.vae.encoder.requires_grad_(False)
        for name, parameter in self.vae.decoder.named_parameters():
            parameter.requires_grad_(not ("temporal" in name or "time_" in name or "attentions" in name))


def frame_loss(pair: FramePair, pictures: data.Pictures, rng: np.random.Generator) -> torch.Tensor:
    """Reconstruction error of random patches, their latents noised."""
    device = pair.vae.device
    images = _patches(pictures, rng, PATCHES).to(device)
    latents = _noised(pair.encoder(images))
    with torch.autocast(device.type, torch.bfloat16):
        decoded = decode_frames(pair.vae.decoder, latents.contiguous(memory_format=torch.channels_last))
    return _reconstruction_error(decoded.float(), images)


def clip_loss(decoder: Any, encoder: LinearEncoder, pictures: data.Pictures, rng: np.random.Generator) -> torch.Tensor:
    """Reconstruction error of one moving clip, decoded as a whole with the temporal layers."""
    height, width = CLIP_PATCH_HEIGHT, CLIP_PATCH_WIDTH
    motion = data.random_motion(rng, data.MAX_SPEED_PX * float(rng.random()), height, width)
    device = encoder.out.weight.device
    frames = (pictures.clip(rng, motion, data.NUM_FRAMES, height, width) * 2 - 1).to(device)
    with torch.no_grad():
        latents = _noised(encoder(frames))
    with torch.autocast(device.type, torch.bfloat16):
        decoded = decoder(latents, torch.zeros(1, data.NUM_FRAMES, device=device), num_frames=data.NUM_FRAMES)
    return _reconstruction_error(decoded.float(), frames)


@torch.no_grad()
def root_mean_square(encoder: LinearEncoder, pictures: data.Pictures, seed: int = 0) -> float:
    """Of the latents of training pictures: what the scaling factor divides by."""
    images = _patches(pictures, np.random.default_rng(seed), PRINCIPAL_COMPONENT_PATCHES)
    latents = encoder(images.to(encoder.out.weight.device))
    return float(latents.square().mean().sqrt())


def _patches(pictures: data.Pictures, rng: np.random.Generator, count: int) -> torch.Tensor:
    """Square patches of still pictures, -1..1."""
    still = data.Motion(0.0, 0.0, 1.0)
    return torch.cat([pictures.clip(rng, still, 1, PATCH_PX, PATCH_PX) for _ in range(count)]) * 2 - 1


def _noised(latents: torch.Tensor) -> torch.Tensor:
    noise = LATENT_NOISE * latents.detach().square().mean().sqrt()
    return latents + noise * torch.randn_like(latents)


def _reconstruction_error(decoded: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    squared = (decoded - images).square()
    return squared.mean() + L1_WEIGHT * (squared + 1e-4).sqrt().mean()
