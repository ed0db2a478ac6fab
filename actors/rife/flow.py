"""What every version of RIFE does with an optical flow: fetch either frame along it, and merge the two by a mask.

Axes: B samples, C channels, H height, W width. Images are RGB in 0..1. A flow has four channels, in pixels:
(x, y) to the first frame, then (x, y) to the second.
Images, flows and masks are fp32 throughout: an fp16 sampling grid is wrong by up to a quarter of a pixel at a width of
1920.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from actors.rife.channels import RGB


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


def estimate(side0_BCHW: Tensor, side1_BCHW: Tensor, flow_B4HW: Tensor, mask_B1HW: Tensor) -> Estimate:
    """Either side, an image and whatever lies behind it, warped to the wanted time."""
    warped0_BCHW = warp(side0_BCHW, flow_B4HW[:, :2])
    warped1_BCHW = warp(side1_BCHW, flow_B4HW[:, 2:])
    return Estimate(flow_B4HW, mask_B1HW, warped0_BCHW, warped1_BCHW)


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


def resize(x_BCHW: Tensor, factor: float) -> Tensor:
    """Bilinear; what goes in itself where `factor` is 1."""
    if factor == 1:
        return x_BCHW
    return F.interpolate(x_BCHW, scale_factor=factor, mode="bilinear", align_corners=False)
