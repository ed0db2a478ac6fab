"""The layers of SVD's UNet and of its decoder, built from diffusers' and sharing their weights.

They compute what the stock layers compute, up to rounding, with less work. Each difference, and why it pays:

- Activations keep one layout, N F H W C: tokens for linear layers and, as a view, channels-last images for
  convolutions. Attention over frames reads them there as well.
- A temporal convolution (3 x 1 x 1) is a matrix product over three frames, or a 2-D convolution over (frame, pixel), on
  the same memory.
- The blend of a spatial and a temporal branch has a constant weight: SVD is told that all its frames are a video's.
- Query, key and value come from one matrix product.
- Cross-attention looks at one token, the image embedding. A softmax over one number is 1, so that it always gives
  `to_out(to_v(embedding))`, whatever the query: the same for all pixels, frames and denoising steps. That, and all else
  that does not depend on the latents, is computed once for a clip (`LayerTerms`).
- An image that is doubled and then convolved is convolved first, by kernels of a quarter of the work (`Upsampling`).
- What is added to activations is added by the norm behind it, which reads them anyway.

Shapes: N clips (with guidance twice), F frames, H W pixels of the layer, T = H * W tokens, C channels, D width of the
image embedding, E width of the step embedding, S denoising steps.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actors.svd.primitives import (
    Convolution,
    FeedForward,
    GroupNorm,
    OneTokenAttention,
    ResidualNorm,
    SelfAttention,
    TimeConvolution,
    with_added,
)
from actors.svd.views import convolved
from actors.svd.weights import temporal_weight

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
        """N F H W C in and out; `terms` are those of one denoising step."""
        x_NFHWC = self.block(x_NFHWC, terms.spatial_step_NC, terms.temporal_step_NC)
        if self.transformer is not None:
            x_NFHWC = self.transformer(x_NFHWC, terms)
        return x_NFHWC


class ResBlock(nn.Module):
    """Two convolutions over each frame, then two over time (diffusers' `SpatioTemporalResBlock`)."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        spatial, temporal = stock.spatial_res_block, stock.temporal_res_block
        self.norm1, self.conv1 = GroupNorm(spatial.norm1), Convolution(spatial.conv1)
        self.norm2, self.conv2 = GroupNorm(spatial.norm2), Convolution(spatial.conv2)
        self.spatial_step, self.shortcut = spatial.time_emb_proj, spatial.conv_shortcut
        self.time_norm1, self.time_conv1 = GroupNorm(temporal.norm1), TimeConvolution(temporal.conv1)
        self.time_norm2, self.time_conv2 = GroupNorm(temporal.norm2), TimeConvolution(temporal.conv2)
        self.temporal_step = temporal.time_emb_proj
        self.temporal_weight = temporal_weight(stock.time_mixer)

    def step_terms(self, steps_SNE: Tensor) -> tuple[Tensor, Tensor]:
        """What the spatial and the temporal half add for each step, S N C."""
        activated = F.silu(steps_SNE)
        return self.spatial_step(activated), self.temporal_step(activated)

    def forward(
        self, x_NFHWC: Tensor, spatial_step_NC: Tensor | None = None, temporal_step_NC: Tensor | None = None
    ) -> Tensor:
        """Both halves, with what each adds for a denoising step, if anything; N F H W C in and out."""
        summed, h = self.time_norm1.of_sum(*self._over_frames(x_NFHWC, spatial_step_NC))
        h = self.time_conv1(h, temporal_step_NC)  # one name, so that nothing old is kept alive
        h = self.time_norm2.of_clips(h)
        # The blend, weight times (summed + h) and (1 - weight) times summed, is summed and weight times h.
        return self.time_conv2(h, residual_NFHWC=summed, scale=self.temporal_weight)  # type: ignore[no-any-return]

    def over_frames(self, x_NFHWC: Tensor) -> Tensor:
        """The spatial half: no frame looks at another one."""
        made, residual, added_NC = self._over_frames(x_NFHWC)
        made += residual
        return with_added(made, added_NC)

    def over_time(self, x_NFHWC: Tensor) -> Tensor:
        """The temporal half, over all frames of a clip; nothing is added for a step."""
        h = self.time_norm1.of_clips(x_NFHWC)
        h = self.time_conv1(h)
        h = self.time_norm2.of_clips(h)
        return self.time_conv2(h, residual_NFHWC=x_NFHWC, scale=self.temporal_weight)  # type: ignore[no-any-return]

    def _over_frames(self, x_NFHWC: Tensor, step_NC: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Three summands of the spatial half; the last one is N C."""
        h, added_NC = self.conv1(self.norm1.of_frames(x_NFHWC), step_NC)
        h, added_NC = self.conv2(self.norm2.of_frames(h, added_NC))
        return h, x_NFHWC if self.shortcut is None else convolved(self.shortcut, x_NFHWC), added_NC


class Transformer(nn.Module):
    """Attention among the pixels of a frame, then among the frames of a pixel (`TransformerSpatioTemporalModel`)."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.norm, self.proj_in, self.proj_out = GroupNorm(stock.norm), stock.proj_in, stock.proj_out
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
        """N F H W C in and out; `terms` are those of one denoising step, and have a transformer's."""
        assert terms.frame_F1C is not None
        tokens = self.norm.of_frames(x_NFHWC, silu=False).flatten(2, 3)
        tokens = self.proj_in(tokens)  # N, F, H * W, C
        for spatial, temporal, image in zip(self.spatial_blocks, self.temporal_blocks, terms.image, strict=True):
            tokens, forwarded = spatial(tokens, image[0])
            tokens, tracks = temporal(tokens, forwarded, terms.frame_F1C, image[1])
            tokens = torch.lerp(tokens, tracks, self.temporal_weight)
        projected: Tensor = self.proj_out(tokens)
        return x_NFHWC + projected.view_as(x_NFHWC)


class SpatialBlock(nn.Module):
    """A transformer block over the pixels of each frame (`BasicTransformerBlock`)."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.norm1, self.attention = stock.norm1, SelfAttention(stock.attn1)
        self.cross = OneTokenAttention(stock.attn2)
        self.norm3, self.feed_forward = ResidualNorm(stock.norm3), FeedForward(stock.ff)

    def forward(self, x_NFTC: Tensor, image_NC: Tensor) -> tuple[Tensor, Tensor]:
        """The activations before the feed-forward layer, and what that adds to them."""
        x_NFTC, normed = self.norm3(x_NFTC, self.attention(self.norm1(x_NFTC)), image_NC)
        return x_NFTC, self.feed_forward(normed)


class TemporalBlock(nn.Module):
    """The same over the frames of each pixel, behind a feed-forward layer (`TemporalBasicTransformerBlock`)."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.norm_in, self.feed_forward_in = ResidualNorm(stock.norm_in), FeedForward(stock.ff_in)
        self.norm1, self.attention = ResidualNorm(stock.norm1), SelfAttention(stock.attn1)
        self.cross = OneTokenAttention(stock.attn2)
        self.norm3, self.feed_forward = ResidualNorm(stock.norm3), FeedForward(stock.ff)

    def forward(self, x_NFTC: Tensor, delta_NFTC: Tensor, frame_F1C: Tensor, image_NC: Tensor) -> tuple[Tensor, Tensor]:
        """`x + delta`, and what the block makes of that."""
        x_NFTC, normed = self.norm_in(x_NFTC, delta_NFTC, frame_F1C, is_kept=False)
        tracks, normed = self.norm1(x_NFTC, self.feed_forward_in(normed), frame_F1C)
        tracks, normed = self.norm3(tracks, self.attention.among_frames(normed), image_NC)
        return x_NFTC, tracks + self.feed_forward(normed)


def listed(modules: Iterable[M]) -> Sequence[M]:
    """A `ModuleList` whose items keep their type."""
    return cast("Sequence[M]", nn.ModuleList(modules))
