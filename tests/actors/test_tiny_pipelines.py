"""Each tiny checkpoint loads without a network, and its clip follows from image, prompt and generator alone."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny_pipelines import TINY, Tiny
from tests.tiny_pipelines.cosmos import install_guardrail


@pytest.fixture(scope="module", params=list(TINY.values()), ids=list(TINY))
def tiny(request: pytest.FixtureRequest) -> Tiny:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def folder(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / tiny.name
    tiny.save(path)
    return path


@pytest.fixture(scope="module")
def pipeline(tiny: Tiny, folder: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        if tiny.guardrail:
            install_guardrail(patch)
        loaded = getattr(diffusers, tiny.class_name).from_pretrained(folder, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def clip(tiny: Tiny, pipeline: Any) -> Any:
    torch.manual_seed(1)
    return _frames(tiny, pipeline)


def test_it_is_small(folder: Path) -> None:
    assert (folder / "model_index.json").is_file()
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 20_000_000


def test_its_weights_are_the_same_each_time(tiny: Tiny, folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)
    tiny.save(tmp_path)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*.safetensors"))
    assert names
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_it_makes_the_clip_that_is_asked_for(tiny: Tiny, clip: Any) -> None:
    frames_FHWC = clip
    assert frames_FHWC.shape == (tiny.clip_frames or tiny.num_frames, tiny.height, tiny.width, 3)
    assert np.isfinite(frames_FHWC).all()
    assert all(frame.std() > 1 / 255 for frame in frames_FHWC)
    assert np.abs(np.diff(frames_FHWC, axis=0)).mean() > 1 / 255


def test_a_clip_depends_on_its_generator_alone(tiny: Tiny, pipeline: Any, clip: Any) -> None:
    assert _differ(_frames(tiny, pipeline, seed=1), clip)
    torch.manual_seed(2)
    assert np.array_equal(_frames(tiny, pipeline), clip)


def test_image_and_prompt_are_seen(tiny: Tiny, pipeline: Any, clip: Any) -> None:
    assert _differ(_frames(tiny, pipeline, prompt="the cat sleeps"), clip)
    assert _differ(_frames(tiny, pipeline, picture=1), clip)


def _frames(tiny: Tiny, pipeline: Any, *, picture: int = 0, prompt: str = "a dog runs", seed: int = 0) -> Any:
    noise = np.random.default_rng(picture).integers(0, 256, (tiny.height, tiny.width, 3), dtype=np.uint8)
    generator = torch.Generator("cpu").manual_seed(seed)
    image = tiny.image_arguments(Image.fromarray(noise))
    made = pipeline(**image, prompt=prompt, generator=generator, **tiny.arguments())
    return np.asarray(made.frames[0])


def _differ(one: Any, other: Any) -> bool:
    """Whether a reader of 8-bit pixels sees it in more than a hundredth of them."""
    return bool(np.mean(np.round(one * 255) != np.round(other * 255)) > 0.01)
