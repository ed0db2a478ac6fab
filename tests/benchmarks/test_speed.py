"""The benchmark of speed: its parts run without a GPU, and its rows say what was reached, missed or left out."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch.nn.attention import SDPBackend

from benchmarks import rife_speed
from benchmarks.pan import pan
from benchmarks.speed import __main__ as command
from benchmarks.speed import bench as bench_module
from benchmarks.speed import parts
from benchmarks.speed.bench import Bench
from benchmarks.speed.cases import FULL, TINY
from benchmarks.speed.clock import Budget
from benchmarks.speed.parts import PARTS, memory, run_parts
from benchmarks.speed.parts.attention import attention_s
from benchmarks.speed.parts.kernels import kind_of
from benchmarks.speed.results import Aim, Results, at_least, at_most, shown

CPU = torch.device("cpu")


def test_the_pan_moves_a_little_in_every_frame() -> None:
    frames_FHWC = pan(97, width=64, height=36).astype(int)
    assert frames_FHWC.shape == (97, 36, 64, 3)
    changes = np.abs(np.diff(frames_FHWC, axis=0)).mean(axis=(1, 2, 3))
    assert 0.1 < changes.min() <= changes.max() < 10


@pytest.mark.parametrize(("kernel", "can"), [(SDPBackend.MATH, True), (SDPBackend.CUDNN_ATTENTION, False)])
def test_attention_is_timed_with_the_kernels_that_there_are(kernel: SDPBackend, can: bool) -> None:
    seconds = attention_s((2, 5, 24, 64), [kernel], CPU, torch.float32)
    assert (seconds is not None) == can


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("sm90_xmma_fprop_implicit_gemm_f16f16_f16f32", "convolutions"),
        ("nvjet_hsh_256x128_64x4_2x1_v_bz_coopA_TNT", "matrix products"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_f16", "attention"),
        ("triton_red_fused_convolution_native_group_norm_silu_3", "compiled, group norm"),
        ("triton_poi_fused_gelu_mul_split_7", "compiled, GEGLU"),
        ("triton_poi_fused_add_view_7", "compiled, other"),
        ("Memcpy DtoD (Device -> Device)", "copies"),
        ("void at::native::elementwise_kernel", "other"),
    ],
)
def test_kernels_are_told_apart_by_their_names(kernel: str, kind: str) -> None:
    assert kind_of(kernel) == kind


def silent(out: Path | None = None, *, judges_speed: bool = True) -> Results:
    return Results(Console(quiet=True), out, judges_speed=judges_speed)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    """The benchmark of a GPU with a small model on the CPU, uncompiled; speed counts."""
    monkeypatch.setattr(bench_module, "compile_networks", lambda model: None)
    monkeypatch.setattr(torch, "compile", lambda network, **how: network)
    monkeypatch.setattr(rife_speed, "measure", lambda way, frames, device, batch: (900.0, 1.0))
    return Bench(silent(tmp_path / "rows.jsonl"), TINY, CPU, Budget(math.inf))


def lines_of(bench: Bench) -> list[dict[str, Any]]:
    assert bench.results.out is not None
    return [json.loads(line) for line in bench.results.out.read_text().splitlines()]


def test_every_part_runs(bench: Bench) -> None:
    run_parts(PARTS, bench)
    lines = lines_of(bench)
    assert [(line["name"], shown(line["value"])) for line in lines] == [
        (name, figure.removesuffix(line["unit"]).strip())
        for (name, figure, _), line in zip(bench.results.rows, lines, strict=True)
    ]
    names = [line["name"] for line in lines]
    ends = [f"part {part}, in all" for part in PARTS]
    assert [name for name in names if name.startswith("part ")] == ends, "what was raised is a row of its own"
    aims = {line["aim"]: line["reached"] for line in lines if "aim" in line}
    for aim in ("<= 10 s", ">= 2.2x", ">= 1.8x", ">= 4x", ">= 800", "<= 24 GB", "<= 8 GB", ">= 35 %"):
        assert aim in aims
    assert aims[">= 40 dB"] is True
    assert aims["True"] is True
    assert bench.results.out is not None
    for what in ("evaluation", "decode"):
        assert "convolution" in bench.results.out.with_name(f"rows-kernels-{what}-compiled.txt").read_text()


def test_a_part_that_fails_keeps_no_other_from_running(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    brought: list[str] = []
    monkeypatch.setattr(type(bench.stock), "to", lambda pipeline, device: brought.append(str(device)))
    monkeypatch.setattr(memory, "set_feed_forward_pieces", lambda model, pieces: 1 / 0)
    run_parts(["rife", "memory", "guide"], bench)
    figures = {name: figure for name, figure, _ in bench.results.rows}
    assert figures["part memory"] == "ZeroDivisionError: division by zero"
    assert bench.results.missed
    assert "exact against the guide's compile" in figures
    assert brought == ["cpu", "cpu"]  # out, and back to the bench's device


def test_a_part_that_does_not_fit_is_not_begun_and_one_behind_it_that_does_is(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def noting(name: str) -> Callable[[Bench], None]:
        return lambda _: begun.append(name)

    for name, part in PARTS.items():
        monkeypatch.setitem(PARTS, name, parts.Part(noting(name), part.needs_s, has_models=False))
    bench = Bench(silent(), FULL, CPU, Budget(30))
    run_parts(["guide", "clips", "attention", "facts"], bench)
    assert begun == ["facts", "attention"]
    rows = {name: (figure, aim) for name, figure, aim in bench.results.rows}
    figure, aim = rows["part guide"]
    assert re.fullmatch(r"not begun: \d+ s left, it may need 160", figure)
    assert aim == "to be measured  MISSED"
    assert bench.results.missed


def test_what_must_be_compiled_before_counts_and_less_so_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(silent(), FULL, CPU, Budget(math.inf))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    first_s = PARTS["compiled"].seconds(bench)
    (tmp_path / "kernel").touch()
    from_disk_s = PARTS["compiled"].seconds(bench)
    bench.is_compiled = True
    assert first_s > from_disk_s > PARTS["compiled"].seconds(bench) > PARTS["compiled"].needs_s, "models are to be made"


@pytest.mark.parametrize(
    ("aim", "judges_speed", "reached", "verdict"),
    [
        (at_most(9.0, 9), True, True, "<= 9"),
        (at_most(9.1, 9, " s"), True, False, "<= 9 s  MISSED"),
        (at_least(2.1, 2.2, "x"), True, False, ">= 2.2x  MISSED"),
        (at_least(2.1, 2.2, "x"), False, None, ">= 2.2x  (not judged)"),
        (at_least(30, 40, of_speed=False), False, False, ">= 40  MISSED"),
        (None, True, None, ""),
    ],
)
def test_aims_are_judged(
    aim: Aim | None, judges_speed: bool, reached: bool | None, verdict: str, tmp_path: Path
) -> None:
    results = silent(tmp_path / "rows.jsonl", judges_speed=judges_speed)
    results.add("figure", 2.125, "s", aim, why="so")
    assert results.rows == [("figure", "2.125 s", verdict)]
    assert results.missed == (reached is False)
    line = json.loads((tmp_path / "rows.jsonl").read_text())
    assert line.pop("t") >= 0
    expected = {"name": "figure", "value": 2.125, "unit": "s", "why": "so"}
    assert line == expected | ({"aim": aim.text, "reached": reached} if aim else {})


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["speed", *arguments])
    return command.main()


def test_the_rehearsal_ends_well_and_adds_to_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "rows.jsonl"
    for _ in range(2):
        assert run_command(monkeypatch, "--tiny", "--parts", "facts", "--out", str(out)) == 0
    lines = [json.loads(line)["name"] for line in out.read_text().splitlines()]
    assert lines.count("copy, read and written") == 2


def test_where_time_is_up_nothing_is_begun_and_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "rows.jsonl"
    assert run_command(monkeypatch, "--tiny", "--budget-s", "-1", "--out", str(out)) == 1
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["name"] for line in lines[1:]] == [f"part {part}" for part in PARTS]
    assert all(line["value"].startswith("not begun") for line in lines[1:])


def test_an_interruption_leaves_the_rows_and_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(bench: Bench) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(PARTS, "facts", parts.Part(interrupt, 0))
    assert run_command(monkeypatch, "--tiny", "--parts", "facts") == 130
    assert "interrupted" in capsys.readouterr().out.rpartition("what")[2]


@pytest.mark.slow
def test_it_needs_none_of_the_packages_that_a_bare_gpu_machine_lacks() -> None:
    """Nor does what tests/gpu uses."""
    names = ["benchmarks.speed.__main__", "actors.svd.animator", "actors.svd.fp8", "actors.rife.interpolate"]
    code = f"""
import importlib, sys
for name in ("ray", "omegaconf", "imageio_ffmpeg", "typer", "swift", "pytest", "_pytest"):
    sys.modules[name] = None
for name in {names}:
    importlib.import_module(name)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
