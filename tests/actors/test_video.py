"""Encoding video. Axes in names: F frames, H height, W width, C channels (RGB)."""

import json
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest

from actors import video
from actors.contracts import Pixels
from actors.errors import VideoError
from actors.settings import VideoSettings

CODECS = ["h264", "h265", "av1", "vp9", "ffv1"]
DECODED_CODEC = {"h264": "h264", "h265": "hevc", "av1": "av1", "vp9": "vp9", "ffv1": "ffv1"}
BT709, GBR, LIMITED, FULL = 1, 0, 1, 2
RATE = Fraction(30000, 1001)


def moving_frames(count: int = 9, width: int = 128, height: int = 96) -> Pixels:
    """Soft shapes that move: (F, H, W, C) uint8."""
    t, y, x = np.mgrid[0:count, 0:height, 0:width]
    waves = [np.sin((x + 3 * t) / 9), np.cos((y - 2 * t) / 7), np.sin((x + y + 5 * t) / 13)]
    frames_FHWC: Pixels = ((np.stack(waves, -1) + 1) * 127).round().astype(np.uint8)
    return frames_FHWC


def encode(
    frames: Pixels | list[Pixels],
    path: Path,
    codec: str = "h264",
    frame_rate: Fraction = RATE,
    tag: str = "{}",
    **options: object,
) -> int:
    height, width = frames[0].shape[:2]
    settings = VideoSettings(codec=codec, **options)
    return video.encode(
        iter(frames), path, width=width, height=height, frame_rate=frame_rate, settings=settings, tag=tag
    )


def only_file(folder: Path, name: str) -> bool:
    return [path.name for path in folder.iterdir()] == [name]


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_gives_what_was_asked_for(tmp_path: Path, codec: str) -> None:
    path = tmp_path / f"clip{video.extension(codec)}"
    assert encode(moving_frames(), path, codec) == 9
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        frames = list(container.decode(stream))
        assert context.name in (DECODED_CODEC[codec], "libdav1d")
        assert (len(frames), frames[0].width, frames[0].height) == (9, 128, 96)
        assert stream.average_rate == RATE
        assert stream.base_rate == RATE
        assert context.pix_fmt == ("bgr0" if codec == "ffv1" else "yuv420p")
        assert (context.color_primaries, context.color_trc) == (BT709, BT709)
        assert context.colorspace == (GBR if codec == "ffv1" else BT709)
        assert context.color_range == (FULL if codec == "ffv1" else LIMITED)
    assert only_file(tmp_path, path.name)


@pytest.mark.parametrize("rate", ["7", "24000/1001", "2997/100", "35/2", "60", "120000/1001", "1001/1000"])
@pytest.mark.parametrize("speed", [1, 4])
def test_the_frame_rate_is_exact_and_constant(tmp_path: Path, rate: str, speed: int) -> None:
    # The motion decides in which order frames are stored, and that must not show in any time.
    path = tmp_path / "clip.mp4"
    frames = moving_frames(14 * speed)[::speed]
    encode(frames, path, frame_rate=Fraction(rate))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        assert stream.duration is not None
        stamps = [frame.pts for frame in container.decode(stream)]
        times_s = [None if stamp is None else stamp * stream.time_base for stamp in stamps]
        assert times_s == [i / Fraction(rate) for i in range(14)]
        assert stream.duration * stream.time_base == 14 / Fraction(rate)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate", ["1/1000", "7/3", "120000/1001", "23999999/99991", "fastest"])
def test_every_rate_that_settings_allow_is_that_of_the_file(tmp_path: Path, codec: str, rate: str) -> None:
    wanted = video.fastest(codec) if rate == "fastest" else Fraction(rate)
    path = tmp_path / f"clip{video.extension(codec)}"
    encode(moving_frames(), path, codec, frame_rate=min(wanted, video.fastest(codec)))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times_s = [frame.time for frame in container.decode(stream)]
        assert stream.average_rate is not None
        wanted = min(wanted, video.fastest(codec))
        # Matroska's clock ticks in milliseconds.
        assert float(stream.average_rate) == pytest.approx(float(wanted), rel=2e-4 if codec == "ffv1" else 1e-12)
        exact_s = [index / float(wanted) for index in range(9)]
        assert times_s == pytest.approx(exact_s, abs=6e-4 if codec == "ffv1" else 1e-9)
        assert len(set(times_s)) == 9


