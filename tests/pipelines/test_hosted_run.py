"""A pipeline of diffusers by the command, on Ray."""

import json
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from tests.actors.test_hosting import checkpoint
from tests.jobs import in_process, stillreel, write_pictures
from tests.tiny_pipelines import TINY


def write_job(folder: Path, source: Path) -> Path:
    pictures = write_pictures(folder / "pictures", 4)
    lines = [json.dumps({"image_uri": str(path), "caption": f"it is {path.stem}"}) for path in pictures]
    (folder / "m.jsonl").write_text("\n".join([*lines, json.dumps({"image_uri": str(pictures[0]), "caption": ""})]))
    (folder / "job.yaml").write_text(
        f"manifest: {folder}/m.jsonl\n"
        f"output: {folder}/out\n"
        "generator: diffusers\n"
        f"model: {{source: {source}, precision: fp32, cache_dir: {folder}/cache}}\n"
        "image: {width: 64, height: 32, orientation: landscape}\n"
        "generation: {num_frames: 9, num_inference_steps: 2, prompt: '{caption} and turns'}\n"
        "workers:\n"
        "  load: {num_cpus: 0.5}\n"
        "  generate: {num_gpus: 0, num_cpus: 0.5}\n"
        "  finish: {num_gpus: 0, num_cpus: 0.5}\n"
        "run: {max_failed_share: 0.5}\n"
    )
    return folder / "job.yaml"


@pytest.mark.slow
def test_a_folder_and_a_column_of_prompts_make_a_dataset(tmp_path: Path) -> None:
    TINY["ltx"].save(tmp_path / "ltx")
    job = write_job(tmp_path, tmp_path / "ltx")
    done = stillreel("run", "--config", job)
    assert done.returncode == 0, done.stderr
    assert "clips made                   4" in done.stdout + done.stderr
    parts = [str(path) for path in (tmp_path / "out/data").glob("*/metadata.parquet")]
    rows = ds.dataset(parts).to_table().to_pylist()
    assert {row["prompt"] for row in rows} == {
        f"it is {row['image_uri'].split('/')[-1][:-4]} and turns" for row in rows
    }
    assert {(row["pipeline"], row["generated_frames"], row["fps"]) for row in rows} == {
        ("LTXImageToVideoPipeline", 9, 25)
    }
    again = stillreel("run", "--config", job)
    assert again.returncode == 0, again.stderr
    assert "1 failed before" in again.stdout + again.stderr
    assert ds.dataset(parts).count_rows() == 4


def test_the_plan_names_the_class_and_a_wrong_generator_is_told_which_is_right(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "wan", "WanImageToVideoPipeline")
    job = write_job(tmp_path, source)
    planned = in_process("plan", "--config", job)
    assert planned.returncode == 0, planned.stderr
    assert "model.source is made by WanImageToVideoPipeline of diffusers" in planned.stdout + planned.stderr
    wrong = in_process("plan", "--config", job, "generator=svd", "model.precision=fp16")
    assert wrong.returncode == 2
    (tmp_path / "svd.yaml").write_text(
        f"generator: svd\nmodel: {{source: {source}}}\nmanifest: x\noutput: {tmp_path}/o\n"
    )
    wrong = in_process("plan", "--config", tmp_path / "svd.yaml")
    assert wrong.returncode == 2
    assert "is a WanImageToVideoPipeline, not Stable Video Diffusion" in wrong.stderr
    assert "set generator=diffusers" in wrong.stderr
