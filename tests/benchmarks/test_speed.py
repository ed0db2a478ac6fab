"""What the benchmarks of speed measure with."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch.nn.attention import SDPBackend

from actors import video
from actors.settings import VideoSettings
from benchmarks import encoding, host, rife_speed, speed
from benchmarks.make_checkpoints import TINY_SIZES
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


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> speed.Bench:
    """The benchmark of a GPU with a small model on the CPU, uncompiled."""
    monkeypatch.setattr(speed, "SVD_XT_SIZES", TINY_SIZES)
    monkeypatch.setattr(speed, "compile_networks", lambda model: None)
    monkeypatch.setattr(torch, "compile", lambda network, **how: network)
    monkeypatch.setattr(speed, "_matmul_tflops", lambda device: 1.0)
    monkeypatch.setattr(rife_speed, "measure", lambda way, frames, device, batch: (900.0, 1.0))
    case = speed.Case(64, 64, 3, 4, 3.0, torch.float32, 3)
    return speed.Bench(speed.Results(Console(quiet=True)), case, torch.device("cpu"), repeats=1)


def test_every_part_for_a_gpu_runs(bench: speed.Bench) -> None:
    speed.run_parts(list(speed._PARTS), bench)
    names = [name for name, _, _ in bench.results.rows]
    assert not set(names) & set(speed._PARTS)  # what raised would be a row of its own
    assert [name for name in names if "s in all" in name] == [f"part {part}, s in all" for part in speed._PARTS]
    for aim in (">= 2.2x", "<= 7 on", ">= 4x", ">= 1.8x", ">= 35 %", ">= 800", "<= 24", "<= 8", ">= 40"):
        assert any(aim in row_aim for _, _, row_aim in bench.results.rows), aim
    psnr_db = next(float(figure) for name, figure, _ in bench.results.rows if "PSNR" in name)
    assert psnr_db >= 40


def test_part_that_fails_keeps_no_other_from_running(bench: speed.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    brought: list[str] = []
    stock = type(bench.stock)
    monkeypatch.setattr(stock, "to", lambda pipeline, device: brought.append(str(device)))
    monkeypatch.setattr(speed, "FAST", speed.Shortcuts(cache_interval=0))
    monkeypatch.setattr(speed, "set_feed_forward_pieces", lambda model, pieces: 1 / 0)
    speed.run_parts(["fast", "memory", "rife"], bench)
    figures = {name: figure for name, figure, _ in bench.results.rows}
    assert (figures["fast"], figures["memory"]) == ("ZeroDivisionError", "ZeroDivisionError")
    assert bench.results.missed
    assert any("RIFE" in name for name in figures)
    assert brought == ["cpu", "cpu"]  # out, and back to the bench's device


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
