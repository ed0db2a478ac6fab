"""The trained networks into the files that ship: a checkpoint in diffusers layout and one of RIFE weights."""

import copy
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from transformers import CLIPImageProcessorPil

from actors.rife import weights
from actors.rife.ifnet import IFNet
from actors.svd.original_config import SCHEDULER
from benchmarks.train_demo.unet import CLIP_MEAN, CLIP_SIZE_PX, CLIP_STD, new_image_encoder


def save_svd(vae: AutoencoderKLTemporalDecoder, unet: UNetSpatioTemporalConditionModel, folder: Path) -> None:
    """Write the whole pipeline, in half precision: the loader makes fp32 of it, and the files stay small."""
    half = torch.float16
    pipeline = StableVideoDiffusionPipeline(
        vae=copy.deepcopy(vae).to(half),
        image_encoder=new_image_encoder().to(half),
        unet=copy.deepcopy(unet).to(half),
        scheduler=EulerDiscreteScheduler.from_config(SCHEDULER),
        feature_extractor=CLIPImageProcessorPil(
            size={"shortest_edge": CLIP_SIZE_PX},
            crop_size={"height": CLIP_SIZE_PX, "width": CLIP_SIZE_PX},
            image_mean=list(CLIP_MEAN),
            image_std=list(CLIP_STD),
        ),
    )
    pipeline.save_pretrained(folder, safe_serialization=True)


def save_rife(net: IFNet, path: Path) -> None:
    """Write the weights in half precision, under their variant's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights.save(copy.deepcopy(net).cpu().half(), path)