@pytest.mark.parametrize("codec", CODECS)
def test_colours_survive_when_read_as_bt709(tmp_path: Path, codec: str) -> None:
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128), (255, 255, 255), (200, 120, 40)]
    frame_HWC = np.concatenate([np.full((64, 64, 3), color, np.uint8) for color in colors], 1)
    path = tmp_path / f"clip{video.extension(codec)}"
    encode([frame_HWC] * 3, path, codec)
    with av.open(str(path)) as container:
        decoded = next(container.decode(video=0))
        if codec == "ffv1":
            rgb_HWC = decoded.to_ndarray(format="rgb24").astype(float)
        else:
            # By hand from the standard (ITU-R BT.709-6, 3.2 to 3.5), not by a converter that may guess the matrix.
            planes = decoded.to_ndarray()
            y_HW = (planes[:64].astype(float) - 16) / 219
            chroma = planes[64:].reshape(2, 32, 192).astype(float).repeat(2, 1).repeat(2, 2)
            blue_HW, red_HW = (chroma - 128) / 224
            red, blue = y_HW + 1.5748 * red_HW, y_HW + 1.8556 * blue_HW
            rgb_HWC = 255 * np.stack([red, (y_HW - 0.2126 * red - 0.0722 * blue) / 0.7152, blue], -1)
    for index, color in enumerate(colors):
        patch_C = rgb_HWC[16:48, index * 64 + 16 : index * 64 + 48].mean((0, 1))
        assert np.abs(patch_C - color).max() < 4, (color, patch_C)


def test_ffv1_is_lossless_to_the_bit(tmp_path: Path) -> None:
    frames_FHWC = np.random.default_rng(3).integers(0, 256, (4, 37, 51, 3), dtype=np.uint8)
    path = tmp_path / "clip.mkv"
    encode(frames_FHWC, path, "ffv1")
    with av.open(str(path)) as container:
        decoded_FHWC = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert np.array_equal(decoded_FHWC, frames_FHWC)


@pytest.mark.parametrize("codec", CODECS)
def test_the_same_frames_give_the_same_bytes_also_side_by_side(tmp_path: Path, codec: str) -> None:
    np.save(tmp_path / "frames.npy", moving_frames(30))
    script = (
        "import sys, pathlib, numpy, fractions; from actors import video; from actors.settings import VideoSettings\n"
        "frames = numpy.load(sys.argv[1]); settings = VideoSettings(codec=sys.argv[3], threads=3)\n"
        "video.encode(frames, pathlib.Path(sys.argv[2]), width=128, height=96,"
        " frame_rate=fractions.Fraction(7), settings=settings, tag='{}')"
    )
    paths = [tmp_path / f"{name}{video.extension(codec)}" for name in ("one", "two")]
    root = Path(video.__file__).parents[1]
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "frames.npy"), str(path), codec], cwd=root)
        for path in paths
    ]
    assert [process.wait() for process in processes] == [0, 0]
    encode(moving_frames(30), tmp_path / "three", codec, frame_rate=Fraction(7), threads=3)
    assert paths[0].read_bytes() == paths[1].read_bytes() == (tmp_path / "three").read_bytes()


