"""What the layers of SVD's networks are made of, each in two ways: plain PyTorch, and kernels of our own.

The kernels (`actors.svd.fused`) are used after `fuse()`, by those whose sizes they take. Both ways compute what
diffusers' modules compute, up to rounding; the weights are theirs.

What a function has made itself is changed in place, what it was given is not.

Shapes: N clips (with guidance twice), F frames, H W pixels of the layer, T = H * W tokens, C channels.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actors.svd.fused import CHANNEL_MULTIPLE, MOST_FRAMES, OUTPUT_MULTIPLE, Fusible
from actors.svd.views import as_images, as_sheets, from_images, from_sheets
from actors.svd.weights import concatenated, over_time, quartered

# Below so many pixels of a frame a tile of the convolution over time is half empty, and cuDNN's kernel faster.
_LEAST_PIXELS = 256


class GroupNorm(Fusible):
    """Group norm, with SiLU behind it unless told otherwise: of each frame, or of all frames of a clip together."""

    def __init__(self, stock: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = stock

    def fuse(self) -> None:
        """As in `Fusible`: where the kernel takes so many channels."""
        self.is_fused = self.norm.num_channels % CHANNEL_MULTIPLE == 0

    def of_frames(self, x_NFHWC: Tensor, added_NC: Tensor | None = None, *, silu: bool = True) -> Tensor:
        """Of `x + added`; x is used up where something is added."""
        if self.is_fused:
            frames = x_NFHWC.shape[1]
            added = None if added_NC is None else added_NC.repeat_interleave(frames, dim=0)
            images = x_NFHWC.contiguous().flatten(2, 3).flatten(0, 1)
            return self._fused(x_NFHWC, images, added, silu=silu)
        images = as_images(with_added(x_NFHWC, added_NC))
        return from_images(self._plain(images, silu=silu), x_NFHWC.shape[:2])

    def of_clips(self, x_NFHWC: Tensor) -> Tensor:
        """Over all frames of each clip."""
        if self.is_fused:
            return self._fused(x_NFHWC, x_NFHWC.contiguous().flatten(1, 3))
        return from_sheets(self._plain(as_sheets(x_NFHWC)), x_NFHWC.shape)

    def of_sum(self, x_NFHWC: Tensor, residual_NFHWC: Tensor, added_NC: Tensor | None) -> tuple[Tensor, Tensor]:
        """`x + residual + added`, and the norm over clips of that; x is used up."""
        if not self.is_fused or added_NC is None:
            summed = with_added(x_NFHWC, added_NC)
            summed += residual_NFHWC
            return summed, self.of_clips(summed)
        x, residual = (tensor.contiguous().flatten(1, 3) for tensor in (x_NFHWC, residual_NFHWC))
        norm = self.norm
        summed, normed = torch.ops.stillreel.residual_group_norm(
            x, residual, added_NC, norm.weight, norm.bias, norm.num_groups, norm.eps, True
        )
        return summed.view(x_NFHWC.shape), normed.view(x_NFHWC.shape)

    def _fused(self, x_NFHWC: Tensor, x_NRC: Tensor, added: Tensor | None = None, *, silu: bool = True) -> Tensor:
        norm = self.norm
        normed: Tensor = torch.ops.stillreel.group_norm(
            x_NRC, added, norm.weight, norm.bias, norm.num_groups, norm.eps, silu
        )
        return normed.view(x_NFHWC.shape)

    def _plain(self, x_NCHW: Tensor, *, silu: bool = True) -> Tensor:
        normed = row_normed(self.norm, x_NCHW) if torch.compiler.is_compiling() else self.norm(x_NCHW)
        return F.silu(normed, inplace=True) if silu else normed


def with_added(x_NFHWC: Tensor, added_NC: Tensor | None) -> Tensor:
    """x, changed in place."""
    if added_NC is not None:
        x_NFHWC += added_NC[:, None, None, None]
    return x_NFHWC


def row_normed(norm: nn.GroupNorm, x_NCHW: Tensor) -> Tensor:
    """Group norm of images or sheets, channels last, for the compiler.

    What it makes of PyTorch's own walks through memory a channel at a time. Here each channel's mean and variance come
    first, for which whole rows are read, and then those of its group: the same numbers up to rounding.
    """
    wide = torch.promote_types(x_NCHW.dtype, torch.float32)
    x_NHWC = x_NCHW.permute(0, 2, 3, 1).to(wide)
    x_NHWGc = x_NHWC.view(*x_NHWC.shape[:-1], norm.num_groups, -1)
    variances, means = torch.var_mean(x_NHWGc, dim=(1, 2), correction=0, keepdim=True)
    mean = means.mean(-1, keepdim=True)
    variance = (variances + (means - mean) ** 2).mean(-1, keepdim=True)
    normed = (x_NHWGc - mean) * torch.rsqrt(variance + norm.eps)
    scaled = normed.flatten(-2) * norm.weight.to(wide) + norm.bias.to(wide)
    return scaled.to(x_NCHW.dtype).permute(0, 3, 1, 2)


def _bias(conv: nn.Conv2d, step_NC: Tensor | None, clips: int) -> Tensor:
    """What a convolution and its step add, N C."""
    assert conv.bias is not None
    return conv.bias.expand(clips, -1).contiguous() if step_NC is None else conv.bias + step_NC


class Convolution(Fusible):
    """A 3 x 3 convolution over each frame whose bias may be left to what comes behind it."""

    def __init__(self, stock: nn.Conv2d) -> None:
        super().__init__()
        self.conv = stock

    def forward(self, x_NFHWC: Tensor, step_NC: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The convolved frames, and what is to be added to them, N C: the step's term, and the bias if left out."""
        clips = x_NFHWC.shape[:2]
        if not self.is_fused:
            return from_images(self.conv(as_images(x_NFHWC)), clips), step_NC
        made = F.conv2d(as_images(x_NFHWC), self.conv.weight, None, padding=(1, 1))
        return from_images(made, clips), _bias(self.conv, step_NC, clips[0])


