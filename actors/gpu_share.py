"""GPUs that several workers share: how much of its memory each may take.

torch's allocator then refuses what goes beyond, with the error that it raises where the GPU is full: the worker goes on
in a tighter way, or the clip fails, as it would there. Without a limit the first to take the memory has it, and clips
of the others fail by chance.

The workers reckon with the memory of the GPU that they are on, which the driver only knows by its name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import floor
from typing import Any, Literal

# Of a process on a GPU beside what torch's allocator gives out: its CUDA context, the code of its kernels, what cuDNN
# and cuBLAS hold. An assumption, on the safe side: it was not measured here.
CONTEXT_BYTES = 800_000_000

ROUNDING = 1e-6  # of shares: 1/3 may be written as 0.3333333

Sharer = Literal["generate", "finish"]


@dataclass(frozen=True, slots=True)
class GpuShares:
    """How a run's workers share GPUs.

    Attributes:
        generate_gpus, finish_gpus: what a worker reserves, in GPUs.
        generate_actors, finish_actors: how many workers there are.
        finish_bytes: what one of `finish` needs; it takes no more beside a generator. 0: not known.
    """

    generate_gpus: float
    generate_actors: int
    finish_gpus: float
    finish_actors: int
    finish_bytes: int = 0

    def limit(self, worker: Sharer, total_bytes: int) -> int | None:
        """What torch may take in a worker, on a GPU of `total_bytes`; None where the worker has it to itself.

        `finish` gets its need, and `generate` the rest: its own share, and what `finish` leaves of its share.
        """
        if not 0 < self._own(worker) < 1:
            return None
        held = self._of_finish(total_bytes) if worker == "finish" else self._of_generate(total_bytes)
        return max(int(held) - CONTEXT_BYTES, 0)

    def apply(self, worker: Sharer) -> int | None:
        """Limit this process, on the GPU that Ray gave it; bytes. Before it takes any memory of the GPU."""
        if not 0 < self._own(worker) < 1:
            return None
        import torch  # takes seconds: the driver, which imports this module too, goes without

        if not torch.cuda.is_available():
            return None
        device = torch.cuda.current_device()
        total = torch.cuda.get_device_properties(device).total_memory
        limit = self.limit(worker, total)
        if limit is not None:
            torch.cuda.set_per_process_memory_fraction(limit / total, device)
        return limit

    def _own(self, worker: Sharer) -> float:
        return self.generate_gpus if worker == "generate" else self.finish_gpus

    def _of_finish(self, total: int) -> float:
        share = self.finish_gpus * total
        is_beside_generator = 0 < self.generate_gpus < 1
        return min(share, self.finish_bytes + CONTEXT_BYTES) if is_beside_generator and self.finish_bytes else share

    def _of_generate(self, total: int) -> float:
        """The least that any number of generators on one GPU leaves to each: Ray decides who comes together."""
        share = self.generate_gpus
        together = range(1, min(floor(1 / share + ROUNDING), max(self.generate_actors, 1)) + 1)
        return min(share * total + self._finish_beside(number) * self._left(total) / number for number in together)

    def _finish_beside(self, generators: int) -> int:
        """Workers of `finish` that are on a GPU with so many generators, where there are enough."""
        if not 0 < self.finish_gpus < 1:
            return 0
        room = floor((1 - generators * self.generate_gpus) / self.finish_gpus + ROUNDING)
        return min(room, self.finish_actors)

    def _left(self, total: int) -> float:
        """Of its share, what a worker of `finish` does not take."""
        return self.finish_gpus * total - self._of_finish(total)


@dataclass(frozen=True, slots=True)
class Limited:
    """Makes a stage in a process that keeps to its share of the GPU."""

    make: Callable[[], Any]
    shares: GpuShares
    worker: Sharer

    def __call__(self) -> Any:
        """What `make` makes."""
        self.shares.apply(self.worker)
        return self.make()
