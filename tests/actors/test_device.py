"""Which device a worker takes, and what it says about a GPU that it cannot use."""

import warnings

import pytest
import torch

from actors import device
from actors.errors import ConfigError

TOO_OLD = "The NVIDIA driver on your system is too old (found version 11040). Please update"


@pytest.fixture
def broken_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA as torch finds it with a driver that is too old."""

    def is_available() -> bool:
        warnings.warn("CUDA initialization: " + TOO_OLD, stacklevel=1)  # an error in these tests
        return False

    def init() -> None:
        raise RuntimeError(TOO_OLD + "\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(torch.cuda, "init", init)


@pytest.mark.parametrize(("name", "expected"), [("auto", "cuda"), ("cuda", "cuda"), ("cpu", "cpu")])
def test_auto_takes_the_gpu_where_there_is_one(name: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.choose_device(name).type == expected


@pytest.mark.usefixtures("broken_cuda")
@pytest.mark.parametrize("visible", ["0", "NoDevFiles", "", None])
def test_auto_takes_the_cpu_where_no_gpu_is_reserved(visible: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says: Ray leaves it alone where a worker reserves none."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.choose_device("auto").type == "cpu"


@pytest.mark.usefixtures("broken_cuda")
@pytest.mark.parametrize(("name", "reserves"), [("auto", True), ("cuda", False)])
def test_no_worker_goes_on_on_the_cpu_with_a_gpu_reserved(
    name: str, reserves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_reserves_gpu", lambda: reserves)
    with pytest.raises(
        ConfigError, match=r"cannot use the GPU of a worker \(The NVIDIA driver .* Please update\): see"
    ):
        device.choose_device(name)
    assert device.choose_device("cpu").type == "cpu"
