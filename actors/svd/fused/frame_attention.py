"""Attention among the frames of a pixel, without bringing the frames of a pixel together in memory.

A clip's few frames fit into a tile each: scores and weights never leave the registers, and queries, keys and values are
read where the projection left them.

Shapes: N clips, F frames, T pixels, H heads, D channels of a head.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_LEAST_TILE = 16  # rows of a matrix product


@triton.jit
def _kernel(
    qkv, out, pixels, scale,
    FRAMES: tl.constexpr, TILE_F: tl.constexpr, HEADS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    head = program % HEADS
    pixel = (program // HEADS) % pixels
    clip = (program // (HEADS * pixels)).to(tl.int64)
    frame, channel = tl.arange(0, TILE_F), tl.arange(0, CHANNELS)
    is_frame = (frame < FRAMES)[:, None]
    width = HEADS * CHANNELS
    row = (clip * FRAMES + frame) * pixels + pixel  # of each frame
    at = qkv + row[:, None] * (3 * width) + head * CHANNELS + channel[None, :]
    query = tl.load(at, mask=is_frame, other=0.0)
    key = tl.load(at + width, mask=is_frame, other=0.0)
    value = tl.load(at + 2 * width, mask=is_frame, other=0.0)
    scores = tl.dot(query, key.T) * (scale * 1.4426950408889634)  # log2(e): exp2 is the faster one
    scores = tl.where((frame < FRAMES)[None, :], scores, float("-inf"))
    weights = tl.exp2(scores - tl.max(scores, 1)[:, None])
    attended = tl.dot(weights.to(value.dtype), value) / tl.sum(weights, 1)[:, None]
    tl.store(out + row[:, None] * width + head * CHANNELS + channel[None, :], attended.to(value.dtype), mask=is_frame)


@torch.library.custom_op("stillreel::frame_attention", mutates_args=())
def frame_attention(qkv: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention over F.

    Args:
        qkv: N, F, T, (3, H, D), contiguous, in half precision; D a power of two from 16 on.

    Returns:
        N, F, T, (H, D).
    """
    clips, frames, pixels, width = qkv.shape
    channels = width // 3 // heads
    out = qkv.new_empty(clips, frames, pixels, width // 3)
    _kernel[(clips * pixels * heads,)](
        qkv, out, pixels, channels**-0.5,
        FRAMES=frames, TILE_F=max(triton.next_power_of_2(frames), _LEAST_TILE), HEADS=heads, CHANNELS=channels,
        num_warps=1,
    )  # fmt: skip
    return out


@frame_attention.register_fake
def _(qkv: Tensor, heads: int) -> Tensor:
    return qkv.new_empty(*qkv.shape[:-1], qkv.shape[-1] // 3)
