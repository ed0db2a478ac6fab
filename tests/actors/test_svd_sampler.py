"""The sampling loop against diffusers' own pipeline, and against itself in other company."""

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import StableVideoDiffusionPipeline
from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as stock
from PIL import Image
from torch import Tensor

from actors.errors import ConfigError
from actors.generators.svd.settings import SvdParameters
from actors.svd.conditioning import Conditioning, guidance, resize_antialiased
from actors.svd.model import SvdModel, load
from actors.svd.sampler import NoiseSchedule, Shortcuts, check_size, denoise, generate, generate_frames, noise_schedule
from actors.svd.unet import Evaluation

Pixels = npt.NDArray[np.uint8]
Frames = npt.NDArray[np.float32]

PARITY = 2e-4  # on frames of 0..1: rounding through the whole network, many times over, and that of summed weights
SAME_CLIP = 1e-5


def changed(clip: SvdParameters, **changes: Any) -> SvdParameters:
    return clip.model_copy(update=changes)


CLIP = SvdParameters(
    seed=11, fps=7, motion_bucket_id=127, noise_aug_strength=0.02, min_guidance_scale=1.0, max_guidance_scale=3.0
)
UNGUIDED = changed(CLIP, seed=12, fps=24, motion_bucket_id=30, max_guidance_scale=1.0)
FALLING = changed(CLIP, seed=13, fps=3, noise_aug_strength=0.3, min_guidance_scale=2.5, max_guidance_scale=0.5)


@pytest.fixture(scope="module")
def model(svd_checkpoint: Path) -> SvdModel:
    return load(svd_checkpoint, precision="fp32", device="cpu")


@pytest.fixture(scope="module")
def pipeline(svd_checkpoint: Path) -> Any:
    pipeline = StableVideoDiffusionPipeline.from_pretrained(svd_checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def images(count: int, *, width: int = 24, height: int = 16) -> Pixels:
    """Images of one size, each with its own colours and edges."""
    x, y = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 2, height))
    waves = [
        np.stack([np.sin(x * k + c) * np.cos(y * (k + c)) for c in range(3)], axis=-1) for k in range(1, count + 1)
    ]
    return np.round((np.stack(waves) + 1) * 127.5).astype(np.uint8)


class HowLong(TypedDict):
    num_frames: int
    num_inference_steps: int


def ours(model: SvdModel, images_BHWC: Pixels, clips: Sequence[SvdParameters], **settings: Any) -> Frames:
    """Our frames (B, F, H, W, C), 0..1."""
    frames_BFCHW = torch.stack(list(generate_frames(model, images_BHWC, clips, **settings)))
    return (frames_BFCHW / 2 + 0.5).clamp(0, 1).permute(0, 1, 3, 4, 2).numpy()


def theirs(pipeline: Any, image_HWC: Pixels, clip: SvdParameters, **settings: Any) -> Frames:
    """The stock pipeline's frames (F, H, W, C), 0..1, with a generator of the clip's seed."""
    assert clip.seed is not None
    height, width = image_HWC.shape[:2]
    made = pipeline(
        Image.fromarray(image_HWC),
        height=height,
        width=width,
        fps=clip.fps,
        motion_bucket_id=clip.motion_bucket_id,
        noise_aug_strength=clip.noise_aug_strength,
        min_guidance_scale=clip.min_guidance_scale,
        max_guidance_scale=clip.max_guidance_scale,
        generator=torch.Generator().manual_seed(clip.seed),
        output_type="np",
        **settings,
    )
    frames: Frames = made.frames[0]
    return frames


def difference(a: Frames, b: Frames) -> float:
    assert a.shape == b.shape
    return float(np.abs(a - b).max())


@pytest.mark.parametrize("clip", [CLIP, UNGUIDED], ids=["guided", "unguided"])
@pytest.mark.parametrize(
    ("num_frames", "width", "height"), [(14, 24, 16), (25, 16, 24)], ids=["svd", "svd_xt_portrait"]
)
def test_frames_are_the_stock_pipelines(
    model: SvdModel, pipeline: Any, clip: SvdParameters, num_frames: int, width: int, height: int
) -> None:
    image = images(1, width=width, height=height)
    settings = {"num_frames": num_frames, "num_inference_steps": 4}
    expected = theirs(pipeline, image[0], clip, **settings)
    assert expected.std() > 0.1, "frames all of one grey would agree with anything"
    assert difference(ours(model, image, [clip], **settings)[0], expected) <= PARITY


