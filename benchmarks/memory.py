"""What a full-size SVD-XT clip, and a batch of RIFE, hold in memory at their peak; no weights, no GPU.

    python -m benchmarks.memory [--frames 25] [--width 1024] [--height 576]

Every tensor that a network makes is counted from its making to its end, on tensors without data, in half precision and
uncompiled. Attention is counted as a fused kernel: it makes its result alone. What a GPU adds is not in it: work space
of its libraries, and copies where a kernel wants another layout (CUDA's group norm, which compiled code does without).
Ends non-zero where the highest peak, with the weights where these stay, misses the aims: 24 GB resident, 8 GB at the
tightest, whose weights come layer by layer and are let go.
"""

import argparse
import copy
import sys
import weakref
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from actors.rife.ifnet import IFNet
from actors.rife.variants import DEFAULT_VARIANT
from actors.svd.decoder import Decoder
from actors.svd.primitives import FeedForward
from actors.svd.unet import UNet
from benchmarks.make_checkpoints import SVD_XT_SIZES, new_image_encoder, new_unet, new_vae

_MAX_RESIDENT_GB, _MAX_TIGHTEST_GB = 24.0, 8.0
_GUIDED = 2  # the UNet sees a guided clip twice
_TIGHTEST_PIECES = 8
_DTYPE = torch.float16
_PAIRS = 8  # interpolation.pairs_per_batch


class Peak(TorchDispatchMode):
    """Bytes of the tensors that are made within the block and live: `live` of them now, `peak` at most."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        self.peak = max(self.peak, self.live)
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._known:  # else a view, or changed in place
            self._known.add(storage._cdata)
            self.live += storage.nbytes()
            weakref.finalize(storage, self._end, storage._cdata, storage.nbytes())

    def _end(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def main() -> int:
    """Count, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--height", type=int, default=576)
    arguments = parser.parse_args()
    fused = patch.object(F, "scaled_dot_product_attention", lambda query, *_, **__: torch.empty_like(query))
    with torch.device("meta"), torch.no_grad(), fused:
        table, missed = _measure(arguments.frames, arguments.height // 8, arguments.width // 8)
    Console().print(table)
    width, height = arguments.width // 64 * 64, arguments.height // 64 * 64  # as RIFE pads them
    rife_gb = rife_peak_gb(width, height)
    each = rife_gb * 1e9 / (width * height * _PAIRS)
    print(f"RIFE 4.25, fp32, {_PAIRS} pairs of {width}x{height}: {rife_gb:.1f} GB, {each:.0f} bytes a pixel of a pair")
    return int(missed)


def rife_peak_gb(width: int, height: int) -> float:
    """Of one network call, with what goes in."""
    net = IFNet(DEFAULT_VARIANT).eval().to("meta")
    with torch.device("meta"), torch.inference_mode():
        image = torch.empty(_PAIRS, 3, height, width)
        features = torch.empty(_PAIRS, (DEFAULT_VARIANT.head or (0, 0))[1], height, width)
        return _peak_gb(lambda: net(image, image, features, features, torch.empty(_PAIRS)))


def _measure(frames: int, height: int, width: int) -> tuple[Table, bool]:
    vae, stock_unet = new_vae(SVD_XT_SIZES), new_unet(SVD_XT_SIZES)
    unet, decoder = UNet(copy.deepcopy(stock_unet)).to(_DTYPE), Decoder(copy.deepcopy(vae.decoder)).to(_DTYPE)
    stock_unet.to("meta", _DTYPE)  # with its blending factors, which are made on the CPU anyhow; ours has read them
    encoder_gb = _weights_gb(vae.encoder)  # stays in fp32
    vae.to("meta", _DTYPE)
    weights_gb = encoder_gb + sum(map(_weights_gb, (unet, decoder, new_image_encoder(SVD_XT_SIZES).to(_DTYPE))))

    def tensor(*shape: int) -> Tensor:
        return torch.empty(*shape, dtype=_DTYPE)

    inputs = tensor(_GUIDED, frames, stock_unet.config.in_channels, height, width)
    embeddings, time_ids = tensor(_GUIDED, 1, SVD_XT_SIZES.clip_projection), torch.empty(_GUIDED, 3)
    latents, indicator = tensor(frames, vae.config.latent_channels, height, width), torch.zeros(1, frames)
    terms = unet.terms(torch.empty(1), embeddings, time_ids, frames)[0]
    stock = {
        "UNet": _peak_gb(lambda: stock_unet(inputs, torch.empty(()), embeddings, time_ids)),
        "decoder": _peak_gb(lambda: vae.decoder(latents, image_only_indicator=indicator, num_frames=frames)),
    }
    resident = {"UNet": _peak_gb(lambda: unet(inputs, terms)), "decoder": _peak_gb(lambda: decoder(latents))}
    for module in unet.modules():
        if isinstance(module, FeedForward):
            module.pieces = _TIGHTEST_PIECES
    tightest = {"UNet": _peak_gb(lambda: unet(inputs, terms)), "decoder": _peak_gb(lambda: decoder(latents[:1]))}

    table = Table("GB", "stock", "ours, resident", f"ours, {_TIGHTEST_PIECES} pieces, 1 frame a chunk")
    for name in stock:
        table.add_row(f"{name}, activations", *(f"{ways[name]:.1f}" for ways in (stock, resident, tightest)))
    table.add_row("weights", "", f"{weights_gb:.1f}", "come layer by layer")
    resident_gb, tightest_gb = weights_gb + max(resident.values()), max(tightest.values())
    table.add_row("together", "", f"{resident_gb:.1f}", f"{tightest_gb:.1f}")
    table.add_row("aim", "", f"<= {_MAX_RESIDENT_GB:g}", f"<= {_MAX_TIGHTEST_GB:g}")
    return table, resident_gb > _MAX_RESIDENT_GB or tightest_gb > _MAX_TIGHTEST_GB


def _peak_gb(call: Callable[[], object]) -> float:
    memory = Peak()
    with memory:
        call()
    return memory.peak / 1e9


def _weights_gb(network: nn.Module) -> float:
    sizes: list[int] = [parameter.nbytes for parameter in network.parameters()]
    return sum(sizes) / 1e9


if __name__ == "__main__":
    sys.exit(main())
