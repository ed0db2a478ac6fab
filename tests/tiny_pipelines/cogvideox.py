"""CogVideoX-5B-I2V.

Its VAE gives 8k + 1 frames as they were asked for, and for other 4k + 1 three more: 8 for 5.
"""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXTransformer3DModel,
)

from tests.tiny_pipelines.base import TEXT_WIDTH, Tiny, t5_encoder, t5_tokenizer

_LATENTS = 4
_WORDS = 32  # tokens of a prompt: the transformer is made for exactly so many


def save_cogvideox(folder: Path) -> None:
    """Learned positions on top of rotary ones, as in CogVideoX-5B-I2V, which so makes one size only."""
    torch.manual_seed(5)
    CogVideoXImageToVideoPipeline(
        vae=AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            latent_channels=_LATENTS,
            layers_per_block=1,
            norm_num_groups=2,
            temporal_compression_ratio=4,
        ),
        transformer=CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=2 * _LATENTS,
            out_channels=_LATENTS,
            time_embed_dim=8,
            text_embed_dim=TEXT_WIDTH,
            num_layers=2,
            sample_width=4,
            sample_height=2,
            sample_frames=9,
            max_text_seq_length=_WORDS,
            use_rotary_positional_embeddings=True,
            use_learned_positional_embeddings=True,
        ),
        scheduler=CogVideoXDDIMScheduler(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
        ),
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
    ).save_pretrained(folder)


TINY = (
    Tiny(
        "cogvideox",
        "CogVideoXImageToVideoPipeline",
        save_cogvideox,
        width=32,
        height=16,
        num_frames=9,
        extra={"max_sequence_length": _WORDS},
    ),
)
