"""The layers of SVD's UNet and of its decoder, built from diffusers' and sharing their weights.

They compute what the stock layers compute, up to rounding, with less work. Each difference, and why it pays:

- Activations keep one layout, N F H W C: tokens for linear layers and, as a view, channels-last images for
  convolutions. Temporal attention makes one copy a block.
- The statistics of a group norm are read row by row of that layout (`group_normed`); on CUDA PyTorch's own makes two
  copies, and what the compiler makes of it walks through memory a channel at a time.
- An image that is doubled and then convolved is convolved first, by kernels of a quarter of the work (`Upsampling`).
- A temporal convolution (3 x 1 x 1) is a 2-D convolution over (frame, pixel), on a view of the same memory.
- The blend of a spatial and a temporal branch has a constant weight: SVD is told that all its frames are a video's.
- Query, key and value come from one matrix product.
- Cross-attention looks at one token, the image embedding. A softmax over one number is 1, so that it always gives
  `to_out(to_v(embedding))`, whatever the query: the same for all pixels, frames and denoising steps. That, and all else
  that does not depend on the latents, is computed once for a clip (`LayerTerms`).

What a function has made itself is changed in place, what it was given is not.

Shapes: N clips (with guidance twice), F frames, H W pixels of the layer, C channels, D width of the image embedding,
E width of the step embedding, S denoising steps.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class LayerTerms(NamedTuple):
    """What a layer adds to its activations that does not depend on them."""

    spatial_step_NC: Tensor  # of the noise level and the micro-conditioning
    temporal_step_NC: Tensor
    frame_F1C: Tensor | None  # of each frame's place in the clip; None: no transformer
    image: tuple[tuple[Tensor, Tensor], ...]  # of the image, N C: spatial and temporal, for each transformer block


class Layer(nn.Module):
    """A residual block, and a transformer where the level has them."""

    def __init__(self, block: Any, transformer: Any | None = None) -> None:
        super().__init__()
        self.block = ResBlock(block)
        self.transformer = None if transformer is None else Transformer(transformer)

    def terms(self, steps_SNE: Tensor, embeddings_ND: Tensor, num_frames: int) -> list[LayerTerms]:
        """The layer's terms for each of S denoising steps; tensors in the precision of the network."""
        spatial_SNC, temporal_SNC = self.block.step_terms(steps_SNE)
        frame_F1C: Tensor | None = None
        image: tuple[tuple[Tensor, Tensor], ...] = ()
        if self.transformer is not None:
            frame_F1C = self.transformer.frame_terms(num_frames, embeddings_ND)
            image = self.transformer.image_terms(embeddings_ND)
        return [LayerTerms(*step, frame_F1C, image) for step in zip(spatial_SNC, temporal_SNC, strict=True)]

    def forward(self, x_NFHWC: Tensor, terms: LayerTerms) -> Tensor:
        x_NFHWC = self.block(x_NFHWC, terms.spatial_step_NC, terms.temporal_step_NC)
        if self.transformer is not None:
            x_NFHWC = self.transformer(x_NFHWC, terms)
        return x_NFHWC


