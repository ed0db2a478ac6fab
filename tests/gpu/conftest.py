"""What must be true on a GPU and cannot be seen without one; in about four minutes, compilers included.

    python -m pytest tests/gpu                      skipped where there is no GPU
    REHEARSE_ON_CPU=1 python -m pytest tests/gpu    does on the CPU what can be done there: for changes of these tests

A machine that has just torch, diffusers and what these need will do: no Ray, no video encoder.
"""

import os
from pathlib import Path

import pytest
import torch

from benchmarks.make_checkpoints import TINY_SIZES, make_svd_checkpoint
from tests.gpu.animators import MANY_WEIGHTS
from tests.gpu.memory import GpuMemory, Memory, PretendedMemory
from tests.gpu.pair import Pair

_REHEARSAL = "REHEARSE_ON_CPU"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the libraries say on a GPU is not known to anybody who changes the code without one: no error here."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where the networks run."""
    if os.environ.get(_REHEARSAL):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip(f"there is no GPU that PyTorch can use ({_REHEARSAL}=1 does on the CPU what can be done there)")
    return torch.device("cuda")


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """For what has no meaning on a CPU."""
    if device.type != "cuda":
        pytest.skip("has no meaning on a CPU")
    return device


@pytest.fixture(scope="session")
def pair(device: torch.device) -> Pair:
    """Both models with the same random weights, in half precision."""
    return Pair(device)


@pytest.fixture(scope="session")
def checkpoint(device: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a job has it, with more weights than activations on a GPU."""
    sizes = MANY_WEIGHTS if device.type == "cuda" else TINY_SIZES
    return make_svd_checkpoint(tmp_path_factory.mktemp("checkpoints") / "svd", sizes=sizes)


@pytest.fixture
def memory(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Memory:
    """The device's, which can be made smaller."""
    return GpuMemory(device) if device.type == "cuda" else PretendedMemory(monkeypatch)