@pytest.mark.parametrize("codec", CODECS[:-1])
def test_the_index_comes_before_the_pictures(tmp_path: Path, codec: str) -> None:
    encode(moving_frames(), tmp_path / "clip.mp4", codec)
    data = (tmp_path / "clip.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


TAGS = [
    '{"a": 1}',
    "",
    "line one\nline two\r\n\\\n[STREAM]\ncomment=other",
    r"= ; # \ \\ \= 'single' \"double\" %d {x}",
    "Zürich 東京 🎬",
    json.dumps({"key": "value;=#\\" * 800, "nested": {"é": ["\n", "\t"]}}),
]


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
@pytest.mark.parametrize("tag", TAGS, ids=range(len(TAGS)))
def test_a_tag_comes_back_as_it_was(tmp_path: Path, codec: str, tag: str) -> None:
    path = tmp_path / f"a clip: 1%{video.extension(codec)}"
    encode(moving_frames(2), path, codec, tag=tag)
    assert video.read_tag(path) == (tag or None)


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_carries_the_tag(tmp_path: Path, codec: str) -> None:
    path = tmp_path / f"clip{video.extension(codec)}"
    encode(moving_frames(2), path, codec, tag='{"seed": 7}')
    assert video.read_tag(path) == '{"seed": 7}'


def test_what_is_no_video_has_no_tag_but_an_error(tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match="cannot read"):
        video.read_tag(tmp_path / "no.mp4")


class Interrupted(BaseException):
    """Like KeyboardInterrupt: no subclass of Exception."""


@pytest.mark.parametrize("error", [ValueError, BrokenPipeError, Interrupted])
@pytest.mark.parametrize("width", [8, 512])
def test_a_failing_iterator_leaves_no_process_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], width: int
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real_popen = subprocess.Popen

    def popen(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(real_popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)

    def frames() -> Iterator[Pixels]:
        yield from moving_frames(5, width, 64)
        raise error("no more")

    with pytest.raises(error, match="no more"):
        video.encode(
            frames(), tmp_path / "a.mp4", width=width, height=64, frame_rate=RATE, settings=VideoSettings(), tag=""
        )
    assert [process.returncode for process in started] == [-9]
    assert list(tmp_path.iterdir()) == []


def test_a_failed_encode_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"older")
    with pytest.raises(VideoError):
        encode(moving_frames(2), tmp_path / "clip.mp4", preset="no such preset")
    assert (tmp_path / "clip.mp4").read_bytes() == b"older"
    assert only_file(tmp_path, "clip.mp4")


def test_ffmpegs_own_words_are_in_the_error(tmp_path: Path) -> None:
    # More frames than fit into the pipe: ffmpeg ends while they are still being written.
    with pytest.raises(VideoError, match="no such preset") as caught:
        encode(moving_frames(60), tmp_path / "clip.mp4", preset="no such preset")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="No such file or directory"):
        encode(moving_frames(2), tmp_path / "missing" / "clip.mp4")


def test_a_missing_ffmpeg_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(tmp_path / "ffmpeg"))
    with pytest.raises(VideoError, match="ffmpeg cannot be started"):
        encode(moving_frames(2), tmp_path / "clip.mp4")


def test_much_output_on_stderr_does_not_stop_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = tmp_path / "ffmpeg"
    noisy.write_text(
        f"#!/bin/sh\nhead -c 1000000 /dev/zero | tr '\\0' 'x' >&2\nexec {imageio_ffmpeg.get_ffmpeg_exe()} \"$@\"\n"
    )
    noisy.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(noisy))
    assert encode(moving_frames(60), tmp_path / "clip.mp4") == 60


def test_no_frames_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VideoError):
        video.encode(
            iter(()), tmp_path / "a.mp4", width=64, height=64, frame_rate=RATE, settings=VideoSettings(), tag=""
        )
    assert list(tmp_path.iterdir()) == []


def test_a_frame_of_another_size_is_our_own_mistake(tmp_path: Path) -> None:
    frames = [*moving_frames(2), np.zeros((8, 8, 3), np.uint8)]
    with pytest.raises(AssertionError):
        encode(frames, tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "pixel_format", "words"),
    [
        ((65, 64), "yuv420p", "an even width and height"),
        ((64, 65), None, "an even width and height"),
        ((65, 64), "yuv422p", "an even width,"),
    ],
)
def test_odd_sizes_say_what_they_need(
    tmp_path: Path, size: tuple[int, int], pixel_format: str | None, words: str
) -> None:
    with pytest.raises(VideoError, match=words):
        encode(moving_frames(2, *size), tmp_path / "clip.mp4", pixel_format=pixel_format)


@pytest.mark.parametrize(("size", "pixel_format"), [((65, 67), "yuv444p"), ((64, 67), "yuv422p")])
def test_odd_sizes_work_in_formats_that_hold_them(
    tmp_path: Path, size: tuple[int, int], pixel_format: str | None
) -> None:
    encode(moving_frames(2, *size), tmp_path / "clip.mp4", pixel_format=pixel_format)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.width, context.height, context.pix_fmt) == (*size, pixel_format)


