"""Frames between frames: any rational factor, one frame after the other, with hard cuts left alone.

Axes: F frames, B samples of one network call, C channels, H height, W width. Frames are uint8 RGB.
"""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from actors.errors import GenerationError, GpuMemoryError
from actors.gpu_errors import is_out_of_memory
from actors.rife import weights
from actors.rife.ifnet import IFNet

Pixels = npt.NDArray[np.uint8]

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16}
CUT_GRID = 32  # cells a side, over which frames are averaged before they are compared: motion and grain count little


class Slot(NamedTuple):
    """One output frame: at time `t` (0..1) from frame `left` to frame `right`; 0 is `left` itself."""

    left: int
    right: int
    t: Fraction


def output_times(num_frames: int, factor: Fraction, loop: bool = False) -> list[Fraction]:
    """Where each output frame lies, counted in source frames: frame j at j / factor, so the frame rate is exact.

    Without `loop` they reach from the first source frame to the last one: floor((N-1) * factor) + 1 frames, which is
    (N-1)*k + 1 for a whole factor k. With `loop` they also fill the way from the last frame back to the first, and stop
    before it comes again: ceil(N * factor), which is N*k. Raises GenerationError for a factor below 1.
    """
    if factor < 1:
        raise GenerationError(f"interpolation factor {factor} is below 1: frames can be added, not taken away")
    count = math.ceil(num_frames * factor) if loop else math.floor((num_frames - 1) * factor) + 1
    return [j / factor for j in range(count)]


def hard_cuts(frames_FHWC: Pixels, threshold: float) -> set[int]:
    """Frames after which the picture changes so much that it must be another scene; the last one meets the first.

    The measure is the mean absolute difference, 0..1, of the two frames in RGB after averaging each over a coarse grid.
    """
    grids = [_coarse(frame_HWC) for frame_HWC in frames_FHWC]
    pairs = zip(grids, grids[1:] + grids[:1], strict=True)
    return {index for index, (grid, following) in enumerate(pairs) if (grid - following).abs().mean() > threshold}


def _coarse(frame_HWC: Pixels) -> Tensor:
    frame_CHW = torch.from_numpy(np.ascontiguousarray(frame_HWC)).permute(2, 0, 1).float() / 255
    return F.adaptive_avg_pool2d(frame_CHW, CUT_GRID)


class Interpolator:
    """A network that stays on its device, and what turns the frames of a clip into more of them."""

    def __init__(self, net: IFNet, *, device: torch.device | str, precision: Literal["fp32", "fp16"]) -> None:
        """`precision` is that of the convolutions alone; on a CPU fp16 is slower than fp32."""
        self.device = torch.device(device)
        self.net = net.to(self.device, PRECISIONS[precision]).eval()

    @classmethod
    def load(
        cls, path: str | Path, *, device: torch.device | str, precision: Literal["fp32", "fp16"]
    ) -> "Interpolator":
        """From a weight file; see `actors.rife.weights` for the kinds and for the errors."""
        net, _ = weights.load(path)
        return cls(net, device=device, precision=precision)

    @property
    def name(self) -> str:
        """The network's version, such as `4.25`."""
        return self.net.variant.name

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
        At most `pairs_per_batch` frames are made in one network call; a call that runs out of memory is repeated with
        half as many. Raises GenerationError for a factor below 1, GpuMemoryError when even one frame does not fit.
        """
        cuts = set() if scene_cut_threshold is None else hard_cuts(frames_FHWC, scene_cut_threshold)
        slots = []
        for time in output_times(len(frames_FHWC), factor, loop):
            left = math.floor(time)
            slots.append(Slot(left, (left + 1) % len(frames_FHWC), Fraction(0) if left in cuts else time - left))
        return self._stream(frames_FHWC, slots, pairs_per_batch)

    def _stream(self, frames_FHWC: Pixels, slots: Sequence[Slot], pairs_per_batch: int) -> Iterator[Pixels]:
        new_frames = self._new_frames(frames_FHWC, [slot for slot in slots if slot.t], pairs_per_batch)
        for slot in slots:
            yield next(new_frames) if slot.t else frames_FHWC[slot.left]

    def _new_frames(self, frames_FHWC: Pixels, slots: Sequence[Slot], limit: int) -> Iterator[Pixels]:
        """One frame per slot, in order, made in batches of at most `limit`."""
        encoded = _EncodedFrames(self.net, self.device, frames_FHWC)
        start = 0
        while start < len(slots):
            batch = slots[start : start + limit]
            try:
                made_BHWC = self._make(encoded, batch)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                height, width = frames_FHWC.shape[1:3]
                if len(batch) == 1:
                    raise GpuMemoryError(
                        f"{self.device} has too little memory to interpolate one frame of {width}x{height}: "
                        "give the interpolation stage a larger share of the device"
                    ) from error
                limit = len(batch) // 2
                continue
            yield from made_BHWC
            start += len(batch)
            encoded.drop_before(batch[-1].left)

    @torch.inference_mode()
    def _make(self, encoded: "_EncodedFrames", batch: Sequence[Slot]) -> Pixels:
        """(B,H,W,3), one network call."""
        images_BCHW, features_BCHW = encoded.get([slot.left for slot in batch] + [slot.right for slot in batch])
        img0_BCHW, img1_BCHW = images_BCHW.chunk(2)
        f0_BCHW, f1_BCHW = features_BCHW.chunk(2)
        t_B = torch.tensor([float(slot.t) for slot in batch], device=self.device)
        height, width = encoded.frames_FHWC.shape[1:3]
        made_BCHW = self.net(img0_BCHW, img1_BCHW, f0_BCHW, f1_BCHW, t_B)[:, :, :height, :width]
        levels_BCHW = (made_BCHW.clamp(0, 1) * 255).round().to(torch.uint8)  # cutting off would darken by half a level
        levels_BHWC: Pixels = levels_BCHW.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return levels_BHWC


class _EncodedFrames:
    """Source frames on the device, padded, with their head features: each made once, and dropped when it was passed."""

    def __init__(self, net: IFNet, device: torch.device, frames_FHWC: Pixels) -> None:
        self.net = net
        self.device = device
        self.frames_FHWC = frames_FHWC
        self._ready: dict[int, tuple[Tensor, Tensor]] = {}

    def get(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images (B,3,H,W) and features (B,h,H,W); `indices` may repeat and come in any order."""
        if new := [index for index in dict.fromkeys(indices) if index not in self._ready]:
            self._encode(new)
        images, features = zip(*(self._ready[index] for index in indices), strict=True)
        return torch.stack(images), torch.stack(features)

    def drop_before(self, index: int) -> None:
        """Forget the frames before `index`, but not the first one, which closes a loop."""
        self._ready = {i: ready for i, ready in self._ready.items() if i >= index or i == 0}

    def _encode(self, indices: list[int]) -> None:
        frames_BHWC = torch.from_numpy(self.frames_FHWC[indices]).to(self.device)
        images_BCHW = self.net.pad(frames_BHWC.permute(0, 3, 1, 2).float() / 255)
        self._ready.update(zip(indices, zip(images_BCHW, self.net.encode(images_BCHW), strict=True), strict=True))
