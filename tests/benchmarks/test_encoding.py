"""What the benchmark of encoding measures with."""

from fractions import Fraction
from pathlib import Path

import pytest

from actors import video
from actors.settings import VideoSettings
from benchmarks import encoding
from benchmarks.pan import pan


@pytest.mark.parametrize(("crf", "least", "most"), [(0, 40, 70), (45, 15, 35)])
def test_psnr_is_that_of_the_file(crf: int, least: float, most: float, tmp_path: Path) -> None:
    frames_FHWC = pan(3, width=128, height=96)
    settings = VideoSettings(crf=crf, pixel_format="yuv444p")
    path = tmp_path / "clip.mp4"
    video.encode(frames_FHWC, path, width=128, height=96, frame_rate=Fraction(7), settings=settings, tag="{}")
    assert least < encoding._psnr(path, frames_FHWC) < most
