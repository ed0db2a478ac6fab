"""The stages alone: what goes in, what comes out, what they raise for one clip."""

import hashlib
import io
import json
import logging
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import c2pa
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image

from actors import compiling, images, video
from actors.contracts import Generated, Loaded, Place, Planned, Row
from actors.errors import CheckpointError, ConfigError, GenerationError, GpuMemoryError, ImageError, VideoError
from actors.generators.svd.generator import SvdGenerator
from actors.generators.svd.settings import FastSettings, SvdModelSettings, SvdParameters
from actors.marks.credentials import Credentials
from actors.marks.source_types import ALTERED, MADE_BY_AI
from actors.node_cache import cache_folder
from actors.records import clip_schema
from actors.settings import ImageSettings, InterpolationSettings, VideoSettings
from actors.stages.finish import Finish
from actors.stages.generate import Generate
from actors.stages.load import Load
from actors.storage import NotFound, Storage
from actors.svd import animator, sampler
from actors.svd.sampler import GeneratedClips, Shortcuts
from actors.video import read_tag
from benchmarks.make_checkpoints import TINY_SIZES, make_svd_checkpoint
from pipelines.dataset.layout import Layout
from tests.certificates import Authority, pem_of
from tests.jobs import SVD_PARAMETERS

STORAGE = Storage()
IMAGE = ImageSettings(width=96, height=64)
ROW = Row("ab" * 32, 2, 0, "memory-row", SVD_PARAMETERS)


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


def load(data: bytes | None = None, row: Row = ROW) -> Loaded:
    return Load(IMAGE, STORAGE)(Planned(replace(row, image_uri=stored(png() if data is None else data))))


def made_generate(model: SvdModelSettings, parameters: SvdParameters) -> Generate:
    return Generate(SvdGenerator, model, parameters, "revision", IMAGE, STORAGE)


def finish(output: Path, interpolation: InterpolationSettings, video: VideoSettings) -> Finish:
    return Finish(interpolation, video, IMAGE, Layout(str(output)).video, STORAGE)


def generated() -> Generated:
    """A clip as `Generate` gives it, with frames of smooth motion; as if it had been timed."""
    x = np.arange(96)[None, :, None] * 2
    frames = np.stack([np.broadcast_to(((x + 6 * f) % 256), (64, 96, 3)) for f in range(4)]).astype(np.uint8)
    row = load().row.with_columns(load_s=0.1, generate_s=0.5, device="cpu", memory_mode="resident", generator="svd")
    row = row.with_columns(model="m", model_revision="r", model_license="l", precision="fp32", tier="exact")
    return Generated(row, frames)


@pytest.fixture(scope="module")
def generate(svd_checkpoint: Path) -> Generate:
    model = SvdModelSettings(source=str(svd_checkpoint), precision="fp32", device="cpu")
    return made_generate(model, SvdParameters(num_frames=3, num_inference_steps=2))


def test_load_image_from_a_file_and_from_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    pq.write_table(pa.table({"photo": [b"", png()]}), tmp_path / "m.parquet")
    place = Place(f"{tmp_path}/m.parquet", "photo", 0, 1)
    stage = Load(IMAGE, STORAGE)
    from_file = stage(Planned(replace(ROW, image_uri=str(tmp_path / "a.png"))))
    from_table = stage(Planned(ROW, place))
    np.testing.assert_array_equal(from_file.image_HWC, from_table.image_HWC)
    assert from_file.image_HWC.shape == (64, 96, 3)
    assert from_file.row.columns == from_table.row.columns
    assert (from_file.row.columns["image_width"], from_file.row.columns["image_height"]) == (100, 80)
    assert from_table.row.image_uri == ROW.image_uri
    said = f"there is no image in row 1 of row group 1 in {tmp_path}/m.parquet, and no URI that may be fetched"
    with pytest.raises(ImageError, match=f"^{re.escape(said)}$"):
        stage(Planned(ROW, replace(place, row=0)))
    stage.close()


