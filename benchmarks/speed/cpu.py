"""The demo's checkpoint at the demo's size, in fp32 on one thread, as Ray's workers have it."""

from pathlib import Path

import torch
from diffusers import StableVideoDiffusionPipeline

from benchmarks.psnr import psnr
from benchmarks.speed.cases import DEMO
from benchmarks.speed.clips import by_own, by_stock, own_model, own_noise, picture
from benchmarks.speed.clock import seconds_of
from benchmarks.speed.results import Results, at_least

_CHECKPOINT = Path(__file__).parents[2] / "checkpoints/svd-demo"


def measure(results: Results, repeats: int) -> None:
    """Seconds of a clip by both, the fastest of `repeats` after one to warm up, and how near the clips are."""
    torch.set_num_threads(1)
    stock = StableVideoDiffusionPipeline.from_pretrained(_CHECKPOINT, torch_dtype=DEMO.dtype)
    stock.set_progress_bar_config(disable=True)
    own = own_model(stock, DEMO, torch.device("cpu"))
    image, noise = picture(DEMO), own_noise(own, DEMO)
    # In turns, so that a busy moment of the machine meets both.
    seconds: dict[str, list[float]] = {"stock": [], "exact": []}
    for _ in range(repeats + 1):
        seconds["stock"].append(seconds_of(lambda: by_stock(stock, image, DEMO, noise)))
        seconds["exact"].append(seconds_of(lambda: by_own(own, image, DEMO)))
    stock_s, exact_s = min(seconds["stock"]), min(seconds["exact"])
    results.add("stock, CPU s a clip", stock_s)
    results.add("exact, CPU s a clip", exact_s)
    results.add("exact against stock", stock_s / exact_s, "x", at_least(stock_s / exact_s, 1.2, "x"))
    psnr_db = psnr(by_stock(stock, image, DEMO, noise), by_own(own, image, DEMO))
    results.add("frames against stock's, PSNR", psnr_db, "dB", at_least(psnr_db, 40, " dB"))
