"""PyTorch's attention kernels at SVD's sizes, of which it takes one by itself."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.speed.bench import Bench
from benchmarks.speed.clock import each_s

# Of each head of SVD's UNet, and of the decoder's only one.
_HEAD_CHANNELS, _DECODER_HEAD_CHANNELS = 64, 512
# By level of the UNet.
_HEADS = (5, 10, 20, 20)
# Timed together: a single one of the small sizes takes as long as its launch.
_TIMES = 10

KERNELS: dict[str, list[Any]] = {
    "PyTorch's choice": [kernel for kernel in SDPBackend.__members__.values() if kernel is not SDPBackend.ERROR],
    "flash": [SDPBackend.FLASH_ATTENTION],
    "cuDNN": [SDPBackend.CUDNN_ATTENTION],
    "efficient": [SDPBackend.EFFICIENT_ATTENTION],
}


def measure(bench: Bench) -> None:
    """The UNet's four sizes over pixels and over frames, then the decoder's."""
    case = bench.case
    pairs = 2 * case.num_frames  # with guidance
    for level, heads in enumerate(_HEADS):
        pixels = (case.width // (8 << level)) * (case.height // (8 << level))
        _kernels(bench, "over pixels", (pairs, heads, pixels, _HEAD_CHANNELS))
        _kernels(bench, "over frames", (2 * pixels, heads, case.num_frames, _HEAD_CHANNELS))
        _frames_outermost(bench, (2 * pixels, heads, case.num_frames, _HEAD_CHANNELS))
    pixels = (case.width // 8) * (case.height // 8)
    decoder = (case.num_frames, 1, pixels, _DECODER_HEAD_CHANNELS)
    _kernels(bench, "in the decoder", decoder)
    _by_products(bench, decoder)


def _kernels(bench: Bench, where: str, shape: tuple[int, int, int, int]) -> None:
    seconds = {name: attention_s(shape, kernels, bench.device, bench.case.dtype) for name, kernels in KERNELS.items()}
    in_ms = {name: None if s is None else 1000 * s for name, s in seconds.items()}
    bench.results.add(f"attention {where}, {shape}", in_ms, "ms")


def attention_s(
    shape: tuple[int, int, int, int], kernels: list[Any], device: torch.device, dtype: torch.dtype
) -> float | None:
    """Seconds of one attention (batch, heads, tokens, channels) as our networks call it; None where no kernel can."""
    batch, heads, tokens, channels = shape
    packed = torch.randn(batch, tokens, 3, heads, channels, device=device, dtype=dtype)
    query, key, value = packed.transpose(1, 3).unbind(2)
    with sdpa_kernel(kernels), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # why a kernel cannot do it
        try:
            return _timed(lambda: F.scaled_dot_product_attention(query, key, value))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return None


def _frames_outermost(bench: Bench, shape: tuple[int, int, int, int]) -> None:
    """Over frames as they lie, so that nothing is turned round before, if a kernel takes such strides."""
    batch, heads, frames, channels = shape
    packed = torch.randn(frames, batch, 3, heads, channels, device=bench.device, dtype=bench.case.dtype)
    query, key, value = packed.permute(1, 3, 0, 2, 4).unbind(3)
    strides = list(F.scaled_dot_product_attention(query, key, value).stride())
    seconds = _timed(lambda: F.scaled_dot_product_attention(query, key, value))
    name = f"attention over frames, frames outermost, {shape}"
    bench.results.add(name, 1000 * seconds, "ms", strides_of_result=strides)


def _by_products(bench: Bench, shape: tuple[int, int, int, int]) -> None:
    """The decoder's by two matrix products and a softmax, a frame at a time."""
    frames, _, tokens, channels = shape
    query, key, value = torch.randn(3, frames, tokens, channels, device=bench.device, dtype=bench.case.dtype)

    def attended() -> list[Tensor]:
        return [
            torch.softmax(q @ (k / math.sqrt(channels)).T, dim=-1) @ v
            for q, k, v in zip(query, key, value, strict=True)
        ]

    bench.results.add(f"attention in the decoder by matrix products, {shape}", 1000 * _timed(attended), "ms")


def _timed(call: Callable[[], object]) -> float:
    call()
    return min(each_s(call, _TIMES) for _ in range(2))
