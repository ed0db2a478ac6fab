"""Frames between frames: any rational factor, one frame after the other, with hard cuts left alone.

Axes: F frames, B samples of one network call, C channels, H height, W width. Frames are uint8 RGB.
"""

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from actors.contracts import Pixels
from actors.errors import GpuMemoryError
from actors.gpu_errors import is_out_of_memory
from actors.rife import weights
from actors.rife.network import Network
from actors.rife.runner import EncodedFrames, Precision, Runner
from actors.rife.times import output_times

CUT_GRID = 32  # cells a side, over which frames are averaged before they are compared: motion and grain count little


class Slot(NamedTuple):
    """One output frame: at time `t` (0..1) from frame `left` to frame `right`; 0 is `left` itself."""

    left: int
    right: int
    t: Fraction


def hard_cuts(frames_FHWC: Pixels, threshold: float) -> set[int]:
    """Frames after which the picture changes so much that it must be another scene; the last one meets the first.

    The measure is the mean absolute difference, 0..1, of the two frames in RGB after averaging each over a coarse grid.
    """
    grids = [_coarse(frame_HWC) for frame_HWC in frames_FHWC]
    pairs = zip(grids, grids[1:] + grids[:1], strict=True)
    return {index for index, (grid, following) in enumerate(pairs) if np.abs(grid - following).mean() > threshold}


def _coarse(frame_HWC: Pixels) -> npt.NDArray[np.float64]:
    """Means, 0..1, over a grid of cells (rows, columns, C), as `adaptive_avg_pool2d` lays them.

    Rows first and as bytes: over the whole frame as floats it was the dearest thing that a clip cost the host.
    """
    height, width, channels = frame_HWC.shape
    rows_GWC = _cell_means(frame_HWC.reshape(height, -1), np.uint32).reshape(CUT_GRID, width, channels)
    columns_GGC = _cell_means(rows_GWC.swapaxes(0, 1).reshape(width, -1), np.float64)
    return columns_GGC.reshape(CUT_GRID, CUT_GRID, channels).swapaxes(0, 1) / 255


