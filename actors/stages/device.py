"""Where a model runs."""

import os

import torch

from actors.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one.

    Raises:
        ConfigError: a GPU was reserved for this worker, or asked for, and PyTorch cannot use it. With `auto` it would
            go on on the CPU, hours a clip.
    """
    problem = cuda_problem()
    # Where Ray has reserved a GPU for a worker, it names it here.
    reserved = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip() not in ("", "-1")
    if problem is not None and (name == "cuda" or (name == "auto" and reserved)):
        raise ConfigError(f"PyTorch cannot use the GPU of a worker: {problem}")
    return torch.device(("cpu" if problem else "cuda") if name == "auto" else name)


def cuda_problem() -> str | None:
    """Why PyTorch can use no GPU in this process, in its own words; None where it can."""
    if torch.cuda.is_available():
        return None
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (AssertionError, RuntimeError) as error:
        return str(error).strip().splitlines()[0].rstrip(".")
    return "it finds none"
