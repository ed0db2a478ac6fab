"""The stages without Ray: what goes in, what comes out, and that a bad row only ever fails itself."""

import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from actors import images, video
from actors.errors import CheckpointError, ConfigError
from actors.records import CLIP_SCHEMA, PLACE_FIELDS, Outcome, Provenance
from actors.settings import (
    FastSettings,
    GenerationSettings,
    ImageSettings,
    InterpolationSettings,
    ModelSettings,
    VideoSettings,
)
from actors.stages.attempts import Attempts
from actors.stages.finish import Finish
from actors.stages.generate import Generate
from actors.stages.ledger import Answer, AttemptLedger
from actors.stages.load import Loader, load_image, load_images
from actors.stages.row import NO_FRAMES, failed, pack, unpack
from actors.storage import Storage
from actors.svd import animator
from actors.svd.sampler import GeneratedClips, Shortcuts
from actors.video import read_tag
from benchmarks.make_checkpoints import TINY_SIZES, make_svd_checkpoint

STORAGE = Storage()
ATTEMPTS = Attempts(AttemptLedger(max_attempts=3))
IMAGE = ImageSettings(width=96, height=64)
PROVENANCE = Provenance("model", "revision", "fp32", "exact", 2, "crop")


def png(width: int = 100, height: int = 80) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def stored(data: bytes) -> str:
    """The URI of a file with this content."""
    path = f"{hashlib.sha256(data).hexdigest()}.png"
    fsspec.filesystem("memory").pipe_file(path, data)
    return f"memory://{path}"


def work_row(**changes: Any) -> dict[str, Any]:
    row = {
        "clip_id": "ab" * 32,
        "part": 2,
        "attempts": 0,
        "image_uri": stored(png()),
        "image_file": None,
        "image_column": None,
        "image_group": None,
        "image_row": None,
        "image_fallback": None,
        "problem": "",
        "seed": 1,
        "fps": 7,
        "motion_bucket_id": 127,
        "noise_aug_strength": 0.02,
        "min_guidance_scale": 1.0,
        "max_guidance_scale": 3.0,
    }
    return row | changes


def load(**changes: Any) -> dict[str, Any]:
    return load_image(work_row(**changes), loader=Loader(STORAGE, IMAGE), attempts=ATTEMPTS)


def group(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Rows as `feed` gives them."""
    return {"rows": ["\n".join(map(json.dumps, rows))]}


def as_batch(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Rows as Ray Data hands several over that were packed one by one."""
    packed = [pack(row) for row in rows]
    batch = {}
    for name in packed[0]:
        batch[name] = np.empty(len(rows), object)
        batch[name][:] = [column[name][0] for column in packed]
    return batch


def animated(generate: Generate, row: dict[str, Any]) -> dict[str, Any]:
    """One row through `Generate`."""
    ((made,),) = map(unpack, generate(as_batch([row])))
    return made


def ended(finish: Finish, row: dict[str, Any]) -> Outcome:
    """One row through `Finish`."""
    (outcome,) = finish(pack(row))["outcome"]
    return Outcome.from_json(outcome)


def finish(output: Path, interpolation: InterpolationSettings, video: VideoSettings) -> Finish:
    return Finish(interpolation, video, IMAGE, PROVENANCE, str(output), STORAGE, ATTEMPTS)


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


def test_load_image_from_a_file_and_from_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    pq.write_table(pa.table({"photo": [b"", png()]}), tmp_path / "m.parquet")
    place = {"image_file": f"{tmp_path}/m.parquet", "image_column": "photo", "image_group": 0}
    from_file, from_table = load(image_uri=str(tmp_path / "a.png")), load(**place, image_row=1)
    np.testing.assert_array_equal(from_file["image_HWC"], from_table["image_HWC"])
    assert from_file["image_HWC"].shape == (64, 96, 3)
    assert (from_file["image_width"], from_file["image_height"], from_file["stage"]) == (100, 80, "")
    assert set(from_file) == set(from_table)
    assert not {*PLACE_FIELDS, "problem"} & set(from_file)
    said = load(**place, image_row=0)["error"]
    assert said == f"there is no image in row 1 of row group 1 in {tmp_path}/m.parquet, and no URI that may be fetched"


def test_variants_of_an_image_fetch_and_decode_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda data, **limits: (decoded.append(data), decode(data, **limits))[1])
    a, b = stored(png()), stored(png(60, 60))
    rows = [work_row(clip_id=name * 64, image_uri=uri) for name, uri in zip("abcd", (a, a, b, b))]
    batches = load_images(group(rows), storage=STORAGE, settings=IMAGE, attempts=ATTEMPTS)
    made = [row for batch in batches for row in unpack(batch)]
    assert [row["image_width"] for row in made] == [100, 100, 60, 60]
    assert len(decoded) == 2


