"""diffusers' weights as the layers of this package hold them; a checkpoint is changed by none of it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


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
    for place, axis in enumerate((-2, -1)):
        first, middle, last = weight_OIyx.unbind(axis)
        even, odd = torch.stack([first, middle + last], axis), torch.stack([first + middle, last], axis)
        # The choice goes in front, that of columns behind that of rows.
        weight_OIyx = torch.stack([even, odd], dim=place)
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
