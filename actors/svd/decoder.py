"""The temporal decoder of SVD's VAE: from latents to frames.

Shapes: F frames of one clip, H W pixels (h w of the latents), C channels.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from actors.svd.layers import (
    ResBlock,
    SelfAttention,
    as_images,
    as_sheets,
    channels_last_throughout,
    convolved,
    enlarged,
    from_images,
    from_sheets,
    listed,
    over_time,
)


class Decoder(nn.Module):
    """diffusers' `TemporalDecoder`, whose weights it takes over."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.conv_in = stock.conv_in
        self.first, *others = map(ResBlock, stock.mid_block.resnets)
        self.middle = listed(others)
        # As many as there are blocks behind them: none where a level has a single block.
        self.attentions = listed(map(FrameAttention, stock.mid_block.attentions[: len(others)]))
        self.up = listed(map(Level, stock.up_blocks))
        self.norm_out, self.conv_out = stock.conv_norm_out, stock.conv_out
        self.time_conv_out = over_time(stock.time_conv_out)
        channels_last_throughout(self)

    def forward(self, latents_FChw: Tensor) -> Tensor:
        """Frames F C H W, around -1..1."""
        x = latents_FChw.permute(0, 2, 3, 1)[None].contiguous()  # N F H W C with a single clip
        x = self.first(convolved(self.conv_in, x))
        for attention, block in zip(self.attentions, self.middle, strict=True):
            x = block(attention(x))
        for level in self.up:
            for block in level.blocks:
                x = block(x)
            if level.enlarge is not None:
                x = convolved(level.enlarge, enlarged(x, (2 * x.shape[2], 2 * x.shape[3])))
        x = from_images(self.conv_out(F.silu(self.norm_out(as_images(x)))), x.shape[:2])
        x = from_sheets(self.time_conv_out(as_sheets(x)), x.shape)
        return x[0].permute(0, 3, 1, 2)


class Level(nn.Module):
    """The blocks of one resolution, and the convolution behind the enlargement to the next one."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.blocks = listed(map(ResBlock, stock.resnets))
        self.enlarge: nn.Conv2d | None = stock.upsamplers[0].conv if stock.upsamplers else None


class FrameAttention(nn.Module):
    """Attention among the pixels of each frame."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.norm, self.attention = stock.group_norm, SelfAttention(stock)

    def forward(self, x_NFHWC: Tensor) -> Tensor:
        tokens = from_images(self.norm(as_images(x_NFHWC)), x_NFHWC.shape[:2]).flatten(2, 3)
        attended: Tensor = self.attention(tokens)
        return x_NFHWC + attended.view_as(x_NFHWC)
