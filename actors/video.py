"""Frames -> a video file, through the ffmpeg binary that comes with imageio-ffmpeg.

The same frames, settings and tag give the same bytes: nothing of the time or the machine is written, and whatever
depends on the number of threads is fixed. Axes in names: H height, W width, C channels (RGB).
"""

import errno
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import IO
from uuid import uuid4

import imageio_ffmpeg
import numpy as np

from actors import scratch
from actors.contracts import Pixels
from actors.errors import VideoError
from actors.marks import xmp
from actors.rates import FASTEST
from actors.settings import VideoSettings

_X26X_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_PLANAR = ("yuv420p", "yuv422p", "yuv444p")
_PLANAR_10_BIT = ("yuv420p10le", "yuv422p10le", "yuv444p10le")

# SVT-AV1 knows six levels of parallelism, not a number of threads.
_SVT_MAX_LEVEL = 6


@dataclass(frozen=True, slots=True)
class _Codec:
    """How one codec is asked for. `crf` and `preset` are the values used where the settings say null."""

    encoder: str
    pixel_formats: tuple[str, ...]  # the first one is the default
    container: str = "mp4"
    crf: int | None = None
    max_crf: int = 51
    preset: str | None = None
    presets: tuple[str, ...] = ()
    preset_option: str = "-preset"
    min_side: int = 1  # pixels
    max_rate: Fraction = FASTEST  # frames a second
    arguments: tuple[str, ...] = ()
    thread_arguments: tuple[str, ...] = ("-threads", "{threads}")


# 18 is the crf from which on h264 is commonly called visually lossless; the others are set to come near it. Luma PSNR
# of 50 frames of two photographs under a slow pan at 1024x576: 51.0 dB (h264), 50.6 (h265), 49.6 (av1), 49.2 (vp9).
# The presets are each encoder's middle: 0.02 to 0.06 CPU seconds a frame there, little beside generating the frame.
_CODECS = {
    "h264": _Codec("libx264", _PLANAR + _PLANAR_10_BIT, crf=18, preset="medium", presets=_X26X_PRESETS),
    "h265": _Codec(
        "libx265",
        _PLANAR + _PLANAR_10_BIT,
        crf=20,
        preset="medium",
        presets=_X26X_PRESETS,
        min_side=16,  # x265 refuses less
        arguments=("-tag:v", "hvc1"),  # Apple's players open nothing else
        # x265 would write the processor's features into the stream (info) and guess frame threads from the cores.
        thread_arguments=("-x265-params", "log-level=error:info=0:frame-threads=1:pools={threads}"),
    ),
    "av1": _Codec(
        "libsvtav1",
        ("yuv420p", "yuv420p10le"),
        crf=16,
        max_crf=63,
        preset="8",
        presets=tuple(str(preset) for preset in range(14)),
        min_side=16,  # at 8x8, SVT-AV1 overwrites its own memory and is aborted
        max_rate=Fraction(240),  # SVT-AV1 refuses more
        thread_arguments=("-svtav1-params", "lp={level}"),
    ),
    "vp9": _Codec(
        "libvpx-vp9",
        _PLANAR + _PLANAR_10_BIT,
        crf=14,
        max_crf=63,
        preset="4",
        presets=tuple(str(speed) for speed in range(6)),  # "good" quality takes 0..5
        preset_option="-cpu-used",
        arguments=("-b:v", "0", "-deadline", "good", "-row-mt", "1"),  # without a bit rate of 0, crf is only a ceiling
    ),
    "ffv1": _Codec(
        "ffv1",
        ("bgr0", *_PLANAR, *_PLANAR_10_BIT),
        container="matroska",
        max_rate=Fraction(1000),  # Matroska's clock ticks in milliseconds
        arguments=("-level", "3", "-g", "1", "-slices", "4", "-slicecrc", "1"),  # every frame stands alone, checksummed
    ),
}

# No conversion shortcuts, and the same result on processors with and without SIMD.
_SCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"

# Fine enough for players that assume at least milliseconds; also what ffmpeg itself keeps to for video tracks.
_MIN_TICKS_PER_SECOND = 10_000

# Reading a tag takes a tenth of a second, of a large file on a slow disk a few.
_LONGEST_READ_S = 60.0
_TAG_KEY = "comment"
_TAG_LINE = re.compile(rb"^comment=((?:\\.|[^\\\n])*)$", re.IGNORECASE | re.MULTILINE | re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)

# ffmpeg names the cause first and then every part that stops because of it, some ten lines in all. Its addresses in
# memory (`libx264 @ 0x55e4`) are left out, so that equal failures read the same.
_LAST_LINES = 15
# Its words where the disk is at fault and not the video.
_DISK_FAULTS = {errno.ENOSPC: b"No space left on device", errno.EDQUOT: b"Disk quota exceeded"}
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")