def test_load_images_gives_one_row_at_a_time_in_order_and_a_failure_is_its_own() -> None:
    pictures = (png(), b"no image", png())
    rows = [work_row(clip_id=name * 64, image_uri=stored(data)) for name, data in zip("abc", pictures)]
    batches = load_images(group(rows), storage=STORAGE, settings=IMAGE, attempts=ATTEMPTS)
    assert isinstance(batches, Iterator)  # the first image need not wait for the others
    made = [row for batch in batches for row in unpack(batch)]
    assert [row["clip_id"] for row in made] == [name * 64 for name in "abc"]
    assert [row["image_HWC"].shape for row in made] == [(64, 96, 3), (0, 0, 3), (64, 96, 3)]
    assert [row["stage"] for row in made] == ["", "load", ""]


def test_images_of_a_task_are_begun_with_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = AttemptLedger(max_attempts=3)
    rows = [work_row(clip_id=name * 64) for name in "abc"] + [work_row(clip_id="d" * 64, problem="no URI")]
    asked: list[list[str]] = []
    together = ledger.begin_together

    def once(keys: list[str], stage: str) -> list[Answer] | None:
        asked.append(keys)
        answers = together(keys, stage)
        monkeypatch.setattr(ledger, "begin", pytest.fail)
        return answers

    monkeypatch.setattr(ledger, "begin_together", once)
    batches = load_images(group(rows), storage=STORAGE, settings=IMAGE, attempts=Attempts(ledger))
    assert [row["stage"] for batch in batches for row in unpack(batch)] == ["", "", "", "manifest"]
    assert asked == [[name * 64 for name in "abc"]]


def test_a_row_is_unpacked_as_it_was() -> None:
    text = 'names\nwith "quotes", ü, \udcff and \x00'
    numbers = {"large": 2**63 - 1, "small": 5e-324, "none": None, "numpy": np.int64(7)}
    pixels = {"image_HWC": np.arange(12, dtype=np.uint8).reshape(2, 2, 3), "frames_FHWC": NO_FRAMES}
    ((row,),) = map(unpack, [pack({"text": text, **numbers, **pixels})])
    assert {name: row[name] for name in numbers} == numbers
    assert row["text"] == text
    assert all((row[name] == pixels[name]).all() and row[name].shape == pixels[name].shape for name in pixels)


def test_an_error_message_that_is_no_unicode_can_be_stored() -> None:
    error = failed({}, "load", OSError("caf\udce9.png is away"))["error"]
    assert error == "caf\\udce9.png is away"


def test_load_image_turns_the_clip_for_upright_images() -> None:
    assert load(image_uri=stored(png(50, 200)))["image_HWC"].shape == (96, 64, 3)


@pytest.mark.parametrize(
    ("changes", "stage", "kind"),
    [
        ({"problem": "row 3 of m.csv has no URI"}, "manifest", "ManifestError"),
        ({"image_uri": "/none.png"}, "load", "NotFound"),
        ({"image_uri": stored(b"<html>404</html>")}, "load", "ImageError"),
    ],
)
def test_rows_that_cannot_be_loaded_are_marked(changes: dict[str, Any], stage: str, kind: str) -> None:
    row = load(**changes)
    assert (row["stage"], row["error_type"]) == (stage, kind)
    assert row["error"]
    assert list(row) == list(load())  # one schema, well or not


def test_a_failed_row_goes_round_the_model_and_its_neighbours_do_not_notice(generate: Generate) -> None:
    none, upright = stored(b""), stored(png(50, 200))
    rows = [load(), load(image_uri=none, clip_id="cd" * 32), load(image_uri=upright, clip_id="ef" * 32)]
    alone = animated(generate, rows[0])
    together = {row["clip_id"]: row for batch in generate(as_batch(rows)) for row in unpack(batch)}
    assert together["cd" * 32]["stage"] == "load"
    assert together["cd" * 32]["frames_FHWC"].size == 0
    assert together["ef" * 32]["frames_FHWC"].shape == (3, 96, 64, 3)
    np.testing.assert_array_equal(together["ab" * 32]["frames_FHWC"], alone["frames_FHWC"])
    assert alone["frames_FHWC"].shape == (3, 64, 96, 3)
    assert {tuple(row) for row in together.values()} == {tuple(alone)}