def test_what_was_left_out_of_an_image_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("stillreel"), "propagate", True)
    buffer = io.BytesIO()
    Image.new("RGB", (100, 80)).save(buffer, "PNG", icc_profile=b"rubbish")
    uri = stored(buffer.getvalue())
    Load(IMAGE, STORAGE)(Planned(replace(ROW, image_uri=uri)))
    assert caplog.messages == [f"{uri}: its ICC profile is broken and was left out"]


def test_variants_of_an_image_fetch_and_decode_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    decode = images.decode

    def noted(data: bytes, **limits: Any) -> images.DecodedImage:
        decoded.append(data)
        return decode(data, **limits)

    monkeypatch.setattr(images, "decode", noted)
    a, b = stored(png()), stored(png(60, 60))
    stage = Load(IMAGE, STORAGE)
    rows = [replace(ROW, clip_id=name * 64, image_uri=uri) for name, uri in zip("abcd", (a, a, b, b), strict=True)]
    made = [stage(Planned(row)) for row in rows]
    assert [image.row.clip_id for image in made] == [row.clip_id for row in rows]
    assert [image.row.columns["image_width"] for image in made] == [100, 100, 60, 60]
    assert len(decoded) == 2


def test_load_image_turns_the_clip_for_upright_images() -> None:
    assert load(png(50, 200)).image_HWC.shape == (96, 64, 3)


def test_images_that_cannot_be_loaded() -> None:
    with pytest.raises(NotFound):
        Load(IMAGE, STORAGE)(Planned(replace(ROW, image_uri="/none.png")))
    with pytest.raises(ImageError):
        load(b"<html>404</html>")


def test_clips_come_in_the_shape_of_their_image_and_do_not_depend_on_their_neighbours(generate: Generate) -> None:
    alone = generate(load())
    assert alone.frames_FHWC.shape == (3, 64, 96, 3)
    assert generate(load(png(50, 200))).frames_FHWC.shape == (3, 96, 64, 3)
    np.testing.assert_array_equal(generate(load()).frames_FHWC, alone.frames_FHWC)


