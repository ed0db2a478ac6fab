"""Checkpoints of the published sizes with random weights, made where they run: nothing is downloaded or stored.

The sizes are those of the checkpoints' own `config.json`: 5.00 billion parameters in Wan 2.2 TI2V-5B's transformer and
0.70 in its VAE, 1.92 and 0.42 in those of LTX-Video 2B.
"""

import string
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    LTXImageToVideoPipeline,
    LTXVideoTransformer3DModel,
    ModelMixin,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from torch import nn
from transformers import T5Config, T5EncoderModel, T5TokenizerFast, UMT5Config, UMT5EncoderModel

from actors.hosting.classes import kind_of
from actors.hosting.index import look
from actors.hosting.loading import load, networks_of
from actors.storage import Storage
from benchmarks.make_checkpoints import draw_weights

TextEncoder = Literal["small", "full"]
_TEXT_WIDTH = 4096
_LATENTS_OF_5B = 48
# Of T5's XXL, and as little as gives embeddings of the same shape.
_XXL = {"num_layers": 24, "num_heads": 64, "d_ff": 10_240}
_SMALL = {"num_layers": 1, "num_heads": 4, "d_ff": 64, "vocab_size": 128}


@dataclass(frozen=True, slots=True)
class Clip:
    """What is made.

    Attributes:
        steps: that a clip of the model's authors has.
        timed_steps: that are made here: a clip's seconds follow from them.
    """

    width: int
    height: int
    num_frames: int
    steps: int
    timed_steps: int
    guidance: float

    def __str__(self) -> str:
        return f"{self.width}x{self.height}x{self.num_frames}"


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint.

    Attributes:
        parts: its components at full size, in fp32, but for tokenizer and text encoder; values of its index.
        text: its text encoder, from sizes.
        tiny: its name in `tests.tiny_pipelines`.
        clip: as its authors make it.
    """

    pipeline: type[DiffusionPipeline]
    parts: Callable[[], dict[str, Any]]
    text: Callable[[dict[str, int]], nn.Module]
    tiny: str
    clip: Clip

    @property
    def small_clip(self) -> Clip:
        """For rehearsals."""
        tiny = _tiny(self.tiny)
        return Clip(tiny.width, tiny.height, tiny.num_frames, steps=8, timed_steps=6, guidance=self.clip.guidance)


def _wan_scheduler() -> UniPCMultistepScheduler:
    with torch.device("cpu"):  # where its numbers are, whatever the networks are made on
        return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0)


def _wan22_ti2v_5b() -> dict[str, Any]:
    return {
        "transformer": WanTransformer3DModel(
            num_attention_heads=24,
            attention_head_dim=128,
            in_channels=_LATENTS_OF_5B,
            out_channels=_LATENTS_OF_5B,
            ffn_dim=14_336,
            num_layers=30,
        ),
        "vae": AutoencoderKLWan(
            base_dim=160,
            decoder_base_dim=256,
            z_dim=_LATENTS_OF_5B,
            is_residual=True,
            in_channels=12,
            out_channels=12,
            patch_size=2,
            scale_factor_spatial=16,
            latents_mean=[0.0] * _LATENTS_OF_5B,
            latents_std=[1.0] * _LATENTS_OF_5B,
        ),
        "scheduler": _wan_scheduler(),
        "expand_timesteps": True,
    }


def _ltx() -> dict[str, Any]:
    return {"transformer": LTXVideoTransformer3DModel(), "vae": AutoencoderKLLTXVideo(), "scheduler": ltx_scheduler()}


def ltx_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """LTX-Video's."""
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=0.1,
    )


def _umt5(sizes: dict[str, int]) -> nn.Module:
    made: nn.Module = UMT5EncoderModel(UMT5Config(**_t5(256_384, sizes)))
    return made


def _t5_xxl(sizes: dict[str, int]) -> nn.Module:
    made: nn.Module = T5EncoderModel(T5Config(**_t5(32_128, sizes)))
    return made


def _t5(vocab_size: int, sizes: dict[str, int]) -> dict[str, Any]:
    return {"vocab_size": vocab_size, "d_model": _TEXT_WIDTH, "d_kv": 64, "feed_forward_proj": "gated-gelu", **sizes}


def _tokenizer() -> T5TokenizerFast:
    """A token for each character: the real one's vocabulary would have to be fetched."""
    letters = [(character, -2.0) for character in f"▁{string.ascii_letters}{string.punctuation}"]
    return T5TokenizerFast(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters], extra_ids=0)


def _tiny(name: str) -> Any:
    from tests.tiny_pipelines import TINY  # only for rehearsals: needs pytest

    return TINY[name]


MODELS = {
    "wan22_ti2v_5b": Model(
        WanImageToVideoPipeline, _wan22_ti2v_5b, _umt5, "wan22_ti2v", Clip(1280, 704, 121, 50, 8, 5.0)
    ),
    "ltx": Model(LTXImageToVideoPipeline, _ltx, _t5_xxl, "ltx", Clip(704, 480, 161, 50, 20, 3.0)),
}


def random_pipeline(model: Model, device: torch.device, text_encoder: TextEncoder) -> DiffusionPipeline:
    """Its pipeline on the device, as the guide of diffusers loads it: in bf16, but for what stays in fp32."""
    generator = torch.Generator(device).manual_seed(0)
    with device:
        parts = model.parts()
        parts["text_encoder"] = model.text(_XXL if text_encoder == "full" else _SMALL)
    full = kind_of(model.pipeline.__name__).full
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            draw_weights(part, generator).eval().requires_grad_(False)
            if name not in full:
                _to_bf16(part)
    return _quiet(model.pipeline(tokenizer=_tokenizer(), **parts))


def small_pipeline(model: Model) -> DiffusionPipeline:
    """The same class with few and narrow layers, on the CPU."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _tiny(model.tiny).save(folder)
        hosted = look(name, revision=None, cache_dir=None, storage=Storage())
        return _quiet(load(folder, hosted, variant=None, precision="bf16"))


def save_configs(pipeline: DiffusionPipeline, folder: Path) -> None:
    """What planning reads of a checkpoint: the index and the configurations; no weights."""
    pipeline.save_config(folder)
    for name, network in networks_of(pipeline).items():
        if name in {"transformer", "vae"}:
            network.save_config(folder / name)  # type: ignore[operator] # of diffusers' networks


def _to_bf16(network: nn.Module) -> None:
    """As `from_pretrained` does it: layers that a class of diffusers names stay in fp32."""
    kept = (network._keep_in_fp32_modules or []) if isinstance(network, ModelMixin) else []
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.is_floating_point() and not any(part in kept for part in name.split(".")):
            tensor.data = tensor.data.to(torch.bfloat16)


def _quiet(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
