"""The demo's IFNet: the frame at any time between two views of a moving camera, whose true flow is known.

Letters in names: B samples, C channels, H height, W width.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from actors.rife.channels import RGB
from actors.rife.ifnet import LEAKY_SLOPE, IFNet, ResidualConv
from actors.rife.variants import Variant
from benchmarks.train_demo import data

VARIANT = Variant("4.25-demo", (32, 32, 64, 64, 32), (16, 8, 4, 2, 1), (16, 4), 13, "replaced")
BATCH = 4
HEIGHT, WIDTH = 128, 192  # what the demo's frames are padded to
MAX_STEP_PX = 20.0  # between the two frames; the squared random number below makes small steps, the easy ones, frequent
RESIDUAL_SHARE = 0.3  # of what each residual convolution adds at first
EDGE_GAIN = 5.0  # about one over the deviation of brightness
LAST_BLOCK_DISCOUNT = 0.9  # each coarser block's error counts so much less
FLOW_WEIGHT = 0.3  # of wrong flow relative to the true one, against an error of the whole range of brightness
NEGLIGIBLE_FLOW_PX = 1.0  # keeps the relative error finite


def new_net(seed: int = 0) -> IFNet:
    """Random weights that keep signals at their size (PyTorch's defaults shrink them threefold a layer).

    Every block begins by changing nothing. First layers see edges alone, amplified: brightness says nothing of motion.
    """
    torch.manual_seed(seed)
    net: Any = IFNet(VARIANT)  # Any: its layers are modules to the type checker, without weights
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, LEAKY_SLOPE)
                module.bias = nn.Parameter(torch.zeros(module.out_channels))
            elif isinstance(module, ResidualConv):
                module.beta.fill_(RESIDUAL_SHARE)
        first_layers = [net.head.cnn0, *(block.conv0[0][0] for block in net.blocks)]
        for layer in first_layers:
            images = layer.weight[:, : min(layer.in_channels, 2 * RGB)]
            images.sub_(images.mean(dim=(2, 3), keepdim=True)).mul_(EDGE_GAIN)
        for block in net.blocks:
            block.lastconv[0].weight.mul_(0.1)
    made: IFNet = net
    return made


def true_flow(motion: data.Motion, t: float, height: int, width: int) -> torch.Tensor:
    """4,H,W: where a pixel of the frame at time t lies in the frames at 0 and at 1, as (x, y) offsets in pixels."""
    y = (torch.arange(height) - (height - 1) / 2)[:, None].expand(height, width)
    x = (torch.arange(width) - (width - 1) / 2)[None, :].expand(height, width)
    flows = []
    for other in (0.0, 1.0):
        grow = motion.zoom ** (other - t) - 1
        flows += [grow * x + (t - other) * motion.pan_x_px, grow * y + (t - other) * motion.pan_y_px]
    return torch.stack(flows)


def loss(net: IFNet, pictures: data.Pictures, rng: np.random.Generator) -> torch.Tensor:
    """Error of the frames after every block, and of the flow, on a new batch."""
    times_B, frames, flows = [], [], []
    for _ in range(BATCH):
        motion = data.random_motion(rng, MAX_STEP_PX * float(rng.random()) ** 2, HEIGHT, WIDTH)
        t = float(rng.uniform(0.05, 0.95))
        frames.append(pictures.clip_at(rng, motion, torch.tensor([0.0, t, 1.0]), HEIGHT, WIDTH))
        flows.append(true_flow(motion, t, HEIGHT, WIDTH))
        times_B.append(t)
    device = next(net.parameters()).device
    img0_BCHW, wanted_BCHW, img1_BCHW = torch.stack(frames).to(device).unbind(dim=1)
    flow_B4HW = torch.stack(flows).to(device)
    flow_size_B111 = flow_B4HW.abs().mean(dim=(1, 2, 3), keepdim=True) + NEGLIGIBLE_FLOW_PX
    times = torch.tensor(times_B, device=device)
    estimates = list(net.estimates(img0_BCHW, img1_BCHW, net.encode(img0_BCHW), net.encode(img1_BCHW), times))
    total = torch.zeros((), device=device)
    for index, estimate in enumerate(reversed(estimates)):
        picture_error = (estimate.merged() - wanted_BCHW).abs().mean()
        flow_error = ((estimate.flow_B4HW - flow_B4HW).abs() / flow_size_B111).mean()
        total = total + LAST_BLOCK_DISCOUNT**index * (picture_error + FLOW_WEIGHT * flow_error)
    return total
