"""The temporal decoder of SVD's VAE: from latents to frames.

Shapes: F frames of one clip, H W pixels (h w of the latents), C channels.
"""

from collections.abc import Callable, Iterator
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from actors.svd.layers import ResBlock, listed
from actors.svd.primitives import GroupNorm, SelfAttention, Upsampling
from actors.svd.views import as_sheets, convolved, from_sheets
from actors.svd.weights import channels_last_throughout, over_time

# Pixels of an activation that the spatial halves work on at once. No frame looks at another one there, so that a clip
# can be taken in groups of frames; a group of this size still fills a GPU. Of 25 frames at 576x1024 that is 7 frames
# where they are largest, and the decoder holds 12.3 GB at its peak (`benchmarks.memory`) instead of 22.7.
_PIXELS_AT_ONCE = 4 * 2**20


class Decoder(nn.Module):
    """diffusers' `TemporalDecoder`, whose weights it takes over."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.conv_in = stock.conv_in
        self.first, *others = map(ResBlock, stock.mid_block.resnets)
        self.middle = listed(others)
        # As many as there are blocks behind them: none where a level has a single block.
        self.attentions = listed(map(FrameAttention, stock.mid_block.attentions[: len(others)]))
        self.up = listed(_up_blocks(stock.up_blocks))
        self.norm_out, self.conv_out = GroupNorm(stock.conv_norm_out), stock.conv_out
        self.time_conv_out = over_time(stock.time_conv_out)
        channels_last_throughout(self)

    def forward(self, latents_FChw: Tensor) -> Tensor:
        """Frames F C H W, around -1..1."""
        x = latents_FChw.permute(0, 2, 3, 1)[None].contiguous()  # N F H W C with a single clip
        x = self.first(convolved(self.conv_in, x))
        for attention, block in zip(self.attentions, self.middle, strict=True):
            x = block(attention(x))
        for block in self.up:
            x = in_groups(block.over_frames, x, enlargement=block.enlargement)
            x = block.over_time(x)
        x = convolved(self.conv_out, self.norm_out.of_frames(x))
        x = from_sheets(self.time_conv_out(as_sheets(x)), x.shape)
        return x[0].permute(0, 3, 1, 2)


class UpBlock(ResBlock):
    """A residual block; the first one of each level but the lowest makes its frames twice as wide and high before."""

    def __init__(self, stock: Any, convolution: nn.Conv2d | None) -> None:
        super().__init__(stock)
        self.upsample = None if convolution is None else Upsampling(convolution)
        self.enlargement = 1 if convolution is None else 4  # pixels out of one

    def over_frames(self, x_NFHWC: Tensor) -> Tensor:
        """As in `ResBlock`, of frames that may be made larger before."""
        if self.upsample is not None:
            x_NFHWC = self.upsample(x_NFHWC)
        return super().over_frames(x_NFHWC)


def _up_blocks(stock: Any) -> Iterator[UpBlock]:
    """The blocks of all levels; the convolution behind an enlargement stands at a level's end in diffusers."""
    convolution: nn.Conv2d | None = None
    for level in stock:
        for block in level.resnets:
            yield UpBlock(block, convolution)
            convolution = None
        convolution = level.upsamplers[0].conv if level.upsamplers else None


class FrameAttention(nn.Module):
    """Attention among the pixels of each frame."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.norm, self.attention = GroupNorm(stock.group_norm), SelfAttention(stock)

    def forward(self, x_NFHWC: Tensor) -> Tensor:
        """The frames, N F H W C, with what attention adds."""
        tokens = self.norm.of_frames(x_NFHWC, silu=False).flatten(2, 3)
        attended: Tensor = self.attention(tokens)
        return x_NFHWC + attended.view_as(x_NFHWC)


def in_groups(function: Callable[[Tensor], Tensor], x_NFHWC: Tensor, *, enlargement: int = 1) -> Tensor:
    """A function of single frames, on as many at once as `_PIXELS_AT_ONCE` allows, in groups as even as can be.

    It makes `enlargement` pixels of each.
    """
    _, frames, height, width, _ = x_NFHWC.shape
    num_groups = ceil(frames / max(1, _PIXELS_AT_ONCE // (height * width * enlargement)))
    groups = torch.split(x_NFHWC, ceil(frames / num_groups), dim=1)
    return function(x_NFHWC) if len(groups) == 1 else torch.cat([function(group) for group in groups], dim=1)
