"""Both models with the same weights, and a clip by each from the same picture and the same noise.

"Stock" is the script of diffusers' guide: `StableVideoDiffusionPipeline`, PIL frames out.
Axes: F frames, H W pixels, h w of the latents, C channels.
"""

import copy
from typing import Any

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil

from actors.contracts import Pixels
from actors.generators.svd.settings import SvdParameters
from actors.svd.model import SvdModel, assemble
from actors.svd.original_config import SCHEDULER
from actors.svd.sampler import WHOLE, Shortcuts, clip_noise, generate
from benchmarks.make_checkpoints import draw_weights, new_image_encoder, new_unet, new_vae
from benchmarks.speed.cases import Case
from benchmarks.train_demo import data

SEED = 7


def random_pipeline(device: torch.device, case: Case) -> Any:
    """diffusers' pipeline with random weights of the case's sizes."""
    generator = torch.Generator(device).manual_seed(0)
    with device:
        networks = {
            "unet": draw_weights(new_unet(case.sizes).to(case.dtype), generator),
            "vae": draw_weights(new_vae(case.sizes).to(case.dtype), generator),
            "image_encoder": draw_weights(new_image_encoder(case.sizes).to(case.dtype), generator),
        }
    pipeline = StableVideoDiffusionPipeline(
        **{name: network.to(device).eval().requires_grad_(False) for name, network in networks.items()},
        scheduler=EulerDiscreteScheduler(**SCHEDULER),
        feature_extractor=CLIPImageProcessorPil(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def own_model(stock: Any, case: Case, device: torch.device, *, streamed: bool = False) -> SvdModel:
    """Our model with the pipeline's weights."""
    preprocessor = stock.feature_extractor
    return assemble(
        *(copy.deepcopy(network).requires_grad_(False) for network in (stock.unet, stock.vae, stock.image_encoder)),
        scheduler_config=dict(stock.scheduler.config),
        preprocessor_config={"image_mean": preprocessor.image_mean, "image_std": preprocessor.image_std},
        dtype=case.dtype,
        device=device,
        streamed=streamed,
    )


def picture(case: Case) -> Pixels:
    """A held-out photograph at the clip's size, H W C."""
    photograph = Image.fromarray(data.held_out_photograph("rocket.jpg"))
    return np.asarray(photograph.resize((case.width, case.height), Image.Resampling.BICUBIC))


def own_noise(model: SvdModel, case: Case) -> Tensor:
    """What our sampler begins with, 1 F C h w: in half precision the stock pipeline would draw other numbers."""
    _, noise_FChw = clip_noise(model, SEED, height=case.height, width=case.width, num_frames=case.num_frames)
    return noise_FChw[None].to(case.dtype)


def parameters(case: Case) -> SvdParameters:
    """Of the clip, as diffusers has them where it is not told otherwise."""
    return SvdParameters(
        seed=SEED,
        fps=7,
        motion_bucket_id=127,
        noise_aug_strength=0.02,
        min_guidance_scale=1.0,
        max_guidance_scale=case.max_guidance,
    )


def by_stock(pipeline: Any, image: Pixels, case: Case, noise: Tensor, *, steps: int | None = None) -> Pixels:
    """The clip as the guide's script makes it, F H W C."""
    frames = pipeline(
        Image.fromarray(image),
        width=case.width,
        height=case.height,
        num_frames=case.num_frames,
        num_inference_steps=steps or case.steps,
        min_guidance_scale=1.0,
        max_guidance_scale=case.max_guidance,
        decode_chunk_size=case.decode_chunk,
        latents=noise,
        generator=torch.Generator().manual_seed(SEED),
    ).frames[0]
    return np.stack([np.asarray(frame) for frame in frames])


def by_own(
    model: SvdModel,
    image: Pixels,
    case: Case,
    *,
    steps: int | None = None,
    chunk: int | None = None,
    shortcuts: Shortcuts = WHOLE,
) -> Pixels:
    """The same clip, F H W C."""
    clips = generate(
        model,
        image[np.newaxis],
        [parameters(case)],
        num_frames=case.num_frames,
        num_inference_steps=steps or case.steps,
        decode_chunk_frames=chunk,
        shortcuts=shortcuts,
    )
    frames_FHWC: Pixels = clips.frames_BFHWC[0]
    return frames_FHWC