@pytest.mark.parametrize("codec", CODECS)
def test_the_smallest_frames_work_or_say_what_is_needed(tmp_path: Path, codec: str) -> None:
    path = tmp_path / f"clip{video.extension(codec)}"
    assert encode(moving_frames(3, 16, 16), path, codec) == 3
    if codec in ("h265", "av1"):
        with pytest.raises(VideoError, match=f"{codec} needs 16x16 pixels or more, the frames are 64x8"):
            encode(moving_frames(3, 64, 8), path, codec)
    else:
        assert encode(moving_frames(3, 8, 8), path, codec) == 3


def test_frames_that_are_views_are_written_as_seen(tmp_path: Path) -> None:
    # In memory these are columns first, as after a transposition.
    frames_FHWC = moving_frames(3).swapaxes(1, 2)
    encode(frames_FHWC, tmp_path / "view.mkv", "ffv1")
    encode(np.ascontiguousarray(frames_FHWC), tmp_path / "copy.mkv", "ffv1")
    assert (tmp_path / "view.mkv").read_bytes() == (tmp_path / "copy.mkv").read_bytes()


def test_crf_and_preset_reach_the_encoder(tmp_path: Path) -> None:
    variants: dict[str, dict[str, Any]] = {"usual": {}, "worse": {"crf": 40}, "faster": {"preset": "ultrafast"}}
    for name, settings in variants.items():
        encode(moving_frames(), tmp_path / f"{name}.mp4", **settings)
    data = {path.stem: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(data["worse"]) < len(data["usual"]) / 2
    assert b"crf=18.0" in data["usual"]
    assert b"threads=2 " in data["usual"]
    assert b"cabac=0" in data["faster"]


@pytest.mark.parametrize("codec", CODECS)
def test_everything_that_check_allows_can_be_encoded(tmp_path: Path, codec: str) -> None:
    known = video._CODECS[codec]
    for preset in (known.presets[0], known.presets[-1]) if known.presets else (None,):
        for pixel_format in known.pixel_formats:
            assert video.check(VideoSettings(codec=codec, preset=preset, pixel_format=pixel_format)) == []
    for pixel_format in known.pixel_formats:
        path = tmp_path / f"{pixel_format}{video.extension(codec)}"
        fastest = {"h264": "ultrafast", "h265": "ultrafast", "av1": "13", "vp9": "5", "ffv1": None}[codec]
        encode(moving_frames(2), path, codec, pixel_format=pixel_format, preset=fastest)
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.pix_fmt == pixel_format


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"codec": "ffv1", "crf": 0}, "crf: ffv1 is lossless"),
        ({"codec": "ffv1", "preset": "fast"}, "preset: ffv1 has no presets"),
        ({"codec": "h264", "crf": 52}, "crf: h264 takes 0 to 51, not 52"),
        ({"codec": "h265", "crf": 63}, "crf: h265 takes 0 to 51, not 63"),
        ({"codec": "h264", "preset": "8"}, "preset: h264 takes one of ultrafast"),
        ({"codec": "av1", "preset": "medium"}, "preset: av1 takes one of 0, 1"),
        ({"codec": "vp9", "preset": "6"}, "preset: vp9 takes one of 0, 1, 2, 3, 4, 5"),
        ({"codec": "av1", "pixel_format": "yuv444p"}, "pixel_format: av1 takes one of yuv420p, yuv420p10le"),
        ({"codec": "h264", "pixel_format": "bgr0"}, "pixel_format: h264 takes one of"),
    ],
)
def test_check_names_each_problem(settings: dict[str, object], words: str) -> None:
    problems = video.check(VideoSettings(**settings))
    assert len(problems) == 1
    assert problems[0].startswith(words)


def test_check_finds_all_problems_at_once_and_none_in_good_settings() -> None:
    assert len(video.check(VideoSettings(codec="ffv1", crf=1, preset="fast", pixel_format="nv12"))) == 3
    for codec in CODECS:
        assert video.check(VideoSettings(codec=codec)) == []
    assert video.check(VideoSettings(codec="av1", crf=63, preset="0")) == []


def test_h265_does_not_carry_the_features_of_the_processor(tmp_path: Path) -> None:
    encode(moving_frames(2), tmp_path / "clip.mp4", "h265")
    assert b"cpuid" not in (tmp_path / "clip.mp4").read_bytes()


def test_extensions() -> None:
    assert [video.extension(codec) for codec in CODECS] == [".mp4"] * 4 + [".mkv"]
