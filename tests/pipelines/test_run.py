"""The whole job through the command line: as a user runs it, and then in this process, on a cluster that is there."""

import hashlib
import json
import shutil
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset

from actors.generators.svd.generator import SvdGenerator
from actors.records import FAILURE_SCHEMA, clip_schema
from actors.storage import Storage
from pipelines.dataset.carried import record_in
from tests.clusters import Head
from tests.jobs import ROOT, in_process, stillreel, write_config, write_null_config, write_pictures

pytestmark = pytest.mark.slow

CLIP_SCHEMA = clip_schema(SvdGenerator)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, svd_checkpoint: Path, rife_weights: Path) -> Path:
    """A folder with a job's config, its manifest and its finished dataset: 4 clips, and 2 rows that failed."""
    folder = tmp_path_factory.mktemp("job")
    pictures = write_pictures(folder / "images", 4)
    (folder / "images" / "broken.jpg").write_bytes(pictures[0].read_bytes()[:100])
    rows = [{"uri": str(path), "caption": f"number {n}", "image_license": "cc0"} for n, path in enumerate(pictures)]
    rows += [{"uri": "images/broken.jpg", "caption": "broken"}, {"uri": "images/none.jpg", "caption": "none"}]
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    write_config(folder / "job.yaml", folder / "manifest.jsonl", folder / "out", svd_checkpoint, rife_weights)
    done = stillreel("run", "--config", folder / "job.yaml", "run.profile=1")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "log.txt").write_text(done.stdout)
    (folder / "errors.txt").write_text(done.stderr)
    return folder


@pytest.fixture(scope="module")
def clips(finished: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(finished / "out/data/part-00000/metadata.parquet").to_pylist()
    return rows


def test_every_row_ends_in_exactly_one_place(finished: Path, clips: list[dict[str, Any]]) -> None:
    failures = pq.read_table(finished / "out/failures/part-00000.parquet").to_pylist()
    assert len(clips) == 4
    assert {(Path(row["image_uri"]).name, row["stage"], row["error_type"]) for row in failures} == {
        ("broken.jpg", "load", "ImageError"),
        ("none.jpg", "load", "NotFound"),
    }
    assert {row["caption"] for row in failures} == {"broken", "none"}
    assert {row["caption"] for row in clips} == {"number 0", "number 1", "number 2", "number 3"}


def test_metadata_has_the_frozen_schema_and_no_empty_cell(finished: Path, clips: list[dict[str, Any]]) -> None:
    schema = pq.read_schema(finished / "out/data/part-00000/metadata.parquet")
    assert schema.names == [*CLIP_SCHEMA.names, "caption"]
    assert [schema.field(name).type for name in CLIP_SCHEMA.names] == CLIP_SCHEMA.types
    assert [clip for clip in clips if None in clip.values()] == []
    failures = pq.read_schema(finished / "out/failures/part-00000.parquet")
    assert failures.names == [*FAILURE_SCHEMA.names, "caption"]


def test_licences_are_in_records_files_and_card(finished: Path, clips: list[dict[str, Any]]) -> None:
    assert {(clip["model_license"], clip["image_license"]) for clip in clips} == {("unknown", "cc0")}
    carried = [record_in(finished / "out/data/part-00000" / clip["file_name"]) for clip in clips]
    assert {(record["model_license"], record["image_license"]) for record in carried} == {("unknown", "cc0")}
    card = (finished / "out/README.md").read_text()
    assert "- `unknown`, of `/" in card
    assert "(no README.md in its folder tells)" in card
    assert "- `cc0`\n- none is given\n" in card  # of the broken images


def test_videos_are_what_their_records_say(finished: Path, clips: list[dict[str, Any]]) -> None:
    for clip in clips:
        path = finished / "out/data/part-00000" / clip["file_name"]
        data = path.read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (clip["bytes"], clip["sha256"])
        with av.open(path) as container:
            stream = container.streams.video[0]
            frames = sum(1 for _ in container.decode(video=0))
            assert (stream.width, stream.height, frames) == (clip["width"], clip["height"], clip["num_frames"])
            assert (stream.average_rate, stream.codec_context.name) == (Fraction(14), "h264")
        assert clip["duration_s"] == pytest.approx(5 / 14)
    assert {(clip["width"], clip["height"]) for clip in clips} == {(96, 64), (64, 96)}
    assert len({clip["sha256"] for clip in clips}) == len({clip["seed"] for clip in clips}) == 4


def test_the_log_is_plain_lines_and_ends_with_a_table(finished: Path) -> None:
    log = (finished / "log.txt").read_text()
    assert "\x1b" not in log
    assert "\r" not in log
    assert "6/6 clips (100 %), 2 failed" in log
    for line in ("clips made", "failed", "already there", "generate, seconds a clip", "videos and metadata"):
        assert line in log
    assert (finished / "errors.txt").read_text() == ""


def test_the_run_leaves_its_config_and_summary_and_nothing_else(finished: Path) -> None:
    (run,) = (finished / "out/_runs").iterdir()
    files = {"config.yaml", "heartbeat.json", "summary.json", "ray.log", "profile"}
    assert {path.name for path in run.iterdir()} == files
    assert sorted(path.name for path in (run / "profile").iterdir()) == [
        "kernels.txt", "trace-0.json.gz", "trace-1.json.gz",
    ]  # fmt: skip
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["made"], summary["failed"], summary["clips_wanted"]) == (4, 2, 6)
    assert {failure["error_type"] for failure in summary["failures"]} == {"ImageError", "NotFound"}
    assert yaml.safe_load((run / "config.yaml").read_text())["image"]["width"] == 96


