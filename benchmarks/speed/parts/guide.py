"""diffusers' guide with its recipe for `torch.compile`, beside ours."""

from typing import Any

import torch

from benchmarks.speed.bench import STEPS, Bench, Cost
from benchmarks.speed.clock import each_s, seconds_of
from benchmarks.speed.results import at_least

# Twice to compile and to record the CUDA graph.
_WARM_UP = 3


@torch.no_grad()
def measure(bench: Bench) -> None:
    """A clip's seconds from its evaluation; the decoder stays as it is there."""
    exact_s, stock = bench.exact_cost.clip_s(bench.case.steps), bench.stock_cost
    # A rehearsal looks whether it is one graph, and waits for no compiler.
    how: dict[str, Any] = {"mode": "reduce-overhead"} if bench.case.is_full else {"backend": "aot_eager"}
    step = bench.stock_step(torch.compile(bench.stock.unet, fullgraph=True, **how))
    bench.results.add("guide's compile: the first evaluations", sum(seconds_of(step) for _ in range(_WARM_UP)), "s")
    cost = Cost(stock.encode_s, each_s(step, STEPS), stock.decode_s)
    bench.results.add("guide's compile: one evaluation", 1000 * cost.step_s, "ms")
    guide_s = cost.clip_s(bench.case.steps)
    bench.results.add("guide's compile: a clip, from its parts", guide_s, "s")
    bench.results.add(
        "exact against the guide's compile", guide_s / exact_s, "x", at_least(guide_s / exact_s, 1.8, "x")
    )
