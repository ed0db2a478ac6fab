"""Seconds and memory of a clip against stock diffusers, side by side in one process.

    python -m benchmarks.speed [--parts exact fast memory guide rife attention] [--repeats 1]

On a GPU of 80 GB: full-size SVD-XT (25 frames, 576x1024, 25 steps) with random weights in fp16, all parts in this order
unless some are named. Compiling is most of the time; it has not been run on a GPU yet and should take less than ten
minutes, and a part that fails does not keep the others from running. Without a GPU: the demo's checkpoint at the demo's
size, in fp32 on one thread, as Ray's workers have it. Rows come as they are measured; the table at the end repeats them
with the aims, and the command ends non-zero where one is missed.

"Stock" is the script of diffusers' guide: `StableVideoDiffusionPipeline`, PIL frames out; "guide's compile" is the same
with its recipe for `torch.compile`. "Exact" is `actors.svd`. All get the same picture and the same noise.
"""

import argparse
import copy
import gc
import platform
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPImageProcessorPil

from actors.generators.svd.settings import SvdParameters
from actors.svd.model import SvdModel, assemble, bring_in, compile_networks, set_feed_forward_pieces
from actors.svd.sampler import WHOLE, Pixels, Shortcuts, clip_noise, decode, generate
from benchmarks import rife_speed
from benchmarks.demo_figures import psnr
from benchmarks.make_checkpoints import (
    SVD_SCHEDULER,
    SVD_XT_SIZES,
    draw_weights,
    new_image_encoder,
    new_unet,
    new_vae,
)
from benchmarks.pan import pan
from benchmarks.train_demo import data

ROOT = Path(__file__).parent.parent
SEED = 7
# Counted by benchmarks.flops.
_VAE_TFLOP = 173.6
# Of each head of SVD's UNet.
_HEAD_CHANNELS = 64
# Timed together: a single one of the small sizes takes as long as its launch.
_ATTENTIONS = 10


@dataclass(frozen=True, slots=True)
class Case:
    """The clip that is made."""

    width: int
    height: int
    num_frames: int
    steps: int
    max_guidance: float
    dtype: torch.dtype
    decode_chunk: int  # stock's; all frames, so that the pixels can be compared


DEMO = Case(160, 96, 8, 8, 1.0, torch.float32, 8)
FAST = Shortcuts(cache_interval=3, guided_share=0.5)
FULL = Case(1024, 576, 25, 25, 3.0, torch.float16, 25)


@dataclass(slots=True)
class Results:
    """Rows of the table."""

    console: Console
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    missed: bool = False

    def add(self, name: str, figure: str, aim: str = "", *, reached: bool = True) -> None:
        """Print a row, and keep it."""
        self.rows.append((name, figure, aim + ("" if reached else "  MISSED")))
        self.missed |= not reached
        self.console.print(f"{name}: {figure}", highlight=False)

    def print(self) -> None:
        """All rows as a table."""
        table = Table("what", "figure", "aim")
        for row in self.rows:
            table.add_row(*row)
        self.console.print(table)


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=list(_PARTS), choices=_PARTS, help="of what is measured on a GPU")
    parser.add_argument("--repeats", type=int, default=1, help="after one to warm up; the fastest counts")
    arguments = parser.parse_args()
    results = Results(Console(soft_wrap=True))
    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}"
    if torch.cuda.is_available():
        results.add("machine", f"{torch.cuda.get_device_name()}, {versions}")
        run_parts(arguments.parts, Bench(results, FULL, torch.device("cuda"), arguments.repeats))
    else:
        results.add("machine", f"{platform.machine()}, 1 thread, {versions}")
        torch.set_num_threads(1)
        _on_cpu(results, arguments.repeats)
    results.print()
    return int(results.missed)


