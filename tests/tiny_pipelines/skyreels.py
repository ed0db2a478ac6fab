"""SkyReels V2 of images: Wan 2.1's parts around a transformer of its own."""

from pathlib import Path

import torch
from diffusers import SkyReelsV2ImageToVideoPipeline, SkyReelsV2Transformer3DModel

from tests.tiny_pipelines import wan
from tests.tiny_pipelines.base import Tiny


def save_skyreels(folder: Path) -> None:
    """As SkyReels-V2-I2V-14B: CLIP's embedding of the image beside its latents."""
    torch.manual_seed(12)
    SkyReelsV2ImageToVideoPipeline(
        **wan.shared(),
        **wan.eyes(),
        transformer=SkyReelsV2Transformer3DModel(
            **wan.transformer_sizes(), image_dim=wan.IMAGE_WIDTH, added_kv_proj_dim=24
        ),
    ).save_pretrained(folder)


TINY = (
    Tiny(
        "skyreels",
        "SkyReelsV2ImageToVideoPipeline",
        save_skyreels,
        width=32,
        height=16,
        num_frames=5,
        extra={"max_sequence_length": 32},
    ),
)