def test_every_parameter_moves_the_frames_far_beyond_the_tolerance(model: SvdModel) -> None:
    settings = {"num_frames": 3, "num_inference_steps": 3}
    before = ours(model, images(1), [CLIP], **settings)
    changes: list[dict[str, Any]] = [
        {"seed": 12},
        {"fps": 8},
        {"motion_bucket_id": 128},
        {"noise_aug_strength": 0.03},
        {"min_guidance_scale": 1.1},
        {"max_guidance_scale": 3.1},
    ]
    for change in changes:
        after = ours(model, images(1), [changed(CLIP, **change)], **settings)
        assert difference(before, after) > 10 * PARITY, change


def test_a_single_step_is_the_stock_pipelines_too(model: SvdModel, pipeline: Any) -> None:
    settings = {"num_frames": 3, "num_inference_steps": 1}
    made = ours(model, images(1), [CLIP], **settings)[0]
    assert difference(made, theirs(pipeline, images(1)[0], CLIP, **settings)) <= PARITY


def test_a_single_frame_has_the_guidance_of_the_first(model: SvdModel) -> None:
    settings = {"num_frames": 1, "num_inference_steps": 2}
    made = ours(model, images(1), [CLIP], **settings)
    assert difference(made, ours(model, images(1), [changed(CLIP, max_guidance_scale=1.0)], **settings)) <= SAME_CLIP


def test_guidance_below_one_is_no_guidance_as_in_the_stock_pipeline(model: SvdModel, pipeline: Any) -> None:
    clip = changed(CLIP, min_guidance_scale=0.2, max_guidance_scale=0.9)
    settings = {"num_frames": 3, "num_inference_steps": 2}
    assert (
        difference(ours(model, images(1), [clip], **settings)[0], theirs(pipeline, images(1)[0], clip, **settings))
        <= PARITY
    )


def test_a_clip_is_the_same_alone_in_a_batch_and_in_another_order(model: SvdModel) -> None:
    settings = {"num_frames": 5, "num_inference_steps": 4}
    pictures, clips = images(3), [CLIP, UNGUIDED, FALLING]
    together = ours(model, pictures, clips, **settings)
    turned = ours(model, pictures[[2, 0, 1]], [FALLING, CLIP, UNGUIDED], **settings)
    for index, clip in enumerate(clips):
        alone = ours(model, pictures[[index]], [clip], **settings)[0]
        np.testing.assert_array_equal(together[index], alone)
        np.testing.assert_array_equal(together[index], turned[(index + 1) % 3])


