"""RIFE as a job runs it, and compiled where time is left; `benchmarks.rife_speed` has each acceleration by itself."""

from benchmarks import rife_speed
from benchmarks.pan import pan
from benchmarks.speed.bench import Bench
from benchmarks.speed.results import at_least

# What the compiled one must have, seconds.
_COMPILED_S = 75.0


def measure(bench: Bench) -> None:
    """New frames a second for each number of pairs together."""
    case, on_gpu = bench.case, bench.device.type == "cuda"
    frames_FHWC = pan(case.num_frames, width=case.width, height=case.height)
    way = rife_speed.JOB if on_gpu else rife_speed.CPU_WAYS[0]
    rates = []
    for batch in rife_speed.BATCHES:
        rate, first_s = rife_speed.measure(way, frames_FHWC, bench.device.type, batch)
        name = f"RIFE 4.25, {way.name}, {batch} pairs together"
        bench.results.add(name, rate, "new frames/s", first_s=round(first_s, 1))
        rates.append(rate)
    aim = at_least(max(rates), rife_speed.MIN_FRAMES_PER_S)
    bench.results.add("RIFE 4.25", max(rates), "new frames/s", aim)
    if on_gpu and bench.budget.left_s() > _COMPILED_S:
        batch, compiled = rife_speed.BATCHES[0], rife_speed.WAYS[-1]
        rate, _ = rife_speed.measure(compiled, frames_FHWC, bench.device.type, batch)
        bench.results.add(f"RIFE 4.25, compiled, {batch} pairs together", rate, "new frames/s")
