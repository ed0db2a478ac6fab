"""Where the GPU's memory is short, clips are made in a tighter way, and are those of a worker that began with it.

The last of these files: a limit leaves its traces in what libraries remember.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.errors import GpuMemoryError
from actors.svd.animator import Animator
from benchmarks.make_checkpoints import make_svd_checkpoint
from tests.gpu.animators import CLIP, FEW_LAYERS, animator, frames_of, image
from tests.gpu.memory import Memory

# As a configuration asks for them from the start; from the widest to the tightest.
WAYS: dict[str, dict[str, Any]] = {
    "resident": {},
    "chunked": {"decode_chunk_frames": 8},
    "offload": {"decode_chunk_frames": 8, "memory": "offload"},
    "sequential": {"decode_chunk_frames": 8, "memory": "sequential", "feed_forward_pieces": 8},
}
# Of a picture and as many frames that decoding takes the most, and of one where the weights do.
LARGE = {"width": 384, "height": 256}
SMALL = {"width": 96, "height": 64} if torch.cuda.is_available() else {"width": 32, "height": 32}
SHORT = 4


def peak_and_frames(made: Animator, memory: Memory, picture: Any) -> tuple[float, Any]:
    frames_of(made, picture)  # libraries take what they keep
    kept: list[Any] = []
    peak = memory.peak(lambda: kept.append(frames_of(made, picture)))
    return peak, kept[0]


def of_way(way: str, checkpoint: Path, device: torch.device, memory: Memory, size: dict[str, int], frames: int) -> Any:
    return peak_and_frames(animator(checkpoint, device, frames=frames, **WAYS[way]), memory, image(**size))


@pytest.mark.parametrize(
    ("fits_not", "fits", "frames", "size"),
    [
        ("resident", "chunked", 14, LARGE),
        ("resident", "offload", SHORT, SMALL),
        ("offload", "sequential", SHORT, SMALL),
    ],
)
def test_what_does_not_fit_is_made_in_the_next_way_that_does(
    fits_not: str,
    fits: str,
    frames: int,
    size: dict[str, int],
    checkpoint: Path,
    device: torch.device,
    memory: Memory,
) -> None:
    size = size if device.type == "cuda" else SMALL
    peaks = {way: of_way(way, checkpoint, device, memory, size, frames)[0] for way in (fits_not, fits)}
    assert peaks[fits] < peaks[fits_not]
    made = animator(checkpoint, device, frames=frames)
    with memory.limited((peaks[fits] + peaks[fits_not]) / 2):
        under_limit = frames_of(made, image(**size))
    mode = made.memory_mode
    order = list(WAYS)
    assert order.index(mode) > order.index(fits_not), f"{peaks} and made as {mode}"
    _, expected = of_way(mode, checkpoint, device, memory, size, frames)
    assert np.array_equal(frames_of(made, image(**size)), expected), f"{mode}, after the limit"
    assert np.array_equal(under_limit, expected), f"{mode}, under the limit"


def test_with_compiled_networks(tmp_path: Path, gpu: torch.device, memory: Memory) -> None:
    checkpoint = make_svd_checkpoint(tmp_path / "svd", sizes=FEW_LAYERS)
    picture = image(**LARGE)
    compiled: dict[str, Any] = {"frames": 16, "compile": True}
    whole, whole_frames = peak_and_frames(animator(checkpoint, gpu, **compiled), memory, picture)
    chunked, expected = peak_and_frames(animator(checkpoint, gpu, **compiled, decode_chunk_frames=8), memory, picture)
    assert chunked < whole
    made = animator(checkpoint, gpu, **compiled)
    with memory.limited((whole + chunked) / 2):
        frames_of(made, picture)
    assert made.memory_mode in ("chunked", "offload")
    assert np.array_equal(frames_of(made, picture), expected)
    assert not np.array_equal(whole_frames, expected)


def test_what_fits_in_no_way_is_an_error_of_one_clip_alone(
    checkpoint: Path, device: torch.device, memory: Memory
) -> None:
    size = LARGE if device.type == "cuda" else SMALL
    others = memory.peak(lambda: None)
    tightest, expected = of_way("sequential", checkpoint, device, memory, size, SHORT)
    made = animator(checkpoint, device, frames=SHORT)
    picture = image(**size)
    with memory.limited(others + (tightest - others) / 4), pytest.raises(GpuMemoryError, match="out of GPU memory"):
        made.animate(picture, CLIP)
    assert made.memory_mode == "sequential"
    assert np.array_equal(frames_of(made, picture), expected)