def test_the_unet_sees_one_clip_at_a_time_and_an_unguided_one_once(
    model: SvdModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    forward = model.unet.forward

    def counting(sample: Tensor, *arguments: Any, **keywords: Any) -> Any:
        seen.append(len(sample))
        return forward(sample, *arguments, **keywords)

    monkeypatch.setattr(model.unet, "forward", counting)
    generate(model, images(2), [UNGUIDED, CLIP], num_frames=2, num_inference_steps=2)
    assert seen == [1, 1, 2, 2]


def evaluations(model: SvdModel, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Of every evaluation of the UNet from now on: how many clips it sees, and whether all layers run."""
    seen: list[tuple[int, bool]] = []
    forward = model.unet.forward

    def watching(inputs: Tensor, terms: Any, deep: Tensor | None = None) -> Any:
        seen.append((len(inputs), deep is None))
        return forward(inputs, terms, deep)

    monkeypatch.setattr(model.unet, "forward", watching)
    return seen


def test_deep_features_are_computed_in_one_of_so_many_steps(model: SvdModel, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"num_frames": 2, "num_inference_steps": 5}
    exact = ours(model, images(1), [CLIP], **settings)
    seen = evaluations(model, monkeypatch)
    cached = ours(model, images(1), [CLIP], shortcuts=Shortcuts(cache_interval=2), **settings)
    assert [is_whole for _, is_whole in seen] == [True, False, True, True, False]
    assert difference(cached, exact) > 10 * PARITY
    np.testing.assert_array_equal(ours(model, images(1), [CLIP], shortcuts=Shortcuts(), **settings), exact)


def test_the_steps_in_the_middle_are_guided(model: SvdModel, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"num_frames": 2, "num_inference_steps": 5}
    unguided = ours(model, images(1), [changed(CLIP, max_guidance_scale=1.0)], **settings)
    exact = ours(model, images(1), [CLIP], **settings)
    seen = evaluations(model, monkeypatch)
    partly = ours(model, images(1), [CLIP], shortcuts=Shortcuts(guided_share=0.5), **settings)
    assert [clips for clips, _ in seen] == [1, 2, 2, 2, 1]
    assert difference(partly, exact) > 10 * PARITY
    assert difference(partly, unguided) > 10 * PARITY
    never = ours(model, images(1), [CLIP], shortcuts=Shortcuts(guided_share=0.0), **settings)
    assert difference(never, unguided) <= SAME_CLIP


def test_guidance_begins_with_a_whole_evaluation_and_leaves_half_of_its_features_to_the_next_step(
    model: SvdModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With scales of 1, guidance takes the conditional half alone: going without it changes nothing."""
    clip = changed(CLIP, min_guidance_scale=1.0, max_guidance_scale=1.0 + 1e-6)
    settings = {"num_frames": 2, "num_inference_steps": 8}
    cached = Shortcuts(cache_interval=2)
    unguided = ours(model, images(1), [changed(clip, max_guidance_scale=1.0)], shortcuts=cached, **settings)
    seen = evaluations(model, monkeypatch)
    partly = ours(model, images(1), [clip], shortcuts=replace(cached, guided_share=0.5), **settings)
    assert seen == [(1, True), (1, False), (1, False), (2, True), (2, True), (2, True), (2, False), (1, False)]
    assert difference(partly, unguided) <= PARITY
    seen.clear()
    ours(model, images(1), [clip], shortcuts=Shortcuts(cache_interval=8, guided_share=3 / 8), **settings)
    assert seen == [(1, True), (1, False), (1, False), (2, True), (2, False), (2, False), (1, False), (1, False)]


def test_decoding_in_chunks_stays_within_the_clip(model: SvdModel, pipeline: Any) -> None:
    settings = {"num_frames": 5, "num_inference_steps": 2}
    whole = ours(model, images(2), [CLIP, UNGUIDED], **settings)
    assert difference(whole, ours(model, images(2), [CLIP, UNGUIDED], decode_chunk_frames=5, **settings)) == 0
    chunked = ours(model, images(2), [CLIP, UNGUIDED], decode_chunk_frames=3, **settings)
    assert difference(whole, chunked) > 10 * PARITY
    assert difference(chunked[0], theirs(pipeline, images(1)[0], CLIP, decode_chunk_size=3, **settings)) <= PARITY


def test_frames_are_rounded_to_bytes(model: SvdModel) -> None:
    settings = HowLong(num_frames=2, num_inference_steps=2)
    made = generate(model, images(2), [CLIP, UNGUIDED], **settings)
    expected = np.round(ours(model, images(2), [CLIP, UNGUIDED], **settings) * 255)
    assert made.frames_BFHWC.shape == (2, 2, 16, 24, 3)
    assert made.frames_BFHWC.dtype == np.uint8
    assert made.finite == (True, True)
    exact = made.frames_BFHWC == expected
    assert exact.mean() > 0.999  # the two ways to 0..255 may differ where a value lies on the edge


def test_a_clip_that_is_not_finite_is_told_and_does_not_touch_its_neighbours(model: SvdModel) -> None:
    settings = HowLong(num_frames=2, num_inference_steps=2)
    made = generate(model, images(3), [CLIP, changed(CLIP, noise_aug_strength=math.inf), UNGUIDED], **settings)
    assert made.finite == (True, False, True)
    well = generate(model, images(3)[[0, 2]], [CLIP, UNGUIDED], **settings)
    np.testing.assert_array_equal(made.frames_BFHWC[[0, 2]], well.frames_BFHWC)


def test_offloading_keeps_only_what_is_at_work_on_the_device_and_changes_nothing(
    model: SvdModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["unet", "image_encoder", "vae_encoder", "vae_decoder"]
    present = set(names)
    peaks: list[set[str]] = []

    def move(name: str, device: object) -> None:
        if str(device) == "cpu":
            present.discard(name)
        else:
            present.add(name)
            peaks.append(set(present))

    for name in names:
        monkeypatch.setattr(getattr(model, name), "to", partial(move, name))
    settings = {"num_frames": 3, "num_inference_steps": 2}
    device = replace(model, device=torch.device("cpu:0"))  # the CPU by another name, which tells the moves apart
    made = ours(device, images(2), [CLIP, UNGUIDED], offload=True, **settings)
    encoders = {"image_encoder", "vae_encoder"}
    first, second = peaks[:4], peaks[4:]
    assert first == [encoders, encoders, {"unet"}, {"vae_decoder"}]
    assert second == [{"image_encoder"}, encoders, {"unet"}, {"vae_decoder"}]
    np.testing.assert_array_equal(made, ours(model, images(2), [CLIP, UNGUIDED], **settings))


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_precision_gives_nearly_the_same_frames(
    model: SvdModel, svd_checkpoint: Path, precision: Any, dtype: torch.dtype
) -> None:
    half = load(svd_checkpoint, precision=precision, device="cpu")
    assert {parameter.dtype for parameter in half.vae_encoder.parameters()} == {torch.float32}
    for network in (half.unet, half.vae_decoder, half.image_encoder):
        assert {parameter.dtype for parameter in network.parameters()} == {dtype}
    settings = {"num_frames": 3, "num_inference_steps": 3}
    made, exact = (ours(m, images(1), [CLIP], **settings) for m in (half, model))
    assert np.isfinite(made).all()
    assert np.abs(made - exact).mean() < 0.03


def test_latents_keep_fp32_while_the_unet_computes_in_bf16(
    svd_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a UNet that always says 0, every step multiplies the latents by a known number, to seven digits."""
    model = load(svd_checkpoint, precision="bf16", device="cpu")

    def silence(inputs_NFChw: Tensor, *_: Any) -> Evaluation:
        return Evaluation(torch.zeros_like(inputs_NFChw[:, :, :4]), inputs_NFChw)

    monkeypatch.setattr(model.unet, "forward", silence)
    schedule = noise_schedule(model, 10)
    factor = math.prod(
        1 + (following - sigma) / sigma * (1 - 1 / (sigma**2 + 1))
        for sigma, following in zip(schedule.sigmas, schedule.sigmas[1:], strict=False)
    )
    noise = torch.randn(1, 2, 4, 8, 8) * schedule.initial_sigma
    conditioning = Conditioning(
        torch.zeros(1, 1, 32, dtype=model.dtype), torch.zeros(1, 2, 4, 8, 8), torch.zeros(1, 3), None
    )
    torch.testing.assert_close(denoise(model, noise, conditioning, schedule), noise * factor, rtol=1e-5, atol=0)


def test_the_schedule_is_karras_from_700_to_0(model: SvdModel) -> None:
    schedule: NoiseSchedule = noise_schedule(model, 25)
    rho, low, high = 7, 0.002, 700.0  # EDM, equation 5
    karras = [(high ** (1 / rho) + i / 24 * (low ** (1 / rho) - high ** (1 / rho))) ** rho for i in range(25)]
    np.testing.assert_allclose(schedule.sigmas, [*karras, 0.0], rtol=1e-5)
    np.testing.assert_allclose(schedule.timesteps_S.numpy(), 0.25 * np.log(karras), rtol=1e-4)
    assert schedule.initial_sigma == pytest.approx(math.sqrt(high**2 + 1))


@pytest.mark.parametrize(("height", "width"), [(16, 24), (224, 224), (300, 200), (576, 1024)])
def test_the_clip_resize_is_the_stock_pipelines(height: int, width: int) -> None:
    picture = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(
        resize_antialiased(picture, 224), stock._resize_with_antialiasing(picture, (224, 224)), rtol=0, atol=2e-6
    )


def test_guidance_is_a_straight_line_over_the_frames() -> None:
    scales = guidance([CLIP, UNGUIDED, FALLING], 5, torch.device("cpu"))
    assert scales.shape == (3, 5, 1, 1, 1)
    assert scales.flatten(1).tolist() == [[1, 1.5, 2, 2.5, 3], [1, 1, 1, 1, 1], [2.5, 2, 1.5, 1, 0.5]]


def test_sizes_that_the_checkpoint_cannot_make_are_refused(model: SvdModel) -> None:
    assert model.pixel_multiple == 2
    check_size(model, width=1024, height=576, num_frames=1)
    with pytest.raises(ConfigError, match=r"25x16 pixels .* multiples of 2; 24x16 would do"):
        check_size(model, width=25, height=16, num_frames=14)
    with pytest.raises(ConfigError, match=r"num_frames=0"):
        check_size(model, width=24, height=16, num_frames=0)
    with pytest.raises(ConfigError, match="multiples of 2"):
        generate(model, images(1, width=25), [CLIP], num_frames=2, num_inference_steps=1)


def test_the_model_code_does_not_import_ray() -> None:
    code = """
import sys
import actors.rife.interpolate, actors.rife.ncnn, actors.rife.untrained, actors.rife.weights
import actors.svd.checkpoint, actors.svd.conditioning, actors.svd.model, actors.svd.sampler
assert {"ray", "pipelines"}.isdisjoint(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
