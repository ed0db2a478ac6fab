"""A small IFNet that has not learnt anything, for demonstrations and as the start of a training.

Its flow is zero and its mask depends on the time alone, so it fades from one frame to the other: no motion, but no
noise either.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from actors.rife.channels import FLOW, MASK
from actors.rife.ifnet import BLOCK_CONVS, IFNet
from actors.rife.variants import SUBPIXELS, TIME, Variant

SMALL_VARIANT = Variant("4.25-small", (28, 24, 16, 12, 8), (16, 8, 4, 2, 1), (8, 4), 13, "replaced")  # 0.9 MB

# sigmoid(FADE_SLOPE * (1/2 - t)) is the first frame's share: exactly 1 - t at 1/4, 1/2 and 3/4, within 0.1 elsewhere.
FADE_SLOPE = 4.394449


def crossfade_net(variant: Variant = SMALL_VARIANT, *, seed: int = 0) -> IFNet:
    """An IFNet with random weights, the same ones for the same seed, that answers with a cross-fade of the frames.

    Only the outputs are silenced; everything before them is random, so that training can begin from here.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = IFNet(variant)
    state = net.state_dict()  # the network's own tensors, not copies
    for index in range(len(variant.channels)):
        state[f"blocks.{index}.lastconv.0.weight"].zero_()
        state[f"blocks.{index}.lastconv.0.bias"].zero_()
    _lead_time_to_mask(state, variant)
    return net.eval()


def _lead_time_to_mask(state: Mapping[str, Tensor], variant: Variant) -> None:
    """Let the first channel of every layer carry the time through the last block, to come out as the mask.

    The time is not negative, so the activations between the layers leave it as it is.
    """
    block = f"blocks.{len(variant.channels) - 1}"
    convs = ["conv0.0.0", "conv0.1.0", *(f"convblock.{index}.conv" for index in range(BLOCK_CONVS))]
    for conv in convs:
        state[f"{block}.{conv}.weight"][0] = 0
        state[f"{block}.{conv}.bias"][0] = 0
    time_channel = variant.input_channels(0) - TIME  # in every block it follows the images and their features
    state[f"{block}.conv0.0.0.weight"][0, time_channel, 1, 1] = 1  # the kernel's centre
    state[f"{block}.conv0.1.0.weight"][0, 0, 1, 1] = 1
    mask = slice(SUBPIXELS * FLOW, SUBPIXELS * (FLOW + MASK))  # the layer before the pixel shuffle
    state[f"{block}.lastconv.0.weight"][0, mask, 1:3, 1:3] = -FADE_SLOPE  # so each output pixel sees one input pixel
    state[f"{block}.lastconv.0.bias"][mask] = FADE_SLOPE / 2
