"""Where a model runs."""

import sys
import warnings

import torch

from actors.errors import ConfigError, first_line

# By the names of `model.precision`.
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Ada; Hopper has 9.0. Older GPUs have no matrix product of 8-bit floats.
FP8_CAPABILITY = (8, 9)


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one.

    Raises:
        ConfigError: a GPU was asked for, or Ray has reserved one for this worker, and PyTorch cannot use it. With
            `auto` the worker would go on on the CPU, hours a clip.
    """
    if name == "cpu":
        return torch.device("cpu")
    problem = cuda_problem()
    if problem is None:
        return torch.device("cuda")
    if name == "cuda" or _reserves_gpu():
        raise ConfigError(
            f"PyTorch cannot use the GPU of a worker ({problem}): see to that machine's driver, or have a PyTorch "
            "installed that fits it"
        )
    return torch.device("cpu")


def cuda_problem() -> str | None:
    """Why PyTorch can use no GPU in this process, in its own words; None where it can."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that say the same
        if torch.cuda.is_available():
            return None
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (AssertionError, RuntimeError) as error:
        return first_line(error).rstrip(".")
    return "it finds none"


def multiplies_fp8(device: torch.device) -> bool:
    """Whether it has a matrix product of 8-bit floats."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= FP8_CAPABILITY


def _reserves_gpu() -> bool:
    """Whether this is a worker of Ray that holds a GPU, or a share of one."""
    ray = sys.modules.get("ray")  # a worker of Ray has it; whoever has not is none
    return ray is not None and ray.is_initialized() and bool(ray.get_runtime_context().get_accelerator_ids().get("GPU"))
