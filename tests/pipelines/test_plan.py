"""The plan: clip ids, what is already there, variants, parts, work files."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.contracts import Ending, Failed, Made, Row
from actors.errors import ConfigError, ManifestError, StorageError
from actors.generators.svd.generator import SvdGenerator
from actors.generators.svd.settings import SvdModelSettings
from actors.records import clip_schema, work_schema
from actors.settings import NO_EFFECT
from actors.storage import Storage
from pipelines.config import Config, load_config
from pipelines.dataset import work as work_files
from pipelines.dataset.commit import Committer
from pipelines.dataset.layout import Layout
from pipelines.planning import clips as wanted
from pipelines.planning import planner
from pipelines.planning.clips import expand_variants
from pipelines.planning.holdings import read_holdings
from pipelines.planning.planner import Plan, Retry, make_plan

STORAGE = Storage()
REVISIONS = ("rev", "weights")
CLIP_SCHEMA = clip_schema(SvdGenerator)
WORK_SCHEMA = work_schema(SvdGenerator)


def config_for(manifest: Path, output: Path, *overrides: str) -> Config:
    return load_config([], [f"manifest={manifest}", f"output={output}", "model.source=none", *overrides])


def write_manifest(path: Path, rows: int, **columns: list[object]) -> Path:
    table = pa.table({"image_uri": [f"/images/{row}.jpg" for row in range(rows)], **columns})
    pq.write_table(table, path)
    return path


def plan_of(config: Config, *, work: bool = True, retry: Retry | None = None) -> Plan:
    return make_plan(
        config,
        STORAGE,
        read_holdings(Layout(config.output), STORAGE),
        REVISIONS,
        run=Layout(config.output).run("r") if work else None,
        retry=retry,
    )


def work_rows(plan: Plan) -> list[dict[str, Any]]:
    return [row for file in plan.work for row in pq.read_table(file.uri).to_pylist()]


def fake_ending(work: dict[str, Any], error: str = "") -> Ending:
    row = Row(work["clip_id"], work["part"], work["attempts"], work["image_uri"], {})
    if error:
        return Failed(row, "load", "ImageError", error)
    known = {name: work.get(name) for name in CLIP_SCHEMA.names} | {"file_name": f"{row.clip_id}.mp4"}
    if (image := Path(row.image_uri)).exists():
        known["image_sha256"] = hashlib.sha256(image.read_bytes()).hexdigest()
    return Made(row.with_columns(**known))


def commit(config: Config, plan: Plan, failing: frozenset[str] = frozenset()) -> None:
    committer = Committer(Layout(config.output), STORAGE, CLIP_SCHEMA, plan.extras, plan.rows_per_part, lambda: None)
    committer.begin(plan.work)
    for row in work_rows(plan):
        ending = fake_ending(row, "broken" if row["image_uri"] in failing else "")
        committer.add(ending)
        if isinstance(ending, Made):
            STORAGE.put_bytes(committer._layout.video(row["part"], str(ending.record["file_name"])), b"video")
    committer.flush()


CHANGES: dict[str, dict[str, object]] = {
    "image": {"width": 640, "height": 512, "orientation": "portrait", "fit": "stretch", "pad_color": "[9,9,9]"},
    "model": {"variant": "fp16", "precision": "bf16", "decode_chunk_frames": 4, "tier": "few_step"},
    "model.fast": {"cache_interval": 3, "guided_share": 0.5, "fp8": "true"},
    "generation": {
        "num_frames": 5,
        "num_inference_steps": 5,
        "fps": 8,
        "motion_bucket_id": 1,
        "noise_aug_strength": 0.1,
        "min_guidance_scale": 1.5,
        "max_guidance_scale": 2,
        "seed": 1,
    },
    "interpolation": {
        "factor": 3,
        "target_fps": 24,
        "loop": "true",
        "scene_cut_threshold": 0.5,
        "precision": "fp32",
    },
    "video": {"codec": "h265", "fps": 25, "crf": 30, "preset": "slow", "pixel_format": "yuv444p", "threads": 4},
}
# What a setting needs beside it, to be looked at at all.
COMPANIONS = {
    "target_fps": ["interpolation.factor=null"],
    "cache_interval": ["model.tier=fast"],
    "guided_share": ["model.tier=fast"],
    "fp8": ["model.tier=fast", "model.precision=bf16"],
}
WITH_RIFE = ("interpolation.weights=w.pkl", "interpolation.factor=2", "image.fit=pad")


def clip_id_of(tmp_path: Path, *overrides: str, revisions: tuple[str, str] = REVISIONS) -> str:
    pq.write_table(pa.table({"image_uri": ["/images/0.jpg"]}), tmp_path / "m.parquet")
    config = config_for(tmp_path / "m.parquet", tmp_path / "out", *overrides)
    layout = Layout(config.output)
    plan = make_plan(config, STORAGE, read_holdings(layout, STORAGE), revisions, run=layout.run("r"))
    return str(work_rows(plan)[0]["clip_id"])


def test_every_setting_of_a_clip_is_part_of_its_id_or_declared_to_be_without_effect(tmp_path: Path) -> None:
    for section, changes in CHANGES.items():
        tree = config_for(tmp_path, tmp_path)
        assert isinstance(tree.model, SvdModelSettings)
        fields = type(tree.model.fast if section == "model.fast" else getattr(tree, section)).model_fields
        without_effect = {name for name, field in fields.items() if field.json_schema_extra == NO_EFFECT}
        assert set(fields) == set(changes) | without_effect | ({"fast"} if section == "model" else set()), section
    ids = [clip_id_of(tmp_path, *WITH_RIFE)]
    for section, changes in CHANGES.items():
        for name, value in changes.items():
            companions = COMPANIONS.get(name, [])
            ids.append(clip_id_of(tmp_path, *WITH_RIFE, *companions, f"{section}.{name}={value}"))
    ids += [clip_id_of(tmp_path, *WITH_RIFE, revisions=changed) for changed in (("x", "weights"), ("rev", "x"))]
    assert len(set(ids)) == len(ids)


def test_what_does_not_change_the_clip_does_not_change_its_id(tmp_path: Path) -> None:
    same = [
        "run.flush_s=1",
        "workers.generate.batch_size=4",
        "image.max_megapixels=50",
        "model.device=cpu",
        "model.cache_dir=elsewhere",
        "model.tier=exact",
        "interpolation.pairs_per_batch=2",
        "interpolation.precision=fp32",  # there are no weights
        "image.pad_color=[1,2,3]",  # nothing is padded
        "video.crf=18",  # the codec's own value
        "video.preset=medium",
        "video.pixel_format=yuv420p",
        "video.ai_mark=false",  # it is said of the same pixels
        "video.c2pa={certificate: c.pem, key: k.pem}",
        "generation.noise_aug_strength=2e-2",
        "variants=[{noise_aug_strength: 0.02}]",
    ]
    assert {clip_id_of(tmp_path, change) for change in same} == {clip_id_of(tmp_path)}


def test_a_shortcut_that_is_off_is_not_part_of_the_id(tmp_path: Path) -> None:
    fast = clip_id_of(tmp_path, "model.tier=fast")
    assert fast != clip_id_of(tmp_path)
    assert clip_id_of(tmp_path, "model.tier=fast", "model.fast.cache_interval=2", "model.fast.guided_share=1") == fast


def test_clip_ids_stay_what_they_are_from_version_to_version(tmp_path: Path) -> None:
    # A change here makes every scheduled run remake its whole dataset: raise _PIXELS_VERSION only when pixels change.
    assert clip_id_of(tmp_path) == "cf9217316b716f0f903fe6e93a462067aca9023540d77a2aebb07ab17b232979"


def test_rows_that_are_faster_than_the_target_rate_are_planned_to_fail(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", 2, fps=[7, 30])
    rate = ("interpolation.weights=w.pkl", "interpolation.factor=null", "interpolation.target_fps=24")
    plan = plan_of(config_for(tmp_path / "m.parquet", tmp_path / "out", *rate, "variants=[{seed: [1, 2]}]"))
    problem = "fps 30 is above interpolation.target_fps 24"
    assert [row["problem"] for row in work_rows(plan)] == ["", "", problem, problem]
    assert dict(plan.problems.counts) == {problem: 1}
    assert plan.problems.examples[problem] == [f"/images/1.jpg: {problem}"]


def test_rows_that_are_too_fast_for_the_codec_are_planned_to_fail(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", 3, fps=[7, 500, None])
    rows = work_rows(plan_of(config_for(tmp_path / "m.parquet", tmp_path / "out", "video.codec=av1")))
    problem = "fps 500 times interpolation.factor 1 is 500 frames a second, and av1 takes 1/1000 to 240"
    assert [row["problem"] for row in rows] == ["", problem, ""]


def test_many_variants_share_a_work_file(tmp_path: Path) -> None:
    config = config_for(write_manifest(tmp_path / "m.parquet", 3), tmp_path / "out", "variants=[{seed: [1,2,3,4,5]}]")
    assert [file.rows for file in plan_of(config).work] == [15]


def test_what_others_put_among_the_parts_is_passed_over_and_named(tmp_path: Path) -> None:
    config = config_for(write_manifest(tmp_path / "m.parquet", 3), tmp_path / "out")
    commit(config, plan_of(config), failing=frozenset({"/images/0.jpg"}))
    data, failures = tmp_path / "out/data", tmp_path / "out/failures"
    for folder in ("._part-00001", "__MACOSX", ".ipynb_checkpoints", "part-00000 (copy)", "part-000000"):
        shutil.copytree(data / "part-00000", data / folder)
    for name in ("._part-00000.parquet", "_SUCCESS", ".DS_Store", "notes.parquet", "old/part-00000.parquet"):
        (failures / name).parent.mkdir(exist_ok=True)
        (failures / name).write_bytes(b"not Parquet")
    for name in ("._metadata.parquet", ".DS_Store", "_SUCCESS", "notes.txt"):
        (data / "part-00000" / name).write_bytes(b"")
    plan = plan_of(config)
    assert (plan.already_there, plan.failed_before, plan.to_do) == (2, 1, 0)
    (note,) = plan.notes
    assert note.startswith("among the parts of the dataset lie files or folders that are none: 3, such as")


def test_a_part_that_is_a_link_is_there(tmp_path: Path) -> None:
    config = config_for(write_manifest(tmp_path / "m.parquet", 3), tmp_path / "out")
    commit(config, plan_of(config))
    part, disk = tmp_path / "out/data/part-00000", tmp_path / "disk"
    shutil.move(part, disk)
    part.symlink_to(disk)
    assert plan_of(config).already_there == 3
    (tmp_path / "videos").mkdir()
    for video in list(disk.glob("*.mp4")):
        shutil.move(video, tmp_path / "videos")
        video.symlink_to(tmp_path / "videos" / video.name)
    assert plan_of(config).already_there == 3
    write_manifest(tmp_path / "m.parquet", 5)
    commit(config, plan_of(config))
    assert (plan_of(config).already_there, part.is_symlink()) == (5, True)


@pytest.mark.parametrize("name", ["data/part-00000", "data/part-00000/metadata.parquet", "failures/part-00000.parquet"])
def test_a_link_that_leads_nowhere_ends_the_plan(name: str, tmp_path: Path) -> None:
    config = config_for(write_manifest(tmp_path / "m.parquet", 3), tmp_path / "out")
    commit(config, plan_of(config), failing=frozenset({"/images/0.jpg"}))
    path = tmp_path / "out" / name
    shutil.move(path, tmp_path / "moved")
    path.symlink_to(tmp_path / "unmounted")
    with pytest.raises(StorageError, match=r"is a link to a (folder|file) that is not there: mount the disk"):
        plan_of(config)


def test_a_clip_whose_video_is_gone_is_made_again_in_its_place(tmp_path: Path) -> None:
    config = config_for(write_manifest(tmp_path / "m.parquet", 4), tmp_path / "out")
    commit(config, plan_of(config))
    part = tmp_path / "out/data/part-00000"
    first, second, third, _ = sorted(part.glob("*.mp4"))
    first.unlink()
    second.unlink()
    second.symlink_to(tmp_path / "nowhere")
    third.rename(third.with_name("kept.mp4"))
    plan = plan_of(config)
    assert (plan.already_there, plan.to_do, [row["part"] for row in work_rows(plan)]) == (1, 3, [0, 0, 0])
    assert plan.notes == ["clips of the dataset whose videos are gone: 3; they are made again"]
    assert plan_of(config, retry=Retry()).notes[0].endswith("run without --retry-failed makes them again")
    failing = next(row["image_uri"] for row in work_rows(plan) if row["clip_id"] == first.stem)
    commit(config, plan, failing=frozenset({failing}))
    ids = pq.read_table(part / "metadata.parquet")["clip_id"].to_pylist()
    assert sorted(ids) == sorted(
        {path.stem for path in part.glob("*.mp4")} - {"kept"}
    )  # the one that failed is unlisted
    write_manifest(tmp_path / "m.parquet", 1)
    for path in part.glob("*.mp4"):
        path.unlink()
    assert plan_of(config).notes[-1].startswith("clips of the dataset whose videos are gone, and which this manifest")


def test_only_what_is_missing_is_planned(tmp_path: Path) -> None:
    config = config_for(write_manifest(tmp_path / "m.parquet", 5), tmp_path / "out")
    first = plan_of(config)
    assert (first.images, first.wanted, first.to_do) == (5, 5, 5)
    commit(config, first, failing=frozenset({"/images/3.jpg"}))
    write_manifest(tmp_path / "m.parquet", 7)
    second = plan_of(config)
    assert (second.already_there, second.failed_before, second.to_do) == (4, 1, 2)
    assert [row["image_uri"] for row in work_rows(second)] == ["/images/5.jpg", "/images/6.jpg"]


def test_failed_clips_are_retried_on_request_and_move(tmp_path: Path) -> None:
    config = config_for(write_manifest(tmp_path / "m.parquet", 3), tmp_path / "out")
    commit(config, plan_of(config), failing=frozenset({"/images/1.jpg", "/images/2.jpg"}))
    again = plan_of(config, retry=Retry())
    assert [(row["image_uri"], row["attempts"]) for row in work_rows(again)] == [
        ("/images/1.jpg", 1),
        ("/images/2.jpg", 1),
    ]
    commit(config, again, failing=frozenset({"/images/2.jpg"}))
    failures = pq.read_table(tmp_path / "out/failures/part-00000.parquet").to_pylist()
    assert [(row["image_uri"], row["attempts"]) for row in failures] == [("/images/2.jpg", 2)]
    assert pq.read_table(tmp_path / "out/data/part-00000/metadata.parquet").num_rows == 2
    commit(config, plan_of(config, retry=Retry()))
    assert pq.read_table(tmp_path / "out/failures/part-00000.parquet").num_rows == 0
    assert pq.read_table(tmp_path / "out/data/part-00000/metadata.parquet").num_rows == 3


@pytest.mark.parametrize(
    ("retry", "count"),
    [
        (Retry(), 2),
        (Retry(stage="load"), 2),
        (Retry(stage="generate"), 0),
        (Retry(error_type="ImageError"), 2),
        (Retry("load", "NotFound"), 0),
    ],
)
def test_failed_clips_are_chosen_by_stage_and_error(retry: Retry, count: int, tmp_path: Path) -> None:
    config = config_for(write_manifest(tmp_path / "m.parquet", 4), tmp_path / "out")
    commit(config, plan_of(config), failing=frozenset({"/images/1.jpg", "/images/2.jpg"}))
    assert plan_of(config, retry=retry).to_do == count


def test_rows_with_the_same_problem_stay_different_rows(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", 5, fps=[30] * 5)
    config = config_for(
        tmp_path / "m.parquet",
        tmp_path / "out",
        "interpolation={weights: w.pkl, factor: null, target_fps: 24}",
    )
    plan = plan_of(config)
    assert (plan.to_do, plan.duplicates) == (5, 0)
    assert {row["problem"] for row in work_rows(plan)} == {"fps 30 is above interpolation.target_fps 24"}


def test_duplicate_rows_are_made_once(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image_uri": ["/a.jpg", "/b.jpg", "/a.jpg"]}), tmp_path / "m.parquet")
    plan = plan_of(config_for(tmp_path / "m.parquet", tmp_path / "out"))
    assert (plan.wanted, plan.duplicates, plan.to_do) == (3, 1, 2)


def test_duplicates_are_found_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wanted, "WORK_ROWS", 2)
    monkeypatch.setattr(work_files, "WORK_ROWS", 2)
    pq.write_table(pa.table({"image_uri": ["/a.jpg", "/b.jpg", "/c.jpg", "/a.jpg", "/b.jpg"]}), tmp_path / "m.parquet")
    plan = plan_of(config_for(tmp_path / "m.parquet", tmp_path / "out"))
    assert (plan.duplicates, plan.to_do, len(plan.work)) == (2, 3, 2)


def test_row_overrides_beat_the_config_and_variants_multiply(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", 2, motion_bucket_id=[30, None], seed=[5, None])
    rows = work_rows(plan_of(config_for(tmp_path / "m.parquet", tmp_path / "out", "generation.motion_bucket_id=99")))
    assert (rows[0]["motion_bucket_id"], rows[0]["seed"]) == (30, 5)
    assert rows[1]["motion_bucket_id"] == 99
    assert rows[1]["seed"] == int(str(rows[1]["clip_id"])[-8:], 16)
    variants = "variants=[{fps: [5, 6], noise_aug_strength: [0.0, 0.1]}]"
    rows = work_rows(plan_of(config_for(tmp_path / "m.parquet", tmp_path / "out", variants)))
    assert {(row["fps"], row["noise_aug_strength"]) for row in rows} == {(5, 0.0), (5, 0.1), (6, 0.0), (6, 0.1)}
    assert len({row["clip_id"] for row in rows}) == len(rows) == 8


def test_a_variant_that_a_column_would_hide_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", 1, seed=[5])
    with pytest.raises(ConfigError, match="seed is also a column"):
        plan_of(config_for(tmp_path / "m.parquet", tmp_path / "out", "variants=[{seed: [1, 2]}]"))


def test_variants_multiply() -> None:
    assert expand_variants([]) == [{}]
    assert len(expand_variants([{"seed": [1, 2], "fps": [5, 6, 7]}, {"seed": [3]}])) == 7


def test_parts_are_filled_before_the_next_one_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "PART_CLIPS", 4)
    config = config_for(write_manifest(tmp_path / "m.parquet", 6), tmp_path / "out")
    first = plan_of(config)
    assert dict(first.rows_per_part) == {0: 4, 1: 2}
    commit(config, first)
    write_manifest(tmp_path / "m.parquet", 9)
    assert dict(plan_of(config).rows_per_part) == {1: 2, 2: 1}


def test_pass_through_columns_reach_the_metadata_with_their_types(tmp_path: Path) -> None:
    columns = {"caption": ["a", "b", "c"], "tags": [["x"], [], None], "score": pa.array([1, 2, 3], pa.int16())}
    config = config_for(write_manifest(tmp_path / "m.parquet", 3, **columns), tmp_path / "out")
    commit(config, plan_of(config), failing=frozenset({"/images/1.jpg"}))
    clips = pq.read_table(tmp_path / "out/data/part-00000/metadata.parquet")
    assert clips.schema.names == [*CLIP_SCHEMA.names, "caption", "tags", "score"]
    assert clips.schema.field("score").type == pa.int16()
    by_image = {row["image_uri"]: row for row in clips.to_pylist()}
    assert by_image["/images/2.jpg"]["caption"] == "c"
    assert by_image["/images/0.jpg"]["tags"] == ["x"]
    failure = pq.read_table(tmp_path / "out/failures/part-00000.parquet").to_pylist()[0]
    assert (failure["caption"], failure["score"]) == ("b", 2)


def test_a_dataset_keeps_the_columns_that_it_began_with(tmp_path: Path) -> None:
    config = config_for(write_manifest(tmp_path / "m.parquet", 1, caption=["a"]), tmp_path / "out")
    commit(config, plan_of(config))
    write_manifest(tmp_path / "m.parquet", 2)
    without = plan_of(config)
    assert work_rows(without)[0]["caption"] is None
    write_manifest(tmp_path / "m.parquet", 2, caption=[1, 2], mood=["x", "y"])
    with pytest.raises(
        ManifestError, match=r"mood is new; caption is int64, was string.*columns.passthrough"
    ) as refused:
        plan_of(config)
    assert "columns.types={caption: string}" in str(refused.value)
    assert "columns.passthrough=[]" in str(refused.value)


def test_rows_with_a_problem_are_planned_as_rows_that_will_fail(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image_uri": ["/a.jpg", None], "fps": [7, 7]}), tmp_path / "m.parquet")
    plan = plan_of(config_for(tmp_path / "m.parquet", tmp_path / "out"))
    assert plan.problems.counts.total() == 1
    rows = work_rows(plan)
    assert [bool(row["problem"]) for row in rows] == [False, True]
    assert list(rows[0]) == WORK_SCHEMA.names


def test_planning_only_writes_nothing(tmp_path: Path) -> None:
    config = config_for(write_manifest(tmp_path / "m.parquet", 3), tmp_path / "out")
    assert plan_of(config, work=False).to_do == 3
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["m.parquet"]
