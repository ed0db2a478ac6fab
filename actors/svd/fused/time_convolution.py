"""A convolution over three frames, with all that is added behind it.

A matrix product whose rows are the pixels of a frame, and which sums up over the channels of three frames. The copy
engine gives zeros for frames before the first and behind the last. cuDNN's own kernels for this shape (3 x 1 x 1) run
at 55 to 500 TFLOP/s on an H200, this one at 430 to 680.

Shapes: N clips, F frames, P pixels of a frame, C channels that go in, O that come out.
"""

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from actors.svd.fused import CHANNEL_MULTIPLE, OUTPUT_MULTIPLE, operator


class _Tile(NamedTuple):
    pixels: int
    outputs: int
    warps: int
    stages: int


_TILE_C = CHANNEL_MULTIPLE
# The fastest on an H200 for the channels that come out; what is not here, 128 and 256 among it, has the small one.
_SMALL = _Tile(128, 128, 4, 3)
_TILES = {
    320: _Tile(256, 128, 8, 3),
    640: _Tile(256, 128, 8, 3),
    1280: _Tile(128, 256, 8, 3),
    512: _Tile(128, 256, 8, 4),
}


@triton.jit
def _kernel(
    x, weight, bias, residual, out, pixels, scale,
    FRAMES: tl.constexpr, CHANNELS: tl.constexpr, OUTPUTS: tl.constexpr,
    TILE_P: tl.constexpr, TILE_O: tl.constexpr, TILE_C: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    blocks_o, blocks_p = tl.cdiv(OUTPUTS, TILE_O), tl.cdiv(pixels, TILE_P)
    output = (program % blocks_o) * TILE_O
    pixel = (program // blocks_o) % blocks_p * TILE_P
    frame = (program // (blocks_o * blocks_p)) % FRAMES
    clip = program // (blocks_o * blocks_p * FRAMES)
    total = tl.zeros((TILE_P, TILE_O), tl.float32)
    for step in range(3 * (CHANNELS // TILE_C)):
        tap = step // (CHANNELS // TILE_C)
        channel = step % (CHANNELS // TILE_C) * TILE_C
        x_tile = x.load([clip, frame + tap - 1, pixel, channel]).reshape(TILE_P, TILE_C)
        total = tl.dot(x_tile, weight.load([output, tap * CHANNELS + channel]).T, total)
    columns = output + tl.arange(0, TILE_O)
    added = tl.load(bias + clip * OUTPUTS + columns, mask=columns < OUTPUTS, other=0.0)
    total = (total + added[None, :].to(tl.float32)) * scale
    if HAS_RESIDUAL:
        total += residual.load([clip, frame, pixel, output]).reshape(TILE_P, TILE_O).to(tl.float32)
    out.store([clip, frame, pixel, output], total.to(bias.dtype.element_ty).reshape(1, 1, TILE_P, TILE_O))


@operator
def time_convolution(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, scale: float) -> Tensor:
    """`residual + scale * (convolution + bias)`; no residual counts as 0.

    Args:
        x: N, F, P, C, contiguous, in half precision; C a multiple of 64.
        weight: O, (3, C), contiguous; O a multiple of 8.
        bias: N, O, of each clip.
        residual: N, F, P, O, contiguous.

    Returns:
        N, F, P, O.
    """
    (clips, frames, pixels, channels), outputs = x.shape, len(weight)
    assert x.is_contiguous(), x.stride()
    assert channels % _TILE_C == outputs % OUTPUT_MULTIPLE == 0, (channels, outputs)
    assert residual is None or residual.is_contiguous(), residual.stride()
    assert x.dtype == weight.dtype == bias.dtype, (x.dtype, weight.dtype, bias.dtype)
    out = x.new_empty(clips, frames, pixels, outputs)
    tile = _TILES.get(outputs, _SMALL)
    block = [1, 1, tile.pixels, tile.outputs]
    programs = clips * frames * triton.cdiv(pixels, tile.pixels) * triton.cdiv(outputs, tile.outputs)
    _kernel[(programs,)](
        TensorDescriptor.from_tensor(x, [1, 1, tile.pixels, _TILE_C]),
        TensorDescriptor.from_tensor(weight, [tile.outputs, _TILE_C]),
        bias,
        TensorDescriptor.from_tensor(out if residual is None else residual, block),
        TensorDescriptor.from_tensor(out, block),
        pixels,
        scale,
        FRAMES=frames, CHANNELS=channels, OUTPUTS=outputs, TILE_P=tile.pixels, TILE_O=tile.outputs, TILE_C=_TILE_C,
        HAS_RESIDUAL=residual is not None, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out


@time_convolution.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, scale: float) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(weight))
