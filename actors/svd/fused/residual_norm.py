"""A sum of activations and the layer norm of it, in one pass over memory.

Shapes: N clips, F frames, T tokens of a frame, C channels.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _kernel(
    x, delta, term, weight, bias, summed, normed, span, terms, eps,
    CHANNELS: tl.constexpr, TILE_C: tl.constexpr, STORE_TERM: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, TILE_C)
    is_channel = channel < CHANNELS
    at = row * CHANNELS + channel
    total = tl.load(x + at, mask=is_channel, other=0.0).to(tl.float32)
    total += tl.load(delta + at, mask=is_channel, other=0.0).to(tl.float32)
    added = tl.load(term + (row // span) % terms * CHANNELS + channel, mask=is_channel, other=0.0).to(tl.float32)
    stored = total + added if STORE_TERM else total
    tl.store(summed + at, stored.to(summed.dtype.element_ty), mask=is_channel)
    total += added
    mean = tl.sum(total, 0) / CHANNELS
    centred = tl.where(is_channel, total - mean, 0.0)
    centred *= tl.rsqrt(tl.sum(centred * centred, 0) / CHANNELS + eps)
    scale = tl.load(weight + channel, mask=is_channel, other=0.0).to(tl.float32)
    shift = tl.load(bias + channel, mask=is_channel, other=0.0).to(tl.float32)
    tl.store(normed + at, (centred * scale + shift).to(normed.dtype.element_ty), mask=is_channel)


@torch.library.custom_op("stillreel::residual_norm", mutates_args=())
def residual_norm(
    x: Tensor, delta: Tensor, term: Tensor, span: int, weight: Tensor, bias: Tensor, eps: float, store_term: bool
) -> tuple[Tensor, Tensor]:
    """The layer norm of `x + delta + term`, and that sum; without the term unless `store_term`.

    Args:
        x: N, F, T, C, contiguous.
        delta: the same shape.
        term: (R, C); `span` rows of x (of C) that follow one another get the same one, then the next, and so on
            in a circle: one for each clip with a span of F * T, one for each frame with a span of T.
        weight, bias: C, the norm's.

    Returns:
        The sum and the normed sum, both shaped like x.
    """
    channels = x.shape[-1]
    summed, normed = torch.empty_like(x), torch.empty_like(x)
    tile = triton.next_power_of_2(channels)
    _kernel[(x.numel() // channels,)](
        x, delta, term, weight, bias, summed, normed, span, len(term), eps,
        CHANNELS=channels, TILE_C=tile, STORE_TERM=store_term, num_warps=1 if tile <= 1024 else 4,
    )  # fmt: skip
    return summed, normed


@residual_norm.register_fake
def _(
    x: Tensor, delta: Tensor, term: Tensor, span: int, weight: Tensor, bias: Tensor, eps: float, store_term: bool
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x)
