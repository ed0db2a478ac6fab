"""The clips that are made."""

from dataclasses import dataclass

import torch

from actors.svd.sampler import Shortcuts
from benchmarks.make_checkpoints import SVD_XT_SIZES, TINY_SIZES, SvdSizes


@dataclass(frozen=True, slots=True)
class Case:
    """A clip, and the model that makes it."""

    width: int
    height: int
    num_frames: int
    steps: int
    max_guidance: float
    dtype: torch.dtype
    decode_chunk: int  # stock's; all frames, so that the pixels can be compared
    sizes: SvdSizes = SVD_XT_SIZES
    # The arithmetic that the networks ask for, as `benchmarks.flops` counts it without any saving by fused layers.
    unet_tflop: float = 153.9  # one evaluation, both halves
    vae_tflop: float = 173.6

    @property
    def is_full(self) -> bool:
        """Whether the figures have the aims' meaning."""
        return self.sizes is SVD_XT_SIZES


DEMO = Case(160, 96, 8, 8, 1.0, torch.float32, 8)
FULL = Case(1024, 576, 25, 25, 3.0, torch.float16, 25)
# For rehearsals; its arithmetic is nobody's concern.
TINY = Case(64, 64, 3, 4, 3.0, torch.float32, 3, TINY_SIZES, 0.001, 0.001)
FAST = Shortcuts(cache_interval=3, guided_share=0.5)
