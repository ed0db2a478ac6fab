"""The parts for a GPU, in the order of their worth."""

import gc
import os
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.bench import Bench
from benchmarks.speed.parts import attention, exact, facts, fast, guide, kernels, memory, rife, stock

# Seconds on an H100, for what must be there before.
_MODELS_S = 20.0
_COMPILE_S = 120.0
_COMPILE_FROM_DISK_S = 50.0


@dataclass(frozen=True, slots=True)
class Part:
    """Something that is measured, and what it takes on an H100."""

    measure: Callable[[Bench], None]
    needs_s: float  # itself, models and their compilation apart
    has_models: bool = True
    is_compiled: bool = False

    def seconds(self, bench: Bench) -> float:
        """What must be left to begin it; none where nothing has its full size."""
        if not bench.case.is_full:
            return 0.0
        seconds = self.needs_s
        if self.has_models and not bench.has_model:
            seconds += _MODELS_S
        if self.is_compiled and not bench.is_compiled:
            seconds += _COMPILE_FROM_DISK_S if _has_compiled_code() else _COMPILE_S
        return seconds


def _has_compiled_code() -> bool:
    """Whether an earlier command left some where this one looks."""
    folder = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    return folder is not None and Path(folder).is_dir() and any(Path(folder).iterdir())


PARTS = {
    "facts": Part(facts.measure, 10, has_models=False),
    "stock": Part(stock.measure, 20),
    "uncompiled": Part(exact.measure_uncompiled, 25),
    "compiled": Part(exact.measure_compiled, 20, is_compiled=True),
    "profile": Part(kernels.measure, 25),
    "clips": Part(exact.measure_clips, 65, is_compiled=True),
    "attention": Part(attention.measure, 15, has_models=False),
    "rife": Part(rife.measure, 15, has_models=False),
    "memory": Part(memory.measure, 25, is_compiled=True),  # before the guide's CUDA graphs, which keep theirs
    "fast": Part(fast.measure, 60, is_compiled=True),
    "guide": Part(guide.measure, 160, is_compiled=True),
}


def run_parts(names: Collection[str], bench: Bench) -> None:
    """Those named, in the order above; what one of them raises is a row, and one that does not fit is not begun."""
    for name, part in PARTS.items():
        if name not in names:
            continue
        left_s = bench.budget.left_s()
        if left_s < (needed_s := part.seconds(bench)):
            bench.results.fail(f"part {name}", f"not begun: {left_s:.0f} s left, it may need {needed_s:.0f}")
            continue
        begun = time.perf_counter()
        try:
            part.measure(bench)
        except Exception as error:  # noqa: BLE001 - it is a row, and other parts still run
            traceback.print_exc()
            bench.results.fail(f"part {name}", f"{type(error).__name__}: {str(error)[:300]}")
        gc.collect()
        bench.results.add(f"part {name}, in all", time.perf_counter() - begun, "s")
