"""LTX-2: pictures and sound by one transformer of two streams; its text encoder is Gemma 3."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    FlowMatchEulerDiscreteScheduler,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from tests.tiny_pipelines.base import TEXT_WIDTH, Tiny, gemma_tokenizer

_LATENTS = 8
_SOUND_LATENTS = 2
_MEL_BINS = 8
_TEXT_LAYERS = 2


def save_ltx2(folder: Path) -> None:
    """Saved as the pipeline of text, as the Hub's is: 32 pixels and 8 frames for one latent."""
    torch.manual_seed(6)
    LTX2Pipeline(
        vae=_vae(),
        audio_vae=_audio_vae(),
        text_encoder=_gemma3(),
        tokenizer=gemma_tokenizer(),
        connectors=_connectors(),
        transformer=_transformer(),
        vocoder=_vocoder(),
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.95,
            max_shift=2.05,
            base_image_seq_len=1024,
            max_image_seq_len=4096,
            shift_terminal=0.1,
        ),
    ).save_pretrained(folder)


def _vae() -> Any:
    return AutoencoderKLLTX2Video(
        latent_channels=_LATENTS,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 16, 32),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    )


def _audio_vae() -> Any:
    return AutoencoderKLLTX2Audio(
        base_channels=4, ch_mult=(1, 1, 1), num_res_blocks=1, latent_channels=_SOUND_LATENTS, mel_bins=_MEL_BINS
    )


def _vocoder() -> Any:
    return LTX2Vocoder(
        in_channels=2 * _MEL_BINS,
        hidden_channels=16,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3, 5]],
    )


def _transformer() -> Any:
    return LTX2VideoTransformer3DModel(
        in_channels=_LATENTS,
        out_channels=_LATENTS,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        audio_in_channels=_SOUND_LATENTS * _MEL_BINS // 4,
        audio_out_channels=_SOUND_LATENTS * _MEL_BINS // 4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=8,
        audio_cross_attention_dim=16,
        num_layers=2,
        caption_channels=TEXT_WIDTH,
        rope_type="split",
    )


def _connectors() -> Any:
    return LTX2TextConnectors(
        caption_channels=TEXT_WIDTH,
        text_proj_in_factor=_TEXT_LAYERS + 1,
        video_connector_num_attention_heads=2,
        video_connector_attention_head_dim=16,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=32,
        audio_connector_num_attention_heads=2,
        audio_connector_attention_head_dim=16,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=32,
        rope_type="split",
    )


def _gemma3() -> Any:
    text = {
        "vocab_size": len(gemma_tokenizer()),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": _TEXT_LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "sliding_window": 16,
    }
    eyes = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    }
    return Gemma3ForConditionalGeneration(
        Gemma3Config(text_config=text, vision_config=eyes, mm_tokens_per_image=4, image_token_index=0)
    )


TINY = (
    Tiny(
        "ltx2",
        "LTX2ImageToVideoPipeline",
        save_ltx2,
        width=64,
        height=64,  # its VAE pads by mirroring, and needs two latents for that
        num_frames=9,
        # Blocks of the guidance by perturbation: the call's own default is block 28 of 48.
        extra={"max_sequence_length": 32, "spatio_temporal_guidance_blocks": [1]},
    ),
)
