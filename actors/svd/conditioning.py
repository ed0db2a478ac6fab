"""What the UNet is told about each clip besides its noisy latents: constant over all denoising steps.

Shapes: B clips, N = B or, with the unconditional half in front, 2B; F frames, H W pixels, h w latent pixels,
C channels, D width of the image embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from actors.generators.svd.settings import SvdParameters
from actors.svd.model import SvdModel


@dataclass(frozen=True, slots=True)
class Conditioning:
    """The UNet's constant inputs, and the guidance that its predictions are combined with."""

    image_embeddings_N1D: Tensor
    image_latents_NFChw: Tensor
    added_time_ids_N3: Tensor
    guidance_BF111: Tensor | None  # None: N is B, nothing to combine

    def unguided(self) -> "Conditioning":
        """The conditional half alone."""
        if self.guidance_BF111 is None:
            return self
        clips = len(self.guidance_BF111)
        return Conditioning(
            self.image_embeddings_N1D[-clips:],
            self.image_latents_NFChw[-clips:],
            self.added_time_ids_N3[-clips:],
            guidance_BF111=None,
        )


def condition(
    model: SvdModel, images_BCHW: Tensor, noise_BCHW: Tensor, clips: Sequence[SvdParameters], num_frames: int
) -> Conditioning:
    """Encode the images and the micro-conditioning.

    Args:
        images_BCHW: fp32, -1..1, on the model's device.
        noise_BCHW: fp32, standard normal, on the model's device; added to the image in the clip's own strength.
        clips: one per image.
        num_frames: that are to be generated.
    """
    embeddings_B1D = embed_images(model, images_BCHW)
    strength_B111 = images_BCHW.new_tensor([clip.noise_aug_strength for clip in clips])[:, None, None, None]
    latents_BChw = encode_images(model, images_BCHW + strength_B111 * noise_BCHW)
    latents_BFChw = latents_BChw[:, None].expand(-1, num_frames, -1, -1, -1)
    time_ids_B3 = added_time_ids(clips, model.device)
    if not any(clip.is_guided for clip in clips):
        return Conditioning(embeddings_B1D, latents_BFChw, time_ids_B3, None)
    return Conditioning(
        image_embeddings_N1D=torch.cat([torch.zeros_like(embeddings_B1D), embeddings_B1D]),
        image_latents_NFChw=torch.cat([torch.zeros_like(latents_BFChw), latents_BFChw]),
        added_time_ids_N3=torch.cat([time_ids_B3, time_ids_B3]),
        guidance_BF111=guidance(clips, num_frames, model.device),
    )


def embed_images(model: SvdModel, images_BCHW: Tensor) -> Tensor:
    """CLIP's projected embedding of each image (B, 1, D), in the model's precision."""
    clip_BCHW = (resize_antialiased(images_BCHW, model.clip_pixels) + 1) / 2
    clip_BCHW = (clip_BCHW - model.clip_mean_C11) / model.clip_std_C11
    embeddings_BD: Tensor = model.image_encoder(clip_BCHW.to(model.dtype)).image_embeds
    return embeddings_BD[:, None]


def encode_images(model: SvdModel, images_BCHW: Tensor) -> Tensor:
    """The most probable latents (B, C, h, w) of each image, in the model's precision and without the latent scale."""
    # One by one: in a batch an image is rounded otherwise, which the denoising magnifies beyond 1e-5.
    moments_BChw = torch.cat([model.vae_encoder(image_1CHW) for image_1CHW in torch.split(images_BCHW, 1)])
    return moments_BChw.chunk(2, dim=1)[0].to(model.dtype)


def added_time_ids(clips: Sequence[SvdParameters], device: torch.device) -> Tensor:
    """Frame rate, amount of motion and strength of the noise (B, 3), fp32. SVD was trained on frame rate - 1."""
    return torch.tensor(
        [[clip.fps - 1, clip.motion_bucket_id, clip.noise_aug_strength] for clip in clips],
        dtype=torch.float32,
        device=device,
    )


def guidance(clips: Sequence[SvdParameters], num_frames: int, device: torch.device) -> Tensor:
    """Each clip's guidance scale, a straight line over its frames; 1 for clips without guidance."""
    scales_BF = [
        torch.linspace(clip.min_guidance_scale, clip.max_guidance_scale, num_frames)
        if clip.is_guided
        else torch.ones(num_frames)
        for clip in clips
    ]
    return torch.stack(scales_BF)[:, :, None, None, None].to(device)


def resize_antialiased(images_BCHW: Tensor, size: int) -> Tensor:
    """Blur and resize to a square of `size` pixels, the way SVD's CLIP images were made in training.

    Blur and bicubic interpolation are linear and work on rows and columns apart, so that together they are one matrix
    for each axis: two small matrix products, where a filter over all pixels takes seconds for a large image.
    """
    height, width = images_BCHW.shape[-2:]
    down_hH = _resize_matrix(height, size).to(images_BCHW)
    right_wW = _resize_matrix(width, size).to(images_BCHW)
    return down_hH @ images_BCHW @ right_wW.T


@lru_cache(maxsize=8)
def _resize_matrix(source: int, target: int) -> Tensor:
    """The matrix (target, source) that blurs and resizes one axis, on the CPU.

    Gaussian of deviation (source / target - 1) / 2 cut at two deviations, then bicubic with aligned corners, as in
    Stability's generative-models. In fp32: bicubic positions rounded to it move the result by some 1e-5, and only with
    the same rounding is it diffusers' result.
    """
    deviation = max((source / target - 1) / 2, 0.001)
    taps = max(int(4 * deviation), 3) | 1  # odd, so that the filter has a middle
    offsets = torch.arange(taps) - taps // 2
    kernel = torch.softmax(-(offsets**2) / (2 * deviation**2), dim=0)
    impulses = torch.eye(source)[:, None]
    blurred = F.conv1d(F.pad(impulses, (taps // 2, taps // 2), mode="reflect"), kernel[None, None])
    resized = F.interpolate(blurred[:, 0][None, None], (source, target), mode="bicubic", align_corners=True)
    return resized[0, 0].T.contiguous()
