"""A model that has to be loaded anew, and finds no memory for that."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.errors import GpuMemoryError
from actors.generators.svd.settings import FastSettings, SvdModelSettings, SvdParameters
from actors.svd import animator
from actors.svd.animator import Animator

PICTURE = np.full((16, 24, 3), 100, np.uint8)


def no_memory(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_no_memory_for_the_model_fails_the_clip_and_the_next_one_tries_again(
    monkeypatch: pytest.MonkeyPatch, svd_checkpoint: Path
) -> None:
    settings = SvdModelSettings(source=str(svd_checkpoint), precision="fp32", device="cpu")
    generation = SvdParameters(num_frames=2, num_inference_steps=1, seed=1)
    made = Animator(svd_checkpoint, settings, generation, FastSettings(), device=torch.device("cpu"))
    with monkeypatch.context() as short:
        short.setattr(animator, "generate", no_memory)
        short.setattr(animator, "load", no_memory)
        for _ in range(2):
            with pytest.raises(GpuMemoryError, match="sequential"):
                made.animate(PICTURE, generation)
    assert made.animate(PICTURE, generation).frames_BFHWC.shape == (1, 2, 16, 24, 3)
