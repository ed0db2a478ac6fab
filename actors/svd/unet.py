"""SVD's UNet, split into what depends on the latents and what is computed once for a clip.

Shapes: N clips (with guidance twice), F frames, h w latent pixels, C channels, D width of the image embedding, S steps.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from actors.svd.layers import Layer, LayerTerms, listed
from actors.svd.primitives import GroupNorm, Upsampling
from actors.svd.views import convolved
from actors.svd.weights import channels_last_throughout

StepTerms = Sequence[LayerTerms]  # one for each layer of the UNet, in the order in which they work


class Evaluation(NamedTuple):
    """What one evaluation gives."""

    velocity_NFChw: Tensor
    deep_NFHWC: Tensor  # features before the last layer, which change little from step to step


class UNet(nn.Module):
    """diffusers' `UNetSpatioTemporalConditionModel`, whose weights it takes over."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.step_frequencies, self.step_embedding = stock.time_proj, stock.time_embedding
        self.micro_frequencies, self.micro_embedding = stock.add_time_proj, stock.add_embedding
        self.conv_in = stock.conv_in
        self.down = listed(Level(block) for block in stock.down_blocks)
        self.middle = listed(_paired(stock.mid_block.resnets, [*stock.mid_block.attentions, None]))
        self.up = listed(Level(block) for block in stock.up_blocks)
        self.norm_out, self.conv_out = GroupNorm(stock.conv_norm_out), stock.conv_out
        channels_last_throughout(self)

    def terms(
        self, timesteps_S: Tensor, embeddings_N1D: Tensor, added_time_ids_N3: Tensor, num_frames: int
    ) -> list[StepTerms]:
        """Everything that the layers add and that does not depend on the latents, for each denoising step.

        Args:
            timesteps_S: fp32, the scheduler's.
            embeddings_N1D: of the image, in the UNet's precision; zeros for the unconditional half.
            added_time_ids_N3: fp32; frame rate - 1, motion bucket, strength of the noise on the image.
            num_frames: of the clip.

        Returns:
            S steps, of each a `LayerTerms` for every layer.
        """
        dtype = embeddings_N1D.dtype
        micro_N = self.micro_frequencies(added_time_ids_N3.flatten()).reshape(len(added_time_ids_N3), -1).to(dtype)
        steps_S = self.step_embedding(self.step_frequencies(timesteps_S).to(dtype))
        steps_SNE = steps_S[:, None] + self.micro_embedding(micro_N)
        of_layers = [layer.terms(steps_SNE, embeddings_N1D[:, 0], num_frames) for layer in self._layers()]
        return list(zip(*of_layers, strict=True))

    def forward(self, inputs_NFChw: Tensor, terms: StepTerms, deep_NFHWC: Tensor | None = None) -> Evaluation:
        """The velocity that belongs to noisy latents.

        Args:
            inputs_NFChw: noisy latents of unit deviation, and the image's behind them along the channels.
            terms: of this step.
            deep_NFHWC: what another step left; only the last layer is computed then. None: all of them.
        """
        x = inputs_NFChw.permute(0, 1, 3, 4, 2).contiguous()
        entry = convolved(self.conv_in, x)
        if deep_NFHWC is None:
            deep_NFHWC = self._deep(entry, terms)
        (*_, last) = self._layers()
        x = last(torch.cat([deep_NFHWC, entry], dim=-1), terms[-1])
        x = convolved(self.conv_out, self.norm_out.of_frames(x))
        return Evaluation(x.permute(0, 1, 4, 2, 3), deep_NFHWC)

    def _deep(self, entry_NFHWC: Tensor, terms: StepTerms) -> Tensor:
        """All layers but the last."""
        of_layer = iter(terms)
        x, skips = entry_NFHWC, [entry_NFHWC]
        for level in self.down:
            for layer in level.layers:
                x = layer(x, next(of_layer))
                skips.append(x)
            if level.downsample is not None:
                x = convolved(level.downsample, x)
                skips.append(x)
        for layer in self.middle:
            x = layer(x, next(of_layer))
        for level in self.up:
            for layer in level.layers:
                if len(skips) == 1:  # the last layer is the one that takes the entry
                    break
                x = layer(torch.cat([x, skips.pop()], dim=-1), next(of_layer))
            if level.upsample is not None:
                x = level.upsample(x, skips[-1].shape[2:4])
        return x

    def _layers(self) -> list[Layer]:
        levels = [*(level.layers for level in self.down), self.middle, *(level.layers for level in self.up)]
        return [layer for layers in levels for layer in layers]


class Level(nn.Module):
    """The layers of one resolution, and the convolution that leads to the next one."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        attentions = getattr(stock, "attentions", [None] * len(stock.resnets))
        self.layers = listed(_paired(stock.resnets, attentions))
        downsamplers, upsamplers = (getattr(stock, name, None) for name in ("downsamplers", "upsamplers"))
        self.downsample: nn.Conv2d | None = downsamplers[0].conv if downsamplers else None
        self.upsample = Upsampling(upsamplers[0].conv) if upsamplers else None


def _paired(blocks: Any, transformers: Any) -> Iterator[Layer]:
    return map(Layer, blocks, transformers)
