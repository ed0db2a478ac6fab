"""HDv3, the network of RIFE 3.x: two frames in, the one in the middle between them out.

Three equal blocks, each run in both directions: on the frames as they come, and swapped. The mean of the two answers is
what a block changes, so the result does not depend on which frame comes first. Source: the authors' `IFNet_HDv3`.

Axes: B samples, C channels, H height, W width. Images, flows and masks are as in `actors.rife.flow`.
"""

import torch
from torch import Tensor, nn

from actors.rife.channels import FLOW, MASK, RGB
from actors.rife.flow import Estimate, estimate, resize
from actors.rife.network import Network

NAME = "HDv3"
CHANNELS = 90  # of each block, in the weights that there are
SCALES = (4, 2, 1)  # each block works on images smaller by this factor
RESIDUAL_PAIRS = 4  # of convolutions, in each block
PAD_MULTIPLE = 32


class Block(nn.Module):
    """What one direction thinks that flow and mask should change by."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv0 = nn.Sequential(
            _conv(2 * RGB + MASK + FLOW, channels // 2, stride=2), _conv(channels // 2, channels, stride=2)
        )
        for index in range(RESIDUAL_PAIRS):
            self.add_module(f"convblock{index}", nn.Sequential(_conv(channels, channels), _conv(channels, channels)))
        self.conv1 = _doubled_twice(channels, FLOW)
        self.conv2 = _doubled_twice(channels, MASK)

    def forward(self, x_BCHW: Tensor, flow_B4HW: Tensor) -> tuple[Tensor, Tensor]:
        """Changes of flow (pixels of the full image) and mask; `x_BCHW` is both images and the mask. All in fp32."""
        x_BCHW, flow_B4HW = resize(x_BCHW, 1 / self.scale), resize(flow_B4HW, 1 / self.scale) / self.scale
        x_BCHW = self.conv0(torch.cat([x_BCHW, flow_B4HW], dim=1).to(next(self.parameters()).dtype))
        for index in range(RESIDUAL_PAIRS):
            x_BCHW = self.get_submodule(f"convblock{index}")(x_BCHW) + x_BCHW
        flow_B4HW, mask_B1HW = (resize(branch(x_BCHW).float(), self.scale) for branch in (self.conv1, self.conv2))
        return flow_B4HW * self.scale, mask_B1HW


class HDv3(Network):
    """The network; `channels` other than 90 make a smaller one."""

    takes_any_time = False

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(channels, scale) for scale in SCALES)

    @property
    def name(self) -> str:
        """What records say."""
        return NAME

    @property
    def pad_multiple(self) -> int:
        """What the authors pad to."""
        return PAD_MULTIPLE

    def forward(self, img0_BCHW: Tensor, img1_BCHW: Tensor, f0_BCHW: Tensor, f1_BCHW: Tensor, t_B: Tensor) -> Tensor:  # noqa: ARG002 - all networks are called alike
        """The middle between padded frames; there are no features, and all times are 1/2."""
        zero_B1HW = torch.zeros_like(img0_BCHW[:, :MASK])
        now = Estimate(zero_B1HW.expand(-1, FLOW, -1, -1), zero_B1HW, img0_BCHW, img1_BCHW)
        for block in self.blocks:
            flow_B4HW, mask_B1HW, warped0_BCHW, warped1_BCHW = now
            ahead, mask_ahead = block(torch.cat([warped0_BCHW, warped1_BCHW, mask_B1HW], dim=1), flow_B4HW)
            back, mask_back = block(torch.cat([warped1_BCHW, warped0_BCHW, -mask_B1HW], dim=1), _swapped(flow_B4HW))
            flow_B4HW = flow_B4HW + (ahead + _swapped(back)) / 2
            mask_B1HW = mask_B1HW + (mask_ahead - mask_back) / 2
            now = estimate(img0_BCHW, img1_BCHW, flow_B4HW, mask_B1HW)
        return now.merged()


def _swapped(flow_B4HW: Tensor) -> Tensor:
    """The flow as it is when the two frames change places."""
    return torch.cat([flow_B4HW[:, 2:], flow_B4HW[:, :2]], dim=1)


def _conv(input_channels: int, channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(input_channels, channels, 3, stride=stride, padding=1), nn.PReLU(channels))


def _doubled_twice(channels: int, outputs: int) -> nn.Sequential:
    """From a quarter of the images' size to the whole of it."""
    half = channels // 2
    return nn.Sequential(
        nn.ConvTranspose2d(channels, half, 4, stride=2, padding=1),
        nn.PReLU(half),
        nn.ConvTranspose2d(half, outputs, 4, stride=2, padding=1),
    )
