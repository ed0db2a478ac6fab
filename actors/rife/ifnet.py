"""IFNet, the network of RIFE 4.x: two frames and a time between them in, the frame at that time out.

Blocks refine, from coarse to fine, one optical flow from the wanted time to either frame, and a mask that says which
frame to trust where. Source: Huang et al., "Real-Time Intermediate Flow Estimation", ECCV 2022, and its 4.x models.

Axes: B samples, C channels, H height, W width. Images are RGB in 0..1. A flow has four channels, in pixels:
(x, y) to the first frame, then (x, y) to the second.
Convolutions run in the precision of the weights; images, flows and masks stay fp32 throughout, because an fp16
sampling grid is wrong by up to a quarter of a pixel at a width of 1920.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actors.rife.channels import FLOW, MASK, RGB
from actors.rife.flow import Estimate, estimate, resize
from actors.rife.network import Network
from actors.rife.variants import Variant

LEAKY_SLOPE = 0.2
BLOCK_CONVS = 8  # of stride 1, in every block of every variant
RESTART_PX = 32.0  # of either flow, in whichever direction, from which a variant that restarts does so


class ResidualConv(nn.Module):
    """A convolution scaled per channel by `beta`, around which its input is carried."""

    def __init__(self, channels: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
        self.beta = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The same size and channels."""
        return F.leaky_relu(self.conv(x_BCHW) * self.beta + x_BCHW, LEAKY_SLOPE)


