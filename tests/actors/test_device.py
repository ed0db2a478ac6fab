"""Which device a worker takes, and what it says about a GPU that it cannot use."""

import pytest
import torch

from actors.errors import ConfigError
from actors.stages.device import choose_device

TOO_OLD = "The NVIDIA driver on your system is too old (found version 11040). Please update"


@pytest.fixture
def set_cuda(monkeypatch: pytest.MonkeyPatch) -> object:
    def set_to(*, works: bool, reserved: str | None) -> None:
        def init() -> None:
            raise RuntimeError(TOO_OLD + "\nmore")

        monkeypatch.setattr(torch.cuda, "is_available", lambda: works)
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if reserved is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", reserved)

    return set_to


@pytest.mark.parametrize(
    ("name", "works", "reserved", "expected"),
    [
        ("auto", True, "0", "cuda"),
        ("auto", True, None, "cuda"),
        ("auto", False, None, "cpu"),
        ("auto", False, "", "cpu"),
        ("cpu", True, "0", "cpu"),
        ("cpu", False, "0", "cpu"),
        ("cuda", True, "0", "cuda"),
    ],
)
def test_auto_takes_the_gpu_where_there_is_one(name, works, reserved, expected, set_cuda) -> None:
    set_cuda(works=works, reserved=reserved)
    assert choose_device(name).type == expected


@pytest.mark.parametrize(("name", "reserved"), [("auto", "0"), ("auto", "GPU-1234"), ("cuda", None)])
def test_no_worker_falls_back_to_the_cpu_with_a_gpu_reserved(name, reserved, set_cuda) -> None:
    set_cuda(works=False, reserved=reserved)
    with pytest.raises(ConfigError, match=r"cannot use the GPU of a worker: The NVIDIA driver .* Please update$"):
        choose_device(name)
