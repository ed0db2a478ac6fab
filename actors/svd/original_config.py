"""What stands in the JSON files of an SVD folder, and in one file does not: read off the shapes, or the same for all.

`svd`, `svd_xt` and `svd_xt_1_1` have the same tensors and the same settings. They differ in the number of frames that
they were trained on (14, 25, 25), which is `generation.num_frames` here: no configuration in the folder decides it.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from actors.checkpoints.files import INDEX
from actors.svd import layout
from actors.svd.original import FIRST_STAGE, IMAGE_VAE, UNET, VISUAL, Depths

Shapes = Mapping[str, tuple[int, ...]]

# The scheduler of `stabilityai/stable-video-diffusion-img2vid-xt`, its `scheduler_config.json` to the letter.
SCHEDULER = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "sigma_max": 700.0,
    "sigma_min": 0.002,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "timestep_type": "continuous",
    "use_karras_sigmas": True,
}
# Widths of a head, which no shape tells: `num_head_channels` of SVD's own configuration, and 1280 / 16 of ViT-H/14.
UNET_HEAD_WIDTH = 64
CLIP_HEAD_WIDTH = 80
# `scale_factor` of SVD's own configuration.
_LATENT_SCALE = 0.18215
# OpenAI's, which OpenCLIP kept.
_CLIP_MEAN, _CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def configs_of(shapes: Shapes, depths: Depths) -> dict[str, dict[str, Any]]:
    """The JSON files of the folder, by their names in it.

    Args:
        shapes: of the tensors in the file, by name.

    Raises:
        KeyError: a tensor that tells a width is not there.
        ValueError: a width is no multiple of a head's.
    """
    index = {"_class_name": "StableVideoDiffusionPipeline", "feature_extractor": ["transformers", "CLIPImageProcessor"]}
    index |= {
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "unet": ["diffusers", "UNetSpatioTemporalConditionModel"],
        "vae": ["diffusers", "AutoencoderKLTemporalDecoder"],
    }
    image_encoder = _image_encoder(shapes)
    return {
        INDEX: index,
        layout.SCHEDULER_CONFIG: {"_class_name": "EulerDiscreteScheduler", **SCHEDULER},
        layout.PREPROCESSOR_CONFIG: _preprocessor(image_encoder["image_size"]),
        "unet/config.json": _unet(shapes, depths),
        "vae/config.json": _vae(shapes),
        "image_encoder/config.json": image_encoder,
    }


def _unet(shapes: Shapes, depths: Depths) -> dict[str, Any]:
    per_level = depths.unet_layers + 1
    downs = [name for name in shapes if re.fullmatch(re.escape(UNET) + r"input_blocks\.\d+\.0\.op\.weight", name)]
    firsts = [f"{UNET}input_blocks.{level * per_level + 1}." for level in range(len(downs) + 1)]
    channels = [shapes[f"{first}0.out_layers.3.weight"][0] for first in firsts]
    attends = [f"{first}1.norm.weight" in shapes for first in firsts]
    micro = shapes[f"{UNET}label_emb.0.0.weight"][1]
    return {
        "_class_name": "UNetSpatioTemporalConditionModel",
        "in_channels": shapes[f"{UNET}input_blocks.0.0.weight"][1],
        "out_channels": shapes[f"{UNET}out.2.weight"][0],
        "block_out_channels": channels,
        "down_block_types": [f"{'CrossAttn' * attend}DownBlockSpatioTemporal" for attend in attends],
        "up_block_types": [f"{'CrossAttn' * attend}UpBlockSpatioTemporal" for attend in reversed(attends)],
        "layers_per_block": depths.unet_layers,
        "num_attention_heads": [_heads(width, UNET_HEAD_WIDTH) for width in channels],
        "cross_attention_dim": shapes[f"{firsts[0]}1.transformer_blocks.0.attn2.to_k.weight"][1],
        "transformer_layers_per_block": 1,
        "addition_time_embed_dim": micro // 3,  # frame rate, motion and noise
        "projection_class_embeddings_input_dim": micro,
        "num_frames": 25,  # for diffusers' own pipeline alone
        "sample_size": 96,
    }


def _vae(shapes: Shapes) -> dict[str, Any]:
    levels = sorted({int(found) for found in _numbers(shapes, IMAGE_VAE + r"encoder\.down\.(\d+)\.block\.0\.")})
    channels = [shapes[f"{IMAGE_VAE}encoder.down.{level}.block.0.conv1.weight"][0] for level in levels]
    return {
        "_class_name": "AutoencoderKLTemporalDecoder",
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "layers_per_block": len(set(_numbers(shapes, IMAGE_VAE + r"encoder\.down\.0\.block\.(\d+)\."))),
        "in_channels": shapes[f"{IMAGE_VAE}encoder.conv_in.weight"][1],
        "out_channels": shapes[f"{FIRST_STAGE}decoder.conv_out.weight"][0],
        "latent_channels": shapes[f"{FIRST_STAGE}decoder.conv_in.weight"][1],
        "scaling_factor": _LATENT_SCALE,
        "force_upcast": True,
        "sample_size": 768,
    }


def _image_encoder(shapes: Shapes) -> dict[str, Any]:
    width, _, patch, _ = shapes[f"{VISUAL}conv1.weight"]
    side = math.isqrt(shapes[f"{VISUAL}positional_embedding"][0] - 1)  # a token for each patch, and one for the image
    return {
        "architectures": ["CLIPVisionModelWithProjection"],
        "model_type": "clip_vision_model",
        "hidden_size": width,
        "intermediate_size": shapes[f"{VISUAL}transformer.resblocks.0.mlp.c_fc.weight"][0],
        "projection_dim": shapes[f"{VISUAL}proj"][1],
        "num_hidden_layers": len(set(_numbers(shapes, VISUAL + r"transformer\.resblocks\.(\d+)\."))),
        "num_attention_heads": _heads(width, CLIP_HEAD_WIDTH),
        "image_size": side * patch,
        "patch_size": patch,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-05,
    }


def _preprocessor(pixels: int) -> dict[str, Any]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_center_crop": True,
        "crop_size": {"height": pixels, "width": pixels},
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": _CLIP_MEAN,
        "image_std": _CLIP_STD,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": pixels},
    }


def _heads(width: int, of_one: int) -> int:
    if width % of_one:
        raise ValueError(f"{width} channels are no multiple of {of_one}, the width of an attention head")
    return width // of_one


def _numbers(shapes: Shapes, pattern: str) -> list[str]:
    return [found[1] for name in shapes if (found := re.match(pattern, name))]