class IFBlock(nn.Module):
    """One refinement of flow and mask, made on images that are smaller by its scale."""

    def __init__(self, variant: Variant, index: int) -> None:
        super().__init__()
        channels, last = variant.channels[index], variant.last_channels
        self.scale = variant.scales[index]
        # The bare deconvolution's outputs are half as large as the inputs, and their flow is in their pixels.
        self.output_scale = 2 if variant.has_bare_tail else 1
        self.adds_input = variant.body == "prelu"
        self.conv0 = nn.Sequential(
            _halving_conv(variant, variant.input_channels(index), channels // 2),
            _halving_conv(variant, channels // 2, channels),
        )
        self.convblock = nn.Sequential(*[_body_conv(variant, channels) for _ in range(BLOCK_CONVS)])
        last_conv = nn.ConvTranspose2d(channels, last, 4, stride=2, padding=1)
        self.lastconv = last_conv if variant.has_bare_tail else nn.Sequential(last_conv, nn.PixelShuffle(2))

    def forward(
        self,
        side0_BCHW: Tensor,
        side1_BCHW: Tensor,
        others: Sequence[Tensor],
        flow_B4HW: Tensor | None,
        coarser: int = 1,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The change of flow (pixels of the full image), the mask, and what else the tail holds; all in fp32.

        A side is an image with its head features behind it. The order that the weights were trained on is: both
        images, both features, the others, the flow. All are shrunk before they are joined, which saves memory traffic.
        `coarser`: so many times the block's own scale.
        """
        scale = self.scale * coarser
        side0_BCHW, side1_BCHW, *others = (resize(x, 1 / scale) for x in (side0_BCHW, side1_BCHW, *others))
        images = [side0_BCHW[:, :RGB], side1_BCHW[:, :RGB]]
        features = [side0_BCHW[:, RGB:], side1_BCHW[:, RGB:]]
        flows = [] if flow_B4HW is None else [resize(flow_B4HW, 1 / scale) / scale]
        x_BCHW = self.conv0(torch.cat([*images, *features, *others, *flows], dim=1).to(self._precision))
        body_BCHW = self.convblock(x_BCHW)
        if self.adds_input:
            body_BCHW = body_BCHW + x_BCHW
        scale *= self.output_scale
        tail_BCHW = resize(self.lastconv(body_BCHW).float(), scale)
        flow_B4HW, mask_B1HW, rest_BCHW = tail_BCHW.tensor_split([FLOW, FLOW + MASK], dim=1)
        return flow_B4HW * scale, mask_B1HW, rest_BCHW

    @property
    def _precision(self) -> torch.dtype:
        return next(self.parameters()).dtype


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


class ShortHead(nn.Sequential):
    """The same of two layers and without any activation."""

    def __init__(self, hidden: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(RGB, hidden, 3, stride=2, padding=1), nn.ConvTranspose2d(hidden, channels, 4, stride=2, padding=1)
        )

    def forward(self, frames_BCHW: Tensor) -> Tensor:
        """Frames (B,3,H,W), 0..1, to features of their size, fp32."""
        x_BCHW = frames_BCHW.to(next(self.parameters()).dtype)
        for conv in self:
            x_BCHW = conv(x_BCHW)
        return x_BCHW.float()


_HEADS = {4: Head, 2: ShortHead}


class IFNet(Network):
    """The network of one variant."""

    takes_any_time = True

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.head = _HEADS[variant.head_layers](*variant.head) if variant.head else None
        self.blocks = nn.ModuleList(IFBlock(variant, index) for index in range(len(variant.scales)))

    @property
    def name(self) -> str:
        """The variant's."""
        return self.variant.name

    @property
    def pad_multiple(self) -> int:
        """The variant's."""
        return self.variant.pad_multiple

    def encode(self, frames_BCHW: Tensor) -> Tensor:
        """Features of padded frames, (B,h,H,W); once per frame, whatever the number of pairs. 4.6 has none: h = 0."""
        if self.head is None:
            return frames_BCHW[:, :0]
        features_BCHW: Tensor = self.head(frames_BCHW)
        return features_BCHW

    def forward(self, img0_BCHW: Tensor, img1_BCHW: Tensor, f0_BCHW: Tensor, f1_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """The frames at time `t_B` (0 is img0, 1 is img1; one per sample) between padded frames and their features."""
        inputs = (img0_BCHW, img1_BCHW, f0_BCHW, f1_BCHW, t_B)
        if self.variant.restarts:
            return self._restarted_where_large(*inputs)
        *_, last = self.estimates(*inputs)
        return last.merged()

    def estimates(
        self,
        img0_BCHW: Tensor,
        img1_BCHW: Tensor,
        f0_BCHW: Tensor,
        f1_BCHW: Tensor,
        t_B: Tensor,
        *,
        coarser: int = 1,
    ) -> Iterator[Estimate]:
        """The estimate after each block, coarse to fine; the last one is the network's answer.

        `coarser`: so many times the scales of the variant, without another beginning.
        """
        side0_BCHW = torch.cat([img0_BCHW, f0_BCHW], dim=1)
        side1_BCHW = torch.cat([img1_BCHW, f1_BCHW], dim=1)
        t_B1HW = t_B.view(-1, 1, 1, 1).expand(-1, 1, *img0_BCHW.shape[-2:])
        flow_B4HW, mask_B1HW, rest_BCHW = self.blocks[0](side0_BCHW, side1_BCHW, [t_B1HW], None, coarser)
        yield (now := estimate(side0_BCHW, side1_BCHW, flow_B4HW, mask_B1HW))
        for block in self.blocks[1:]:
            others = [t_B1HW, now.mask_B1HW] + ([rest_BCHW] if self.variant.features else [])
            flow_change_B4HW, mask_B1HW, rest_BCHW = block(
                now.warped0_BCHW, now.warped1_BCHW, others, now.flow_B4HW, coarser
            )
            if self.variant.mask == "added":
                mask_B1HW = now.mask_B1HW + mask_B1HW
            if block is self.blocks[-1]:
                # Nothing reads the features after it: to warp them, too, would more than double what this step moves.
                side0_BCHW, side1_BCHW = img0_BCHW, img1_BCHW
            yield (now := estimate(side0_BCHW, side1_BCHW, now.flow_B4HW + flow_change_B4HW, mask_B1HW))

    def _restarted_where_large(self, *inputs: Tensor) -> Tensor:
        """Frames of the usual scales, and of twice these for each sample whose second block changes much.

        To begin anew with the first block is the same as to begin with it. Each sample decides for itself: what it is
        batched with changes nothing.
        """
        first, second, *_, last = self.estimates(*inputs)
        change_B4 = (second.flow_B4HW - first.flow_B4HW).abs().amax(dim=(2, 3))
        restarts_B = (change_B4[:, :2].amax(dim=1) > RESTART_PX) & (change_B4[:, 2:].amax(dim=1) > RESTART_PX)
        # Compiled code is one graph, which cannot ask what is in a tensor; otherwise most clips need no second pass.
        if not torch.compiler.is_compiling() and not restarts_B.any():
            return last.merged()
        *_, coarse = self.estimates(*inputs, coarser=2)
        return torch.where(restarts_B.view(-1, 1, 1, 1), coarse.merged(), last.merged())


def _halving_conv(variant: Variant, input_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(input_channels, channels, 3, stride=2, padding=1), _activation(variant, channels))


def _body_conv(variant: Variant, channels: int) -> nn.Module:
    if variant.body == "residual":
        return ResidualConv(channels, variant.groups)
    conv = nn.Conv2d(channels, channels, 3, padding=1, groups=variant.groups)
    return nn.Sequential(conv, _activation(variant, channels))


def _activation(variant: Variant, channels: int) -> nn.Module:
    return nn.PReLU(channels) if variant.body == "prelu" else nn.LeakyReLU(LEAKY_SLOPE)
