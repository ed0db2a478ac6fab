"""Floating-point operations of a full-size SVD-XT clip, stock diffusers against ours; no weights, no memory, no GPU.

    python -m benchmarks.flops [--frames 25] [--width 1024] [--height 576] [--steps 25]

Counted by PyTorch (a multiplication and an addition are two) in matrix products, convolutions and attention, on tensors
without data. Ends non-zero where our UNet saves less than 6 %, or our decoder less than 10 %.
"""

import argparse
import copy
import sys
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from actors.svd.decoder import Decoder
from actors.svd.unet import UNet
from benchmarks.make_checkpoints import SVD_XT_SIZES, new_unet, new_vae

_MIN_SAVED, _MIN_SAVED_IN_DECODER = 0.06, 0.10
_GUIDED = 2  # the UNet sees a guided clip twice


def main() -> int:
    """Count, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--height", type=int, default=576)
    parser.add_argument("--steps", type=int, default=25)
    arguments = parser.parse_args()
    frames, height, width = arguments.frames, arguments.height // 8, arguments.width // 8
    with torch.device("meta"), torch.no_grad():
        unet, once, decoder = _count(frames, height, width, arguments.steps)
    table = Table("TFLOP", "stock", "ours", "saved")
    for name, (stock, ours) in {"UNet, one evaluation": unet, "VAE decoder": decoder}.items():
        table.add_row(name, f"{stock / 1e12:.1f}", f"{ours / 1e12:.1f}", f"{1 - ours / stock:.1%}")
    table.add_row("constant terms, once a clip", "", f"{once / 1e12:.3f}", "")
    stock_clip = arguments.steps * unet[0] + decoder[0]
    our_clip = arguments.steps * unet[1] + decoder[1] + once
    table.add_row(
        "whole clip", f"{stock_clip / 1e12:.0f}", f"{our_clip / 1e12:.0f}", f"{1 - our_clip / stock_clip:.1%}"
    )
    Console().print(table)
    return int(1 - unet[1] / unet[0] < _MIN_SAVED or 1 - decoder[1] / decoder[0] < _MIN_SAVED_IN_DECODER)


def _count(frames: int, height: int, width: int, steps: int) -> tuple[tuple[int, int], int, tuple[int, int]]:
    """Of an evaluation of the UNet (stock, ours), of the terms of a clip, and of the decoder (stock, ours)."""
    stock = new_unet(SVD_XT_SIZES)
    ours = UNet(copy.deepcopy(stock))
    stock.to("meta")  # with its blending factors, which are made on the CPU anyhow; ours has read them
    inputs = torch.empty(_GUIDED, frames, stock.config.in_channels, height, width)
    embeddings = torch.empty(_GUIDED, 1, SVD_XT_SIZES.clip_projection)
    time_ids, timesteps = torch.empty(_GUIDED, 3), torch.empty(steps)
    stock_flops = _flops(lambda: stock(inputs, timesteps[0], embeddings, time_ids))
    once = _flops(lambda: ours.terms(timesteps, embeddings, time_ids, frames))
    terms = ours.terms(timesteps, embeddings, time_ids, frames)[0]
    our_flops = _flops(lambda: ours(inputs, terms))
    vae = new_vae(SVD_XT_SIZES)
    decoder = Decoder(copy.deepcopy(vae.decoder))
    vae.to("meta")
    latents = torch.empty(frames, vae.config.latent_channels, height, width)
    indicator = torch.zeros(1, frames)
    stock_decoder = _flops(lambda: vae.decoder(latents, image_only_indicator=indicator, num_frames=frames))
    return (stock_flops, our_flops), once, (stock_decoder, _flops(lambda: decoder(latents)))


def _flops(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


if __name__ == "__main__":
    sys.exit(main())