class ResBlock(nn.Module):
    """Two convolutions over each frame, then two over time (diffusers' `SpatioTemporalResBlock`)."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        spatial, temporal = stock.spatial_res_block, stock.temporal_res_block
        self.norm1, self.conv1, self.spatial_step = spatial.norm1, spatial.conv1, spatial.time_emb_proj
        self.norm2, self.conv2, self.shortcut = spatial.norm2, spatial.conv2, spatial.conv_shortcut
        self.time_norm1, self.time_conv1 = temporal.norm1, over_time(temporal.conv1)
        self.time_norm2, self.time_conv2 = temporal.norm2, over_time(temporal.conv2)
        self.temporal_step = temporal.time_emb_proj
        self.temporal_weight = temporal_weight(stock.time_mixer)

    def step_terms(self, steps_SNE: Tensor) -> tuple[Tensor, Tensor]:
        """What the spatial and the temporal half add for each step, S N C."""
        activated = F.silu(steps_SNE)
        return self.spatial_step(activated), self.temporal_step(activated)

    def forward(
        self, x_NFHWC: Tensor, spatial_step_NC: Tensor | None = None, temporal_step_NC: Tensor | None = None
    ) -> Tensor:
        return self.over_time(self.over_frames(x_NFHWC, spatial_step_NC), temporal_step_NC)

    def over_frames(self, x_NFHWC: Tensor, step_NC: Tensor | None = None) -> Tensor:
        """The spatial half: no frame looks at another one."""
        clips = x_NFHWC.shape[:2]
        x = as_images(x_NFHWC)
        h = F.silu(group_normed(self.norm1, x), inplace=True)
        h = self.conv1(h)
        if step_NC is not None:
            h += step_NC.repeat_interleave(clips[1], dim=0)[:, :, None, None]
        h = F.silu(group_normed(self.norm2, h), inplace=True)
        h = self.conv2(h)
        h += x if self.shortcut is None else self.shortcut(x)
        return from_images(h, clips)

    def over_time(self, x_NFHWC: Tensor, step_NC: Tensor | None = None) -> Tensor:
        """The temporal half, over all frames of a clip."""
        h = F.silu(group_normed(self.time_norm1, as_sheets(x_NFHWC)), inplace=True)
        h = self.time_conv1(h)
        if step_NC is not None:
            h += step_NC[:, :, None, None]
        h = F.silu(group_normed(self.time_norm2, h), inplace=True)
        h = self.time_conv2(h)
        # weight * (x + h) + (1 - weight) * x
        return torch.add(x_NFHWC, from_sheets(h, x_NFHWC.shape), alpha=self.temporal_weight)


class Transformer(nn.Module):
    """Attention among the pixels of a frame, then among the frames of a pixel (`TransformerSpatioTemporalModel`)."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.norm, self.proj_in, self.proj_out = stock.norm, stock.proj_in, stock.proj_out
        self.spatial_blocks = listed(map(SpatialBlock, stock.transformer_blocks))
        self.temporal_blocks = listed(map(TemporalBlock, stock.temporal_transformer_blocks))
        self.temporal_weight = temporal_weight(stock.time_mixer)
        self.frame_frequencies, self.frame_embedding = stock.time_proj, stock.time_pos_embed

    def frame_terms(self, num_frames: int, like: Tensor) -> Tensor:
        """The embedding of each frame's number, F 1 C."""
        embedded = self.frame_frequencies(torch.arange(num_frames, device=like.device)).to(like.dtype)
        embedding_FC: Tensor = self.frame_embedding(embedded)
        return embedding_FC[:, None]

    def image_terms(self, embeddings_ND: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """What cross-attention gives, N C, in the spatial and in the temporal block of each pair."""
        return tuple(
            (spatial.cross(embeddings_ND), temporal.cross(embeddings_ND))
            for spatial, temporal in zip(self.spatial_blocks, self.temporal_blocks, strict=True)
        )

    def forward(self, x_NFHWC: Tensor, terms: LayerTerms) -> Tensor:
        tokens = from_images(group_normed(self.norm, as_images(x_NFHWC)), x_NFHWC.shape[:2]).flatten(2, 3)
        tokens = self.proj_in(tokens)  # N, F, H * W, C
        for spatial, temporal, image in zip(self.spatial_blocks, self.temporal_blocks, terms.image, strict=True):
            tokens = spatial(tokens, image[0])
            tracks = temporal((tokens + terms.frame_F1C).transpose(1, 2), image[1])  # N, H * W, F, C
            tokens = torch.lerp(tokens, tracks.transpose(1, 2), self.temporal_weight)
        projected: Tensor = self.proj_out(tokens)
        return x_NFHWC + projected.view_as(x_NFHWC)


class SpatialBlock(nn.Module):
    """A transformer block over the pixels of each frame (`BasicTransformerBlock`)."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.norm1, self.attention = stock.norm1, SelfAttention(stock.attn1)
        self.cross = OneTokenAttention(stock.attn2)
        self.norm3, self.feed_forward = stock.norm3, FeedForward(stock.ff)

    def forward(self, x_NFTC: Tensor, image_NC: Tensor) -> Tensor:
        x_NFTC = x_NFTC + self.attention(self.norm1(x_NFTC))
        x_NFTC += image_NC[:, None, None]
        x_NFTC += self.feed_forward(self.norm3(x_NFTC))
        return x_NFTC


class TemporalBlock(SpatialBlock):
    """The same over the frames of each pixel, behind a feed-forward layer (`TemporalBasicTransformerBlock`)."""

    def __init__(self, stock: Any) -> None:
        super().__init__(stock)
        self.norm_in, self.feed_forward_in = stock.norm_in, FeedForward(stock.ff_in)

    def forward(self, x_NTFC: Tensor, image_NC: Tensor) -> Tensor:
        x_NTFC = x_NTFC.contiguous()
        return super().forward(x_NTFC + self.feed_forward_in(self.norm_in(x_NTFC)), image_NC)


class SelfAttention(nn.Module):
    """Attention among the tokens of the last axis but one; all axes before it are a batch.

    The kernel is the device's best as PyTorch ranks them (2.13, `sdp_utils.cpp`): cuDNN's on Hopper and on Blackwell of
    data centres, FlashAttention on other GPUs. `benchmarks.speed --parts attention` times each at SVD's sizes.
    """

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.heads = stock.heads
        self.qkv = concatenated([stock.to_q, stock.to_k, stock.to_v])
        self.out = stock.to_out[0]

    def forward(self, x_TC: Tensor) -> Tensor:
        batch, (tokens, _) = x_TC.shape[:-2], x_TC.shape[-2:]
        qkv = self.qkv(x_TC).view(-1, tokens, 3, self.heads, self.qkv.out_features // 3 // self.heads)
        query, key, value = qkv.transpose(1, 3).unbind(2)  # batch, heads, tokens, channels of a head
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.out(attended.transpose(1, 2).reshape(*batch, tokens, -1))  # type: ignore[no-any-return]


class OneTokenAttention(nn.Module):
    """Cross-attention to a single token: its projected value, whatever the query."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.value, self.out = stock.to_v, stock.to_out[0]

    def forward(self, token_ND: Tensor) -> Tensor:
        return self.out(self.value(token_ND))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Linear, GEGLU, linear. The hidden activations, eight times the tokens, may be made in several pieces."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        gate, _, self.out = stock.net
        self.hidden = gate.proj
        self.pieces = 1

    def forward(self, x: Tensor) -> Tensor:
        if self.pieces == 1:
            return self._together(x)
        pieces = [self._together(piece) for piece in x.flatten(0, -2).tensor_split(self.pieces)]
        return torch.cat(pieces).view_as(x)

    def _together(self, x: Tensor) -> Tensor:
        hidden, gate = self.hidden(x).chunk(2, dim=-1)
        return self.out(hidden * F.gelu(gate))  # type: ignore[no-any-return]


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
        quarters = self.quarters(as_images(x_NFHWC)).permute(0, 2, 3, 1).unflatten(-1, (2, 2, -1))
        # Of two rows that follow one another, the even quarter of the first and the odd one of the second; then so of
        # columns.
        rows = quarters.unfold(1, 2, 1).diagonal(dim1=3, dim2=6)  # n h w' b c a
        pixels_nhwcab = rows.unfold(2, 2, 1).diagonal(dim1=3, dim2=6)
        return pixels_nhwcab.permute(0, 1, 4, 2, 5, 3).reshape(*x_NFHWC.shape[:2], 2 * height, 2 * width, -1)


def listed(modules: Iterable[M]) -> Sequence[M]:
    """A `ModuleList` whose items keep their type."""
    return cast("Sequence[M]", nn.ModuleList(modules))


def as_images(x_NFHWC: Tensor) -> Tensor:
    """A view as N * F images, C H W, channels last."""
    return x_NFHWC.flatten(0, 1).permute(0, 3, 1, 2)


def from_images(images: Tensor, clips: Sequence[int]) -> Tensor:
    """The way back; `clips` is (N, F)."""
    height, width = images.shape[2:]
    return images.permute(0, 2, 3, 1).reshape(*clips, height, width, -1)


def as_sheets(x_NFHWC: Tensor) -> Tensor:
    """A view as N sheets, C x F x H * W, channels last: a row for each frame, a column for each pixel."""
    return x_NFHWC.flatten(2, 3).permute(0, 3, 1, 2)


def from_sheets(sheets: Tensor, shape: Sequence[int]) -> Tensor:
    """The way back, to N F H W C."""
    return sheets.permute(0, 2, 3, 1).reshape(*shape)


def group_normed(norm: nn.GroupNorm, x_NCHW: Tensor) -> Tensor:
    """Group norm of images or sheets, channels last.

    What the compiler makes of PyTorch's own walks through memory a channel at a time. Here each channel's mean and
    variance come first, for which whole rows are read, and then those of its group: the same numbers up to rounding.
    """
    return row_normed(norm, x_NCHW) if torch.compiler.is_compiling() else norm(x_NCHW)  # type: ignore[no-any-return]


def row_normed(norm: nn.GroupNorm, x_NCHW: Tensor) -> Tensor:
    """`group_normed` as compiled code has it, in fp32 or wider."""
    wide = torch.promote_types(x_NCHW.dtype, torch.float32)
    x_NHWC = x_NCHW.permute(0, 2, 3, 1).to(wide)
    variance, mean = torch.var_mean(x_NHWC, dim=(1, 2), correction=0, keepdim=True)
    groups = (norm.num_groups, -1)
    means = mean.unflatten(-1, groups)
    mean = means.mean(-1, keepdim=True)
    variance = (variance.unflatten(-1, groups) + (means - mean) ** 2).mean(-1, keepdim=True)
    normed = (x_NHWC.unflatten(-1, groups) - mean) * torch.rsqrt(variance + norm.eps)
    scaled = normed.flatten(-2) * norm.weight.to(wide) + norm.bias.to(wide)
    return scaled.to(x_NCHW.dtype).permute(0, 3, 1, 2)


def convolved(convolution: nn.Conv2d, x_NFHWC: Tensor) -> Tensor:
    """A convolution over each frame."""
    return from_images(convolution(as_images(x_NFHWC)), x_NFHWC.shape[:2])


def channels_last_throughout(network: nn.Module) -> None:
    """Bring the weights of all 2-D convolutions into the layout of the activations."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def over_time(stock: nn.Conv3d) -> nn.Conv2d:
    """A convolution over frames alone (3 x 1 x 1), for sheets."""
    convolution = nn.Conv2d(stock.in_channels, stock.out_channels, (3, 1), padding=(1, 0), device="meta")
    convolution.weight = nn.Parameter(stock.weight.detach().squeeze(-1), requires_grad=False)
    convolution.bias = stock.bias
    return convolution


def quartered(stock: nn.Conv2d) -> nn.Conv2d:
    """The four 2 x 2 convolutions of `Upsampling` as one: output channels are (odd row, odd column, channel)."""
    wide = torch.promote_types(stock.weight.dtype, torch.float32)
    weight_OIyx = stock.weight.detach().to(wide)
    for axis in (-2, -1):
        first, middle, last = weight_OIyx.unbind(axis)
        even, odd = torch.stack([first, middle + last], axis), torch.stack([first + middle, last], axis)
        # The choice goes in front, that of columns behind that of rows.
        weight_OIyx = torch.stack([even, odd], dim=0 if axis == -2 else 1)
    weight = weight_OIyx.flatten(0, 2).to(stock.weight.dtype)
    convolution = nn.Conv2d(weight.shape[1], len(weight), 2, padding=1, device="meta")
    convolution.weight = nn.Parameter(weight, requires_grad=False)
    if stock.bias is not None:
        convolution.bias = nn.Parameter(stock.bias.detach().repeat(4), requires_grad=False)
    return convolution


def concatenated(stock: Sequence[nn.Linear]) -> nn.Linear:
    """Linear layers on the same input as one, their outputs one after the other."""
    weight = torch.cat([linear.weight for linear in stock])
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=stock[0].bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if stock[0].bias is not None:
        linear.bias = nn.Parameter(torch.cat([linear.bias for linear in stock]), requires_grad=False)
    return linear


def temporal_weight(mixer: Any) -> float:
    """The share of the temporal branch in diffusers' `AlphaBlender`, for frames of a video."""
    factor = mixer.mix_factor.detach().float()
    spatial = factor if mixer.merge_strategy == "fixed" else factor.sigmoid()
    share = float(spatial)
    return share if mixer.switch_spatial_to_temporal_mix else 1 - share
