"""What the tiers cost and change, on the demo's checkpoint and photographs that it was not trained on.

    python -m benchmarks.tiers [--checkpoint checkpoints/svd-demo] [--photographs 3]

Each shortcut of the tier `fast` against `exact`: the same image, seed and number of steps. All clips are guided, from 1
to 3 as in SVD's defaults. Axes: B clips, F frames, H height, W width, C channels.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import structural_similarity
from skimage.registration import optical_flow_tvl1
from torch import Tensor, nn

from actors.svd import fp8
from actors.svd import model as svd
from actors.svd.sampler import Shortcuts, generate
from actors.svd.unet import UNet
from benchmarks import demo_figures as figures
from benchmarks.psnr import psnr
from benchmarks.train_demo import data

Pixels = figures.Pixels

STEPS = 8  # as in conf/demo.yaml; with more steps, neighbouring ones differ less, and so does a cached clip
GUIDED = figures.DEFAULTS.model_copy(update={"max_guidance_scale": 3.0})
SHORTCUTS = {
    "cache_interval=2": Shortcuts(cache_interval=2),
    "cache_interval=3": Shortcuts(cache_interval=3),
    "guided_share=0.5": Shortcuts(guided_share=0.5),
    "cache_interval=2, guided_share=0.5": Shortcuts(cache_interval=2, guided_share=0.5),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a clip is from the exact one."""

    psnr_db: float  # of 8-bit RGB
    ssim: float  # mean over the frames; 1: the same
    flow_px: float  # mean length of the difference of both clips' optical flows, between neighbouring frames


@dataclass(frozen=True, slots=True)
class Measured:
    """One way to make a clip of each photograph."""

    name: str
    seconds: float | None  # of this process's CPU time, per clip; None: it says nothing
    differences: Sequence[Difference]  # one per photograph; none for `exact` itself


class Float8Twin(nn.Module):
    """A linear layer with the arithmetic that torchao's has under `fast.fp8`, on any device, and slower than plain.

    Weights per output channel and activations per token are scaled to the range of e4m3 and rounded; products are
    summed up in fp32.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        self.weight = rounded_to_float8(linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """As in `nn.Linear`."""
        y = nn.functional.linear(rounded_to_float8(x), self.weight).to(x.dtype)
        return y if self.bias is None else y + self.bias


def rounded_to_float8(x: Tensor) -> Tensor:
    """Each row (last axis) scaled to the range of float8 e4m3, rounded, and scaled back; fp32."""
    x = x.float()
    scale = x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / torch.finfo(torch.float8_e4m3fn).max
    return (x / scale).to(torch.float8_e4m3fn).float() * scale


def use_twins(unet: UNet) -> None:
    """Put a twin in the place of every layer that `fast.fp8` replaces."""
    replaced = {id(linear) for linear in fp8.token_linears(unet)}
    for parent in list(unet.modules()):
        for name, child in list(parent.named_children()):
            if id(child) in replaced:
                setattr(parent, name, Float8Twin(child))  # type: ignore[arg-type]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/svd-demo"))
    parser.add_argument("--photographs", type=int, default=3, help="how many of the held-out ones")
    arguments = parser.parse_args()
    names = [name for name in data.HELD_OUT if name != "camera.png"][: arguments.photographs]  # in colour
    images = [figures.to_pixels(data.fitted(data.held_out_photograph(name))) for name in names]
    print(f"{len(images)} photographs, {data.NUM_FRAMES} frames of {data.WIDTH}x{data.HEIGHT}, {STEPS} steps")
    print("| tier | CPU s a clip | of exact | PSNR, dB | SSIM | flow difference, px |")
    print("|---|---|---|---|---|---|")
    exact_s = 0.0
    for measured in measure(arguments.checkpoint, images):
        exact_s = exact_s or measured.seconds or 0.0
        print(f"| {' | '.join(_cells(measured, exact_s))} |", flush=True)


def measure(checkpoint: Path, images: Sequence[Pixels]) -> Iterator[Measured]:
    """`exact` first, then each shortcut; fp8 is measured from bf16, in which it computes."""
    model = svd.load(checkpoint, precision="fp32", device="cpu")
    exact, seconds = _clips(model, images, Shortcuts())
    yield Measured("exact", seconds, [])
    for name, shortcuts in SHORTCUTS.items():
        clips, seconds = _clips(model, images, shortcuts)
        yield Measured(f"fast({name})", seconds, _differences(clips, exact))
    half = svd.load(checkpoint, precision="bf16", device="cpu")
    exact_bf16, seconds = _clips(half, images, Shortcuts())
    yield Measured("exact, bf16", seconds, _differences(exact_bf16, exact))
    use_twins(half.unet)
    clips, _ = _clips(half, images, Shortcuts())
    yield Measured("fast(fp8=True), against exact in bf16", None, _differences(clips, exact_bf16))


def difference(clip_FHWC: Pixels, exact_FHWC: Pixels) -> Difference:
    """How far one clip is from the other."""
    similar = [
        structural_similarity(frame, exact, channel_axis=-1) for frame, exact in zip(clip_FHWC, exact_FHWC, strict=True)
    ]
    flows = zip(_flows(clip_FHWC), _flows(exact_FHWC), strict=True)
    apart = [np.hypot(*(flow - exact)).mean() for flow, exact in flows]
    return Difference(psnr(clip_FHWC, exact_FHWC), float(np.mean(similar)), float(np.mean(apart)))


def _flows(clip_FHWC: Pixels) -> list[np.ndarray]:
    gray_FHW = clip_FHWC.mean(axis=-1) / 255
    return [optical_flow_tvl1(one, other) for one, other in pairwise(gray_FHW)]


def _differences(clips: Sequence[Pixels], exact: Sequence[Pixels]) -> list[Difference]:
    return [difference(clip, of_exact) for clip, of_exact in zip(clips, exact, strict=True)]


def _clips(model: svd.SvdModel, images: Sequence[Pixels], shortcuts: Shortcuts) -> tuple[list[Pixels], float]:
    """A clip of each image, and the CPU seconds of one."""
    started = time.process_time()
    clips = [
        generate(
            model,
            image_HWC[None],
            [GUIDED],
            num_frames=data.NUM_FRAMES,
            num_inference_steps=STEPS,
            shortcuts=shortcuts,
        ).frames_BFHWC[0]
        for image_HWC in images
    ]
    return clips, (time.process_time() - started) / len(clips)


def _cells(measured: Measured, exact_s: float) -> list[str]:
    seconds = ["", ""]
    if measured.seconds is not None:
        seconds = [f"{measured.seconds:.1f}", f"{measured.seconds / exact_s:.2f}"]
    if not measured.differences:
        return [measured.name, *seconds, "", "", ""]
    psnr, ssim, flow = (
        np.mean([getattr(one, name) for one in measured.differences]) for name in ("psnr_db", "ssim", "flow_px")
    )
    return [measured.name, *seconds, f"{psnr:.1f}", f"{ssim:.4f}", f"{flow:.3f}"]


if __name__ == "__main__":
    main()
