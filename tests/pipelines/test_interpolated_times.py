"""A plan says where the frames between frames are not quite where their times say, and only there."""

from pathlib import Path

import pytest
import torch

from actors.storage import Storage
from pipelines.config import load_config
from pipelines.planning.interpolated_times import notes_on_times
from tests.actors.rife_reference import random_hdv3_state, random_state
from tests.jobs import in_process, write_null_config, write_pictures


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rife")
    found = {name: folder / f"{name}.pkl" for name in ("hdv3", "v4")}
    torch.save(random_hdv3_state(8), found["hdv3"])
    torch.save(random_state("4.14.lite"), found["v4"])
    return found


@pytest.mark.parametrize(
    ("weights", "settings", "said"),
    [
        ("hdv3", ["interpolation.factor=3"], "with a factor of 3 frames come from the nearest of 32 times"),
        ("hdv3", ["interpolation.factor=2.5"], "with a factor of 5/2 (2.5) frames come"),
        ("hdv3", ["interpolation.factor=null", "interpolation.target_fps=24", "generation.fps=7"], "a factor of 24/7"),
        ("hdv3", ["interpolation.factor=4"], None),
        ("hdv3", ["interpolation.factor=null", "interpolation.target_fps=28", "generation.fps=7"], None),
        ("v4", ["interpolation.factor=3"], None),
    ],
)
def test_times_that_halving_does_not_reach(
    weights: str, settings: list[str], said: str | None, files: dict[str, Path]
) -> None:
    overrides = ["manifest=m.csv", "output=out", f"interpolation.weights={files[weights]}", *settings]
    notes = list(notes_on_times(load_config(["conf/null.yaml"], overrides), Storage()))
    assert len(notes) == (said is not None)
    assert said is None or said in notes[0]


def test_plan_says_it_once(files: dict[str, Path], tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 2)
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "images", tmp_path / "out")
    done = in_process("plan", "--config", config, f"interpolation.weights={files['hdv3']}", "interpolation.factor=3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("these RIFE weights (HDv3) make the middle of two frames alone") == 1
