"""Seconds and peaks."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch


@dataclass(slots=True)
class Budget:
    """Seconds for everything."""

    seconds: float
    begun: float = field(default_factory=time.perf_counter)

    def left_s(self) -> float:
        """What is left of them."""
        return self.seconds - (time.perf_counter() - self.begun)


def seconds_of(call: Callable[[], object]) -> float:
    """Of the GPU; without one, of the CPU, whatever else the machine is doing."""
    if not torch.cuda.is_available():
        begun = time.process_time()
        call()
        return time.process_time() - begun
    torch.cuda.synchronize()
    begun = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - begun


def each_s(call: Callable[[], object], times: int) -> float:
    """Of one call out of so many that are begun one after the other, without a wait in between."""

    def calls() -> None:
        for _ in range(times):
            call()

    return seconds_of(calls) / times


def peak_gb(call: Callable[[], object]) -> tuple[float, float]:
    """The most of the GPU's memory that tensors took, and that torch held; 0 without a GPU."""
    gc.collect()
    torch.cuda.empty_cache()
    if not torch.cuda.is_available():
        call()
        return 0.0, 0.0
    torch.cuda.reset_peak_memory_stats()
    call()
    return torch.cuda.max_memory_allocated() / 1e9, torch.cuda.max_memory_reserved() / 1e9
