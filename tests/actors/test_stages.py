"""The stages without Ray: what goes in, what comes out, and that a bad row only ever fails itself."""

import io
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from actors.records import CLIP_SCHEMA, Outcome, Provenance
from actors.settings import (
    GenerationSettings,
    ImageSettings,
    InterpolationSettings,
    ModelSettings,
    VideoSettings,
)
from actors.stages import generate as generate_stage
from actors.stages.attempts import AttemptLedger, Attempts
from actors.stages.finish import Finish
from actors.stages.generate import Generate
from actors.stages.load import load_image
from actors.storage import Storage
from actors.video import read_tag

STORAGE = Storage()
ATTEMPTS = Attempts(AttemptLedger(max_attempts=3))
IMAGE = ImageSettings(width=96, height=64)
PROVENANCE = Provenance("model", "revision", "fp32", 2, "crop")


def png(width: int = 100, height: int = 80) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def work_row(**changes: Any) -> dict[str, Any]:
    row = {
        "clip_id": "ab" * 32,
        "part": 2,
        "attempts": 0,
        "image_uri": "memory-row",
        "image_bytes": png(),
        "problem": "",
        "seed": np.int64(1),
        "fps": np.int32(7),
        "motion_bucket_id": np.int32(127),
        "noise_aug_strength": np.float64(0.02),
        "min_guidance_scale": np.float64(1.0),
        "max_guidance_scale": np.float64(3.0),
    }
    return row | changes


def load(**changes: Any) -> dict[str, Any]:
    return load_image(work_row(**changes), storage=STORAGE, settings=IMAGE, attempts=ATTEMPTS)


