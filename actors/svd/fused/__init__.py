"""Kernels of our own (Triton), where they were measured to be faster than what PyTorch has.

Each is an operator of PyTorch, `torch.ops.stillreel.*`, so that compiled and uncompiled networks call it alike. Each
computes what `actors.svd.primitives` computes without it, up to rounding. Importing this needs no Triton; `install`
imports the kernels and tells the layers to use them.

Whether they are used depends on the kind of GPU, on what is installed and on sizes alone, never on a measurement by the
worker at hand: the same clip has the same bytes on every worker of one kind. `benchmarks/RESULTS.md` has the figures
that decided.
"""

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

import torch
from torch import nn

from actors import compiling

# The kernels take channels by so many at a time.
CHANNEL_MULTIPLE = 64
# 16 bytes, which the strides of the copy engine are multiples of.
OUTPUT_MULTIPLE = 8
# Frames whose attention fits into the registers of a warp.
MOST_FRAMES = 32
_KERNELS = ("frame_attention", "geglu", "group_norm", "residual_norm", "time_convolution")
# Compute capabilities that the kernels were measured on: Hopper. They load tiles by its copy engine.
_MEASURED_ON = {(9, 0)}


def operator(function: Callable[..., Any]) -> Any:
    """Make a function an operator of PyTorch: its first argument, a tensor, says on which GPU its kernels run."""

    @wraps(function)
    def on_its_device(x: torch.Tensor, *arguments: Any) -> Any:
        with torch.cuda.device_of(x):
            return function(x, *arguments)

    return torch.library.custom_op(f"stillreel::{function.__name__}", on_its_device, mutates_args=())


class Fusible(nn.Module):
    """A module that can work with the kernels."""

    is_fused = False

    def fuse(self) -> None:
        """Use them from now on."""
        self.is_fused = True


def pays(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernels are faster on this kind of device, and exact enough: in half precision on Hopper."""
    return (
        compiling.runs_triton(device)
        and dtype in (torch.float16, torch.bfloat16)
        and torch.cuda.get_device_capability(device) in _MEASURED_ON
    )


def install(network: nn.Module) -> None:
    """Let the network's layers use the kernels; not for one whose weights come layer by layer."""
    load()
    for module in network.modules():
        if isinstance(module, Fusible):
            module.fuse()


def load() -> None:
    """Make the operators known to PyTorch."""
    for name in _KERNELS:
        import_module(f"{__name__}.{name}")
