"""Group norm and SiLU of activations whose channels lie side by side, in the least passes over memory.

First the mean and the variance of every channel, in parts of the rows; then those of each group, which become a factor
and an offset for each channel; then these are applied. Statistics are Welford's, combined by the formula of Chan et al.
1979, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances": no difference of large sums.

Shapes: N images or clips, R rows (pixels, of one frame or of all), C channels, G groups, S parts of the rows.
"""

from math import ceil

import torch
import triton
import triton.language as tl
from torch import Tensor

from actors.svd.fused import CHANNEL_MULTIPLE, operator

_TILE_R, _TILE_C = 32, CHANNEL_MULTIPLE
# Parts are made until about so many programs run: some for each multiprocessor of a large GPU, whichever that is, since
# their number decides the order of the sums.
_PROGRAMS = 2048
_LEAST_TILES = 4  # of rows in a part
_TILE_S = 64


@triton.jit
def _of_channels(
    x, residual, added, summed, means, squares, rows, parts,
    TILES: tl.constexpr, CHANNELS: tl.constexpr, TILE_R: tl.constexpr, TILE_C: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * TILE_C + tl.arange(0, TILE_C)
    part, image = tl.program_id(1), tl.program_id(2).to(tl.int64)
    if HAS_RESIDUAL:
        offset = tl.load(added + image * CHANNELS + channel)[None, :].to(tl.float32)
    count = tl.zeros((TILE_R, 1), tl.float32)
    mean = tl.zeros((TILE_R, TILE_C), tl.float32)
    square = tl.zeros((TILE_R, TILE_C), tl.float32)
    for tile in range(TILES):
        row = ((part * TILES + tile) * TILE_R + tl.arange(0, TILE_R))[:, None]
        is_row = row < rows
        at = (image * rows + row) * CHANNELS + channel[None, :]
        value = tl.load(x + at, mask=is_row, other=0.0).to(tl.float32)
        if HAS_RESIDUAL:
            value += tl.load(residual + at, mask=is_row, other=0.0).to(tl.float32) + offset
            rounded = value.to(summed.dtype.element_ty)
            tl.store(summed + at, rounded, mask=is_row)
            value = rounded.to(tl.float32)
        count += is_row.to(tl.float32)
        away = tl.where(is_row, value - mean, 0.0)
        mean += away * (1.0 / tl.maximum(count, 1.0))  # one division a row
        square += away * tl.where(is_row, value - mean, 0.0)
    number = tl.sum(count, 0)
    together = tl.sum(mean * count, 0) / number
    spread = tl.sum(square + count * (mean - together[None, :]) * (mean - together[None, :]), 0)
    at = (image * parts + part) * CHANNELS + channel
    tl.store(means + at, together)
    tl.store(squares + at, spread)


@triton.jit
def _of_groups(
    means, squares, added, weight, bias, factors, offsets, rows, part_rows, eps,
    PARTS: tl.constexpr, CHANNELS: tl.constexpr, WIDTH: tl.constexpr,
    TILE_W: tl.constexpr, TILE_S: tl.constexpr, HAS_ADDED: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1)
    channel = tl.program_id(0) * WIDTH + tl.arange(0, TILE_W)
    is_channel = tl.arange(0, TILE_W) < WIDTH
    mean = tl.zeros((TILE_W,), tl.float32)
    for first in range(0, PARTS, TILE_S):
        part = (first + tl.arange(0, TILE_S))[:, None]
        number = tl.maximum(tl.minimum(rows - part * part_rows, part_rows), 0).to(tl.float32)
        at = (image * PARTS + part) * CHANNELS + channel[None, :]
        of_part = tl.load(means + at, mask=(part < PARTS) & is_channel[None, :], other=0.0)
        mean += tl.sum(of_part * (number / rows), 0)
    square = tl.zeros((TILE_W,), tl.float32)
    for first in range(0, PARTS, TILE_S):
        part = (first + tl.arange(0, TILE_S))[:, None]
        number = tl.maximum(tl.minimum(rows - part * part_rows, part_rows), 0).to(tl.float32)
        at = (image * PARTS + part) * CHANNELS + channel[None, :]
        is_there = (part < PARTS) & is_channel[None, :]
        away = tl.load(means + at, mask=is_there, other=0.0) - mean[None, :]
        spread = tl.load(squares + at, mask=is_there, other=0.0) + number * away * away
        square += tl.sum(tl.where(is_there, spread, 0.0), 0)
    added_mean = tl.zeros((TILE_W,), tl.float32)
    if HAS_ADDED:
        added_mean = tl.load(added + image * CHANNELS + channel, mask=is_channel, other=0.0).to(tl.float32)
        mean += added_mean
    group_mean = tl.sum(tl.where(is_channel, mean, 0.0), 0) / WIDTH
    away = tl.where(is_channel, mean - group_mean, 0.0)
    variance = (tl.sum(tl.where(is_channel, square, 0.0), 0) / rows + tl.sum(away * away, 0)) / WIDTH
    factor = tl.load(weight + channel, mask=is_channel, other=0.0).to(tl.float32) * tl.rsqrt(variance + eps)
    offset = tl.load(bias + channel, mask=is_channel, other=0.0).to(tl.float32) + (added_mean - group_mean) * factor
    tl.store(factors + image * CHANNELS + channel, factor, mask=is_channel)
    tl.store(offsets + image * CHANNELS + channel, offset, mask=is_channel)


@triton.jit
def _apply(
    x, factors, offsets, out, rows,
    CHANNELS: tl.constexpr, TILE_R: tl.constexpr, TILE_C: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    blocks_c: tl.constexpr = CHANNELS // TILE_C
    channel = tl.program_id(0) % blocks_c * TILE_C + tl.arange(0, TILE_C)
    row = ((tl.program_id(0) // blocks_c) * TILE_R + tl.arange(0, TILE_R))[:, None]
    image = tl.program_id(1).to(tl.int64)
    factor = tl.load(factors + image * CHANNELS + channel)[None, :]
    offset = tl.load(offsets + image * CHANNELS + channel)[None, :]
    at = (image * rows + row) * CHANNELS + channel[None, :]
    value = tl.load(x + at, mask=row < rows, other=0.0).to(tl.float32) * factor + offset
    if SILU:
        value = value * tl.sigmoid(value)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=row < rows)


@operator
def group_norm(
    x: Tensor, added: Tensor | None, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool
) -> Tensor:
    """The group norm of `x + added`, with SiLU behind it if asked for.

    Args:
        x: N, R, C, contiguous; C a multiple of 64.
        added: N, C; None: nothing.
        weight, bias: C, the norm's.

    Returns:
        Shaped like x.
    """
    return _normed(x, _statistics(x, None, None), added, weight, bias, groups, eps, silu)


@operator
def residual_group_norm(
    x: Tensor, residual: Tensor, added: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool
) -> tuple[Tensor, Tensor]:
    """`x + residual + added`, and the group norm of that; arguments as for `group_norm`, the residual like x."""
    summed = torch.empty_like(x)
    statistics = _statistics(x, residual, added, summed)
    return summed, _normed(summed, statistics, None, weight, bias, groups, eps, silu)


def _part_rows(images: int, rows: int, channels: int) -> int:
    parts = ceil(_PROGRAMS / (images * (channels // _TILE_C)))
    tiles = ceil(rows / _TILE_R)
    return max(ceil(tiles / parts), _LEAST_TILES) * _TILE_R


def _statistics(
    x: Tensor, residual: Tensor | None, added: Tensor | None, summed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Of every channel in every part of the rows, (N, S, C): the mean, and the sum of squared distances from it."""
    images, rows, channels = x.shape
    assert x.is_contiguous(), x.stride()
    assert channels % _TILE_C == 0, channels
    assert residual is None or (residual.is_contiguous() and residual.shape == x.shape)
    part_rows = _part_rows(images, rows, channels)
    parts = triton.cdiv(rows, part_rows)
    means, squares = (x.new_empty(images, parts, channels, dtype=torch.float32) for _ in range(2))
    _of_channels[(channels // _TILE_C, parts, images)](
        x, residual, added, summed, means, squares, rows, parts,
        TILES=part_rows // _TILE_R, CHANNELS=channels, TILE_R=_TILE_R, TILE_C=_TILE_C,
        HAS_RESIDUAL=residual is not None, num_warps=4,
    )  # fmt: skip
    return means, squares


def _normed(
    x: Tensor, statistics: tuple[Tensor, Tensor], added: Tensor | None, weight: Tensor, bias: Tensor,
    groups: int, eps: float, silu: bool,
) -> Tensor:  # fmt: skip
    images, rows, channels = x.shape
    means, squares = statistics
    factors, offsets = (x.new_empty(images, channels, dtype=torch.float32) for _ in range(2))
    _of_groups[(groups, images)](
        means, squares, added, weight, bias, factors, offsets,
        rows, _part_rows(images, rows, channels), eps,
        PARTS=means.shape[1], CHANNELS=channels, WIDTH=channels // groups,
        TILE_W=triton.next_power_of_2(channels // groups), TILE_S=_TILE_S, HAS_ADDED=added is not None, num_warps=4,
    )  # fmt: skip
    out = torch.empty_like(x)
    _apply[(triton.cdiv(rows, _TILE_R) * (channels // _TILE_C), images)](
        x, factors, offsets, out, rows, CHANNELS=channels, TILE_R=_TILE_R, TILE_C=_TILE_C, SILU=silu, num_warps=4
    )
    return out


@group_norm.register_fake
def _(x: Tensor, added: Tensor | None, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool) -> Tensor:
    return torch.empty_like(x)


@residual_group_norm.register_fake
def _(
    x: Tensor, residual: Tensor, added: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x)
