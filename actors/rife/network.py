"""What every RIFE network offers to those who run it, whichever version it is.

Axes: B samples, C channels, H height, W width. Images are RGB in 0..1.
"""

from abc import abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn


class Network(nn.Module):
    """`pad` the frames, `encode` each of them once, then call it for pairs and times."""

    # Whether a call may ask for any time; else for the middle alone, and other times are reached by halving.
    takes_any_time: bool

    @property
    @abstractmethod
    def name(self) -> str:
        """The version, such as `4.25`."""

    @property
    @abstractmethod
    def pad_multiple(self) -> int:
        """Both sides of what it is called with are multiples of this."""

    def pad(self, frames_BCHW: Tensor) -> Tensor:
        """Frames grown to the right and downwards to a multiple of `pad_multiple`; crop the results.

        The border is repeated: with zeros, what moves in over the right or lower edge would come in black.
        """
        height, width = frames_BCHW.shape[-2:]
        multiple = self.pad_multiple
        return F.pad(frames_BCHW, (0, -width % multiple, 0, -height % multiple), mode="replicate")

    def encode(self, frames_BCHW: Tensor) -> Tensor:
        """Features of padded frames, (B,h,H,W); once per frame, whatever the number of pairs. Many have none: h = 0."""
        return frames_BCHW[:, :0]

    @abstractmethod
    def forward(self, img0_BCHW: Tensor, img1_BCHW: Tensor, f0_BCHW: Tensor, f1_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """The frames at time `t_B` (0 is img0, 1 is img1; one per sample) between padded frames and their features."""