def extension(codec: str) -> str:
    """The file name's ending for a codec: ".mp4", or ".mkv" for ffv1."""
    return ".mkv" if _CODECS[codec].container == "matroska" else ".mp4"


EXTENSIONS = tuple(sorted({extension(codec) for codec in _CODECS}))


def fastest(codec: str) -> Fraction:
    """The highest frame rate of a file in this codec."""
    return _CODECS[codec].max_rate


def check(settings: VideoSettings) -> list[str]:
    """What is wrong with the settings taken together, one sentence each; an empty list where nothing is."""
    codec, name = _CODECS[settings.codec], settings.codec
    problems = []
    if settings.crf is not None and codec.crf is None:
        problems.append(f"crf: {name} is lossless and has no quality to set; set crf to null")
    elif settings.crf is not None and settings.crf > codec.max_crf:
        problems.append(f"crf: {name} takes 0 to {codec.max_crf}, not {settings.crf}")
    if settings.preset is not None and not codec.presets:
        problems.append(f"preset: {name} has no presets; set preset to null")
    elif settings.preset is not None and settings.preset not in codec.presets:
        problems.append(f"preset: {name} takes one of {', '.join(codec.presets)}")
    if settings.pixel_format is not None and settings.pixel_format not in codec.pixel_formats:
        known = ", ".join(codec.pixel_formats)
        problems.append(f"pixel_format: {name} takes one of {known}")
    return problems


def resolved(settings: VideoSettings) -> VideoSettings:
    """The settings with the codec's own values in place of null."""
    codec = _CODECS[settings.codec]
    defaults = {"crf": codec.crf, "preset": codec.preset, "pixel_format": codec.pixel_formats[0]}
    return settings.model_copy(
        update={name: value for name, value in defaults.items() if getattr(settings, name) is None}
    )


def encode(
    frames: Iterable[Pixels],
    path: Path,
    *,
    width: int,
    height: int,
    frame_rate: Fraction,
    settings: VideoSettings,
    tag: str,
    source_type: str | None = None,
) -> int:
    """Encode frames (each uint8 RGB, (height, width, 3)) to `path` and return how many there were.

    `tag` (text without NUL, up to 100 kB) is stored in the file for `read_tag`; `source_type`
    (`actors.marks.source_types`) for everybody, None for nobody. The file appears under its name when it is complete.
    Whatever is raised meanwhile, by `frames` too, leaves neither ffmpeg nor a part of a file behind.

    Raises VideoError with ffmpeg's last lines where encoding fails, and for a size that the pixel format cannot hold;
    OSError where the disk is full.
    """
    pixel_format = settings.pixel_format or _CODECS[settings.codec].pixel_formats[0]
    is_mp4 = _CODECS[settings.codec].container == "mp4"
    texts = {_TAG_KEY: tag} | (xmp.matroska_tags(source_type) if source_type and not is_mp4 else {})
    _check_size(width, height, settings.codec, pixel_format)
    rate = f"{frame_rate.numerator}/{frame_rate.denominator}"
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    command = [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y"),
        *("-protocol_whitelist", "pipe", "-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{width}x{height}"),
        # `-r`, too: of rates above 101 and below 5 ffmpeg would guess (120 for 120000/1001, 1 for 1001/1000).
        *("-framerate", rate, "-r", rate, "-i", "pipe:0"),
        *("-vf", _color_filters(pixel_format), "-fps_mode", "cfr"),
        *_encoder_arguments(settings),
        *("-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"),
        *(part for name, text in texts.items() for part in ("-metadata", f"{name}={text}")),
        *(*_container_arguments(settings.codec, frame_rate), f"file:{partial}"),
    ]
    try:
        num_frames = _feed(command, frames, (height, width, 3))
        if source_type and is_mp4:
            xmp.append_to_mp4(partial, source_type)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return num_frames


def read_tag(path: Path) -> str | None:
    """The `tag` that `encode` stored in a file, or None for a file without one.

    Raises VideoError for what ffmpeg cannot open.
    """
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-nostdin"]
    # As what we write, whatever it is: a playlist under a video's name would have ffmpeg read what it lists.
    container = "matroska" if path.suffix == ".mkv" else "mp4"
    command += ["-protocol_whitelist", "file", "-f", container, "-i", f"file:{path}", "-f", "ffmetadata", "pipe:1"]
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_LONGEST_READ_S
        )
    except subprocess.TimeoutExpired as error:
        raise VideoError(f"ffmpeg did not come to the end of {path} in {_LONGEST_READ_S:g} s") from error
    if result.returncode != 0:
        raise VideoError(f"ffmpeg cannot read {path}: {_last_lines(result.stderr)}")
    found = _TAG_LINE.search(result.stdout)
    return _ESCAPED.sub(rb"\1", found[1]).decode() if found else None


