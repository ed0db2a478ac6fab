"""What the demo's checkpoints do with a photograph that they were not trained on: each control has its effect."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.rife.interpolate import Interpolator
from actors.svd import model as svd
from benchmarks import demo_figures as figures
from benchmarks.psnr import psnr
from benchmarks.train_demo import data

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _few_steps() -> Iterator[None]:
    """Half of the figures' own: what each control does is seen as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "STEPS", 6)
        yield


@pytest.fixture(scope="module")
def model() -> svd.SvdModel:
    return svd.load(CHECKPOINTS / "svd-demo", precision="fp32", device="cpu")


@pytest.fixture(scope="module")
def photograph() -> figures.Pixels:
    return data.held_out_photograph("chelsea.png")


@pytest.fixture(scope="module")
def image(photograph: figures.Pixels) -> figures.Pixels:
    return figures.to_pixels(data.fitted(photograph))


@pytest.fixture(scope="module")
def clip(model: svd.SvdModel, image: figures.Pixels) -> figures.Pixels:
    """With the figures' default parameters."""
    return figures.generate_clip(model, image)


def test_whole_clips_survive_the_autoencoder(model: svd.SvdModel, photograph: figures.Pixels) -> None:
    assert figures.reconstruction_psnr(model, [photograph])[0] > 28


def test_the_first_frame_is_the_photograph(clip: figures.Pixels, image: figures.Pixels) -> None:
    assert psnr(clip[0], image) > 22


def test_frames_leave_the_photograph_steadily(clip: figures.Pixels, image: figures.Pixels) -> None:
    likeness = [psnr(frame, image) for frame in clip]
    assert likeness[0] > likeness[3] > likeness[7]


def test_another_seed_gives_another_motion(model: svd.SvdModel, image: figures.Pixels, clip: figures.Pixels) -> None:
    other = figures.generate_clip(model, image, figures.DEFAULTS.model_copy(update={"seed": 8}))
    # Both begin with the photograph; they part as the camera goes different ways.
    assert psnr(other[0], clip[0]) > psnr(other[7], clip[7]) + 3


def test_a_larger_motion_bucket_moves_more(model: svd.SvdModel, image: figures.Pixels) -> None:
    slow, fast = (
        figures.flow_magnitude_px(
            figures.generate_clip(model, image, figures.DEFAULTS.model_copy(update={"motion_bucket_id": b}))
        )
        for b in (20, 230)
    )
    assert fast > 1.5 * slow


def test_noise_augmentation_frees_the_clip_from_the_photograph(
    model: svd.SvdModel, image: figures.Pixels, clip: figures.Pixels
) -> None:
    noisy = figures.generate_clip(model, image, figures.DEFAULTS.model_copy(update={"noise_aug_strength": 0.5}))
    assert psnr(noisy[0], image) < psnr(clip[0], image) - 2


def test_guidance_follows_the_photograph_more_closely(
    model: svd.SvdModel, image: figures.Pixels, clip: figures.Pixels
) -> None:
    """Without guidance, as in the figures' own clip, some of the unconditional, washed-out answer is left."""
    guided = figures.DEFAULTS.model_copy(update={"min_guidance_scale": 3.0, "max_guidance_scale": 3.0})
    assert figures.generate_clip(model, image, guided).std() > clip.std()


def test_interpolation_beats_a_blend(photograph: figures.Pixels) -> None:
    interpolator = Interpolator.load(CHECKPOINTS / "rife-demo.safetensors", device="cpu", precision="fp32")
    assert figures.rife_gains(interpolator, [photograph])[0] > 6
    assert figures.interpolation_gains(interpolator, [photograph])[0] > 4
