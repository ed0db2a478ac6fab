"""IFNet, the network of RIFE 4.x: two frames and a time between them in, the frame at that time out.

Blocks refine, from coarse to fine, one optical flow from the wanted time to either frame, and a mask that says which
frame to trust where. Source: Huang et al., "Real-Time Intermediate Flow Estimation", ECCV 2022, and its 4.x models.

Axes: B samples, C channels, H height, W width. Images are RGB in 0..1. A flow has four channels, in pixels:
(x, y) to the first frame, then (x, y) to the second.
Convolutions run in the precision of the weights; images, flows and masks stay fp32 throughout, because an fp16
sampling grid is wrong by up to a quarter of a pixel at a width of 1920.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_SLOPE = 0.2
RESIDUAL_CONVS = 8  # in every block of every variant
RGB = 3
FLOW = 4
MASK = 1
TIME = 1
BLOCK_STRIDE = 4  # a block's two convolutions of stride 2
SUBPIXELS = 4  # a block ends in a pixel shuffle by 2, before which each of its outputs has 4 channels


@dataclass(frozen=True)
class Variant:
    """What tells one RIFE 4.x network from another; a free choice of `channels` and `head` makes a smaller one."""

    name: str
    channels: tuple[int, ...]  # width of each block, even
    scales: tuple[int, ...]  # each block works on images smaller by this factor
    head: tuple[int, int] | None  # (hidden, output) channels of the per-frame features, or none
    tail: int  # output channels of a block: flow, mask, then features for the next one
    mask: Literal["added", "replaced"]  # what a block's mask does to the one before

    @property
    def pad_multiple(self) -> int:
        """Frames are padded to this multiple so that every block divides them evenly."""
        return BLOCK_STRIDE * max(self.scales)

    @property
    def features(self) -> int:
        """Channels that a block hands to the next one; 4.6 has a spare output channel and hands over none."""
        return self.tail - FLOW - MASK if self.mask == "replaced" else 0

    def input_channels(self, block: int) -> int:
        """Channels that go into a block: images, head features and time; later ones see mask, features and flow too."""
        per_frame = RGB + (self.head[1] if self.head else 0)
        first = 2 * per_frame + TIME
        return first if block == 0 else first + MASK + self.features + FLOW


DEFAULT_VARIANT = Variant("4.25", (192, 128, 96, 64, 32), (16, 8, 4, 2, 1), (16, 4), 13, "replaced")

VARIANTS = {
    variant.name: variant
    for variant in (
        DEFAULT_VARIANT,
        Variant("4.26", (192, 128, 96, 64, 32), (16, 8, 4, 2, 1), (16, 4), 13, "replaced"),
        Variant("4.25.lite", (192, 128, 96, 64, 24), (32, 16, 8, 4, 1), (16, 4), 13, "replaced"),
        Variant("4.22.lite", (192, 128, 64, 32), (8, 4, 2, 1), (16, 4), 13, "replaced"),
        Variant("4.6", (192, 128, 96, 64), (8, 4, 2, 1), None, 6, "added"),
    )
}


class Estimate(NamedTuple):
    """What the blocks so far think: `flow_B4HW` (pixels), `mask_B1HW` (logits) and both frames warped by that flow."""

    flow_B4HW: Tensor
    mask_B1HW: Tensor
    warped0_BCHW: Tensor
    warped1_BCHW: Tensor

    def merged(self) -> Tensor:
        """The frame itself, (B,3,H,W): a high mask takes the first frame, a low one the second."""
        mask_B1HW = torch.sigmoid(self.mask_B1HW)
        return self.warped0_BCHW[:, :RGB] * mask_B1HW + self.warped1_BCHW[:, :RGB] * (1 - mask_B1HW)


class ResidualConv(nn.Module):
    """A convolution scaled per channel by `beta`, around which its input is carried."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.beta = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The same size and channels."""
        return F.leaky_relu(self.conv(x_BCHW) * self.beta + x_BCHW, LEAKY_SLOPE)


