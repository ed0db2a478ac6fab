"""diffusers' model and ours, small, with the same random weights."""

import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from actors.contracts import Pixels
from actors.rife.runner import PRECISIONS, Precision
from actors.svd.model import SvdModel, compile_networks, install_kernels
from benchmarks.make_checkpoints import TINY_SIZES
from benchmarks.speed.cases import Case
from benchmarks.speed.clips import by_own, own_model, own_noise, picture, random_pipeline

# Heads of 64 channels, as in SVD: the attention kernels of a GPU want that. Two blocks a level: only then does the
# decoder have its attention.
SMALL_SIZES = replace(
    TINY_SIZES, num_frames=5, unet_channels=(64, 128), vae_channels=(64, 64), clip_width=64, layers_per_block=2
)
HOW = pytest.mark.parametrize("how", ["uncompiled", "compiled"])
RIFE = Path(__file__).parents[2] / "checkpoints/rife-demo.safetensors"
_WIDTH, _HEIGHT = (96, 64) if torch.cuda.is_available() else (32, 24)
CASE = Case(_WIDTH, _HEIGHT, 5, 4, 3.0, torch.float16, 5, SMALL_SIZES)


def precision(device: torch.device) -> Precision:
    """Half, as on a GPU; half is no speed for a CPU, which takes single for a rehearsal."""
    return "fp16" if device.type == "cuda" else "fp32"


class Pair:
    """Made when first asked for; no test changes them."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.image: Pixels = picture(CASE)
        self._dtype = PRECISIONS[precision(device)]
        # What both are measured by.
        self._precise_dtype = torch.float32 if device.type == "cuda" else torch.float64

    @property
    def _case(self) -> Case:
        return replace(CASE, dtype=self._dtype)

    @cached_property
    def stock(self) -> Any:
        """diffusers' pipeline; its weights are drawn on the CPU, the same for every device."""
        return random_pipeline(torch.device("cpu"), self._case).to(self.device)

    @cached_property
    def precise(self) -> Any:
        """The same on the CPU, in higher precision."""
        return copy.deepcopy(self.stock).to("cpu", self._precise_dtype)

    def as_precise(self, *tensors: Tensor) -> list[Tensor]:
        """For the network in higher precision."""
        return [tensor.cpu().to(self._precise_dtype) for tensor in tensors]

    @cached_property
    def uncompiled(self) -> SvdModel:
        """Ours."""
        return own_model(self.stock, self._case, self.device)

    @cached_property
    def compiled(self) -> SvdModel:
        """Ours, as a job runs it."""
        return self.another_compiled()

    def another_compiled(self) -> SvdModel:
        """What another worker has."""
        model = own_model(self.stock, self._case, self.device)
        install_kernels(model)
        compile_networks(model)
        return model

    def own(self, how: str) -> SvdModel:
        """`compiled` or `uncompiled`."""
        model: SvdModel = getattr(self, how)
        return model

    @cached_property
    def noise(self) -> Tensor:
        """What the clips of both begin with."""
        return own_noise(self.uncompiled, self._case).to(self.device)

    def clip(self, how: str) -> Pixels:
        """Ours."""
        return by_own(self.own(how), self.image, CASE)

    def random(self, *shape: int) -> Tensor:
        """Standard normal, the same on every device, in the networks' precision."""
        return torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(self.device, self._dtype)


def relative_error(made: Tensor, precise: Tensor) -> float:
    """The length of the difference, of that of what is right."""
    made = made.detach().cpu().to(precise.dtype)
    assert torch.isfinite(made).all()
    return float((made - precise).norm() / precise.norm())