def test_readers_of_datasets_load_it(finished: Path, clips: list[dict[str, Any]]) -> None:
    out = finished / "out"
    for folder in (out, out / "data"):
        loaded = load_dataset(str(folder), split="train", cache_dir=str(finished / "cache"))
        assert len(loaded) == 4
        assert set(loaded.column_names) == {*CLIP_SCHEMA.names, "caption", "video"} - {"file_name"}
    pattern = str(out / "data/*/metadata.parquet")
    ids = {clip["clip_id"] for clip in clips}
    assert set(pd.read_parquet(out / "data/part-00000/metadata.parquet")["clip_id"]) == ids
    assert set(pl.read_parquet(pattern)["clip_id"]) == ids
    relation = duckdb.sql(f"SELECT clip_id FROM '{pattern}'")  # noqa: S608 - our own path
    assert relation is not None
    assert {row[0] for row in relation.fetchall()} == ids


def test_a_second_run_has_nothing_to_do_and_starts_no_model(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "out/data").rglob("*")}
    runs = set((finished / "out/_runs").iterdir())
    started = time.monotonic()
    again = stillreel("run", "--config", finished / "job.yaml")
    assert again.returncode == 0
    assert "Nothing left to do" in again.stdout
    assert "Starting Ray" not in again.stdout
    assert time.monotonic() - started < 30
    assert {path: path.stat().st_mtime_ns for path in (finished / "out/data").rglob("*")} == before
    assert set((finished / "out/_runs").iterdir()) == runs


def test_plan_says_what_a_run_would_do(finished: Path) -> None:
    planned = in_process("plan", "--config", finished / "job.yaml", "variants=[{seed: [1, 2]}]")
    assert planned.returncode == 0, planned.stderr
    counts = dict(line.strip().rsplit(maxsplit=1) for line in planned.stdout.splitlines() if line.strip())
    assert (counts["images"], counts["clips wanted"], counts["already there"], counts["to do"]) == (
        "6",
        "12",
        "0",
        "12",
    )


def test_later_runs_add_rows_retry_failures_and_change_parameters(
    finished: Path, head: Head, clips: list[dict[str, Any]]
) -> None:
    (finished / "images/none.jpg").write_bytes((finished / "images/picture-001.png").read_bytes())
    command = ("run", "--config", finished / "job.yaml", f"ray.address={head.address}")
    retried = in_process(*command, "--retry-failed")
    assert retried.returncode == 0, retried.stdout + retried.stderr
    data = finished / "out/data/part-00000/metadata.parquet"
    assert pq.read_table(data).num_rows == 5
    grown = load_dataset(str(finished / "out/data"), split="train", cache_dir=str(finished / "cache"))
    assert len(grown) == 5  # as the README loads it; `out` itself would come from the cache as it was
    (failure,) = pq.read_table(finished / "out/failures/part-00000.parquet").to_pylist()
    assert (Path(failure["image_uri"]).name, failure["attempts"]) == ("broken.jpg", 2)
    changed = in_process(*command, "generation.seed=5", "model.tier=fast", "columns.limit=1")
    assert changed.returncode == 0, changed.stdout + changed.stderr
    rows = pq.read_table(data).to_pylist()
    assert sorted(row["tier"] for row in rows) == [*["exact"] * 5, "fast(cache_interval=2)"]
    assert [row["seed"] for row in rows if row["tier"] != "exact"] == [5]
    assert {clip["clip_id"]: clip["sha256"] for clip in clips}.items() <= {
        r["clip_id"]: r["sha256"] for r in rows
    }.items()


