"""The card, its versions, and what it gives at most: the rates that all other figures are held against."""

import os
import shutil
import subprocess
import sys

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from actors.compiling import is_compiled
from benchmarks.speed.bench import Bench
from benchmarks.speed.clock import each_s

# Tokens, channels in and out: the linear layers that take the most of an evaluation.
_LINEARS = ((460_800, 320, 2560), (460_800, 1280, 320), (115_200, 640, 5120), (28_800, 1280, 10_240))
# Images, channels in, height, width, channels out, kernel: convolutions of the UNet over frames (4) and over time, and
# of the decoder (2).
_CONVOLUTIONS = (
    (50, 320, 72, 128, 320, (3, 3)),
    (50, 640, 36, 64, 640, (3, 3)),
    (50, 1280, 18, 32, 1280, (3, 3)),
    (50, 640, 72, 128, 320, (3, 3)),
    (1, 320, 25, 18_432, 320, (3, 1)),
    (7, 128, 576, 1024, 128, (3, 3)),
    (25, 256, 288, 512, 256, (3, 3)),
)
_COPIED_BYTES = 4 << 30
_SMI = "name,driver_version,clocks.sm,clocks.mem,power.limit,temperature.gpu"
# In a rehearsal every length is so much shorter.
_SHRUNK = 16


def measure(bench: Bench) -> None:
    """Rows of the machine, then of its rates."""
    _describe(bench)
    bench.matrix_tflops  # noqa: B018 - adds its row
    for tokens, inputs, outputs in _LINEARS:
        _linear(bench, _random(bench, tokens, inputs), _random(bench, outputs, inputs))
    for images, channels, height, width, outputs, kernel in _CONVOLUTIONS:
        x = _random(bench, images, channels, height, width).to(memory_format=torch.channels_last)
        _convolution(bench, x, _length(bench, outputs), kernel)
    _copy(bench)


def _length(bench: Bench, full: int) -> int:
    return full if bench.case.is_full else max(full // _SHRUNK, 1)


def _random(bench: Bench, *full_shape: int) -> Tensor:
    shape = [_length(bench, side) for side in full_shape]
    return torch.randn(shape, device=bench.device, dtype=bench.case.dtype)


def _describe(bench: Bench) -> None:
    add = bench.results.add
    if bench.device.type == "cuda":
        card = torch.cuda.get_device_properties(bench.device)
        memory_gb = round(card.total_memory / 1e9, 1)
        add("card", card.name, memory_gb=memory_gb, multiprocessors=card.multi_processor_count)
        if shutil.which("nvidia-smi") is not None:
            command = ["nvidia-smi", f"--query-gpu={_SMI}", "--format=csv,noheader"]
            add(_SMI, subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip())
    versions = {module.__name__: module.__version__ for module in (torch, diffusers, transformers, np)}
    versions |= {"python": sys.version.split()[0], "cuDNN": str(torch.backends.cudnn.version())}  # type: ignore[no-untyped-call]
    add("versions", ", ".join(f"{name} {version}" for name, version in versions.items()))
    add("cores", os.cpu_count())
    add("a job would compile", is_compiled("auto", bench.device))


def _linear(bench: Bench, x: Tensor, weight: Tensor) -> None:
    (tokens, inputs), outputs = x.shape, len(weight)
    F.linear(x, weight)
    seconds = each_s(lambda: F.linear(x, weight), 10)
    rate = 2 * tokens * inputs * outputs / seconds / 1e12
    bench.results.add(f"linear {tokens} x {inputs} -> {outputs}", rate, "TFLOP/s")


def _convolution(bench: Bench, x_NCHW: Tensor, outputs: int, kernel: tuple[int, int]) -> None:
    images, channels, height, width = x_NCHW.shape
    weight = torch.randn(outputs, channels, *kernel, device=x_NCHW.device, dtype=x_NCHW.dtype)
    weight = weight.to(memory_format=torch.channels_last)
    padding = (kernel[0] // 2, kernel[1] // 2)
    F.conv2d(x_NCHW, weight, padding=padding)
    seconds = each_s(lambda: F.conv2d(x_NCHW, weight, padding=padding), 5)
    rate = 2 * x_NCHW.numel() * outputs * kernel[0] * kernel[1] / seconds / 1e12
    name = f"conv {kernel[0]}x{kernel[1]}, {images} x {channels} x {height} x {width} -> {outputs}"
    bench.results.add(name, rate, "TFLOP/s")


def _copy(bench: Bench) -> None:
    size = _COPIED_BYTES if bench.case.is_full else _COPIED_BYTES >> 8
    source = torch.zeros(size, device=bench.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    target.copy_(source)
    seconds = each_s(lambda: target.copy_(source), 10)
    bench.results.add("copy, read and written", 2 * size / seconds / 1e12, "TB/s")