def test_frames_that_are_not_numbers_are_a_failure(generate: Generate, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sampler.generate

    def broken(*arguments: Any, **options: Any) -> Any:
        return replace(made(*arguments, **options), finite=(False,))

    monkeypatch.setattr(animator, "generate", broken)
    with pytest.raises(GenerationError, match="the model made frames that are not numbers"):
        generate(load())


@pytest.mark.parametrize(
    ("picture_level", "frame_levels", "fails"),
    [
        (128, [0, 0, 0], True),
        (12, [0, 0, 0], True),
        (128, [0, 0, 1], False),  # one frame shows something
        (5, [0, 0, 0], False),  # a photograph of the night
        (0, [0, 0, 0], False),
    ],
)
def test_black_clips_are_failures_unless_their_picture_is_dark(
    generate: Generate, monkeypatch: pytest.MonkeyPatch, picture_level: int, frame_levels: list[int], fails: bool
) -> None:
    frames_BFHWC = np.broadcast_to(np.array(frame_levels, np.uint8)[None, :, None, None, None], (1, 3, 64, 96, 3))
    monkeypatch.setattr(animator, "generate", lambda *_, **__: GeneratedClips(frames_BFHWC, (True,)))
    image = Loaded(ROW, np.full((64, 96, 3), picture_level, np.uint8))
    if not fails:
        assert generate(image).frames_FHWC.shape[0] == 3
        return
    with pytest.raises(GenerationError, match="the model made a black clip of a picture that is not black"):
        generate(image)


@pytest.fixture
def small_gpu(monkeypatch: pytest.MonkeyPatch, svd_checkpoint: Path) -> Callable[..., tuple[Generate, list[Any]]]:
    """A fresh `Generate` whose GPU has room for certain memory modes only, and the calls that it made of the model."""
    made = sampler.generate

    def make(fits: Callable[[dict[str, Any]], bool], **model: Any) -> tuple[Generate, list[Any]]:
        calls: list[tuple[int | None, bool]] = []

        def sized(*arguments: Any, **options: Any) -> Any:
            calls.append((options["decode_chunk_frames"], options["offload"]))
            if not fits(options):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return made(*arguments, **options)

        monkeypatch.setattr(animator, "generate", sized)
        settings = SvdModelSettings(source=str(svd_checkpoint), precision="fp32", device="cpu", **model)
        generation = SvdParameters(num_frames=10, num_inference_steps=1)
        return made_generate(settings, generation), calls

    return make


SmallGpu = Callable[..., tuple[Generate, list[Any]]]


def test_short_memory_is_met_step_by_step_and_remembered(small_gpu: SmallGpu, caplog: pytest.LogCaptureFixture) -> None:
    generate, calls = small_gpu(lambda options: options["offload"])
    clips = [generate(load()) for _ in range(2)]
    assert [clip.row.columns["memory_mode"] for clip in clips] == ["offload", "offload"]
    assert [clip.frames_FHWC.shape[0] for clip in clips] == [10, 10]
    assert calls == [(None, False), (8, False), (8, True), (8, True)]
    # Once, and not for each clip that follows.
    assert caplog.messages == ["the GPU's memory is short: clips are made offload from here on, not resident"]


def test_chunked_decoding_comes_before_offloading_and_its_frames_are_the_same(small_gpu: SmallGpu) -> None:
    frames, modes = [], []
    for fits in (
        lambda options: True,
        lambda options: options["decode_chunk_frames"] is not None,
        lambda options: options["offload"],
    ):
        generate, _ = small_gpu(fits)
        clip = generate(load())
        frames.append(clip.frames_FHWC)
        modes.append(clip.row.columns["memory_mode"])
    assert modes == ["resident", "chunked", "offload"]
    np.testing.assert_array_equal(frames[1], frames[2])
    assert (frames[0] != frames[1]).any()


def test_shortcuts_reach_the_sampler(svd_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    made = sampler.generate

    def watching(*arguments: Any, **options: Any) -> Any:
        taken.append(options["shortcuts"])
        return made(*arguments, **options)

    monkeypatch.setattr(animator, "generate", watching)
    model = SvdModelSettings(source=str(svd_checkpoint), precision="fp32", device="cpu")
    generation = SvdParameters(num_frames=2, num_inference_steps=2)
    fast = FastSettings(cache_interval=3, guided_share=0.5)
    made_generate(model, generation)(load())
    made_generate(model.model_copy(update={"tier": "fast", "fast": fast}), generation)(load())
    assert taken == [Shortcuts(), Shortcuts(cache_interval=3, guided_share=0.5)]


def test_a_distilled_checkpoint_is_for_the_tier_few_step(tmp_path: Path) -> None:
    checkpoint = make_svd_checkpoint(tmp_path / "svd", sizes=TINY_SIZES, is_distilled=True)
    model = SvdModelSettings(source=str(checkpoint), precision="fp32", device="cpu", tier="few_step")
    generation = SvdParameters(num_frames=2, num_inference_steps=4)
    assert made_generate(model, generation)(load()).frames_FHWC.shape[0] == 2
    with pytest.raises(ConfigError, match="num_inference_steps=50"):
        made_generate(model, SvdParameters(num_inference_steps=50))
    with pytest.raises(CheckpointError, match=r"set model\.tier=few_step"):
        made_generate(model.model_copy(update={"tier": "exact"}), generation)


def test_fp8_is_refused_at_the_start_where_there_is_no_gpu_for_it(svd_checkpoint: Path) -> None:
    model = SvdModelSettings(
        source=str(svd_checkpoint), precision="bf16", device="cpu", tier="fast", fast=FastSettings(fp8=True)
    )
    with pytest.raises(ConfigError, match=r"fast\.fp8 needs an NVIDIA GPU"):
        made_generate(model, SvdParameters())


def test_chunks_that_the_configuration_asks_for_are_kept(small_gpu: SmallGpu) -> None:
    generate, calls = small_gpu(lambda options: options["offload"], decode_chunk_frames=4)
    assert generate(load()).row.columns["memory_mode"] == "offload"
    assert calls == [(4, False), (4, True)]


def test_the_last_resort_is_weights_that_come_layer_by_layer(small_gpu: SmallGpu) -> None:
    calls: list[Any]
    generate, calls = small_gpu(lambda _: len(calls) > 3)
    clip = generate(load())
    assert clip.row.columns["memory_mode"] == "sequential"
    assert calls == [(None, False), (8, False), (8, True), (8, False)]
    frames_FHWC = small_gpu(lambda _: True, decode_chunk_frames=8)[0](load()).frames_FHWC
    assert (
        np.abs(clip.frames_FHWC.astype(int) - frames_FHWC).max() <= 1
    )  # matrix products of other sizes round otherwise


@pytest.mark.parametrize("memory", ["offload", "sequential"])
def test_a_memory_mode_that_the_configuration_asks_for_makes_the_same_frames(small_gpu: SmallGpu, memory: str) -> None:
    asked, _ = small_gpu(lambda _: True, memory=memory)
    clip = asked(load())
    assert clip.row.columns["memory_mode"] == memory
    plain, _ = small_gpu(lambda _: True)
    np.testing.assert_array_equal(clip.frames_FHWC, plain(load()).frames_FHWC)


def test_a_clip_that_fits_in_no_way_is_a_failure_that_says_what_to_lower(small_gpu: SmallGpu) -> None:
    generate, calls = small_gpu(lambda options: False)
    with pytest.raises(GpuMemoryError, match=r"lower image\.width and height, generation\.num_frames") as raised:
        generate(load())
    said = "the last that the device said is: CUDA out of memory. Tried to allocate 2.00 GiB"
    assert str(raised.value).endswith(said)
    assert len(calls) == 4
    with pytest.raises(GpuMemoryError):
        generate(load())
    assert len(calls) == 5  # the next clip goes straight to the last mode


def test_finish_writes_the_video_that_its_record_describes(tmp_path: Path, rife_weights: Path) -> None:
    interpolation = InterpolationSettings(weights=str(rife_weights), factor=3, precision="fp32", device="cpu")
    clip = finish(tmp_path, interpolation, VideoSettings())(generated()).record
    assert set(clip) == set(clip_schema(SvdGenerator).names) - {"created_at", "finish_s"}
    path = tmp_path / "data/part-00002" / str(clip["file_name"])
    assert path.stat().st_size == clip["bytes"]
    assert (clip["num_frames"], clip["generated_frames"], clip["video_fps"]) == (10, 4, 21.0)
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (96, 64, Fraction(21))
        assert sum(1 for _ in container.decode(video=0)) == 10
    tag = read_tag(path)
    assert tag is not None
    own = json.loads(tag)
    assert own == {name: clip[name] for name in own}
    assert own["clip_id"] == clip["clip_id"]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[float]]:
    """Let the disk be full for the next so many videos; the waits between the tries, which take no time."""
    encode, waited = video.encode, list[float]()

    def wait_s(number: int) -> float:
        waited.append(number)
        return 0.0

    monkeypatch.setattr("actors.retries.wait_s", wait_s)
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
    made = finish(tmp_path, InterpolationSettings(), VideoSettings())(generated())
    assert waited == [1, 2]
    assert made.record["num_frames"] == 4
    assert len(list(tmp_path.rglob("*.mp4"))) == 1


def test_a_disk_that_stays_full_is_a_failure_that_says_which_and_what_to_do(
    tmp_path: Path, full_disk: Callable[[int], list[float]]
) -> None:
    waited = full_disk(99)
    said = f"folder {tempfile.gettempdir()}: No space left on device; see to that disk"
    with pytest.raises(VideoError, match=said):
        finish(tmp_path, InterpolationSettings(), VideoSettings())(generated())
    assert waited == [1, 2, 3, 4]
    assert not list(tmp_path.iterdir())


def test_a_clip_made_twice_is_the_same_file(tmp_path: Path, rife_weights: Path) -> None:
    interpolation = InterpolationSettings(weights=str(rife_weights), factor=2, precision="fp32", device="cpu")
    hashes = set()
    for run, seconds in ((tmp_path / "a", 0.5), (tmp_path / "b", 0.7)):
        clip = generated()
        clip = Generated(clip.row.with_columns(generate_s=seconds), clip.frames_FHWC)
        hashes.add(finish(run, interpolation, VideoSettings())(clip).record["sha256"])
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
    tmp_path: Path,
    rife_weights: Path,
    interpolation: dict[str, object],
    video: dict[str, object],
    frames: int,
    rate: Fraction,
) -> None:
    settings = InterpolationSettings(**{"weights": str(rife_weights), "precision": "fp32", **interpolation})
    record = finish(tmp_path, settings, VideoSettings(**video))(generated()).record
    assert (record["num_frames"], record["video_fps"]) == (frames, float(rate))


