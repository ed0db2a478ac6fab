"""Frames between frames: any rational factor, one frame after the other, with hard cuts left alone.

Axes: F frames, B samples of one network call, C channels, H height, W width. Frames are uint8 RGB.
"""

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from actors.contracts import Pixels
from actors.errors import GpuMemoryError
from actors.gpu_errors import is_out_of_memory
from actors.rife import schedule, weights
from actors.rife.network import Network
from actors.rife.runner import EncodedFrames, Precision, Runner
from actors.rife.schedule import Call
from actors.rife.times import output_times

CUT_GRID = 32  # cells a side, over which frames are averaged before they are compared: motion and grain count little


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
        takes_any_time = self._runner.net.takes_any_time
        times = output_times(len(frames_FHWC), factor, loop=loop)
        places = [
            Fraction(left)
            if (left := math.floor(time)) in cuts
            else schedule.reachable(time, takes_any_time=takes_any_time)
            for time in times
        ]
        return self._stream(frames_FHWC, places, pairs_per_batch)

    def _stream(self, frames_FHWC: Pixels, places: Sequence[Fraction], pairs_per_batch: int) -> Iterator[Pixels]:
        limit = min(pairs_per_batch, self._fits)
        # Neighbours may have the same nearest time.
        new_frames = self._new_frames(
            frames_FHWC, [place for place, _ in groupby(places) if not _is_whole(place)], limit
        )
        for place, same in groupby(places):
            frame_HWC = frames_FHWC[int(place) % len(frames_FHWC)] if _is_whole(place) else next(new_frames)
            yield from (frame_HWC for _ in same)

    def _new_frames(self, frames_FHWC: Pixels, places: Sequence[Fraction], limit: int) -> Iterator[Pixels]:
        """One frame per place, in order, made in batches of at most `limit`."""
        calls = schedule.calls(places, len(frames_FHWC), takes_any_time=self._runner.net.takes_any_time, together=limit)
        oldest = schedule.oldest_needed(calls)
        encoded = EncodedFrames(self._runner, frames_FHWC)
        under_way: deque[Callable[[], dict[Fraction, Pixels]]] = deque()
        arrived = _Arrived(places)
        size = (frames_FHWC.shape[1], frames_FHWC.shape[2])
        start = 0
        while start < len(calls):
            batch = schedule.batch_from(calls, start, limit)
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
            encoded.drop_before(oldest[start] if start < len(calls) else len(frames_FHWC))
            while len(under_way) > self._runner.batches_ahead:
                yield from arrived.next(under_way.popleft()())
        for wait in under_way:
            yield from arrived.next(wait())

    def _make(
        self, encoded: EncodedFrames, batch: Sequence[Call], limit: int, size: tuple[int, int]
    ) -> Callable[[], dict[Fraction, Pixels]]:
        """One network call; what is returned waits for its frames (H,W,3) and gives them by their places."""
        # Compiled code is for one size of batch: a last one that is smaller is filled up with its last frame.
        filled = [*batch, *[batch[-1]] * (limit - len(batch))] if self._runner.is_compiled else batch
        left, right = encoded.get([call.left for call in filled]), encoded.get([call.right for call in filled])
        made_BHWC, images_BCHW = self._runner.between(left, right, [float(call.t) for call in filled], size)
        places = [call.place for call in batch]
        if images_BCHW is not None:
            encoded.keep(places, images_BCHW)
        wait = self._runner.download(made_BHWC[: len(batch)])
        return lambda: dict(zip(places, wait(), strict=True))


class _Arrived:
    """Frames that were made, in whichever order, put into that of their places."""

    def __init__(self, places: Sequence[Fraction]) -> None:
        self._awaited = deque(places)
        self._wanted = set(places)
        self._ready: dict[Fraction, Pixels] = {}

    def next(self, frames: Mapping[Fraction, Pixels]) -> Iterator[Pixels]:
        """Those whose turn it is, now that `frames` are there, too; what only served to make others is dropped."""
        self._ready |= {place: frame_HWC for place, frame_HWC in frames.items() if place in self._wanted}
        while self._awaited and self._awaited[0] in self._ready:
            yield self._ready.pop(self._awaited.popleft())


def _is_whole(place: Fraction) -> bool:
    return place.denominator == 1
