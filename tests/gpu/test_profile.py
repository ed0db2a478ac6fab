"""A profile on a GPU: of kernels, and not of the operators that launch them."""

import gzip
import json
from pathlib import Path

import torch

from actors.runner.profiling import Profiler, Profiling
from actors.storage import Storage
from actors.tries.ledger import LocalLedger


def test_the_table_names_kernels(gpu: torch.device, tmp_path: Path) -> None:
    profiler = Profiler(Profiling(1, lambda name: str(tmp_path / name), Storage()), LocalLedger(max_deaths=3))
    for _ in range(2):
        with profiler.recording():
            product = torch.ones(512, 512, device=gpu) @ torch.ones(512, 512, device=gpu)
            assert product.sum().item() == 512**3
    first, _, _, *lines = (tmp_path / "kernels.txt").read_text().splitlines()
    assert first.startswith(f"1 clip on {torch.cuda.get_device_name()}: ")
    assert "of it in kernels" in first
    assert lines
    assert not any("aten::" in line for line in lines)
    trace = json.loads(gzip.decompress((tmp_path / "trace-1.json.gz").read_bytes()))
    assert any(event.get("cat") == "kernel" for event in trace["traceEvents"])
