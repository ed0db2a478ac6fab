"""What a single file of weights is, told by the names of its tensors: to say it to whoever takes it for SVD's."""

import re
from collections.abc import Collection

from actors.checkpoints.lora_files import is_lora
from actors.svd.original import FIRST_STAGE, IMAGE_VAE, UNET, VISUAL

# Words of the names that each network alone begins with.
_UNETS = ("conv_in.", "down_blocks.", "mid_block.", "input_blocks.", "middle_block.", "unet.")
_TEMPORAL = ("time_stack", "temporal_")

# Kinds of whole checkpoints, by what one of their names begins with.
_OTHERS = (
    ("cond_stage_model.transformer.", "a Stable Diffusion 1.x checkpoint"),
    ("cond_stage_model.model.", "a Stable Diffusion 2.x checkpoint"),
    ("conditioner.embedders.1.model.", "an SDXL checkpoint"),
    ("conditioner.embedders.0.transformer.", "an SDXL checkpoint"),
    ("conditioner.embedders.0.model.", "an SDXL refiner checkpoint"),
)


def refusal(names: Collection[str]) -> str | None:
    """What a file is that is not a whole SVD checkpoint, and what to do, as a clause; None: it may be one."""
    if not names:
        return "holds no tensors: copy it again"
    if is_lora(names):
        return "is a LoRA, which changes a model and is none: name the model here, and this file in model.loras"
    if any(re.search(r"(^|\.)block0\.(conv0|convblock)", name) for name in names):
        return "is RIFE's, which goes between frames: set interpolation.weights to it"
    if other := next((kind for start, kind in _OTHERS if _any(names, start)), None):
        return f"is {other}, which makes pictures and no video: take svd.safetensors or svd_xt.safetensors"
    return _of_svds_like(names) if _any(names, UNET) else _of_other_beginnings(names)


def _of_svds_like(names: Collection[str]) -> str | None:
    if not any(_TEMPORAL[0] in name for name in names):
        return "is a checkpoint for pictures, its UNet has no layers over time: take one of Stable Video Diffusion"
    if not (_any(names, FIRST_STAGE) or _any(names, IMAGE_VAE) or _any(names, VISUAL)):
        return _alone("a UNet")
    if _any(names, f"{FIRST_STAGE}post_quant_conv.") or _any(names, f"{FIRST_STAGE}quant_conv."):
        return (
            "has the image decoder, which makes each frame by itself (svd_image_decoder, svd_xt_image_decoder): take "
            "svd.safetensors or svd_xt.safetensors, whose decoder sees the clip"
        )
    lacking = [what for what, start in _PARTS if not _any(names, start)]
    return f"lacks {' and '.join(lacking)}: take the checkpoint as its makers published it" if lacking else None


_PARTS = (
    (f"the VAE's decoder ({FIRST_STAGE}decoder)", f"{FIRST_STAGE}decoder."),
    (f"the encoder of the image ({IMAGE_VAE}encoder)", f"{IMAGE_VAE}encoder."),
    (f"the image encoder CLIP ({VISUAL.removesuffix('.')})", VISUAL),
)


def _of_other_beginnings(names: Collection[str]) -> str:
    if any(name.startswith(_UNETS) for name in names):
        if any(word in name for word in _TEMPORAL for name in names):
            return _alone("a UNet")
        return "is the UNet of a model for pictures: take a checkpoint of Stable Video Diffusion"
    if _any(names, "decoder.") or _any(names, "first_stage_model."):
        return _alone("a VAE")
    if _any(names, "vision_model.") or _any(names, "visual."):
        return _alone("an image encoder")
    return f"is no Stable Video Diffusion: it holds {shortened(sorted(names))}"


def _alone(what: str) -> str:
    return (
        f"is {what} alone, and a model is UNet, VAE and image encoder: take the whole checkpoint (svd_xt.safetensors), "
        "or put this network into a copy of a folder in diffusers layout"
    )


def shortened(names: list[str]) -> str:
    """Three of the names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""  # noqa: PLR2004 - three say enough
    return ", ".join(names[:3]) + more


def _any(names: Collection[str], start: str) -> bool:
    return any(name.startswith(start) for name in names)