def _on_cpu(results: Results, repeats: int) -> None:
    stock = StableVideoDiffusionPipeline.from_pretrained(ROOT / "checkpoints/svd-demo", torch_dtype=DEMO.dtype)
    stock.set_progress_bar_config(disable=True)
    own = own_model(stock, DEMO, torch.device("cpu"))
    image, noise = picture(DEMO), own_noise(own, DEMO)
    # In turns, so that a busy moment of the machine meets both.
    seconds: dict[str, list[float]] = {"stock": [], "exact": []}
    for _ in range(repeats + 1):
        seconds["stock"].append(seconds_of(lambda: by_stock(stock, image, DEMO, noise)))
        seconds["exact"].append(seconds_of(lambda: by_own(own, image, DEMO)))
    stock_s, exact_s = min(seconds["stock"]), min(seconds["exact"])
    results.add("stock, CPU s a clip", f"{stock_s:.2f}")
    results.add("exact, CPU s a clip", f"{exact_s:.2f}")
    results.add("exact against stock", f"{stock_s / exact_s:.2f}x", ">= 1.2x", reached=stock_s >= 1.2 * exact_s)
    _compare_pixels(results, by_stock(stock, image, DEMO, noise), by_own(own, image, DEMO))


class Bench:
    """What the parts on a GPU measure with: both models, made once."""

    def __init__(self, results: Results, case: Case, device: torch.device, repeats: int) -> None:
        self.results, self.case, self.device, self.repeats = results, case, device, repeats
        self.image = picture(case)
        self._is_compiled = False

    @cached_property
    def stock(self) -> Any:
        """diffusers' pipeline."""
        return full_size_pipeline(self.device, self.case)

    @cached_property
    def own(self) -> SvdModel:
        """Our model, with the same weights."""
        return own_model(self.stock, self.case, self.device)

    @cached_property
    def noise(self) -> Tensor:
        """What both begin with."""
        return own_noise(self.own, self.case)

    @cached_property
    def stock_clip(self) -> Pixels:
        """The clip that diffusers makes; the first one warms up."""
        return by_stock(self.stock, self.image, self.case, self.noise)

    @cached_property
    def stock_s(self) -> float:
        """Seconds of a clip with diffusers, uncompiled."""
        warm = self.stock_clip
        assert warm.any(), "diffusers made a black clip"
        seconds, _ = best(lambda: by_stock(self.stock, self.image, self.case, self.noise), self.repeats)
        self.results.add("stock eager, s a clip", f"{seconds:.2f}")
        return seconds

    @cached_property
    def exact_s(self) -> float:
        """Seconds of a clip with our model, compiled."""
        self.compile()
        seconds, _ = best(self.by_own, self.repeats)
        aim = "<= 7 on an H200"
        self.results.add("exact, s a clip", f"{seconds:.2f}", aim, reached=seconds <= 7 or not _is_h200())
        return seconds

    def compile(self) -> None:
        """Our model, once."""
        if not self._is_compiled:
            compile_networks(self.own)
            self.results.add("exact, s to compile", f"{seconds_of(lambda: self.by_own(steps=1)):.0f}")
        self._is_compiled = True

    def by_own(self, *, steps: int | None = None, shortcuts: Shortcuts = WHOLE) -> Pixels:
        """Our clip."""
        return by_own(self.own, self.image, self.case, steps=steps, shortcuts=shortcuts)


def run_parts(parts: Collection[str], bench: Bench) -> None:
    """One after the other, in the order of `_PARTS` whatever theirs is; what one of them raises becomes a row."""
    for part, measure in _PARTS.items():
        if part not in parts:
            continue
        begun = time.perf_counter()
        try:
            measure(bench)
        except Exception as error:
            traceback.print_exc()
            bench.results.add(part, f"{type(error).__name__}", "to be measured", reached=False)
        gc.collect()
        bench.results.add(f"part {part}, s in all", f"{time.perf_counter() - begun:.0f}")


