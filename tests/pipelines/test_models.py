"""Models in one file, and LoRAs, by way of a job: what the plan says, and clips without Ray."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from actors.errors import CheckpointError, ConfigError
from benchmarks.make_checkpoints import ONE_FILE_SIZES, make_svd_checkpoint
from benchmarks.write_one_file import write_one_file
from pipelines.config import Config, load_config
from pipelines.run import plan_only
from tests.jobs import ROOT
from tests.pipelines.test_golden import described, made_without_ray, write_manifest

SMALL = ("image.width=32", "image.height=32", "generation.num_frames=2", "generation.num_inference_steps=2")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as one file."""
    folder = tmp_path_factory.mktemp("models")
    return write_one_file(make_svd_checkpoint(folder / "folder", sizes=ONE_FILE_SIZES), folder / "svd_xt.safetensors")


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """One that changes a layer."""
    name, path = "lora_unet_input_blocks_0_0", tmp_path / "pan.safetensors"
    save_file(
        {f"{name}.lora_up.weight": torch.ones(64, 1, 1, 1), f"{name}.lora_down.weight": torch.ones(1, 8, 3, 3)}, path
    )
    return path


def config_for(folder: Path, source: Path, *overrides: str) -> Config:
    manifest = folder / "manifest.parquet"
    if not manifest.exists():
        write_manifest(manifest)
    paths = [
        f"manifest={manifest}",
        f"output={folder}/out",
        f"model.source={source}",
        f"model.cache_dir={folder}/cache",
    ]
    settings = ["model.device=cpu", "interpolation.weights=null", "interpolation.factor=1", "columns.identity=content"]
    return load_config([str(ROOT / "conf/demo.yaml")], [*paths, *settings, *SMALL, *overrides])


def test_the_plan_says_what_was_found(file: Path, lora: Path, tmp_path: Path) -> None:
    plan = plan_only(config_for(tmp_path, file, f"model.loras=[{{source: {lora}, scale: 0.5}}]"), None)
    assert plan.notes[:2] == [
        f"model.source is one file in SVD's original layout: each node converts it once, into {tmp_path}/cache",
        f"LoRA {lora}: kohya's names, layers changed: 1, scale 0.5",
    ]
    assert plan.to_do == 2
    assert not (tmp_path / "cache").exists()


def test_what_is_none_is_refused_when_planning(file: Path, lora: Path, tmp_path: Path) -> None:
    unet = {name: tensor for name, tensor in load_file(file).items() if name.startswith("model.diffusion_model.")}
    save_file(unet, tmp_path / "unet.safetensors")
    with pytest.raises(CheckpointError, match=r"unet\.safetensors is a UNet alone, and a model is UNet, VAE and image"):
        plan_only(config_for(tmp_path, tmp_path / "unet.safetensors"), None)
    with pytest.raises(CheckpointError, match=r"pan\.safetensors is a LoRA, .* this file in model\.loras"):
        plan_only(config_for(tmp_path, lora), None)
    with pytest.raises(
        CheckpointError, match=r"^model\.loras: /.*/svd_xt\.safetensors is no LoRA: it holds conditioner"
    ):
        plan_only(config_for(tmp_path, file, f"model.loras=[{{source: {file}}}]"), None)
    for folder in (file, file.with_name("folder")):
        save_file({"unet.conv_in.lora_A.weight": torch.ones(1, 3), "unet.x.lora_B.weight": torch.ones(3, 1)}, lora)
        with pytest.raises(CheckpointError, match=r"tensors that fit nowhere: 1 \(unet\.x\.lora_B\.weight\)$"):
            plan_only(config_for(tmp_path, folder, f"model.loras=[{{source: {lora}}}]"), None)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("[{sauce: a}]", r"model\.loras\.0\.sauce"),
        ("[{scale: 1}]", r"model\.loras\.0\.source"),
        ("[{source: a, scale: .inf}]", r"model\.loras\.0\.scale"),
        ("[{source: a}, {source: a}]", r"model\.loras\.1.*is there already: name each LoRA once"),
        ("a.safetensors", r"model\.loras"),
    ],
)
def test_mistakes_of_the_configuration(value: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        config_for(tmp_path, tmp_path, f"model.loras={value}")


@pytest.mark.slow
def test_clips_of_a_file_are_the_folders_and_a_lora_makes_others(file: Path, lora: Path, tmp_path: Path) -> None:
    folder = file.with_name("folder")
    made = [
        _made(tmp_path / "folder", folder),
        _made(tmp_path / "file", file),
        _made(tmp_path / "lora", file, f"model.loras=[{{source: {lora}}}]"),
    ]
    assert made[0][1] == made[1][1] != made[2][1]
    (plain,), (changed,) = ({record["model_revision"] for record in records} for records, _ in made[1:])
    assert changed.startswith(f"{plain}+")
    assert changed.endswith("*1.0")
    ids = [{record["clip_id"] for record in records} for records, _ in made]
    assert len(set.union(*ids)) == 6


def _made(folder: Path, source: Path, *overrides: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The records of two clips, and their frames, which are stored without loss."""
    folder.mkdir()
    more = ("generation.seed=3", "video.codec=ffv1")
    records = made_without_ray(config_for(folder, source, *more, *overrides))
    records.sort(key=lambda record: str(record["image_uri"]))
    return records, [described(record, folder / "out/data/part-00000")["frames"] for record in records]