def as_batch(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    batch = {}
    for name in rows[0]:
        column = np.empty(len(rows), object)
        column[:] = [row[name] for row in rows]
        batch[name] = column
    return batch


def finish(output: Path, interpolation: InterpolationSettings, video: VideoSettings) -> Finish:
    return Finish(interpolation, video, PROVENANCE, str(output), STORAGE, ATTEMPTS)


def generated(**changes: Any) -> dict[str, Any]:
    """A row as `Generate` gives it, with frames of smooth motion."""
    x = np.arange(96)[None, :, None] * 2
    frames = np.stack([np.broadcast_to(((x + 6 * f) % 256), (64, 96, 3)) for f in range(4)]).astype(np.uint8)
    row = load()
    row.pop("image_HWC")
    return row | {"frames_FHWC": frames, "generate_s": 0.5, "device": "cpu", "memory_mode": "resident"} | changes


@pytest.fixture(scope="module")
def generate(svd_checkpoint: Path) -> Generate:
    model = ModelSettings(source=str(svd_checkpoint), precision="fp32", device="cpu")
    return Generate(model, GenerationSettings(num_frames=3, num_inference_steps=2), IMAGE, STORAGE, ATTEMPTS)


def test_load_image_from_bytes_and_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    loaded, from_file = load(), load(image_bytes=None, image_uri=str(tmp_path / "a.png"))
    assert loaded["image_HWC"].shape == from_file["image_HWC"].shape == (64, 96, 3)
    assert (loaded["image_width"], loaded["image_height"], loaded["stage"]) == (100, 80, "")
    assert "image_bytes" not in loaded


def test_load_image_turns_the_clip_for_upright_images() -> None:
    assert load(image_bytes=png(50, 200))["image_HWC"].shape == (96, 64, 3)


@pytest.mark.parametrize(
    ("changes", "stage", "kind"),
    [
        ({"problem": "row 3 of m.csv has no URI"}, "manifest", "ManifestError"),
        ({"image_bytes": None, "image_uri": "/none.png"}, "load", "NotFound"),
        ({"image_bytes": b"<html>404</html>"}, "load", "ImageError"),
    ],
)
def test_rows_that_cannot_be_loaded_are_marked(changes: dict[str, Any], stage: str, kind: str) -> None:
    row = load(**changes)
    assert (row["stage"], row["error_type"]) == (stage, kind)
    assert row["error"]
    assert list(row) == list(load())  # one schema, well or not


def test_a_failed_row_goes_round_the_model_and_its_neighbours_do_not_notice(generate: Generate) -> None:
    rows = [load(), load(image_bytes=b"", clip_id="cd" * 32), load(image_bytes=png(50, 200), clip_id="ef" * 32)]
    alone = next(generate(as_batch(rows[:1])))
    together = {batch["clip_id"][0]: batch for batch in generate(as_batch(rows))}
    assert together["cd" * 32]["stage"][0] == "load"
    assert together["cd" * 32]["frames_FHWC"].size == 0
    assert together["ef" * 32]["frames_FHWC"].shape == (1, 3, 96, 64, 3)
    np.testing.assert_array_equal(together["ab" * 32]["frames_FHWC"], alone["frames_FHWC"])
    assert alone["frames_FHWC"].shape == (1, 3, 64, 96, 3)
    assert {tuple(batch) for batch in together.values()} == {tuple(alone)}


def test_one_clip_that_cannot_be_made_does_not_take_the_batch_along(
    generate: Generate, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = generate_stage.generate

    def picky(model: Any, images: Any, clips: Any, **options: Any) -> Any:
        if any(clip.seed == 13 for clip in clips):
            raise RuntimeError("unlucky seed")
        return made(model, images, clips, **options)

    monkeypatch.setattr(generate_stage, "generate", picky)
    rows = [load(), load(clip_id="cd" * 32, seed=np.int64(13)), load(clip_id="ef" * 32)]
    ended = {batch["clip_id"][0]: batch["error"][0] for batch in generate(as_batch(rows))}
    assert ended == {"ab" * 32: "", "cd" * 32: "unlucky seed", "ef" * 32: ""}


def test_frames_that_are_not_numbers_are_a_failure(generate: Generate, monkeypatch: pytest.MonkeyPatch) -> None:
    made = generate_stage.generate

    def broken(*arguments: Any, **options: Any) -> Any:
        clips = made(*arguments, **options)
        return type(clips)(clips.frames_BFHWC, tuple(False for _ in clips.finite))

    monkeypatch.setattr(generate_stage, "generate", broken)
    batch = next(generate(as_batch([load()])))
    assert (batch["stage"][0], batch["frames_FHWC"].size) == ("generate", 0)


def test_finish_writes_the_video_that_its_record_describes(tmp_path: Path, rife_weights: Path) -> None:
    interpolation = InterpolationSettings(weights=str(rife_weights), factor=3, precision="fp32", device="cpu")
    row = generated()
    outcome = Outcome.from_json(finish(tmp_path, interpolation, VideoSettings())(row)["outcome"])
    assert outcome.failure is None
    clip = outcome.clip
    assert set(clip) == set(CLIP_SCHEMA.names) - {"created_at"}
    path = tmp_path / "data/part-00002" / clip["file_name"]
    assert path.stat().st_size == clip["bytes"]
    assert (clip["num_frames"], clip["generated_frames"], clip["video_fps"]) == (10, 4, 21.0)
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (96, 64, Fraction(21))
        assert sum(1 for _ in container.decode(video=0)) == 10
    own = json.loads(read_tag(path))
    assert own == {name: clip[name] for name in own}
    assert own["clip_id"] == clip["clip_id"]


def test_a_clip_made_twice_is_the_same_file(tmp_path: Path, rife_weights: Path) -> None:
    interpolation = InterpolationSettings(weights=str(rife_weights), factor=2, precision="fp32", device="cpu")
    hashes = set()
    for run, seconds in ((tmp_path / "a", 0.5), (tmp_path / "b", 0.7)):
        outcome = finish(run, interpolation, VideoSettings())(generated(generate_s=seconds))
        hashes.add(Outcome.from_json(outcome["outcome"]).clip["sha256"])
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("interpolation", "video", "frames", "rate"),
    [
        ({"weights": None}, {}, 4, 7),
        ({"weights": None}, {"fps": "30000/1001"}, 4, Fraction(30000, 1001)),
        ({"factor": None, "target_fps": 24}, {}, 11, 24),
        ({"factor": 2, "loop": True}, {}, 8, 14),
        ({"factor": "5/2"}, {"fps": 12}, 8, 12),
    ],
)
def test_rates_and_frame_counts(
    tmp_path: Path, rife_weights: Path, interpolation: dict, video: dict, frames: int, rate: Fraction
) -> None:
    settings = InterpolationSettings(**{"weights": str(rife_weights), "precision": "fp32", **interpolation})
    outcome = Outcome.from_json(finish(tmp_path, settings, VideoSettings(**video))(generated())["outcome"])
    assert outcome.failure is None
    assert (outcome.clip["num_frames"], outcome.clip["video_fps"]) == (frames, float(rate))


def test_a_target_rate_below_the_clips_own_is_a_failure(tmp_path: Path, rife_weights: Path) -> None:
    settings = InterpolationSettings(weights=str(rife_weights), factor=None, target_fps=5, precision="fp32")
    outcome = Outcome.from_json(finish(tmp_path, settings, VideoSettings())(generated())["outcome"])
    assert outcome.failure.stage == "finish"
    assert "below the clip's own fps 7" in outcome.failure.error
    assert not list(tmp_path.rglob("*.mp4"))


def test_a_failed_row_ends_as_a_failure_with_its_first_reason(tmp_path: Path) -> None:
    row = generated(stage="load", error_type="ImageError", error="zero bytes", attempts=1)
    outcome = Outcome.from_json(finish(tmp_path, InterpolationSettings(), VideoSettings())(row)["outcome"])
    assert (outcome.failure.stage, outcome.failure.error, outcome.attempts) == ("load", "zero bytes", 2)
    assert not list(tmp_path.iterdir())


def test_loading_images_waits_for_no_model() -> None:
    script = "import sys, actors.stages.load; print(sorted({'torch', 'ray', 'diffusers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
