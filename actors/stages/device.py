"""Where a model runs."""

import torch


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
