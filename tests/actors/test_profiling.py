"""A profile of some clips: what is kept of it, and that nothing of it changes or fails a clip."""

import gzip
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from actors.contracts import Failed, Generated, Loaded, Row, Stage
from actors.generators.svd.generator import SvdGenerator
from actors.generators.svd.settings import SvdModelSettings, SvdParameters
from actors.runner.profiling import Kernels, Profiling
from actors.runner.runner import Runner
from actors.settings import ImageSettings
from actors.stages.generate import Generate
from actors.storage import Storage
from actors.tries.guard import Guard
from actors.tries.ledger import LocalLedger
from tests.jobs import SVD_PARAMETERS

PIXELS = np.full((64, 96, 3), 200, np.uint8)


class Convolve(Stage[Loaded, Generated]):
    """Fails for the second clip."""

    name = "generate"

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, image: Loaded) -> Generated:
        self._calls += 1
        if self._calls == 2:
            raise ValueError("unlucky seed")
        torch.conv2d(torch.ones(1, 4, 32, 32), torch.ones(4, 4, 3, 3))
        return Generated(image.row, np.stack([image.image_HWC] * 2))


def image(number: int = 0) -> Loaded:
    return Loaded(Row(f"{number:064d}", 0, 0, "a.png", SVD_PARAMETERS), PIXELS)


def profiling(folder: Path, clips: int = 2) -> Profiling:
    return Profiling(clips, lambda name: str(folder / name), Storage())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_actor_keeps_traces_and_a_table_of_its_first_clips_that_were_made(tmp_path: Path) -> None:
    guard = Guard(LocalLedger(max_deaths=3))
    first, other = (Runner(Convolve(), guard, profiling(tmp_path / who)) for who in ("first", "other"))
    made = [first(image(number)) for number in range(6)]
    assert [type(one) for one in made] == [Generated, Failed, Generated, Generated, Generated, Generated]
    assert isinstance(other(image(9)), Generated)
    assert not (tmp_path / "other").exists()
    assert names(tmp_path / "first") == ["kernels.txt", "trace-0.json.gz", "trace-1.json.gz", "trace-2.json.gz"]
    table = (tmp_path / "first/kernels.txt").read_text()
    assert table.startswith("2 clips on ")  # the first one is left out, now that others are there
    assert "conv" in table
    trace = json.loads(gzip.decompress((tmp_path / "first/trace-2.json.gz").read_bytes()))
    assert any("conv" in event["name"] for event in trace["traceEvents"])


def test_what_fails_in_a_profile_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    runner = Runner(Convolve(), Guard(LocalLedger(max_deaths=3)), profiling(tmp_path / "file"))
    assert [type(runner(image(number))) for number in range(4)] == [Generated, Failed, Generated, Generated]
    assert [record.message.partition(" (")[0] for record in caplog.records if record.levelname == "WARNING"] == [
        "run.profile: the profile ends here, the clips go on"
    ]


def test_a_generator_without_pytorch_has_no_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Runner(Convolve(), Guard(LocalLedger(max_deaths=3)), profiling(tmp_path))
    monkeypatch.delitem(sys.modules, "torch")
    made = [runner(image(number)) for number in range(3)]
    monkeypatch.undo()
    assert [type(one) for one in made] == [Generated, Failed, Generated]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "run.profile: this generator uses no PyTorch, so there is nothing to profile"
    ]
    assert names(tmp_path) == []


def test_a_profiled_clip_has_the_same_pixels(svd_checkpoint: Path, tmp_path: Path) -> None:
    model = SvdModelSettings(source=str(svd_checkpoint), precision="fp32", device="cpu")
    parameters = SvdParameters(num_frames=3, num_inference_steps=2)
    size = ImageSettings(width=96, height=64, orientation="landscape")
    stage = Generate(SvdGenerator, model, parameters, "r", size, Storage())
    runners = [Runner(stage, Guard(LocalLedger(3)), wanted) for wanted in (None, profiling(tmp_path, 1))]
    plain, profiled = (runner(image()) for runner in runners)
    assert isinstance(plain, Generated)
    assert isinstance(profiled, Generated)
    assert np.array_equal(plain.frames_FHWC, profiled.frames_FHWC)
    assert "addmm" in (tmp_path / "kernels.txt").read_text()
    assert names(tmp_path) == ["kernels.txt", "trace-0.json.gz"]


def event(key: str, device: str, us: float, **others: Any) -> SimpleNamespace:
    times = {"self_device_time_total": us, "self_cpu_time_total": 7.0, "count": 2, "is_user_annotation": False}
    return SimpleNamespace(key=key, device_type=SimpleNamespace(name=device), **(times | others))


def test_of_a_gpu_the_table_holds_kernels_and_not_what_launched_them() -> None:
    kernels = Kernels("NVIDIA H100 80GB HBM3")
    seen = [
        event("aten::conv2d", "CPU", 3000.0),
        event("sm90_gemm<" + "x" * 500, "CUDA", 3000.0),
        event("softmax", "CUDA", 1000.0),
        event("step 3", "CUDA", 9000.0, is_user_annotation=True),
    ]
    profile: Any = SimpleNamespace(key_averages=lambda: seen)
    kernels.add(profile, 0.005)
    kernels.add(profile, 0.005)
    first, _, _, *lines = kernels.table().splitlines()
    said = "2 clips on NVIDIA H100 80GB HBM3: 5.0 ms a clip, 80% of it in kernels; the 2 of 2 that took most"
    assert first == said
    assert [line.split()[:3] for line in lines] == [["75.0%", "3.00", "2"], ["25.0%", "1.00", "2"]]
    assert max(map(len, lines)) < 160