class TimeConvolution(Fusible):
    """A convolution over frames alone (3 x 1 x 1), and what is added to it."""

    def __init__(self, stock: nn.Conv3d) -> None:
        super().__init__()
        self.conv = over_time(stock)

    def fuse(self) -> None:
        """As in `Fusible`: where the kernel takes so many channels."""
        conv = self.conv
        self.is_fused = conv.in_channels % CHANNEL_MULTIPLE == 0 and conv.out_channels % OUTPUT_MULTIPLE == 0

    def forward(
        self,
        x_NFHWC: Tensor,
        step_NC: Tensor | None = None,
        residual_NFHWC: Tensor | None = None,
        scale: float = 1.0,
    ) -> Tensor:
        """`residual + scale * (convolution + step)`."""
        clips, frames, height, width, _ = x_NFHWC.shape
        if self.is_fused and height * width >= _LEAST_PIXELS:
            bias = _bias(self.conv, step_NC, clips)
            residual = None if residual_NFHWC is None else residual_NFHWC.contiguous().flatten(2, 3)
            weight = self.conv.weight.permute(0, 2, 3, 1).flatten(1).contiguous()  # a view: channels come last
            made: Tensor = torch.ops.stillreel.time_convolution(
                x_NFHWC.contiguous().flatten(2, 3), weight, bias, residual, scale
            )
            return made.view(clips, frames, height, width, -1)
        made = from_sheets(self.conv(as_sheets(x_NFHWC)), (clips, frames, height, width, -1))
        made = with_added(made, step_NC)
        if residual_NFHWC is None:
            return made
        # In its place; the compiler sees to that itself, and takes no `out` that a convolution left in another order.
        return torch.add(residual_NFHWC, made, alpha=scale, out=None if torch.compiler.is_compiling() else made)