def _exact(bench: Bench) -> None:
    """Stock diffusers, uncompiled, beside ours."""
    results, own, stock_s = bench.results, bench.own, bench.stock_s
    bench.by_own(steps=1)
    eager_s, _ = best(bench.by_own, 1)
    results.add("exact uncompiled, s a clip", f"{eager_s:.2f}  ({stock_s / eager_s:.2f}x)")
    ratio = stock_s / bench.exact_s
    results.add("exact against stock eager", f"{ratio:.2f}x", ">= 2.2x", reached=ratio >= 2.2)
    _compare_pixels(results, bench.stock_clip, bench.by_own())
    latent_hw = (side // own.pixel_multiple for side in (bench.case.height, bench.case.width))
    latents = torch.randn(bench.case.num_frames, own.latent_channels, *latent_hw, device=bench.device)
    with torch.no_grad():
        vae_s, _ = best(lambda: decode(own, latents), bench.repeats)
    rate = _matmul_tflops(bench.device)
    share = _VAE_TFLOP / vae_s / rate
    results.add("fp16 matrix product, TFLOP/s", f"{rate:.0f}")
    results.add("VAE decode, s", f"{vae_s:.2f}")
    results.add("VAE decode, of the matrix product's rate", f"{share:.0%}", ">= 35 %", reached=share >= 0.35)


def _fast(bench: Bench) -> None:
    """The tier `fast` beside stock diffusers, uncompiled."""
    stock_s = bench.stock_s
    bench.compile()
    bench.by_own(shortcuts=FAST)
    fast_s, _ = best(lambda: bench.by_own(shortcuts=FAST), bench.repeats)
    bench.results.add(f"{FAST}, s a clip", f"{fast_s:.2f}")
    ratio = stock_s / fast_s
    bench.results.add("fast against stock eager", f"{ratio:.2f}x", ">= 4x", reached=ratio >= 4)


def _guide(bench: Bench) -> None:
    """diffusers' guide with its recipe for `torch.compile`, beside ours."""
    exact_s, stock = bench.exact_s, bench.stock
    eager_unet = stock.unet
    stock.unet = torch.compile(eager_unet, mode="reduce-overhead", fullgraph=True)
    try:
        by_stock(stock, bench.image, bench.case, bench.noise, steps=2)
        guide_s, _ = best(lambda: by_stock(stock, bench.image, bench.case, bench.noise), bench.repeats)
    finally:
        stock.unet = eager_unet
    bench.results.add("guide's compile, s a clip", f"{guide_s:.2f}")
    ratio = guide_s / exact_s
    bench.results.add("exact against the guide's compile", f"{ratio:.2f}x", ">= 1.8x", reached=ratio >= 1.8)


def _memory(bench: Bench) -> None:
    """Peaks of the widest and of the tightest way, in two steps, with diffusers' model out of the way."""
    bench.compile()
    own = bench.own
    bench.stock.to("cpu")
    try:
        _, resident_gb = best(lambda: bench.by_own(steps=2), 1)
        bench.results.add("peak GB, resident", f"{resident_gb:.1f}", "<= 24", reached=resident_gb <= 24)
        bring_in(own)
        streamed = own_model(bench.stock, bench.case, bench.device, streamed=True)
        set_feed_forward_pieces(streamed, 8)
        lowest_s, lowest_gb = best(lambda: by_own(streamed, bench.image, bench.case, steps=2, chunk=1), 1)
        name = "peak GB, sequential, 8 pieces, chunks of 1"
        bench.results.add(name, f"{lowest_gb:.1f}", "<= 8", reached=lowest_gb <= 8)
        bench.results.add("the same, s for two steps", f"{lowest_s:.1f}")
    finally:
        bring_in(own, own.image_encoder, own.vae_encoder, own.unet, own.vae_decoder)
        bench.stock.to(bench.device)


def _rife(bench: Bench) -> None:
    """RIFE as a job runs it; `benchmarks.rife_speed` has what each acceleration gives."""
    frames_FHWC = pan(bench.case.num_frames, width=bench.case.width, height=bench.case.height)
    way = rife_speed.WAYS[-1]
    rates = [rife_speed.measure(way, frames_FHWC, bench.device.type, batch)[0] for batch in rife_speed.BATCHES]
    name = f"RIFE 4.25, {' and '.join(map(str, rife_speed.BATCHES))} pairs together, new frames/s"
    aim = rife_speed.MIN_FRAMES_PER_S
    bench.results.add(name, ", ".join(f"{rate:.0f}" for rate in rates), f">= {aim:g}", reached=max(rates) >= aim)


def _attention(bench: Bench) -> None:
    """PyTorch's attention kernels at the UNet's four sizes, of which it takes one by itself."""
    case = bench.case
    pairs = 2 * case.num_frames  # with guidance
    for level, heads in enumerate((5, 10, 20, 20)):
        pixels = (case.width // (8 << level)) * (case.height // (8 << level))
        for where, batch, tokens in (("spatial", pairs, pixels), ("temporal", 2 * pixels, case.num_frames)):
            shape = (batch, heads, tokens, _HEAD_CHANNELS)
            seconds = {
                name: attention_s(shape, kernels, bench.device, bench.repeats) for name, kernels in _KERNELS.items()
            }
            figures = (f"{name} {1000 * s:.2f}" if s is not None else f"{name} -" for name, s in seconds.items())
            bench.results.add(f"{where} attention {shape}, ms", ", ".join(figures))


def attention_s(
    shape: tuple[int, int, int, int], kernels: list[Any], device: torch.device, repeats: int
) -> float | None:
    """Seconds of one attention (batch, heads, tokens, channels) as the UNet calls it; None where no kernel can."""
    batch, heads, tokens, channels = shape
    packed = torch.randn(batch, tokens, 3, heads, channels, device=device, dtype=FULL.dtype)
    query, key, value = packed.transpose(1, 3).unbind(2)

    def calls() -> None:
        for _ in range(_ATTENTIONS):
            F.scaled_dot_product_attention(query, key, value)

    with sdpa_kernel(kernels), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # why a kernel cannot do it
        try:
            F.scaled_dot_product_attention(query, key, value)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return None
        return min(seconds_of(calls) for _ in range(repeats + 1)) / _ATTENTIONS


_KERNELS: dict[str, list[Any]] = {
    "PyTorch's choice": [kernel for kernel in SDPBackend.__members__.values() if kernel is not SDPBackend.ERROR],
    "flash": [SDPBackend.FLASH_ATTENTION],
    "cuDNN": [SDPBackend.CUDNN_ATTENTION],
    "efficient": [SDPBackend.EFFICIENT_ATTENTION],
}
_PARTS: dict[str, Callable[[Bench], None]] = {
    "exact": _exact,
    "fast": _fast,
    "memory": _memory,  # before the guide's CUDA graphs, which keep theirs
    "guide": _guide,
    "rife": _rife,
    "attention": _attention,
}


def full_size_pipeline(device: torch.device, case: Case) -> Any:
    """diffusers' pipeline with random weights of SVD-XT's sizes."""
    generator = torch.Generator(device).manual_seed(0)
    with device:
        networks = {
            "unet": draw_weights(new_unet(SVD_XT_SIZES).to(case.dtype), generator),
            "vae": draw_weights(new_vae(SVD_XT_SIZES).to(case.dtype), generator),
            "image_encoder": draw_weights(new_image_encoder(SVD_XT_SIZES).to(case.dtype), generator),
        }
    pipeline = StableVideoDiffusionPipeline(
        **{name: network.to(device).eval().requires_grad_(False) for name, network in networks.items()},
        scheduler=EulerDiscreteScheduler(**SVD_SCHEDULER),
        feature_extractor=CLIPImageProcessorPil(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def own_model(stock: Any, case: Case, device: torch.device, *, streamed: bool = False) -> SvdModel:
    """Our model with the pipeline's weights."""
    preprocessor = stock.feature_extractor
    return assemble(
        *(copy.deepcopy(network).requires_grad_(False) for network in (stock.unet, stock.vae, stock.image_encoder)),
        scheduler_config=dict(stock.scheduler.config),
        preprocessor_config={"image_mean": preprocessor.image_mean, "image_std": preprocessor.image_std},
        dtype=case.dtype,
        device=device,
        streamed=streamed,
    )


def picture(case: Case) -> Pixels:
    """A held-out photograph at the clip's size, H W C."""
    photograph = Image.fromarray(data.held_out_photograph("rocket.jpg"))
    return np.asarray(photograph.resize((case.width, case.height), Image.Resampling.BICUBIC))


def own_noise(model: SvdModel, case: Case) -> Tensor:
    """What our sampler begins with, 1 F C h w: in half precision the stock pipeline would draw other numbers."""
    _, noise_FChw = clip_noise(model, SEED, height=case.height, width=case.width, num_frames=case.num_frames)
    return noise_FChw[None].to(case.dtype)


def by_stock(pipeline: Any, image: Pixels, case: Case, noise: Tensor, *, steps: int | None = None) -> Pixels:
    """The clip as the guide's script makes it, F H W C."""
    frames = pipeline(
        Image.fromarray(image),
        width=case.width,
        height=case.height,
        num_frames=case.num_frames,
        num_inference_steps=steps or case.steps,
        min_guidance_scale=1.0,
        max_guidance_scale=case.max_guidance,
        decode_chunk_size=case.decode_chunk,
        latents=noise,
        generator=torch.Generator().manual_seed(SEED),
    ).frames[0]
    return np.stack([np.asarray(frame) for frame in frames])


def by_own(
    model: SvdModel,
    image: Pixels,
    case: Case,
    *,
    steps: int | None = None,
    chunk: int | None = None,
    shortcuts: Shortcuts = WHOLE,
) -> Pixels:
    """The same clip, F H W C."""
    clip = SvdParameters(
        seed=SEED,
        fps=7,
        motion_bucket_id=127,
        noise_aug_strength=0.02,
        min_guidance_scale=1.0,
        max_guidance_scale=case.max_guidance,
    )
    clips = generate(
        model,
        image[np.newaxis],
        [clip],
        num_frames=case.num_frames,
        num_inference_steps=steps or case.steps,
        decode_chunk_frames=chunk,
        shortcuts=shortcuts,
    )
    frames_FHWC: Pixels = clips.frames_BFHWC[0]
    return frames_FHWC


def _compare_pixels(results: Results, stock: Pixels, own: Pixels) -> None:
    psnr_db = psnr(stock, own)
    results.add("frames against stock's, PSNR dB", f"{psnr_db:.1f}", ">= 40", reached=psnr_db >= 40)


def best(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Seconds of the fastest call, and the peak of the GPU's memory in GB."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds = min(seconds_of(call) for _ in range(repeats))
    return seconds, torch.cuda.max_memory_allocated() / 1e9


def seconds_of(call: Callable[[], object]) -> float:
    """Of the GPU; without one, of the CPU, whatever else the machine is doing."""
    if not torch.cuda.is_available():
        begun = time.process_time()
        call()
        return time.process_time() - begun
    begun = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - begun


def _is_h200() -> bool:
    return torch.cuda.is_available() and "H200" in torch.cuda.get_device_name()


def _matmul_tflops(device: torch.device, size: int = 8192) -> float:
    """The rate of a large fp16 matrix product: what the card really gives."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.float16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(20):
        a @ b
    torch.cuda.synchronize()
    return 20 * 2 * size**3 / (time.perf_counter() - begun) / 1e12


if __name__ == "__main__":
    sys.exit(main())
