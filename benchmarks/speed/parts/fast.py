"""The tier `fast`, from the seconds of each kind of step: a clip would compile a UNet of one half for one or two."""

from collections import Counter

import torch
from torch import Tensor

from actors.svd.conditioning import Conditioning
from actors.svd.sampler import _steps, noise_schedule
from benchmarks.speed.bench import STEPS, Bench
from benchmarks.speed.cases import FAST
from benchmarks.speed.clock import each_s, seconds_of
from benchmarks.speed.results import at_least


@torch.no_grad()
def measure(bench: Bench) -> None:
    """Seconds of a clip; a whole evaluation of one half is taken as half of one of both, not measured."""
    cost = bench.exact_cost
    counts = _kinds_of_steps(bench)
    seconds = {(True, True): cost.step_s, (False, True): cost.step_s / 2}
    of_step = bench.step_inputs()
    deep_NFHWC = bench.own.unet(of_step.inputs_NFChw, bench.terms(of_step)).deep_NFHWC
    for halves in (2, 1):
        seconds[halves == 2, False] = _last_layer_s(bench, halves, deep_NFHWC[-halves:])
    names = {
        kind: f"{'guided' if kind[0] else 'not guided'}, {'whole' if kind[1] else 'last layer'}" for kind in seconds
    }
    in_ms = {names[kind]: 1000 * s for kind, s in seconds.items()}
    bench.results.add(f"{FAST}, each kind of step", in_ms, "ms")
    bench.results.add("steps of each kind", {names[kind]: count for kind, count in counts.items()})
    fast_s = cost.encode_s + cost.decode_s + sum(seconds[kind] * count for kind, count in counts.items())
    bench.results.add("fast, a clip, from its parts", fast_s, "s")
    ratio = bench.stock_cost.clip_s(bench.case.steps) / fast_s
    bench.results.add("fast against stock eager", ratio, "x", at_least(ratio, 4, "x"))


def _last_layer_s(bench: Bench, halves: int, deep_NFHWC: Tensor) -> float:
    """One evaluation with deep features of an earlier step."""
    unet, of_step = bench.own.unet, bench.step_inputs(halves)
    terms = bench.terms(of_step)
    first_s = seconds_of(lambda: unet(of_step.inputs_NFChw, terms, deep_NFHWC))
    bench.results.add(f"the last layer, {halves} halves, for the first time", first_s, "s")
    return each_s(lambda: unet(of_step.inputs_NFChw, terms, deep_NFHWC), STEPS)


def _kinds_of_steps(bench: Bench) -> Counter[tuple[bool, bool]]:
    """How many steps of a clip are guided or not, whole or not."""
    of_step = bench.step_inputs()
    guidance = torch.ones(1, 1, 1, 1, 1, device=bench.device)
    conditioning = Conditioning(of_step.embeddings_N1D, of_step.inputs_NFChw, of_step.time_ids_N3, guidance)
    schedule = noise_schedule(bench.own, bench.case.steps)
    steps = _steps(bench.own, conditioning, schedule, FAST, num_frames=bench.case.num_frames)
    return Counter((step.conditioning.guidance_BF111 is not None, step.is_whole) for step in steps)
