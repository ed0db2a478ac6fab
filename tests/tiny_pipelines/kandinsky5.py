"""Kandinsky 5 of images: Qwen2.5-VL's words, CLIP's prompt as a whole, and HunyuanVideo's VAE.

The published folders have a `Qwen2VLProcessor` for a tokenizer, which needs torchvision; its tokenizer alone does
as well.
"""

from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Kandinsky5I2VPipeline, Kandinsky5Transformer3DModel

from tests.tiny_pipelines.base import (
    TEXT_WIDTH,
    Tiny,
    clip_text_encoder,
    clip_tokenizer,
    hunyuan_vae,
    livened,
    qwen25_vl,
    qwen_tokenizer,
)

_LATENTS = 4
_POOLED = 8  # channels of CLIP's embedding of the whole prompt
# What the pipeline itself puts before each prompt; it drops the first 128 tokens of the whole.
_TEMPLATE = """
You are a prompt engineer. Describe the video in detail. Describe how the camera moves or shakes, describe the zoom and
view angle, whether it follows the objects. Describe the location of the video, main characters or objects and their
action. Describe the dynamism of the video and presented actions. Name the visual style of the video: whether it is a
professional footage, user generated content, some kind of animation, video game or scren content. Describe the visual
effects, postprocessing and transitions if they are presented in the video. Pay attention to the order of key actions
shown in the scene.
"""


def save_kandinsky5(folder: Path) -> None:
    """The first frame's latents are the image's; fewer than 17 frames would be no numbers."""
    torch.manual_seed(11)
    tokenizer = qwen_tokenizer(_TEMPLATE)
    Kandinsky5I2VPipeline(
        vae=hunyuan_vae(_LATENTS),
        transformer=livened(
            Kandinsky5Transformer3DModel(
                in_visual_dim=_LATENTS,
                out_visual_dim=_LATENTS,
                in_text_dim=TEXT_WIDTH,
                in_text_dim2=_POOLED,
                time_dim=16,
                model_dim=32,
                ff_dim=32,
                num_text_blocks=1,
                num_visual_blocks=2,
                axes_dims=(4, 6, 6),
                visual_cond=True,
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        text_encoder=qwen25_vl(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=clip_text_encoder(_POOLED),
        tokenizer_2=clip_tokenizer(),
    ).save_pretrained(folder)


TINY = (
    Tiny(
        "kandinsky5",
        "Kandinsky5I2VPipeline",
        save_kandinsky5,
        width=32,
        height=16,
        num_frames=17,
        extra={"max_sequence_length": 256},
    ),
)
