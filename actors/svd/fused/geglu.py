"""A linear layer and the GEGLU behind it in one kernel, so that its hidden activations are never stored.

GEGLU (Shazeer 2020, "GLU Variants Improve Transformer") multiplies one half of a linear layer's outputs by the GELU of
the other. Those outputs are eight times the tokens, and to write and read them takes nearly as long as to compute them.
Here they are multiplied while they are in registers. For that the rows of the weight come in pairs, a value's and then
its gate's (`paired`).

Shapes: C channels of a token, G channels that come out; the layer has 2 G outputs.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from actors.svd.fused import CHANNEL_MULTIPLE, operator

# Tokens of a tile, and channels that are summed up at a time.
_TILE_T, _TILE_C = 128, CHANNEL_MULTIPLE
# Outputs of a tile, its warps, and programs that share a multiprocessor. Where few channels are summed up, GELU takes
# as long as the product: two small tiles together, so that one computes GELU while the other one multiplies.
_SMALL, _LARGE = (2 * CHANNEL_MULTIPLE, 4, 2), (4 * CHANNEL_MULTIPLE, 8, 1)
_LARGE_FROM_CHANNELS = 512
# Tiles of so many token blocks follow one another, so that the weights they share stay in the cache.
_GROUP = 8


@triton.jit
def _normal_distribution(x):
    """The share of a normal distribution below x, to 2e-5, without a division or an exponential.

    An odd polynomial, fitted to the least largest error between -4.5 and 4.5, and 0 or 1 beyond.
    """
    x = tl.minimum(tl.maximum(x, -4.5), 4.5)
    s = x * x
    p = 1.933724191e-10 - 1.628654418e-12 * s
    p = p * s - 1.022935487e-08
    p = p * s + 3.208969153e-07
    p = p * s - 6.728142635e-06
    p = p * s + 1.011056921e-04
    p = p * s - 1.140027880e-03
    p = p * s + 9.885612304e-03
    p = p * s - 6.641433899e-02
    p = p * s + 3.989227881e-01
    return x * p + 0.5


@triton.jit
def _kernel(
    x, weight, bias, out, tokens,
    OUTPUTS: tl.constexpr, CHANNELS: tl.constexpr, TILE_T: tl.constexpr, TILE_O: tl.constexpr, TILE_C: tl.constexpr,
    GROUP: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    blocks_t, blocks_o = tl.cdiv(tokens, TILE_T), OUTPUTS // TILE_O
    # Each program makes many tiles: while it computes GELU for one, the next one's channels come in.
    for tile in tl.range(tl.program_id(0), blocks_t * blocks_o, PROGRAMS, flatten=True):
        group = tile // (GROUP * blocks_o)
        blocks_of_group = min(blocks_t - group * GROUP, GROUP)
        block_t = group * GROUP + (tile % (GROUP * blocks_o)) % blocks_of_group
        block_o = (tile % (GROUP * blocks_o)) // blocks_of_group
        total = tl.zeros((TILE_T, TILE_O), tl.float32)
        for channel in range(0, CHANNELS, TILE_C):
            x_tile = x.load([block_t * TILE_T, channel])
            total = tl.dot(x_tile, weight.load([block_o * TILE_O, channel]).T, total)
        total += tl.load(bias + block_o * TILE_O + tl.arange(0, TILE_O))[None, :].to(tl.float32)
        value, gate = tl.split(tl.reshape(total, (TILE_T, TILE_O // 2, 2)))
        made = value * gate * _normal_distribution(gate)
        out.store([block_t * TILE_T, block_o * (TILE_O // 2)], made.to(bias.dtype.element_ty))


@operator
def geglu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`value * gelu(gate)` of a linear layer.

    Args:
        x: ..., C; contiguous, in half precision.
        weight: 2 G, C, with its rows in pairs; C and G multiples of 64.
        bias: 2 G, the same.

    Returns:
        ..., G.
    """
    x_TC = x.reshape(-1, x.shape[-1])
    (tokens, channels), outputs = x_TC.shape, len(weight)
    is_large = channels >= _LARGE_FROM_CHANNELS and outputs % _LARGE[0] == 0
    tile_o, warps, sharing = _LARGE if is_large else _SMALL
    assert x_TC.is_contiguous(), x.stride()
    assert channels % _TILE_C == outputs % tile_o == 0, weight.shape
    assert x.dtype == weight.dtype == bias.dtype, (x.dtype, weight.dtype, bias.dtype)
    out = x.new_empty(tokens, outputs // 2)
    programs = min(triton.cdiv(tokens, _TILE_T) * (outputs // tile_o), sharing * _multiprocessors(x.device))
    _kernel[(programs,)](
        TensorDescriptor.from_tensor(x_TC, [_TILE_T, _TILE_C]),
        TensorDescriptor.from_tensor(weight, [tile_o, _TILE_C]),
        bias,
        TensorDescriptor.from_tensor(out, [_TILE_T, tile_o // 2]),
        tokens,
        OUTPUTS=outputs, CHANNELS=channels, TILE_T=_TILE_T, TILE_O=tile_o, TILE_C=_TILE_C, GROUP=_GROUP,
        PROGRAMS=programs, num_warps=warps, num_stages=3,
    )  # fmt: skip
    return out.view(*x.shape[:-1], outputs // 2)


def _multiprocessors(device: torch.device) -> int:
    """How many the GPU has; the interpreter, on a CPU, takes programs one after the other."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@geglu.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(weight) // 2)
