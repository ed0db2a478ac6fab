"""What the benchmarks of speed measure with."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend

from actors import video
from actors.settings import VideoSettings
from benchmarks import encoding, host, speed
from benchmarks.pan import pan


def test_the_pan_moves_a_little_in_every_frame() -> None:
    frames_FHWC = pan(97, width=64, height=36).astype(int)
    assert frames_FHWC.shape == (97, 36, 64, 3)
    changes = np.abs(np.diff(frames_FHWC, axis=0)).mean(axis=(1, 2, 3))
    assert 0.1 < changes.min() <= changes.max() < 10


@pytest.mark.parametrize(("kernel", "can"), [(SDPBackend.MATH, True), (SDPBackend.CUDNN_ATTENTION, False)])
def test_attention_is_timed_with_the_kernels_that_there_are(kernel: SDPBackend, can: bool) -> None:
    seconds = speed.attention_s((2, 5, 24, 64), [kernel], torch.device("cpu"), repeats=1)
    assert (seconds is not None) == can


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Data's own, at its first use
def test_a_row_comes_through_the_store_as_it_was() -> None:
    frames_FHWC = pan(3, width=64, height=36)
    assert np.array_equal(host._through_store({"frames_FHWC": frames_FHWC})["frames_FHWC"], frames_FHWC)


@pytest.mark.parametrize(("crf", "least", "most"), [(0, 40, 70), (45, 15, 35)])
def test_psnr_is_that_of_the_file(crf: int, least: float, most: float, tmp_path: Path) -> None:
    frames_FHWC = pan(3, width=128, height=96)
    settings = VideoSettings(crf=crf, pixel_format="yuv444p")
    path = tmp_path / "clip.mp4"
    video.encode(frames_FHWC, path, width=128, height=96, frame_rate=Fraction(7), settings=settings, tag="{}")
    assert least < encoding._psnr(path, frames_FHWC) < most
