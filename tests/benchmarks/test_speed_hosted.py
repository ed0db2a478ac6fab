"""The benchmarks of pipelines of diffusers run without a GPU, on small models, and say what was not measured."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from rich.console import Console

from benchmarks import hosting
from benchmarks.speed import __main__ as command
from benchmarks.speed.clock import Budget
from benchmarks.speed.hosted.clip import levels
from benchmarks.speed.hosted.measure import HostedBench
from benchmarks.speed.hosted.models import MODELS, Model, ltx_scheduler, random_pipeline
from benchmarks.speed.hosted.ways import Way
from benchmarks.speed.results import Results
from tests.tiny_pipelines import TINY

CPU = torch.device("cpu")


def rows_of(out: Path) -> dict[str, Any]:
    return {line["name"]: line for line in map(json.loads, out.read_text().splitlines())}


def rehearse(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["speed", "--generator", "diffusers", "--tiny", *arguments])
    return command.main()


@pytest.mark.parametrize("model", MODELS)
def test_stock_and_ways_stand_in_one_table(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "rows.jsonl"
    ways = ["exact", "taylorseer", "sage"]
    assert rehearse(monkeypatch, "--model", model, "--steps", "5", "--ways", *ways, "--out", str(out)) == 0
    rows = rows_of(out)
    assert rows["exact: frames as stock's, to the last bit"]["value"] is True
    for name in ("stock: a step", "exact: a step", "taylorseer: a step, mean of 5", "exact against stock, a step"):
        assert rows[name]["value"] > 0
    assert rows["exact: beyond the pipeline's call"]["reached"] is None, "a rehearsal is too small for that"
    assert rows["taylorseer: frames against stock's, PSNR"]["value"] < 130, "features were shared"
    assert rows["sage"]["value"].startswith("not here")


@pytest.mark.parametrize(
    ("name", "transformer", "vae"), [("wan22_ti2v_5b", 4.9998e9, 0.7047e9), ("ltx", 1.9234e9, 0.4192e9)]
)
def test_full_size_is_that_of_the_published_checkpoints(name: str, transformer: float, vae: float) -> None:
    with torch.device("meta"):
        parts = MODELS[name].parts()
    for part, billions in (("transformer", transformer), ("vae", vae)):
        assert sum(one.numel() for one in parts[part].parameters()) == pytest.approx(billions, rel=1e-4)


def _narrow_parts() -> dict[str, Any]:
    """LTX's, but narrow: its text embeddings have their full width."""
    return {
        "scheduler": ltx_scheduler(),
        "transformer": LTXVideoTransformer3DModel(num_attention_heads=2, cross_attention_dim=128, num_layers=2),
        "vae": AutoencoderKLLTXVideo(
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1,) * 5,
            decoder_layers_per_block=(1,) * 5,
        ),
    }


def test_random_weights_make_a_clip_as_a_gpu_would(tmp_path: Path) -> None:
    full = MODELS["ltx"]
    model = Model(full.pipeline, _narrow_parts, full.text, full.tiny, full.clip)
    stock = random_pipeline(model, CPU, "small")
    assert stock.transformer.dtype == stock.vae.dtype == stock.text_encoder.dtype == torch.bfloat16
    out = tmp_path / "rows.jsonl"
    results = Results(Console(quiet=True), out, judges_speed=False)
    HostedBench(results, Budget(math.inf), model.small_clip, CPU).measure(stock, ["exact"])
    assert rows_of(out)["exact: frames as stock's, to the last bit"]["value"] is True


def test_what_fails_or_does_not_fit_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "rows.jsonl"
    bench = HostedBench(Results(Console(quiet=True), out), Budget(100), MODELS["ltx"].small_clip, CPU)
    monkeypatch.setattr(bench, "_stock", lambda _: None)
    monkeypatch.setattr(bench, "_needed_s", lambda way: 1000 if way.model.get("compile") else 0)

    def fail(_stock: object, name: str, _way: Way) -> None:
        raise RuntimeError(f"no {name}")

    monkeypatch.setattr(bench, "_way", fail)
    bench.measure(None, ["exact", "compiled", "sage"])  # nothing looks at it
    rows = rows_of(out)
    assert rows["exact"]["value"] == "RuntimeError: no exact"
    assert rows["compiled"]["value"].startswith("not begun")
    assert rows["sage"]["value"] == "not here: no sage"
    assert [row["reached"] for row in rows.values() if "aim" in row] == [False, False]


def test_without_a_gpu_only_a_rehearsal_is_begun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["speed", "--generator", "diffusers"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        command.main()
    assert "--tiny" in capsys.readouterr().err


def test_frames_in_either_form_are_the_same_levels() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(levels(frames.astype(np.float32) / 255), frames)
    np.testing.assert_array_equal(levels(list(frames)), frames)


def test_the_cost_of_hosting_is_told_class_by_class() -> None:
    figures = hosting.measure(TINY["ltx"], rows=25, turns=1)
    assert (figures.encoder_calls, figures.encoder_passes) == (10, 20)
    assert figures.is_as_stock
    assert figures.is_same_twice
    assert (figures.arrays, figures.is_own_memory) == (1, True)
    assert 0 < figures.beyond_ms < figures.call_ms
    assert set(figures.misses) <= {"beyond the call"}


def test_a_copy_of_the_frames_is_a_miss() -> None:
    figures = hosting.Figures("x", 99.0, 1.0, True, True, 2, True, 11, 11, False)
    assert figures.misses == ["arrays", "encoder calls"]
