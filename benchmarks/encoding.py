"""CPU seconds that encoding takes, ours against diffusers' `export_to_video`: `python -m benchmarks.encoding`.

Both get the same frames, 25 and 97 of a slow pan over a photograph at 576x1024, and the same settings of the codec:
export_to_video's own. imageio turns its `quality=5` into `-crf 25` and names libx264 and yuv420p; the rest is left to
ffmpeg: the preset medium, and one and a half threads per core. All processor time is counted, Python's and ffmpeg's;
ours includes the colour matrix and the tags of BT.709 and the index at the front. Each figure is the least of several
turns taken alternately. PSNR is of the decoded RGB against the frames.

Ends non-zero where ours takes more CPU seconds a frame, or has a lower PSNR.
"""

import argparse
import math
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
from diffusers.utils import export_to_video
from PIL import Image
from rich.console import Console
from rich.table import Table

from actors import video
from actors.settings import VideoSettings
from benchmarks.pan import pan

Pixels = npt.NDArray[np.uint8]

_WIDTH, _HEIGHT = 1024, 576
_FPS = 7
_CRF = 25  # int((1 - 5 / 10) * 51), see imageio_ffmpeg's write_frames
_THREADS = max(1, int((os.cpu_count() or 1) * 1.5))  # x264's X264_THREADS_AUTO
_MIN_PSNR_DIFFERENCE_DB = -0.1


def main() -> int:
    """Encode in turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    turns: int = parser.parse_args().turns
    missed = False
    table = Table("frames", "encoder", "CPU s/frame", "of it Python", "ratio", "limit", "PSNR, dB", "kB")
    for num_frames in (25, 97):
        frames_FHWC = pan(num_frames, width=_WIDTH, height=_HEIGHT)
        with tempfile.TemporaryDirectory() as name:
            guide, ours = Path(name) / "guide.mp4", Path(name) / "ours.mp4"
            # As the pipeline of the guide returns them.
            images = [Image.fromarray(frame_HWC) for frame_HWC in frames_FHWC]
            ways: list[tuple[str, Path, Callable[[], object]]] = [
                ("export_to_video", guide, partial(export_to_video, images, str(guide), _FPS)),
                ("stillreel", ours, partial(_encode, frames_FHWC, ours)),
            ]
            seconds = _least([way for _, _, way in ways], turns)
            figures = [(_psnr(path, frames_FHWC), path.stat().st_size / 1000) for _, path, _ in ways]
        for (encoder, _, _), (python_s, ffmpeg_s), (psnr, kilobytes) in zip(ways, seconds, figures, strict=True):
            is_ours = encoder == "stillreel"
            ratio = (python_s + ffmpeg_s) / sum(seconds[0])
            missed |= ratio > 1 or psnr - figures[0][0] < _MIN_PSNR_DIFFERENCE_DB
            table.add_row(
                str(num_frames),
                encoder,
                f"{(python_s + ffmpeg_s) / num_frames:.4f}",
                f"{python_s / num_frames:.4f}",
                f"{ratio:.2f}",
                "1" if is_ours else "",
                f"{psnr:.2f}",
                f"{kilobytes:.0f}",
            )
    Console().print(table)
    return int(missed)


def _encode(frames_FHWC: Pixels, path: Path) -> int:
    settings = VideoSettings(codec="h264", crf=_CRF, preset="medium", pixel_format="yuv420p", threads=_THREADS)
    height, width = frames_FHWC.shape[1:3]
    return video.encode(
        frames_FHWC, path, width=width, height=height, frame_rate=Fraction(_FPS), settings=settings, tag="{}"
    )


def _least(ways: list[Callable[[], object]], turns: int) -> list[tuple[float, float]]:
    """For each way the least processor seconds of a turn, of Python and of ffmpeg; the first turn only warms up."""
    taken: list[list[tuple[float, float]]] = [[] for _ in ways]
    for turn in range(turns + 1):
        for times, way in zip(taken, ways, strict=True):
            python_s, ffmpeg_s = _cpu_s(resource.RUSAGE_SELF), _cpu_s(resource.RUSAGE_CHILDREN)
            way()
            spent = _cpu_s(resource.RUSAGE_SELF) - python_s, _cpu_s(resource.RUSAGE_CHILDREN) - ffmpeg_s
            if turn:
                times.append(spent)
    return [min(times, key=sum) for times in taken]


def _cpu_s(who: int) -> float:
    """Of this process, or of its children that have ended."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def _psnr(path: Path, frames_FHWC: Pixels) -> float:
    """In dB, over all frames and channels, as a player shows the file: by its own tags, else as ffmpeg guesses."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24"]
    shown = subprocess.run([*command, "pipe:1"], stdout=subprocess.PIPE, check=True).stdout
    shown_FHWC = np.frombuffer(shown, np.uint8).reshape(frames_FHWC.shape)
    errors = [np.square(one.astype(float) - other).mean() for one, other in zip(shown_FHWC, frames_FHWC, strict=True)]
    return 10 * math.log10(255**2 / float(np.mean(errors)))


if __name__ == "__main__":
    sys.exit(main())
