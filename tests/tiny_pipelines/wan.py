"""Wan 2.1 (with CLIP's eyes), Wan 2.2 A14B (two experts) and Wan 2.2 TI2V-5B (saved as the pipeline of text)."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from tests.tiny_pipelines.base import TEXT_WIDTH, Tiny, t5_tokenizer, umt5_encoder

IMAGE_WIDTH = 8  # channels of CLIP's image embeddings
_LATENTS = 16
_SIGHT = 30.0  # untrained, the VAE's latents of any two images are nearly the same
_LATENTS_OF_5B = 48


def save_wan21(folder: Path) -> None:
    """As Wan2.1-I2V-14B: one transformer that also sees CLIP's embedding of the image."""
    torch.manual_seed(1)
    WanImageToVideoPipeline(
        **shared(),
        transformer=transformer(image_dim=IMAGE_WIDTH, added_kv_proj_dim=24),
        **eyes(),
    ).save_pretrained(folder)


def save_wan22_a14b(folder: Path) -> None:
    """As Wan2.2-I2V-A14B: an expert for high noise, one for low; the second of two steps is the other's."""
    torch.manual_seed(2)
    WanImageToVideoPipeline(
        **shared(), transformer=transformer(), transformer_2=transformer(), boundary_ratio=0.9
    ).save_pretrained(folder)


def save_wan22_ti2v(folder: Path) -> None:
    """As Wan2.2-TI2V-5B: the first frame's latents stay what they are; its VAE has 16 pixels for one latent."""
    torch.manual_seed(3)
    parts = shared(
        latents=_LATENTS_OF_5B,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        is_residual=True,
        scale_factor_spatial=16,
    )
    WanPipeline(
        **parts,
        transformer=transformer(in_channels=_LATENTS_OF_5B, out_channels=_LATENTS_OF_5B),
        expand_timesteps=True,
    ).save_pretrained(folder)


def transformer(**others: Any) -> WanTransformer3DModel:
    """Two layers of Wan's."""
    return WanTransformer3DModel(**{**transformer_sizes(), **others})


def transformer_sizes() -> dict[str, Any]:
    """The least that Wan's transformer can be, for 16 channels of noise, 16 of the image and 4 of a mask."""
    return {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 2 * _LATENTS + 4,
        "out_channels": _LATENTS,
        "text_dim": TEXT_WIDTH,
        "freq_dim": 32,
        "ffn_dim": 32,
        "num_layers": 2,
        "rope_max_seq_len": 32,
    }


def eyes() -> dict[str, Any]:
    """CLIP's embedding of an image, and what makes the image small for it."""
    sizes = CLIPVisionConfig(
        hidden_size=IMAGE_WIDTH,
        projection_dim=IMAGE_WIDTH,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    return {
        "image_encoder": CLIPVisionModel(sizes),
        "image_processor": CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    }


def vae(latents: int = _LATENTS, **others: Any) -> AutoencoderKLWan:
    """Wan's VAE with three channels at its narrowest: 8 pixels and 4 frames for one latent."""
    sizes = {
        "base_dim": 3,
        "z_dim": latents,
        "dim_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
        "latents_mean": [0.0] * latents,
        "latents_std": [1.0] * latents,
    }
    network = AutoencoderKLWan(**{**sizes, **others})
    with torch.no_grad():
        network.quant_conv.weight *= _SIGHT
    return network


def shared(**vae_sizes: Any) -> dict[str, Any]:
    """What all of Wan's pipelines have, and those of its kin."""
    return {
        "vae": vae(**vae_sizes),
        "scheduler": UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        "tokenizer": t5_tokenizer(),
        "text_encoder": umt5_encoder(),
    }


_EXTRA = {"max_sequence_length": 32}
TINY = (
    Tiny("wan21", "WanImageToVideoPipeline", save_wan21, width=32, height=16, num_frames=5, extra=_EXTRA),
    Tiny("wan22_a14b", "WanImageToVideoPipeline", save_wan22_a14b, width=32, height=16, num_frames=5, extra=_EXTRA),
    Tiny("wan22_ti2v", "WanImageToVideoPipeline", save_wan22_ti2v, width=64, height=32, num_frames=5, extra=_EXTRA),
)