class Upsampling(nn.Module):
    """Each frame made twice as high and wide by the nearest pixel, then convolved (3 x 3).

    Two of any three neighbours of the doubled frame are one pixel of the small frame, along each axis. So each pixel
    that comes out is a 2 x 2 convolution of the small frame, with sums of the weights: other sums for even and odd rows
    and columns. These are four convolutions with 4/9 of the work, done as one with four times the channels.
    """

    def __init__(self, stock: nn.Conv2d) -> None:
        super().__init__()
        self.conv = stock
        self.quarters = quartered(stock)

    def forward(self, x_NFHWC: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Args: `size`: height and width that come out, where they are not twice those of x but one less."""
        height, width = x_NFHWC.shape[2:4]
        if size is not None and tuple(size) != (2 * height, 2 * width):
            enlarged = F.interpolate(as_images(x_NFHWC), tuple(size), mode="nearest")
            return from_images(self.conv(enlarged), x_NFHWC.shape[:2])
        # One more row and column than x has: an even row sees the pixels above and at its place, an odd row those at
        # its place and below.
        quarters: Tensor = self.quarters(as_images(x_NFHWC)).permute(0, 2, 3, 1)
        quarters = quarters.reshape(*quarters.shape[:-1], 2, 2, -1)
        # Of two rows that follow one another, the even quarter of the first and the odd one of the second; then so of
        # columns.
        rows = quarters.unfold(1, 2, 1).diagonal(dim1=3, dim2=6)  # n h w' b c a
        pixels_nhwcab = rows.unfold(2, 2, 1).diagonal(dim1=3, dim2=6)
        return pixels_nhwcab.permute(0, 1, 4, 2, 5, 3).reshape(*x_NFHWC.shape[:2], 2 * height, 2 * width, -1)


class SelfAttention(Fusible):
    """Attention among the tokens of a frame, or among the frames of a token.

    The kernel for tokens is the device's best as PyTorch ranks them (2.13, `sdp_utils.cpp`): cuDNN's on Hopper and on
    Blackwell of data centres, FlashAttention on other GPUs. `benchmarks.speed --parts attention` times each.
    """

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.heads = stock.heads
        self.qkv = concatenated([stock.to_q, stock.to_k, stock.to_v])
        self.out = stock.to_out[0]

    @property
    def _channels(self) -> int:
        """Of a head."""
        return int(self.qkv.out_features) // 3 // int(self.heads)

    def fuse(self) -> None:
        """As in `Fusible`: where the kernel takes heads of so many channels."""
        self.is_fused = self._channels in (16, 32, 64, 128)

    def forward(self, x_TC: Tensor) -> Tensor:
        """Among the tokens of the last axis but one; all axes before it are a batch."""
        batch, (tokens, _) = x_TC.shape[:-2], x_TC.shape[-2:]
        qkv = self.qkv(x_TC).view(-1, tokens, 3, self.heads, self._channels)
        query, key, value = qkv.transpose(1, 3).unbind(2)  # batch, heads, tokens, channels of a head
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.out(attended.transpose(1, 2).reshape(*batch, tokens, -1))  # type: ignore[no-any-return]

    def among_frames(self, x_NFTC: Tensor) -> Tensor:
        """Among the frames of each token."""
        qkv = self.qkv(x_NFTC)
        if self.is_fused and len(x_NFTC[0]) <= MOST_FRAMES:
            return self.out(torch.ops.stillreel.frame_attention(qkv, self.heads))  # type: ignore[no-any-return]
        clips = []
        for of_clip in qkv.view(*qkv.shape[:-1], 3, self.heads, -1):  # views: no frame is moved
            query, key, value = of_clip.permute(2, 1, 3, 0, 4)  # tokens, heads, frames, channels of a head
            attended = F.scaled_dot_product_attention(query, key, value)
            clips.append(attended.permute(2, 0, 1, 3).flatten(2))
        return self.out(torch.stack(clips))  # type: ignore[no-any-return]


class OneTokenAttention(nn.Module):
    """Cross-attention to a single token: its projected value, whatever the query."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.value, self.out = stock.to_v, stock.to_out[0]

    def forward(self, token_ND: Tensor) -> Tensor:
        """What is added for each token, N C."""
        return self.out(self.value(token_ND))  # type: ignore[no-any-return]


class FeedForward(Fusible):
    """Linear, GEGLU, linear. The hidden activations, eight times the tokens, may be made in several pieces."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        gate, _, self.out = stock.net
        self.hidden = gate.proj
        self.pieces = 1
        self.is_quantized = False

    def fuse(self) -> None:
        """Values and gates are paired for good: the plain way is gone."""
        outputs, channels = self.hidden.weight.shape
        if self.is_fused or self.is_quantized or channels % CHANNEL_MULTIPLE or outputs % (2 * CHANNEL_MULTIPLE):
            return
        self.is_fused = True
        for name in ("weight", "bias"):
            value, gate = getattr(self.hidden, name).detach().chunk(2)
            paired = torch.stack([value, gate], dim=1).flatten(0, 1)
            setattr(self.hidden, name, nn.Parameter(paired, requires_grad=False))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of any shape, their channels last; the same shape."""
        if self.pieces == 1:
            return self._together(x)
        pieces = [self._together(piece) for piece in x.flatten(0, -2).tensor_split(self.pieces)]
        return torch.cat(pieces).view_as(x)

    def _together(self, x: Tensor) -> Tensor:
        if self.is_fused:
            hidden = torch.ops.stillreel.geglu(x.contiguous(), self.hidden.weight, self.hidden.bias)
            return self.out(hidden)  # type: ignore[no-any-return]
        hidden, gate = self.hidden(x).chunk(2, dim=-1)
        return self.out(hidden * F.gelu(gate))  # type: ignore[no-any-return]


class ResidualNorm(Fusible):
    """A layer norm behind a sum."""

    def __init__(self, stock: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = stock

    def forward(
        self, x_NFTC: Tensor, delta_NFTC: Tensor, term: Tensor, *, is_kept: bool = True
    ) -> tuple[Tensor, Tensor]:
        """The sum `x + delta + term` and its norm; the sum comes without the term unless that is kept.

        `term` is N C, of each clip, or F 1 C, of each frame.
        """
        is_of_frames = term.ndim == 3  # noqa: PLR2004 - F 1 C
        if self.is_fused:
            frames, tokens = x_NFTC.shape[1:3]
            span = tokens if is_of_frames else frames * tokens
            norm = self.norm
            return torch.ops.stillreel.residual_norm(  # type: ignore[no-any-return]
                x_NFTC.contiguous(), delta_NFTC.contiguous(), term.reshape(-1, term.shape[-1]).contiguous(), span,
                norm.weight, norm.bias, norm.eps, is_kept,
            )  # fmt: skip
        term = term if is_of_frames else term[:, None, None]
        summed = x_NFTC + delta_NFTC
        if not is_kept:
            return summed, self.norm(summed + term)
        summed += term
        return summed, self.norm(summed)
