"""One layout for all activations, and the views that convolutions take of it.

Shapes: N clips, F frames, H W pixels, P = H * W, C channels.
"""

from collections.abc import Sequence

from torch import Tensor, nn


def as_images(x_NFHWC: Tensor) -> Tensor:
    """A view as N * F images, C H W, channels last."""
    return x_NFHWC.flatten(0, 1).permute(0, 3, 1, 2)


def from_images(images: Tensor, clips: Sequence[int]) -> Tensor:
    """The way back; `clips` is (N, F)."""
    height, width = images.shape[2:]
    return images.permute(0, 2, 3, 1).reshape(*clips, height, width, -1)


def as_sheets(x_NFHWC: Tensor) -> Tensor:
    """A view as N sheets, C x F x P, channels last: a row for each frame, a column for each pixel."""
    return x_NFHWC.flatten(2, 3).permute(0, 3, 1, 2)


def from_sheets(sheets: Tensor, shape: Sequence[int]) -> Tensor:
    """The way back, to N F H W C."""
    return sheets.permute(0, 2, 3, 1).reshape(*shape)


def convolved(convolution: nn.Conv2d, x_NFHWC: Tensor) -> Tensor:
    """A convolution over each frame."""
    return from_images(convolution(as_images(x_NFHWC)), x_NFHWC.shape[:2])