class IFBlock(nn.Module):
    """One refinement of flow and mask, made on images that are smaller by `scale`."""

    def __init__(self, input_channels: int, channels: int, tail: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv0 = nn.Sequential(
            _halving_conv(input_channels, channels // 2),
            _halving_conv(channels // 2, channels),
        )
        self.convblock = nn.Sequential(*[ResidualConv(channels) for _ in range(RESIDUAL_CONVS)])
        self.lastconv = nn.Sequential(
            nn.ConvTranspose2d(channels, SUBPIXELS * tail, 4, stride=2, padding=1), nn.PixelShuffle(2)
        )

    def forward(
        self, side0_BCHW: Tensor, side1_BCHW: Tensor, others: Sequence[Tensor], flow_B4HW: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The change of flow (pixels of the full image), the mask, and what else the tail holds; all in fp32.

        A side is an image with its head features behind it. The order that the weights were trained on is: both
        images, both features, the others, the flow. All are shrunk before they are joined, which saves memory traffic.
        """
        side0_BCHW, side1_BCHW, *others = (_resize(x, 1 / self.scale) for x in (side0_BCHW, side1_BCHW, *others))
        images = [side0_BCHW[:, :RGB], side1_BCHW[:, :RGB]]
        features = [side0_BCHW[:, RGB:], side1_BCHW[:, RGB:]]
        flows = [] if flow_B4HW is None else [_resize(flow_B4HW, 1 / self.scale) / self.scale]
        x_BCHW = torch.cat([*images, *features, *others, *flows], dim=1)
        precision = next(self.parameters()).dtype
        tail_BCHW = self.lastconv(self.convblock(self.conv0(x_BCHW.to(precision)))).float()
        tail_BCHW = _resize(tail_BCHW, self.scale)
        flow_B4HW, mask_B1HW, rest_BCHW = tail_BCHW.tensor_split([FLOW, FLOW + MASK], dim=1)
        return flow_B4HW * self.scale, mask_B1HW, rest_BCHW


class Head(nn.Module):
    """Features of one frame at its full size; they do not depend on the other frame or on the time."""

    def __init__(self, hidden: int, channels: int) -> None:
        super().__init__()
        self.cnn0 = nn.Conv2d(RGB, hidden, 3, stride=2, padding=1)
        self.cnn1 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.cnn2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.cnn3 = nn.ConvTranspose2d(hidden, channels, 4, stride=2, padding=1)

    def forward(self, frames_BCHW: Tensor) -> Tensor:
        """Frames (B,3,H,W), 0..1, to features of their size, fp32."""
        x_BCHW = frames_BCHW.to(self.cnn0.weight.dtype)
        for conv in (self.cnn0, self.cnn1, self.cnn2):
            x_BCHW = F.leaky_relu(conv(x_BCHW), LEAKY_SLOPE)
        features_BCHW: Tensor = self.cnn3(x_BCHW)
        return features_BCHW.float()


class IFNet(nn.Module):
    """The network of one variant: `pad` the frames, `encode` each of them once, then call it for pairs and times."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.head = Head(*variant.head) if variant.head else None
        self.blocks = nn.ModuleList(
            IFBlock(variant.input_channels(index), channels, variant.tail, scale)
            for index, (channels, scale) in enumerate(zip(variant.channels, variant.scales, strict=True))
        )

    def pad(self, frames_BCHW: Tensor) -> Tensor:
        """Frames grown to the right and downwards to a multiple of `variant.pad_multiple`; crop the results.

        The border is repeated: with zeros, what moves in over the right or lower edge would come in black.
        """
        height, width = frames_BCHW.shape[-2:]
        multiple = self.variant.pad_multiple
        return F.pad(frames_BCHW, (0, -width % multiple, 0, -height % multiple), mode="replicate")

    def encode(self, frames_BCHW: Tensor) -> Tensor:
        """Features of padded frames, (B,h,H,W); once per frame, whatever the number of pairs. 4.6 has none: h = 0."""
        if self.head is None:
            return frames_BCHW[:, :0]
        features_BCHW: Tensor = self.head(frames_BCHW)
        return features_BCHW

    def forward(self, img0_BCHW: Tensor, img1_BCHW: Tensor, f0_BCHW: Tensor, f1_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """The frames at time `t_B` (0 is img0, 1 is img1; one per sample) between padded frames and their features."""
        *_, last = self.estimates(img0_BCHW, img1_BCHW, f0_BCHW, f1_BCHW, t_B)
        return last.merged()

    def estimates(
        self, img0_BCHW: Tensor, img1_BCHW: Tensor, f0_BCHW: Tensor, f1_BCHW: Tensor, t_B: Tensor
    ) -> Iterator[Estimate]:
        """The estimate after each block, coarse to fine; the last one is the network's answer."""
        side0_BCHW = torch.cat([img0_BCHW, f0_BCHW], dim=1)
        side1_BCHW = torch.cat([img1_BCHW, f1_BCHW], dim=1)
        t_B1HW = t_B.view(-1, 1, 1, 1).expand(-1, 1, *img0_BCHW.shape[-2:])
        flow_B4HW, mask_B1HW, rest_BCHW = self.blocks[0](side0_BCHW, side1_BCHW, [t_B1HW], None)
        yield (estimate := _estimate(side0_BCHW, side1_BCHW, flow_B4HW, mask_B1HW))
        for block in self.blocks[1:]:
            others = [t_B1HW, estimate.mask_B1HW] + ([rest_BCHW] if self.variant.features else [])
            flow_change_B4HW, mask_B1HW, rest_BCHW = block(
                estimate.warped0_BCHW, estimate.warped1_BCHW, others, estimate.flow_B4HW
            )
            if self.variant.mask == "added":
                mask_B1HW = estimate.mask_B1HW + mask_B1HW
            if block is self.blocks[-1]:
                # Nothing reads the features after it: to warp them, too, would more than double what this step moves.
                side0_BCHW, side1_BCHW = img0_BCHW, img1_BCHW
            yield (estimate := _estimate(side0_BCHW, side1_BCHW, estimate.flow_B4HW + flow_change_B4HW, mask_B1HW))


def warp(source_BCHW: Tensor, flow_B2HW: Tensor) -> Tensor:
    """Each pixel fetched from where `flow_B2HW` (x, y in pixels) points: out[y, x] = source[y + flow_y, x + flow_x].

    Bilinear; beyond the border the border's own pixel. Both tensors are fp32.
    """
    height, width = source_BCHW.shape[-2:]
    device = source_BCHW.device
    # grid_sample counts -1..1 across, from the middle of the first pixel to that of the last. The divisors are plain
    # numbers: a tensor of them would be copied to the device at every call, for which the host would wait.
    grid_x_BHW = torch.linspace(-1, 1, width, device=device) + flow_B2HW[:, 0] / ((width - 1) / 2)
    grid_y_BHW = torch.linspace(-1, 1, height, device=device)[:, None] + flow_B2HW[:, 1] / ((height - 1) / 2)
    grid_BHW2 = torch.stack([grid_x_BHW, grid_y_BHW], dim=-1)
    return F.grid_sample(source_BCHW, grid_BHW2, mode="bilinear", padding_mode="border", align_corners=True)


def _estimate(side0_BCHW: Tensor, side1_BCHW: Tensor, flow_B4HW: Tensor, mask_B1HW: Tensor) -> Estimate:
    """Image and head features of either side, warped to the wanted time."""
    warped0_BCHW = warp(side0_BCHW, flow_B4HW[:, :2])
    warped1_BCHW = warp(side1_BCHW, flow_B4HW[:, 2:])
    return Estimate(flow_B4HW, mask_B1HW, warped0_BCHW, warped1_BCHW)


def _halving_conv(input_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(input_channels, channels, 3, stride=2, padding=1), nn.LeakyReLU(LEAKY_SLOPE))


def _resize(x_BCHW: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return x_BCHW
    return F.interpolate(x_BCHW, scale_factor=factor, mode="bilinear", align_corners=False)