def _check_size(width: int, height: int, codec: str, pixel_format: str) -> None:
    """Raise VideoError for frames too small for the codec, or whose colour planes would not come out whole."""
    min_side = _CODECS[codec].min_side
    if min(width, height) < min_side:
        raise VideoError(f"{codec} needs {min_side}x{min_side} pixels or more, the frames are {width}x{height}")
    halves_width = "420" in pixel_format or "422" in pixel_format
    halves_height = "420" in pixel_format
    if (halves_width and width % 2) or (halves_height and height % 2):
        needs = "an even width and height" if halves_height else "an even width"
        raise VideoError(
            f"{pixel_format} needs {needs}, the frames are {width}x{height}: change the size or set video.pixel_format"
        )


def _color_filters(pixel_format: str) -> str:
    """RGB to BT.709 of limited range, and the tags that say so; RGB formats stay RGB of full range."""
    tags = "color_primaries=bt709:color_trc=bt709"
    if pixel_format == "bgr0":
        return f"format=bgr0,setparams=colorspace=gbr:range=pc:{tags}"
    scale = f"scale=out_color_matrix=bt709:out_range=tv:flags={_SCALE_FLAGS}"
    return f"{scale},format={pixel_format},setparams=colorspace=bt709:range=tv:{tags}"


def _encoder_arguments(settings: VideoSettings) -> list[str]:
    codec = _CODECS[settings.codec]
    arguments = ["-c:v", codec.encoder, *codec.arguments]
    if codec.crf is not None:
        arguments += ["-crf", str(codec.crf if settings.crf is None else settings.crf)]
    if codec.preset is not None:
        arguments += [codec.preset_option, settings.preset or codec.preset]
    level = min(settings.threads, _SVT_MAX_LEVEL)
    return arguments + [part.format(threads=settings.threads, level=level) for part in codec.thread_arguments]


def _container_arguments(codec: str, frame_rate: Fraction) -> list[str]:
    container = _CODECS[codec].container
    if container != "mp4":
        return ["-f", container]
    # Both clocks of the file tick in whole parts of a frame. The usual 1000 ticks a second of the movie's clock would
    # round its edit list, and readers then cut up to a millisecond off the end, for some orders of stored frames.
    ticks = str(frame_rate.numerator * ceil(_MIN_TICKS_PER_SECOND / frame_rate.numerator))
    # faststart puts the index in front, so that a player or a loader needs no second request for it.
    return ["-f", container, "-movflags", "+faststart", "-video_track_timescale", ticks, "-movie_timescale", ticks]


def _feed(command: list[str], frames: Iterable[Pixels], shape: tuple[int, int, int]) -> int:
    """Run ffmpeg over the frames and return how many they were; ffmpeg has ended when this returns or raises."""
    # What ffmpeg says goes to a file: nobody needs to read it meanwhile, so no full pipe can stop it.
    with tempfile.TemporaryFile() as log:
        num_frames = 0
        with _process(command, log) as process:
            assert process.stdin is not None
            for frame_HWC in frames:
                assert frame_HWC.shape == shape, (frame_HWC.shape, shape)
                assert frame_HWC.dtype == np.uint8, frame_HWC.dtype
                if not _write(process.stdin, frame_HWC):
                    break
                num_frames += 1
            _close(process.stdin)
            returncode = process.wait()
        if returncode != 0:
            log.seek(0)
            said = log.read()
            for number, words in _DISK_FAULTS.items():
                if words in said:
                    raise OSError(number, words.decode())
            raise VideoError(f"ffmpeg ended with code {returncode}: {_last_lines(said)}")
    if num_frames == 0:
        raise VideoError("there are no frames to encode")
    return num_frames


@contextmanager
def _process(command: list[str], log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A started ffmpeg that is killed if the block raises, and reaped in any case."""
    environment = {**os.environ, "SVT_LOG": "1"}  # errors only: SVT-AV1 does not follow -loglevel
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, env=environment
        )
    except OSError as error:
        raise VideoError(f"ffmpeg cannot be started: {error}") from error
    with scratch.running(process):
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        finally:
            assert process.stdin is not None
            _close(process.stdin)
            process.wait()


def _write(pipe: IO[bytes], frame_HWC: Pixels) -> bool:
    """Whether ffmpeg took the frame; if not, it has ended and its exit code tells more."""
    try:
        pipe.write(np.ascontiguousarray(frame_HWC).data)
    except BrokenPipeError:
        return False
    return True


def _close(pipe: IO[bytes]) -> None:
    with suppress(BrokenPipeError):
        pipe.close()


def _last_lines(log: bytes) -> str:
    text = _ADDRESS.sub("", log.decode(errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:]) or "it gave no reason"
