"""A device whose memory can be made smaller: a GPU's really, a CPU's by pretending."""

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import pytest
import torch

from actors.svd import animator as animator_module
from actors.svd import sampler


class Memory(Protocol):
    """Of a device."""

    def peak(self, call: Callable[[], object]) -> float:
        """The most that there was at a time, with what others hold."""

    def limited(self, limit: float) -> AbstractContextManager[None]:
        """Within the block there is no more than that."""


class GpuMemory:
    """In bytes; what does not fit is refused by torch's allocator, as it is where the GPU is full."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._total = torch.cuda.get_device_properties(device).total_memory

    def peak(self, call: Callable[[], object]) -> float:
        """Of tensors."""
        _let_go()
        torch.cuda.reset_peak_memory_stats(self._device)
        call()
        return float(torch.cuda.max_memory_allocated(self._device))

    @contextmanager
    def limited(self, limit: float) -> Iterator[None]:
        """For this process."""
        _let_go()
        torch.cuda.set_per_process_memory_fraction(limit / self._total, self._device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, self._device)


class PretendedMemory:
    """Each way to make a clip takes one less than the one before, whatever the clip."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._limit = self._peak = 9.0
        self._generate = sampler.generate
        monkeypatch.setattr(animator_module, "generate", self._within_limit)

    def _within_limit(self, model: Any, *arguments: Any, **options: Any) -> Any:
        is_sequential = next(model.unet.parameters()).is_meta
        needed = 1.0 if is_sequential else 2.0 if options["offload"] else 3.0 if options["decode_chunk_frames"] else 4.0
        self._peak = max(self._peak, needed)
        if needed > self._limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self._generate(model, *arguments, **options)

    def peak(self, call: Callable[[], object]) -> float:
        """Of the ways that were taken."""
        self._peak = 0.0
        call()
        return self._peak

    @contextmanager
    def limited(self, limit: float) -> Iterator[None]:
        """For clips."""
        self._limit = limit
        try:
            yield
        finally:
            self._limit = 9.0


def _let_go() -> None:
    gc.collect()
    torch.cuda.empty_cache()
