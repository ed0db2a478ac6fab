"""Clips that a run had stored before it was killed are taken into the dataset as they are."""

import hashlib
import shutil
import uuid
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from actors import video
from actors.errors import StorageError
from actors.file_tag import file_tag
from actors.generators.svd.generator import SvdGenerator
from actors.marks.credentials import Credentials
from actors.marks.signing import Signer
from actors.marks.source_types import MADE_BY_AI
from actors.records import clip_schema, work_schema
from actors.settings import VideoSettings
from actors.storage import Storage
from pipelines.dataset.layout import Layout
from pipelines.dataset.recover import recover
from tests.certificates import Authority, pem_of

STORAGE = Storage()
CLIP_SCHEMA, WORK_SCHEMA = clip_schema(SvdGenerator), work_schema(SvdGenerator)
RUN = "_runs/20260101T000000Z-abcdef"


def leave_work(output: Path, clips: list[str]) -> Path:
    """The work file of a run that was killed, with a pass-through column, beside that run's configuration."""
    row = dict.fromkeys(WORK_SCHEMA.names) | {"part": 0, "attempts": 1}
    rows = [row | {"clip_id": clip, "image_uri": f"/{clip}.png", "caption": f"of {clip}"} for clip in clips]
    path = output / RUN / "rows" / "work-00000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=WORK_SCHEMA.append(pa.field("caption", pa.string()))), path)
    (output / RUN / "config.yaml").write_text("model: {source: /models/svd}\n")
    return path


def store_video(output: Path, clip: str, *, tagged_as: str | None = None) -> Path:
    path = output / "data/part-00000" / f"{clip}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = dict.fromkeys(CLIP_SCHEMA.names) | {"clip_id": tagged_as or clip, "file_name": path.name, "seed": 5}
    record |= {"tier": "fast(cache_interval=2)"}
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    video.encode(
        frames, path, width=16, height=16, frame_rate=Fraction(7), settings=VideoSettings(), tag=file_tag(record)
    )
    return path


def rows_of(output: Path) -> dict[str, dict[str, Any]]:
    path = output / "data/part-00000/metadata.parquet"
    return {row["clip_id"]: row for row in pq.read_table(path).to_pylist()} if path.exists() else {}


def test_stored_clips_are_committed_from_their_own_record(tmp_path: Path) -> None:
    work = leave_work(tmp_path, ["a", "b", "c"])
    path = store_video(tmp_path, "b")
    assert recover(Layout(str(tmp_path)), STORAGE, lambda: None) == 1
    ((clip, row),) = rows_of(tmp_path).items()
    assert (clip, row["seed"], row["caption"], row["model"]) == ("b", 5, "of b", "/models/svd")
    assert row["tier"] == "fast(cache_interval=2)"
    assert (row["bytes"], row["sha256"]) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    assert not work.exists()
    assert recover(Layout(str(tmp_path)), STORAGE, lambda: None) == 0


def test_a_signed_clip_is_taken_in_by_its_record_and_listed_as_the_file_that_it_is(tmp_path: Path) -> None:
    leave_work(tmp_path, ["b"])
    path = store_video(tmp_path, "b")
    size = path.stat().st_size
    key = ec.generate_private_key(ec.SECP256R1())
    Signer(Credentials(Authority().vouch(key), pem_of(key))).sign(path, MADE_BY_AI)
    assert recover(Layout(str(tmp_path)), STORAGE, lambda: None) == 1
    row = rows_of(tmp_path)["b"]
    assert row["bytes"] == path.stat().st_size > size
    assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_recovering_again_adds_nothing_twice(tmp_path: Path) -> None:
    leave_work(tmp_path, ["a", "b"]).read_bytes()
    store_video(tmp_path, "a")
    kept = (tmp_path / RUN / "rows/work-00000.parquet").read_bytes()
    recover(Layout(str(tmp_path)), STORAGE, lambda: None)
    (tmp_path / RUN / "rows/work-00000.parquet").write_bytes(kept)  # as after a kill before the file was removed
    store_video(tmp_path, "b")
    assert recover(Layout(str(tmp_path)), STORAGE, lambda: None) == 1
    assert set(rows_of(tmp_path)) == {"a", "b"}


@pytest.mark.parametrize("fault", ["not a video", "of another clip", "without a tag"])
def test_a_file_that_is_not_the_clips_own_is_made_again(fault: str, tmp_path: Path) -> None:
    leave_work(tmp_path, ["a"])
    path = store_video(tmp_path, "a", tagged_as="z")
    if fault == "not a video":
        path.write_bytes(b"nonsense")
    elif fault == "without a tag":
        frames = np.zeros((3, 16, 16, 3), np.uint8)
        video.encode(frames, path, width=16, height=16, frame_rate=Fraction(7), settings=VideoSettings(), tag="")
    assert recover(Layout(str(tmp_path)), STORAGE, lambda: None) == 0
    assert rows_of(tmp_path) == {}


@pytest.mark.parametrize("config", [None, "", "model: [", "[]"])
def test_clips_outlive_the_configuration_of_their_run(config: str | None, tmp_path: Path) -> None:
    leave_work(tmp_path, ["a"])
    store_video(tmp_path, "a")
    saved = tmp_path / RUN / "config.yaml"
    saved.unlink()
    if config is not None:
        saved.write_text(config)
    assert recover(Layout(str(tmp_path)), STORAGE, lambda: None) == 1
    row = rows_of(tmp_path)["a"]
    assert (row["seed"], row["caption"], row["model"]) == (5, "of a", None)


@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_a_work_file_that_cannot_be_read_says_what_to_do(damage: str, tmp_path: Path) -> None:
    work = leave_work(tmp_path, ["a"])
    if damage == "cut":
        work.write_bytes(work.read_bytes()[:100])
    else:
        pq.write_table(pa.table({"x": [1]}), work)
    with pytest.raises(StorageError, match=r"work-00000.parquet, which an interrupted run left, .*: remove it, and"):
        recover(Layout(str(tmp_path)), STORAGE, lambda: None)


def test_a_copy_of_a_run_is_none(tmp_path: Path) -> None:
    work = leave_work(tmp_path, ["a"])
    store_video(tmp_path, "a")
    kept = tmp_path / "_runs" / "kept" / RUN / "rows" / work.name
    kept.parent.mkdir(parents=True)
    shutil.move(work, kept)
    assert recover(Layout(str(tmp_path)), STORAGE, lambda: None) == 0
    assert kept.exists()


def test_half_an_upload_is_cleared_away(tmp_path: Path) -> None:
    leave_work(tmp_path, ["a"])
    path = store_video(tmp_path, "a")
    half = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    foreign = path.with_name("._a.mp4")  # as macOS leaves beside each file on a foreign disk
    foreign.write_bytes(b"attributes")
    half.write_bytes(path.read_bytes()[:100])
    recover(Layout(str(tmp_path)), STORAGE, lambda: None)
    assert {file.name for file in path.parent.iterdir()} == {"a.mp4", "._a.mp4", "metadata.parquet"}


def test_a_stored_clip_of_nobody_stands_in_nobodys_way(tmp_path: Path) -> None:
    """A worker that outlived its run, say, has stored what the next run no longer planned."""
    work = leave_work(tmp_path, ["a"])
    path = store_video(tmp_path, "z")
    assert recover(Layout(str(tmp_path)), STORAGE, lambda: None) == 0
    assert not work.exists()
    assert path.exists()


def test_other_files_among_the_runs_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / RUN / "notes.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no Parquet")
    assert recover(Layout(str(tmp_path)), STORAGE, lambda: None) == 0
    assert path.exists()
