"""When and how networks are compiled by `torch.compile`."""

import inspect
import os
import shutil
import sysconfig
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from actors.settings import Compile

# One graph without breaks for every shape, its sizes fixed in the code. A job has two sizes of frames, landscape and
# upright, with guidance and without, whole or a few at a time: torch's own limit of 8 could be reached by that.
# Nor does the compiler choose by timing what changes the order of a sum: workers would choose differently, and then the
# same clip would come out differently.
_LIMIT = 64
OPTIONS: dict[str, Any] = {
    "fullgraph": True,
    "dynamic": False,
    "recompile_limit": _LIMIT,
    "isolate_recompiles": True,
    "options": {"deterministic": True},
}
if "recompile_limit" not in inspect.signature(torch.compile).parameters:  # before torch 2.13: one limit for a process
    import torch._dynamo.config

    del OPTIONS["recompile_limit"], OPTIONS["isolate_recompiles"]
    limits = torch._dynamo.config  # noqa: SLF001 - the old limit has no other name
    limits.recompile_limit = max(_LIMIT, limits.recompile_limit)


def is_compiled(choice: Compile, device: torch.device) -> bool:
    """`auto` compiles on CUDA where Triton is installed and what it compiles its own launcher with."""
    if choice == "auto":
        return runs_triton(device)
    return choice


def runs_triton(device: torch.device) -> bool:
    """Whether Triton is here, and a C compiler and Python's headers: it compiles what launches its kernels."""
    return device.type == "cuda" and find_spec("triton") is not None and can_build_launcher()


def can_build_launcher() -> bool:
    """Whether there is a C compiler, and Python's headers."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return compiler is not None and Path(sysconfig.get_path("include"), "Python.h").is_file()


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled for each shape when it first comes, which takes a minute or so."""
    made: Callable[..., Any] = torch.compile(function, **OPTIONS)
    return made


def keep_in(folder: Path) -> None:
    """Keep what is compiled, for later processes of this node; a folder that the environment names goes before."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    os.environ.setdefault("TRITON_CACHE_DIR", str(folder / "triton"))  # of kernels that no compiled network has