def test_one_clip_that_cannot_be_made_does_not_take_the_batch_along(
    generate: Generate, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = animator.generate

    def picky(model: Any, images: Any, clips: Any, **options: Any) -> Any:
        if any(clip.seed == 13 for clip in clips):
            raise RuntimeError("unlucky seed")
        return made(model, images, clips, **options)

    monkeypatch.setattr(animator, "generate", picky)
    rows = [load(), load(clip_id="cd" * 32, seed=13), load(clip_id="ef" * 32)]
    errors = {row["clip_id"]: row["error"] for batch in generate(as_batch(rows)) for row in unpack(batch)}
    assert errors == {"ab" * 32: "", "cd" * 32: "unlucky seed", "ef" * 32: ""}


def test_frames_that_are_not_numbers_are_a_failure(generate: Generate, monkeypatch: pytest.MonkeyPatch) -> None:
    made = animator.generate

    def broken(*arguments: Any, **options: Any) -> Any:
        return replace(made(*arguments, **options), finite=(False,))

    monkeypatch.setattr(animator, "generate", broken)
    made_row = animated(generate, load())
    assert (made_row["stage"], made_row["frames_FHWC"].size) == ("generate", 0)
    assert made_row["error"] == "the model made frames that are not numbers"


@pytest.mark.parametrize(
    ("picture_level", "frame_levels", "stage"),
    [
        (128, [0, 0, 0], "generate"),
        (12, [0, 0, 0], "generate"),
        (128, [0, 0, 1], ""),  # one frame shows something
        (5, [0, 0, 0], ""),  # a photograph of the night
        (0, [0, 0, 0], ""),
    ],
)
def test_black_clips_are_failures_unless_their_picture_is_dark(
    generate: Generate, monkeypatch: pytest.MonkeyPatch, picture_level: int, frame_levels: list[int], stage: str
) -> None:
    frames_BFHWC = np.broadcast_to(np.array(frame_levels, np.uint8)[None, :, None, None, None], (1, 3, 64, 96, 3))
    monkeypatch.setattr(animator, "generate", lambda *_, **__: GeneratedClips(frames_BFHWC, (True,)))
    row = load() | {"image_HWC": np.full((64, 96, 3), picture_level, np.uint8)}
    made = animated(generate, row)
    assert made["stage"] == stage
    if stage:
        assert made["error"] == "the model made a black clip of a picture that is not black"


@pytest.fixture
def small_gpu(monkeypatch: pytest.MonkeyPatch, svd_checkpoint: Path) -> Callable[..., tuple[Generate, list[Any]]]:
    """A fresh `Generate` whose GPU has room for certain memory modes only, and the calls that it made of the model."""

    made = animator.generate

    def make(fits: Callable[[dict[str, Any]], bool], **model: Any) -> tuple[Generate, list[Any]]:
        calls: list[tuple[int | None, bool]] = []

        def sized(*arguments: Any, **options: Any) -> Any:
            calls.append((options["decode_chunk_frames"], options["offload"]))
            if not fits(options):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return made(*arguments, **options)

        monkeypatch.setattr(animator, "generate", sized)
        settings = ModelSettings(source=str(svd_checkpoint), precision="fp32", device="cpu", **model)
        generation = GenerationSettings(num_frames=10, num_inference_steps=1)
        return Generate(settings, generation, IMAGE, STORAGE, ATTEMPTS), calls

    return make


SmallGpu = Callable[..., tuple[Generate, list[Any]]]


def test_short_memory_is_met_step_by_step_and_remembered(small_gpu: SmallGpu) -> None:
    generate, calls = small_gpu(lambda options: options["offload"])
    rows = [animated(generate, load(clip_id=clip_id)) for clip_id in ("ab" * 32, "cd" * 32)]
    assert [row["memory_mode"] for row in rows] == ["offload", "offload"]
    assert [row["frames_FHWC"].shape[0] for row in rows] == [10, 10]
    assert calls == [(None, False), (8, False), (8, True), (8, True)]


def test_chunked_decoding_comes_before_offloading_and_its_frames_are_the_same(small_gpu: SmallGpu) -> None:
    frames, modes = [], []
    for fits in (
        lambda options: True,
        lambda options: options["decode_chunk_frames"] is not None,
        lambda options: options["offload"],
    ):
        generate, _ = small_gpu(fits)
        row = animated(generate, load())
        frames.append(row["frames_FHWC"])
        modes.append(row["memory_mode"])
    assert modes == ["resident", "chunked", "offload"]
    np.testing.assert_array_equal(frames[1], frames[2])
    assert (frames[0] != frames[1]).any()


def test_shortcuts_reach_the_sampler(svd_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    made = animator.generate

    def watching(*arguments: Any, **options: Any) -> Any:
        taken.append(options["shortcuts"])
        return made(*arguments, **options)

    monkeypatch.setattr(animator, "generate", watching)
    model = ModelSettings(source=str(svd_checkpoint), precision="fp32", device="cpu")
    generation = GenerationSettings(num_frames=2, num_inference_steps=2)
    fast = FastSettings(cache_interval=3, guided_share=0.5)
    for options in ({}, {"fast": fast}):
        animated(Generate(model, generation, IMAGE, STORAGE, ATTEMPTS, **options), load())
    assert taken == [Shortcuts(), Shortcuts(cache_interval=3, guided_share=0.5)]


def test_a_distilled_checkpoint_is_for_the_tier_few_step(tmp_path: Path) -> None:
    attempts = Attempts(AttemptLedger(max_attempts=3))  # a start that failed counts as a death
    checkpoint = make_svd_checkpoint(tmp_path / "svd", sizes=TINY_SIZES, is_distilled=True)
    model = ModelSettings(source=str(checkpoint), precision="fp32", device="cpu", tier="few_step")
    generation = GenerationSettings(num_frames=2, num_inference_steps=4)
    row = animated(Generate(model, generation, IMAGE, STORAGE, attempts), load())
    assert (row["error"], row["frames_FHWC"].shape[0]) == ("", 2)
    with pytest.raises(ConfigError, match="num_inference_steps=50"):
        Generate(model, GenerationSettings(num_inference_steps=50), IMAGE, STORAGE, attempts)
    with pytest.raises(CheckpointError, match=r"set model\.tier=few_step"):
        Generate(model.model_copy(update={"tier": "exact"}), generation, IMAGE, STORAGE, attempts)


def test_fp8_is_refused_at_the_start_where_there_is_no_gpu_for_it(svd_checkpoint: Path) -> None:
    attempts = Attempts(AttemptLedger(max_attempts=3))  # a start that failed counts as a death
    model = ModelSettings(source=str(svd_checkpoint), precision="bf16", device="cpu", tier="fast")
    with pytest.raises(ConfigError, match=r"fast\.fp8 needs an NVIDIA GPU"):
        Generate(model, GenerationSettings(), IMAGE, STORAGE, attempts, FastSettings(fp8=True))


def test_chunks_that_the_configuration_asks_for_are_kept(small_gpu: SmallGpu) -> None:
    generate, calls = small_gpu(lambda options: options["offload"], decode_chunk_frames=4)
    assert animated(generate, load())["memory_mode"] == "offload"
    assert calls == [(4, False), (4, True)]


def test_the_last_resort_is_weights_that_come_layer_by_layer(small_gpu: SmallGpu) -> None:
    generate, calls = small_gpu(lambda _: len(calls) > 3)
    row = animated(generate, load())
    assert row["memory_mode"] == "sequential"
    assert calls == [(None, False), (8, False), (8, True), (8, False)]
    frames = animated(small_gpu(lambda _: True, decode_chunk_frames=8)[0], load())["frames_FHWC"]
    assert np.abs(row["frames_FHWC"].astype(int) - frames).max() <= 1  # matrix products of other sizes round otherwise


@pytest.mark.parametrize("memory", ["offload", "sequential"])
def test_a_memory_mode_that_the_configuration_asks_for_makes_the_same_frames(small_gpu: SmallGpu, memory: str) -> None:
    asked, _ = small_gpu(lambda _: True, memory=memory)
    row = animated(asked, load())
    assert row["memory_mode"] == memory
    plain, _ = small_gpu(lambda _: True)
    np.testing.assert_array_equal(row["frames_FHWC"], animated(plain, load())["frames_FHWC"])


def test_a_clip_that_fits_in_no_way_is_a_failure_that_says_what_to_lower(small_gpu: SmallGpu) -> None:
    generate, calls = small_gpu(lambda options: False)
    row = animated(generate, load())
    assert (row["stage"], row["error_type"]) == ("generate", "GpuMemoryError")
    assert "lower image.width and height, generation.num_frames" in row["error"]
    assert row["error"].endswith("the last that the device said is: CUDA out of memory. Tried to allocate 2.00 GiB")
    assert len(calls) == 4
    animated(generate, load())
    assert len(calls) == 5  # the next clip goes straight to the last mode


def test_a_whole_batch_is_made_before_its_first_row_is_given_out(generate: Generate) -> None:
    """Ray calls the stage one at a time, but runs the generators that it returns at the same time."""
    ledger = AttemptLedger(max_attempts=3)
    attempts = generate._attempts
    generate._attempts = Attempts(ledger)
    try:
        batches = generate(as_batch([load(), load(clip_id="cd" * 32)]))
    finally:
        generate._attempts = attempts
    assert ledger.in_flight() == ["ab" * 32, "cd" * 32]
    assert [row["clip_id"] for batch in batches for row in unpack(batch)] == ["ab" * 32, "cd" * 32]


def test_a_row_that_is_not_begun_passes_every_stage_and_has_no_outcome(generate: Generate, tmp_path: Path) -> None:
    ledger = AttemptLedger(max_attempts=3)
    ledger.drain()
    row = load_image(work_row(), loader=Loader(STORAGE, IMAGE), attempts=Attempts(ledger))
    assert list(row) == list(load())
    made = animated(generate, row)
    assert (made["stage"], made["frames_FHWC"].size) == ("unstarted", 0)
    assert finish(tmp_path, InterpolationSettings(), VideoSettings())(pack(made)) == {"outcome": [""]}
    assert not list(tmp_path.iterdir())


def test_finish_writes_the_video_that_its_record_describes(tmp_path: Path, rife_weights: Path) -> None:
    interpolation = InterpolationSettings(weights=str(rife_weights), factor=3, precision="fp32", device="cpu")
    row = generated()
    outcome = ended(finish(tmp_path, interpolation, VideoSettings()), row)
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


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[float]]:
    """Let the disk be full for the next so many videos; the waits between the tries, which take no time."""
    encode, waited = video.encode, list[float]()
    monkeypatch.setattr("actors.retries.wait_s", lambda attempt: waited.append(attempt) or 0.0)
    monkeypatch.setattr(video, "uuid4", lambda: SimpleNamespace(hex="full"))

    def make(times: int) -> list[float]:
        failures = iter(range(times))

        def encode_on_full_disk(frames: Any, path: Path, **options: Any) -> int:
            if next(failures, None) is not None:
                path.with_name(f".{path.name}.full.partial").symlink_to("/dev/full")
            return encode(frames, path, **options)

        monkeypatch.setattr(video, "encode", encode_on_full_disk)
        return waited

    return make


def test_a_disk_that_is_full_for_a_while_only_delays_the_video(
    tmp_path: Path, full_disk: Callable[[int], list[float]]
) -> None:
    waited = full_disk(2)
    outcome = ended(finish(tmp_path, InterpolationSettings(), VideoSettings()), generated())
    assert waited == [1, 2]
    assert outcome.clip["num_frames"] == 4
    assert len(list(tmp_path.rglob("*.mp4"))) == 1


def test_a_disk_that_stays_full_is_a_failure_that_says_which_and_what_to_do(
    tmp_path: Path, full_disk: Callable[[int], list[float]]
) -> None:
    waited = full_disk(99)
    outcome = ended(finish(tmp_path, InterpolationSettings(), VideoSettings()), generated())
    assert waited == [1, 2, 3, 4]
    assert (outcome.failure.stage, outcome.failure.error_type) == ("finish", "VideoError")
    assert f"folder {tempfile.gettempdir()}: No space left on device; see to that disk" in outcome.failure.error
    assert not list(tmp_path.iterdir())


def test_a_clip_made_twice_is_the_same_file(tmp_path: Path, rife_weights: Path) -> None:
    interpolation = InterpolationSettings(weights=str(rife_weights), factor=2, precision="fp32", device="cpu")
    hashes = set()
    for run, seconds in ((tmp_path / "a", 0.5), (tmp_path / "b", 0.7)):
        outcome = ended(finish(run, interpolation, VideoSettings()), generated(generate_s=seconds))
        hashes.add(outcome.clip["sha256"])
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
    outcome = ended(finish(tmp_path, settings, VideoSettings(**video)), generated())
    assert outcome.failure is None
    assert (outcome.clip["num_frames"], outcome.clip["video_fps"]) == (frames, float(rate))


def test_a_target_rate_below_the_clips_own_is_a_failure(tmp_path: Path, rife_weights: Path) -> None:
    settings = InterpolationSettings(weights=str(rife_weights), factor=None, target_fps=5, precision="fp32")
    outcome = ended(finish(tmp_path, settings, VideoSettings()), generated())
    assert outcome.failure.stage == "finish"
    assert "below the clip's own fps 7" in outcome.failure.error
    assert not list(tmp_path.rglob("*.mp4"))


def test_a_failed_row_ends_as_a_failure_with_its_first_reason(tmp_path: Path) -> None:
    row = generated(stage="load", error_type="ImageError", error="zero bytes", attempts=1)
    outcome = ended(finish(tmp_path, InterpolationSettings(), VideoSettings()), row)
    assert (outcome.failure.stage, outcome.failure.error, outcome.attempts) == ("load", "zero bytes", 2)
    assert not list(tmp_path.iterdir())
