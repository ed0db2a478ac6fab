"""HunyuanVideo-1.5 of images: Qwen2.5-VL's words, letters for text within the picture, and guidance by a component."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Transformer3DModel,
)
from diffusers.guiders import ClassifierFreeGuidance
from transformers import (
    ByT5Tokenizer,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLTextModel,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
)

from tests.tiny_pipelines.base import TEXT_WIDTH, Tiny, qwen_tokenizer, t5_sizes

_LATENTS = 4
_EYES = 8
_IMAGE_SIZE = 32
# What the pipeline itself puts before each prompt; it drops the first 108 tokens of the whole.
_TEMPLATE = (
    "You are a helpful assistant Describe the video by detailing the following aspects The main content and theme of "
    "the video The color shape size texture quantity text and spatial relationships of the objects Actions events "
    "behaviors temporal relationships physical movement changes of the objects background environment light style and "
    "atmosphere camera angles movements and transitions used in the video"
)


def save_hunyuan15(folder: Path) -> None:
    """16 pixels and 4 frames for one latent; clips of about 32 x 32 pixels, in the shape of the image."""
    torch.manual_seed(10)
    words = qwen_tokenizer(_TEMPLATE)
    letters = ByT5Tokenizer()
    HunyuanVideo15ImageToVideoPipeline(
        vae=AutoencoderKLHunyuanVideo15(
            latent_channels=_LATENTS, block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1
        ),
        transformer=HunyuanVideo15Transformer3DModel(
            in_channels=2 * _LATENTS + 1,
            out_channels=_LATENTS,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=2,
            num_refiner_layers=1,
            mlp_ratio=2.0,
            text_embed_dim=TEXT_WIDTH,
            text_embed_2_dim=TEXT_WIDTH,
            image_embed_dim=_EYES,
            rope_axes_dim=(4, 6, 6),
            target_size=32,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        text_encoder=_words_encoder(words),
        tokenizer=words,
        text_encoder_2=T5EncoderModel(T5Config(**{**t5_sizes(), "vocab_size": len(letters)})),
        tokenizer_2=letters,
        guider=ClassifierFreeGuidance(guidance_scale=6.0),
        image_encoder=_eyes(),
        feature_extractor=SiglipImageProcessor(size={"height": _IMAGE_SIZE, "width": _IMAGE_SIZE}),
    ).save_pretrained(folder)


def _words_encoder(tokenizer: Any) -> Any:
    return Qwen2_5_VLTextModel(
        Qwen2_5_VLTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=32,
            num_hidden_layers=4,  # the last two are not asked
            num_attention_heads=2,
            num_key_value_heads=2,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            rope_scaling={"mrope_section": [2, 3, 3], "rope_type": "default", "type": "default"},
        )
    )


def _eyes() -> Any:
    return SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=_EYES,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=_IMAGE_SIZE,
            patch_size=16,
        )
    )


TINY = (
    Tiny(
        "hunyuan15",
        "HunyuanVideo15ImageToVideoPipeline",
        save_hunyuan15,
        width=32,
        height=32,
        num_frames=5,
        takes_size=False,
    ),
)