@pytest.mark.parametrize(("generator", "said"), [("svd", MADE_BY_AI), ("null", ALTERED), ("of others", MADE_BY_AI)])
def test_a_file_says_how_its_clip_came_about_unless_it_is_not_to(tmp_path: Path, generator: str, said: str) -> None:
    for is_marked in (True, False):
        clip = generated()
        clip = Generated(clip.row.with_columns(generator=generator), clip.frames_FHWC)
        settings = VideoSettings(ai_mark=is_marked)
        record = finish(tmp_path, InterpolationSettings(), settings)(clip).record
        data = (tmp_path / "data/part-00002" / str(record["file_name"])).read_bytes()
        assert (said.encode() in data) == is_marked
        assert (b"digitalsourcetype" in data) == is_marked


@pytest.mark.parametrize("is_marked", [True, False])
def test_a_signed_clips_record_is_of_the_signed_file(tmp_path: Path, is_marked: bool) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    credentials = Credentials(Authority().vouch(key), pem_of(key))
    place, settings = Layout(str(tmp_path)).video, VideoSettings(ai_mark=is_marked)
    stage = Finish(InterpolationSettings(), settings, IMAGE, place, STORAGE, credentials=credentials)
    record = stage(generated()).record
    path = tmp_path / "data/part-00002" / str(record["file_name"])
    data = path.read_bytes()
    assert (record["bytes"], record["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert json.loads(read_tag(path) or "")["clip_id"] == record["clip_id"]
    with c2pa.Reader(str(path)) as reader:
        manifest = reader.get_active_manifest()
        assert manifest is not None
        assert manifest["title"] == record["file_name"]
        assert reader.get_validation_state() == "Valid"


def test_a_target_rate_below_the_clips_own_is_a_failure(tmp_path: Path, rife_weights: Path) -> None:
    settings = InterpolationSettings(weights=str(rife_weights), factor=None, target_fps=5, precision="fp32")
    with pytest.raises(VideoError, match=r"fps 7 is above interpolation\.target_fps 5"):
        finish(tmp_path, settings, VideoSettings())(generated())
    assert not list(tmp_path.rglob("*.mp4"))


def test_compiled_networks_are_kept_where_the_model_says(
    tmp_path: Path, rife_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Path] = []
    monkeypatch.setattr(compiling, "keep_in", kept.append)
    settings = InterpolationSettings(weights=str(rife_weights), factor=2, precision="fp32")
    for cache_dir in (str(tmp_path / "cache"), None):
        Finish(settings, VideoSettings(), ImageSettings(), partial(str.format, "{}{}"), Storage(), cache_dir)
    assert kept == [tmp_path / "cache/compiled", cache_folder(None) / "compiled"]
