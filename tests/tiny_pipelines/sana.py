"""SanaVideo of images: Wan's VAE and Gemma 2's words."""

from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SanaImageToVideoPipeline, SanaVideoTransformer3DModel
from transformers import Gemma2Config, Gemma2Model

from tests.tiny_pipelines import wan
from tests.tiny_pipelines.base import TEXT_WIDTH, Tiny, gemma_tokenizer, livened


def save_sana(folder: Path) -> None:
    """8 pixels and 4 frames for one latent."""
    torch.manual_seed(13)
    tokenizer = gemma_tokenizer()
    text = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    SanaImageToVideoPipeline(
        vae=wan.vae(),
        transformer=livened(
            SanaVideoTransformer3DModel(
                num_attention_heads=2,
                attention_head_dim=12,
                num_layers=2,
                num_cross_attention_heads=2,
                cross_attention_head_dim=12,
                cross_attention_dim=24,
                caption_channels=TEXT_WIDTH,
                rope_max_seq_len=32,
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=8.0),
        text_encoder=Gemma2Model(text),
        tokenizer=tokenizer,
    ).save_pretrained(folder)


TINY = (
    Tiny(
        "sana",
        "SanaImageToVideoPipeline",
        save_sana,
        width=32,
        height=32,
        num_frames=5,
        # Its bins are of about 480 x 832 pixels, and its instruction is long.
        extra={"max_sequence_length": 32, "use_resolution_binning": False, "complex_human_instruction": []},
        frames_argument="frames",
    ),
)
