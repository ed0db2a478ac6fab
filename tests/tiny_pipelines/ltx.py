"""LTX-Video, saved as the Hub's is: as the pipeline of text."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)

from tests.tiny_pipelines.base import TEXT_WIDTH, Tiny, t5_encoder, t5_tokenizer

_LATENTS = 8


def save_ltx(folder: Path) -> None:
    """32 pixels and 8 frames for one latent, as the real one has."""
    torch.manual_seed(4)
    LTXPipeline(
        vae=AutoencoderKLLTXVideo(
            latent_channels=_LATENTS,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
        ),
        transformer=LTXVideoTransformer3DModel(
            in_channels=_LATENTS,
            out_channels=_LATENTS,
            num_attention_heads=2,
            attention_head_dim=16,
            cross_attention_dim=TEXT_WIDTH,
            caption_channels=TEXT_WIDTH,
            num_layers=2,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05),
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
    ).save_pretrained(folder)


_EXTRA = {"max_sequence_length": 32}
TINY = (Tiny("ltx", "LTXImageToVideoPipeline", save_ltx, width=64, height=32, num_frames=9, extra=_EXTRA),)
