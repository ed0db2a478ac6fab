"""Our model as a job runs it, and uncompiled, beside diffusers'."""

import numpy as np
import torch

from benchmarks.psnr import psnr
from benchmarks.speed.bench import Bench, relative_error
from benchmarks.speed.clips import by_stock
from benchmarks.speed.clock import seconds_of
from benchmarks.speed.results import Aim, at_least

_FEW_STEPS = 3


@torch.no_grad()
def measure_uncompiled(bench: Bench) -> None:
    """An evaluation against diffusers', the parts of a clip, and a clip of few steps against diffusers'."""
    assert not bench.is_compiled, "it has been compiled by an earlier part"
    error = relative_error(bench.own_step()(), bench.stock_velocity)
    bench.results.add("exact uncompiled: an evaluation against stock's, relative error", error)
    stock_s = bench.stock_cost.clip_s(bench.case.steps)
    own_s = bench.own_cost("exact uncompiled").clip_s(bench.case.steps)
    bench.results.add("exact uncompiled against stock eager", stock_s / own_s, "x")
    theirs = by_stock(bench.stock, bench.image, bench.case, bench.noise, steps=_FEW_STEPS)
    psnr_db = psnr(theirs, bench.own_clip(steps=_FEW_STEPS))
    bench.results.add(f"exact uncompiled: a clip of {_FEW_STEPS} steps against stock's, PSNR", psnr_db, "dB")


@torch.no_grad()
def measure_compiled(bench: Bench) -> None:
    """The parts of a clip, against diffusers' and against what the card gives."""
    case, cost = bench.case, bench.exact_cost
    bench.judge_clip("exact, s a clip, from its parts", cost.clip_s(case.steps))
    error = relative_error(bench.own_step()(), bench.stock_velocity)
    bench.results.add("exact compiled: an evaluation against stock's, relative error", error)
    ratio = bench.stock_cost.clip_s(case.steps) / cost.clip_s(case.steps)
    bench.results.add("exact against stock eager", ratio, "x", at_least(ratio, 2.2, "x"))
    share = 100 * case.vae_tflop / cost.decode_s / bench.matrix_tflops
    bench.results.add("decode, of the matrix product's rate", share, "%", at_least(share, 35, " %"))


def measure_clips(bench: Bench) -> None:
    """Two whole clips: seconds, the same bytes, parity."""
    bench.exact_cost  # noqa: B018 - compiles, and warms up
    made = []
    seconds = [seconds_of(lambda: made.append(bench.own_clip())) for _ in range(2)]
    bench.judge_clip("exact, s a whole clip", min(seconds))
    bench.results.add("exact, s of each whole clip", seconds)
    is_same = bool(np.array_equal(made[0], made[1]))
    bench.results.add("the same clip twice, to the bit", is_same, aim=Aim("True", is_same, of_speed=False))
    stock, stock_s = bench.stock_clip
    bench.judge_pixels("whole clips against stock's, PSNR", stock, made[1])
    bench.results.add("exact against stock eager, whole clips", stock_s / min(seconds), "x")