def _cell_means(values_NX: npt.NDArray[Any], sum_type: type[np.generic]) -> npt.NDArray[np.float64]:
    """(N, X) to (CUT_GRID, X): the mean over each of so many equal stretches; they overlap where N is no multiple."""
    length = len(values_NX)
    starts = [cell * length // CUT_GRID for cell in range(CUT_GRID)]
    ends = [-(-(cell + 1) * length // CUT_GRID) for cell in range(CUT_GRID)]
    return np.stack(
        [
            values_NX[start:end].sum(axis=0, dtype=sum_type) / (end - start)
            for start, end in zip(starts, ends, strict=True)
        ]
    )


class Interpolator:
    """A network that stays on its device, and what turns the frames of a clip into more of them."""

    def __init__(
        self, net: Network, *, device: torch.device | str, precision: Precision, compile: bool = False
    ) -> None:
        """`precision` is that of the convolutions alone; on a CPU fp16 is slower than fp32.

        `compile`: let torch.compile make the network's code, once for each size of frames and of batch, which takes a
        minute or so.
        """
        self._runner = Runner(net, device=device, precision=precision, compile=compile)
        self._fits = sys.maxsize  # samples of a call, as far as is known

    @classmethod
    def load(
        cls, path: str | Path, *, device: torch.device | str, precision: Precision, compile: bool = False
    ) -> "Interpolator":
        """From a weight file; see `actors.rife.weights` for the kinds and for the errors."""
        return cls(weights.load(path), device=device, precision=precision, compile=compile)

    @property
    def name(self) -> str:
        """The network's version, such as `4.25`."""
        return self._runner.net.name

    def warm_up(self, *, width: int, height: int, pairs_per_batch: int = 8) -> None:
        """Have ready what is compiled or chosen for frames of this size (pixels) in batches of this size.

        Where memory is short at that moment, nothing is said: a clip may find more, or fails by itself.
        """
        if self._runner.is_compiled or self._runner.device.type == "cuda":
            pair_FHWC = np.zeros((2, height, width, 3), np.uint8)
            one_batch = self.frames(pair_FHWC, factor=Fraction(pairs_per_batch + 1), pairs_per_batch=pairs_per_batch)
            with suppress(GpuMemoryError):
                deque(one_batch, maxlen=0)

    def frames(
        self,
        frames_FHWC: Pixels,
        *,
        factor: Fraction,
        loop: bool = False,
        scene_cut_threshold: float | None = None,
        pairs_per_batch: int = 8,
    ) -> Iterator[Pixels]:
        """The frames (H,W,3) at `output_times`, made as they are asked for.

        Source frames come out untouched. Where two neighbours differ by more than `scene_cut_threshold` (see
        `hard_cuts`; None: never) the earlier one is repeated, and so it is between the last and the first of a loop.
        At most `pairs_per_batch` frames, of whatever pairs and times, are made in one network call; a call that runs
        out of memory is repeated with half as many, and so are all that follow. Raises GenerationError for a factor
        below 1, GpuMemoryError when even one frame does not fit.
        """
        cuts = set() if scene_cut_threshold is None else hard_cuts(frames_FHWC, scene_cut_threshold)
        slots = []
        for time in output_times(len(frames_FHWC), factor, loop=loop):
            left = math.floor(time)
            slots.append(Slot(left, (left + 1) % len(frames_FHWC), Fraction(0) if left in cuts else time - left))
        return self._stream(frames_FHWC, slots, pairs_per_batch)

    def _stream(self, frames_FHWC: Pixels, slots: Sequence[Slot], pairs_per_batch: int) -> Iterator[Pixels]:
        limit = min(pairs_per_batch, self._fits)
        new_frames = self._new_frames(frames_FHWC, [slot for slot in slots if slot.t], limit)
        for slot in slots:
            yield next(new_frames) if slot.t else frames_FHWC[slot.left]

    def _new_frames(self, frames_FHWC: Pixels, slots: Sequence[Slot], limit: int) -> Iterator[Pixels]:
        """One frame per slot, in order, made in batches of at most `limit`."""
        encoded = EncodedFrames(self._runner, frames_FHWC)
        under_way: deque[Callable[[], Pixels]] = deque()
        size = (frames_FHWC.shape[1], frames_FHWC.shape[2])
        start = 0
        while start < len(slots):
            batch = slots[start : start + limit]
            try:
                under_way.append(self._make(encoded, batch, limit, size))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                samples = limit if self._runner.is_compiled else len(batch)
                if samples == 1:
                    height, width = size
                    raise GpuMemoryError(
                        f"{self._runner.device} has too little memory to interpolate one frame of {width}x{height}: "
                        "give the interpolation stage a larger share of the device"
                    ) from error
                limit = self._fits = samples // 2
                continue
            start += len(batch)
            encoded.drop_before(batch[-1].left)
            while len(under_way) > self._runner.batches_ahead:
                yield from under_way.popleft()()
        for wait in under_way:
            yield from wait()

    def _make(
        self, encoded: EncodedFrames, batch: Sequence[Slot], limit: int, size: tuple[int, int]
    ) -> Callable[[], Pixels]:
        """One network call; what is returned waits for its frames (B,H,W,3) and gives them."""
        # Compiled code is for one size of batch: a last one that is smaller is filled up with its last frame.
        filled = [*batch, *[batch[-1]] * (limit - len(batch))] if self._runner.is_compiled else batch
        left, right = encoded.get([slot.left for slot in filled]), encoded.get([slot.right for slot in filled])
        made_BHWC = self._runner.between(left, right, [float(slot.t) for slot in filled], size)
        return self._runner.download(made_BHWC[: len(batch)])
