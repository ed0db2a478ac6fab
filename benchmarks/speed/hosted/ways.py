"""The ways in which a host makes a clip, each by what its section `model` says."""

import copy
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from diffusers import DiffusionPipeline
from diffusers.models.attention_dispatch import attention_backend

from actors.generators.diffusers.parameters import DiffusersParameters
from actors.generators.diffusers.settings import DiffusersModelSettings
from actors.hosting.host import Host
from actors.settings import ImageSettings
from actors.storage import Storage
from benchmarks.speed.hosted.models import Clip, save_configs

PROMPT = "a rocket starts, smoke everywhere, the camera moves slowly"
NEGATIVE_PROMPT = "worst quality, inconsistent motion, blurry, jittery, distorted"
SEED = 7


@dataclass(frozen=True, slots=True)
class Way:
    """Of the settings, what is not as in a plain host, which compiles nothing.

    Attributes:
        is_optional: where the machine may lack what it takes.
        alike: whether all steps cost the same.
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    is_optional: bool = False
    alike: bool = True


def _shared(cache: str) -> Way:
    return Way({"tier": "fast", "fast": {"cache": cache}}, alike=False)


WAYS: dict[str, Way] = {
    "exact": Way(),
    "compiled": Way({"compile": True}),
    "first_block": _shared("first_block"),
    "taylorseer": _shared("taylorseer"),
    **{
        backend: Way({"attention": backend}, is_optional=True)
        for backend in ("_native_cudnn", "_native_flash", "_native_efficient", "flash", "_flash_3", "sage", "xformers")
    },
}


@contextmanager
def hosted(stock: DiffusionPipeline, way: Way, clip: Clip, device: torch.device) -> Iterator[tuple[Any, Host, Any]]:
    """The stock pipeline's own weights, held as `way` says: its pipeline, the host, and the parameters of a clip.

    The transformer is a copy, because the ways change it; all else is the stock pipeline's.
    """
    pipeline = copy.copy(stock)
    pipeline.register_modules(
        transformer=copy.deepcopy(stock.transformer),
        scheduler=type(stock.scheduler).from_config(stock.scheduler.config),
    )
    # A backend that one network asks for becomes that of the process: this puts it back.
    with tempfile.TemporaryDirectory() as name, attention_backend("native"):
        folder = Path(name)
        save_configs(stock, folder)
        settings = DiffusersModelSettings(source=name, device=device.type, **({"compile": False} | dict(way.model)))
        parameters, _ = settings.settled(
            DiffusersParameters(
                num_frames=clip.num_frames,
                num_inference_steps=clip.timed_steps,
                guidance_scale=clip.guidance,
                prompt=PROMPT,
                negative_prompt=NEGATIVE_PROMPT,
                seed=SEED,
            ),
            ImageSettings(width=clip.width, height=clip.height),
            Storage(),
        )
        with patch("actors.hosting.host.load", lambda *_args, **_how: pipeline):
            host = Host(folder, settings, parameters, device=device)
            yield pipeline, host, parameters


def by_stock(pipeline: DiffusionPipeline, image: Any, clip: Clip, steps: int) -> Any:
    """The clip as diffusers' guide makes it, frames as it gives them, F H W C; `image` is one of PIL."""
    return pipeline(
        image=image,
        prompt=PROMPT,
        negative_prompt=NEGATIVE_PROMPT,
        width=clip.width,
        height=clip.height,
        num_frames=clip.num_frames,
        num_inference_steps=steps,
        guidance_scale=clip.guidance,
        generator=torch.Generator("cpu").manual_seed(SEED),
    ).frames[0]
