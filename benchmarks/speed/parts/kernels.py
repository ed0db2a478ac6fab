"""Where the time of an evaluation and of a decode goes, by kind of kernel; the list of all of them beside `--out`."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from actors.svd.sampler import decode
from benchmarks.speed.bench import Bench

# The first kind of which a word is in the kernel's name counts.
_KINDS = {
    "attention": ("sdpa", "flash", "fmha", "attention"),
    "convolutions": ("conv", "fprop", "implicit", "xmma"),
    "matrix products": ("gemm", "nvjet", "cutlass", "splitk", "cublas"),
    "copies": ("memcpy", "memset", "copy"),
}
# Of Inductor's kernels, which bear the names of what was fused.
_FUSED = {
    "group norm": ("group_norm",),
    "layer norm": ("layer_norm",),
    "GEGLU": ("gelu",),
    "statistics": ("var_mean", "mean", "sum"),
    "convolution's or product's own": ("convolution", "mm"),
}


@torch.no_grad()
def measure(bench: Bench) -> None:
    """One evaluation, one decode."""
    latents = bench.latents()
    calls: dict[str, Callable[[], object]] = {"evaluation": bench.own_step()}
    calls["decode"] = lambda: decode(bench.own, latents)
    how = "compiled" if bench.is_compiled else "uncompiled"
    for name, call in calls.items():
        call()
        events = _profiled(bench, call)
        of_kind: dict[str, float] = {}
        for event, ms in events:
            kind = kind_of(event.key)
            of_kind[kind] = of_kind.get(kind, 0.0) + ms
        largest_first = dict(sorted(of_kind.items(), key=lambda item: -item[1]))
        count = sum(event.count for event, _ in events)
        bench.results.add(f"kernels of the {name}, {how}", largest_first, "ms", kernels=count)
        _write(bench, f"{name}-{how}", events)


def kind_of(kernel: str) -> str:
    """What a kernel does, by its name."""
    name = kernel.lower()
    if name.startswith("triton_"):
        fused = next((kind for kind, words in _FUSED.items() if any(word in name for word in words)), "other")
        return f"compiled, {fused}"
    return next((kind for kind, words in _KINDS.items() if any(word in name for word in words)), "other")


def _profiled(bench: Bench, call: Callable[[], object]) -> list[tuple[Any, float]]:
    """Kernels and their milliseconds, the longest first; without a GPU, operators."""
    on_gpu = bench.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as recorded:
        call()
        if on_gpu:
            torch.cuda.synchronize()
    events = []
    for event in recorded.key_averages():
        is_kernel = str(event.device_type).endswith("CUDA")
        if on_gpu and is_kernel and event.self_device_time_total:
            events.append((event, event.self_device_time_total / 1000))
        elif not on_gpu:
            events.append((event, event.self_cpu_time_total / 1000))
    return sorted(events, key=lambda pair: -pair[1])


def _write(bench: Bench, name: str, events: list[tuple[Any, float]]) -> None:
    if (out := bench.results.out) is not None:
        lines = [f"{ms:9.3f} ms {event.count:5d} x {event.key}\n" for event, ms in events]
        out.with_name(f"{out.stem}-kernels-{name}.txt").write_text("".join(lines))
