"""HunyuanVideo of images (both of its kinds) and FramePack: Llama's words and CLIP's, and eyes for the image."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoFramepackPipeline,
    HunyuanVideoFramepackTransformer3DModel,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video import pipeline_hunyuan_video_framepack as framepack
from diffusers.pipelines.hunyuan_video import pipeline_hunyuan_video_image2video as image_to_video
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaModel,
    LlamaTokenizerFast,
    LlavaConfig,
    LlavaForConditionalGeneration,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tests.tiny_pipelines.base import (
    TEXT_WIDTH,
    Tiny,
    clip_text_encoder,
    clip_tokenizer,
    hunyuan_vae,
    llama_tokenizer,
)

_LATENTS = 4
_POOLED = 8  # channels of CLIP's embedding of the whole prompt
_EYES = 8  # channels of what sees the image
_IMAGE_SIZE = 48  # pixels that eyes see
_PATCHES = 576  # patches of it, as many as the pipeline counts on for an image among the words


def save_hunyuan(folder: Path) -> None:
    """As HunyuanVideo-I2V: the first frame's latents are the image's."""
    torch.manual_seed(7)
    _save_image_to_video(folder, in_channels=_LATENTS, image_condition_type="token_replace", guidance_embeds=True)


def save_hunyuan_33ch(folder: Path) -> None:
    """As HunyuanVideo-I2V-33ch: the image beside the noise; its pipeline drops the first four frames."""
    torch.manual_seed(8)
    _save_image_to_video(
        folder, in_channels=2 * _LATENTS + 1, image_condition_type="latent_concat", guidance_embeds=False
    )


def save_framepack(folder: Path) -> None:
    """As FramePackI2V_HY: sections of a window of latents, the last one first.

    Asked for n frames with a window of w latents, it makes as many sections as cover n frames at 4 (w - 1) + 1 each, of
    4 w frames, and one frame more.
    """
    torch.manual_seed(9)
    eyes = SiglipVisionConfig(
        hidden_size=_EYES,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=_IMAGE_SIZE,
        patch_size=16,
    )
    HunyuanVideoFramepackPipeline(
        **_shared(),
        text_encoder=LlamaModel(LlamaConfig(**_llama_sizes())),
        transformer=HunyuanVideoFramepackTransformer3DModel(
            **_transformer_sizes(),
            in_channels=_LATENTS,
            guidance_embeds=True,
            image_condition_type=None,
            has_image_proj=True,
            image_proj_dim=_EYES,
            has_clean_x_embedder=True,
        ),
        image_encoder=SiglipVisionModel(eyes),
        feature_extractor=SiglipImageProcessor(size={"height": _IMAGE_SIZE, "width": _IMAGE_SIZE}),
    ).save_pretrained(folder)


def _save_image_to_video(folder: Path, **condition: Any) -> None:
    eyes = CLIPVisionConfig(
        hidden_size=_EYES,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=_IMAGE_SIZE,
        patch_size=2,
    )
    tokenizer = _tokenizer()
    llava = LlavaConfig(
        text_config=LlamaConfig(**_llama_sizes()),
        vision_config=eyes,
        image_seq_length=_PATCHES,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    HunyuanVideoImageToVideoPipeline(
        **_shared(),
        text_encoder=LlavaForConditionalGeneration(llava),
        transformer=HunyuanVideoTransformer3DModel(**_transformer_sizes(), **condition),
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": _IMAGE_SIZE}, crop_size={"height": _IMAGE_SIZE, "width": _IMAGE_SIZE}
        ),
    ).save_pretrained(folder)


def _shared() -> dict[str, Any]:
    return {
        "vae": hunyuan_vae(_LATENTS),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=7.0),
        "tokenizer": _tokenizer(),
        "text_encoder_2": clip_text_encoder(_POOLED),
        "tokenizer_2": clip_tokenizer(),
    }


def _llama_sizes() -> dict[str, Any]:
    tokenizer = _tokenizer()
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 4,  # the last two are not asked
        "num_attention_heads": 2,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _transformer_sizes() -> dict[str, Any]:
    return {
        "out_channels": _LATENTS,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "num_refiner_layers": 1,
        "patch_size": 2,
        "text_embed_dim": TEXT_WIDTH,
        "pooled_projection_dim": _POOLED,
        "rope_axes_dim": (4, 6, 6),
    }


def _tokenizer() -> LlamaTokenizerFast:
    return llama_tokenizer(
        image_to_video.DEFAULT_PROMPT_TEMPLATE["template"], framepack.DEFAULT_PROMPT_TEMPLATE["template"]
    )


_EXTRA = {"max_sequence_length": 128}
TINY = (
    Tiny("hunyuan", "HunyuanVideoImageToVideoPipeline", save_hunyuan, width=32, height=16, num_frames=5, extra=_EXTRA),
    Tiny(
        "hunyuan_33ch",
        "HunyuanVideoImageToVideoPipeline",
        save_hunyuan_33ch,
        width=32,
        height=16,
        num_frames=9,
        extra=_EXTRA,
        clip_frames=5,
    ),
    Tiny(
        "framepack",
        "HunyuanVideoFramepackPipeline",
        save_framepack,
        width=32,
        height=16,
        num_frames=9,
        extra={**_EXTRA, "latent_window_size": 2},
        clip_frames=17,
    ),
)
