"""Cosmos Predict 2 and 2.5 of images. Both ask a guardrail, of a package of its own, about words and frames.

The licence of the published weights asks for the guardrail; these weights are ours, and `Guardrail` stands in.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    Cosmos2_5_PredictBasePipeline,
    Cosmos2VideoToWorldPipeline,
    CosmosTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.pipelines.cosmos import pipeline_cosmos2_5_predict, pipeline_cosmos2_video2world

from tests.tiny_pipelines import wan
from tests.tiny_pipelines.base import (
    TEXT_WIDTH,
    Tiny,
    livened,
    qwen25_vl,
    qwen_tokenizer,
    t5_encoder,
    t5_tokenizer,
)

_QWEN_LAYERS = 2
_TEMPLATE = "You are a helpful assistant who will provide prompts to an image generator"


class Guardrail:
    """What the pipelines ask of `cosmos_guardrail.CosmosSafetyChecker`; it lets all pass."""

    def to(self, *_: Any, **__: Any) -> "Guardrail":
        return self

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, frames: Any) -> Any:
        return frames


def install_guardrail(patch: pytest.MonkeyPatch) -> None:
    """As if the package were installed: loading takes its checker where the folder names none."""
    for module in (pipeline_cosmos2_5_predict, pipeline_cosmos2_video2world):
        patch.setattr(module, "CosmosSafetyChecker", Guardrail)


def save_cosmos2(folder: Path) -> None:
    """As Cosmos-Predict2-2B-Video2World: T5's words."""
    torch.manual_seed(14)
    pipeline = Cosmos2VideoToWorldPipeline(
        vae=wan.vae(),
        transformer=_transformer(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        safety_checker=Guardrail(),
    )
    _save_without_guardrail(pipeline, folder)


def save_cosmos25(folder: Path) -> None:
    """As Cosmos-Predict2.5-2B: all layers of Qwen2.5-VL beside each other."""
    torch.manual_seed(15)
    tokenizer = qwen_tokenizer(_TEMPLATE)
    pipeline = Cosmos2_5_PredictBasePipeline(
        vae=wan.vae(),
        transformer=_transformer(
            use_crossattn_projection=True,
            crossattn_proj_in_channels=_QWEN_LAYERS * TEXT_WIDTH,
            encoder_hidden_states_channels=TEXT_WIDTH,
        ),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0, use_karras_sigmas=False
        ),
        text_encoder=qwen25_vl(tokenizer),
        tokenizer=tokenizer,
        safety_checker=Guardrail(),
    )
    _save_without_guardrail(pipeline, folder)


def _transformer(**others: Any) -> Any:
    network = livened(
        CosmosTransformer3DModel(
            in_channels=16 + 1,
            out_channels=16,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=2,
            mlp_ratio=2,
            text_embed_dim=TEXT_WIDTH,
            adaln_lora_dim=4,
            max_size=(4, 32, 32),
            extra_pos_embed_type=None,
            concat_padding_mask=False,  # the published ones have it, and so ask for torchvision
            **others,
        )
    )
    with torch.no_grad():  # untrained, it would hardly hear the words
        for name, weight in network.named_parameters():
            if "attn2" in name and weight.ndim > 1:
                weight.mul_(5.0)
    return network


def _save_without_guardrail(pipeline: Any, folder: Path) -> None:
    pipeline.register_modules(safety_checker=None)
    pipeline.save_pretrained(folder)


TINY = (
    Tiny(
        "cosmos2",
        "Cosmos2VideoToWorldPipeline",
        save_cosmos2,
        width=32,
        height=16,
        num_frames=5,
        extra={"max_sequence_length": 32},
        guardrail=True,
    ),
    Tiny(
        "cosmos25",
        "Cosmos2_5_PredictBasePipeline",
        save_cosmos25,
        width=32,
        height=16,
        num_frames=5,
        # With `image` it asks for torchvision; a video of one frame is the same, and asks for none.
        extra={"max_sequence_length": 128, "num_latent_conditional_frames": 1},
        image_argument="video",
        guardrail=True,
    ),
)
