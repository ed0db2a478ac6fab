"""The demo's training: every phase for two steps, continued where it stopped, ends in files that the product loads."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from actors.rife.interpolate import Interpolator
from actors.svd import model as svd
from benchmarks.train_demo import __main__ as train_demo
from benchmarks.train_demo import autoencoder, data, muon, rife, unet

SCHEDULES = [name for name in dir(train_demo) if name.endswith("_SCHEDULE")]
# Of a step: few and small pictures. They are computed in bfloat16, for which most CPUs have no instructions.
SMALL: dict[ModuleType, dict[str, int]] = {
    autoencoder: {"PATCHES": 1, "PATCH_PX": 24, "CLIP_PATCH_HEIGHT": 16, "CLIP_PATCH_WIDTH": 24},
    unet: {"BATCH": 1, "HEIGHT_PX": 32, "WIDTH_PX": 48},
    rife: {"BATCH": 1},
    muon: {"NEWTON_SCHULZ_STEPS": 1},
}


def _make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, sizes in SMALL.items():
        for name, size in sizes.items():
            assert hasattr(module, name)
            monkeypatch.setattr(module, name, size)


def _shorten(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    for name in SCHEDULES:
        monkeypatch.setattr(train_demo, name, replace(getattr(train_demo, name), steps=steps, decay_steps=steps))


@pytest.mark.slow
def test_training_continues_and_ships_what_the_product_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _make_small(monkeypatch)
    pictures = data.Pictures(tmp_path, num_procedural=2)
    for steps in (1, 2):
        _shorten(monkeypatch, steps)
        train_demo.train_all(pictures, tmp_path, tmp_path / "checkpoints", torch.device("cpu"))
    for name in ("rife", "autoencoder", "decoder", "unet"):
        assert torch.load(tmp_path / f"{name}.pt", weights_only=True)["step"] == 2

    model = svd.load(tmp_path / "checkpoints" / "svd-demo", precision="fp32", device="cpu")
    assert torch.isfinite(next(model.unet.parameters())).all()
    Interpolator.load(tmp_path / "checkpoints" / "rife-demo.safetensors", device="cpu", precision="fp32")
    size = sum(file.stat().st_size for file in (tmp_path / "checkpoints").rglob("*") if file.is_file())
    assert size < 30e6  # they ship with the source


def test_held_out_photographs_are_never_trained_on() -> None:
    trained = {Path(path).name for _, path, _ in data.TRAINING_PHOTOGRAPHS}
    assert not trained & set(data.HELD_OUT)
    assert {"rocket.jpg", "chelsea.png"} <= set(data.HELD_OUT)


@pytest.mark.parametrize(("motion", "expected"), [(data.Motion(2, -1, 1.0), (2, -1)), (data.Motion(0, 0, 1.0), (0, 0))])
def test_a_pan_shows_what_lies_in_its_direction(motion: data.Motion, expected: tuple[int, int]) -> None:
    """Frame 1 is frame 0 cut out further on, by whole pixels."""
    picture = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))
    first, second = data.render_clip(picture, (30.0, 20.0), motion, torch.tensor([0.0, 1.0]), height=16, width=24)
    dx, dy = expected
    rows, columns = slice(2, 14), slice(2, 22)
    moved = first[:, 2 + dy : 14 + dy, 2 + dx : 22 + dx]
    torch.testing.assert_close(second[:, rows, columns], moved, atol=1e-4, rtol=0)