def test_too_many_failures_end_with_exit_code_1(tmp_path: Path, head: Head) -> None:
    (tmp_path / "a.png").write_bytes(b"not a picture")
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "a.png", tmp_path / "out")
    done = in_process("run", "--config", config, f"ray.address={head.address}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed at load (ImageError)" in done.stdout
    assert "then run --retry-failed" in done.stderr
    again = in_process("run", "--config", config)
    assert (again.returncode, "Nothing left to do" in again.stdout) == (0, True)
    told = in_process("status", tmp_path / "out")
    assert told.returncode == 1
    for line in ("failed: more rows than run.max_failed_share", "failed at load (ImageError)", "found nothing to do"):
        assert line in told.stdout
    (summary,) = (tmp_path / "out/_runs").glob("*/summary.json")
    assert json.loads(summary.read_text())["too_many_failed"] is True


def test_rows_of_the_manifest_are_corrected_not_retried(tmp_path: Path, head: Head) -> None:
    (tmp_path / "list.csv").write_text("image_uri\nhttp://127.0.0.1/a.png\n")
    config = write_null_config(
        tmp_path / "job.yaml", tmp_path / "list.csv", tmp_path / "out", storage={"schemes": ["http"]}
    )
    done = in_process("run", "--config", config, f"ray.address={head.address}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "then correct the manifest and run the same command" in done.stderr
    write_pictures(tmp_path, 1)
    (tmp_path / "list.csv").write_text(f"image_uri\n{tmp_path}/picture-000.png\n")
    retried = in_process("run", "--retry-failed", "--config", config, "storage.schemes=null")
    assert "Clips that were never tried are made by `run` without --retry-failed" in retried.stdout


def test_embedded_images_and_batches_make_the_same_clips(tmp_path: Path, head: Head) -> None:
    """Of the generator without a model; of SVD: tests/actors/test_stages.py, without Ray."""
    pictures = write_pictures(tmp_path / "images", 3)
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in pictures]
    pq.write_table(pa.table({"image": images}), tmp_path / "embedded.parquet")
    made = []
    for name, batch in (("one", 1), ("three", 3)):
        config = write_null_config(tmp_path / "job.yaml", tmp_path / "embedded.parquet", tmp_path / name)
        overrides = [f"workers.generate.batch_size={batch}", "video.codec=ffv1", f"ray.address={head.address}"]
        done = in_process("run", "--config", config, *overrides)
        assert done.returncode == 0, done.stdout + done.stderr
        rows = pq.read_table(tmp_path / name / "data/part-00000/metadata.parquet").to_pylist()
        assert {Path(row["file_name"]).suffix for row in rows} == {".mkv"}
        made.append({row["clip_id"]: frames_of(tmp_path / name / "data/part-00000" / row["file_name"]) for row in rows})
    one, three = made
    assert len(one) == 3
    assert one.keys() == three.keys()
    for clip_id, frames in one.items():
        np.testing.assert_array_equal(frames, three[clip_id])
    assert len({frames.tobytes() for frames in one.values()}) == 3


def test_a_whole_job_on_an_object_store(
    tmp_path: Path, head: Head, s3_storage: Storage, s3_bucket: str, svd_checkpoint: Path, rife_weights: Path
) -> None:
    """Manifest, images, checkpoint, weights and dataset are all on S3; a second run finds nothing to do."""
    pictures = write_pictures(tmp_path / "images", 3)
    for path in [*pictures, *(path for path in svd_checkpoint.rglob("*") if path.is_file()), rife_weights]:
        folder = "images" if path in pictures else "models"
        name = path.name if path in pictures else str(path.relative_to(path.anchor))
        s3_storage.put_file(f"{s3_bucket}/{folder}/{name}", path)
    s3_storage.put_bytes(f"{s3_bucket}/list.txt", b"".join(f"images/{path.name}\n".encode() for path in pictures))
    config = write_config(
        tmp_path / "job.yaml",
        f"{s3_bucket}/list.txt",
        f"{s3_bucket}/out",
        f"{s3_bucket}/models{svd_checkpoint}",
        f"{s3_bucket}/models{rife_weights}",
    )
    with config.open("a") as file:
        file.write(yaml.safe_dump({"storage": {"options": s3_storage.options}}))
    done = in_process("run", "--config", config, f"model.cache_dir={tmp_path}/cache", f"ray.address={head.address}")
    assert done.returncode == 0, done.stdout + done.stderr
    metadata = s3_storage.read_bytes(f"{s3_bucket}/out/data/part-00000/metadata.parquet")
    clips = pq.read_table(pa.BufferReader(metadata)).to_pylist()
    assert {clip["image_uri"] for clip in clips} == {f"{s3_bucket}/images/{path.name}" for path in pictures}
    for clip in clips:
        data = s3_storage.read_bytes(f"{s3_bucket}/out/data/part-00000/{clip['file_name']}")
        assert hashlib.sha256(data).hexdigest() == clip["sha256"]
    again = in_process("run", "--config", config)
    assert "Nothing left to do" in again.stdout, again.stdout + again.stderr


def frames_of(path: Path) -> np.ndarray:
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_damaged_checkpoint_is_one_sentence(
    tmp_path: Path, head: Head, svd_checkpoint: Path, rife_weights: Path
) -> None:
    shutil.copytree(svd_checkpoint, tmp_path / "svd")
    (weights,) = (tmp_path / "svd/unet").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    pictures = write_pictures(tmp_path / "images", 1)
    config = write_config(tmp_path / "job.yaml", pictures, tmp_path / "[out]", tmp_path / "svd", rife_weights)
    without = ("interpolation.weights=null", "interpolation.factor=1")  # for which a worker would import torch, too
    done = in_process("run", "--config", config, f"ray.address={head.address}", *without)
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert str(weights) in done.stderr


def test_row_overrides_reach_the_videos(tmp_path: Path, head: Head) -> None:
    pictures = write_pictures(tmp_path / "images", 2)
    lines = ["image_uri,seed,fps,mood", f"{pictures[0]},11,5,calm", f"{pictures[1]},,,"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "list.csv", tmp_path / "out")
    done = in_process("run", "--config", config, f"ray.address={head.address}")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = pq.read_table(tmp_path / "out/data/part-00000/metadata.parquet").to_pylist()
    by_image = {row["image_uri"]: row for row in rows}
    own, default = by_image[str(pictures[0])], by_image[str(pictures[1])]
    assert (own["seed"], own["fps"], own["video_fps"], own["mood"]) == (11, 5, 5.0, "calm")
    assert (default["fps"], default["video_fps"], default["seed"] != 11) == (7, 7.0, True)


def test_gpu_configs_on_a_machine_without_a_gpu_say_so_at_once(tmp_path: Path, svd_checkpoint: Path) -> None:
    write_pictures(tmp_path / "images", 1)
    arguments: list[object] = ["--config", ROOT / "conf/svd_xt.yaml"]
    arguments += [f"manifest={tmp_path}/images", f"output={tmp_path}/out", f"model.source={svd_checkpoint}"]
    arguments += ["model.revision=null", "model.variant=null"]
    planned = in_process("plan", *arguments)
    assert planned.returncode == 0
    assert "note: here, `run` would say: the configuration reserves GPUs" in planned.stdout
    done = in_process("run", *arguments)
    assert done.returncode == 2
    assert "this machine has none that PyTorch can use (" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    done = in_process("run", "--config", ROOT / "conf/demo.yaml", "model.device=cuda", f"output={tmp_path}/out")
    assert done.returncode == 2
    assert done.stderr.startswith("stillreel: model.device=cuda asks for a GPU, and this machine has none that PyTorch")
    assert done.stderr.endswith("): set it to auto or cpu\n")
