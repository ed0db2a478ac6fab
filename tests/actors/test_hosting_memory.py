"""What hosted pipelines are reckoned to need of memory, before a weight is read."""

import json
from pathlib import Path
from typing import Any

import pytest

from actors.checkpoints.checkpoint import locate
from actors.generators.base import Memory
from actors.generators.diffusers.parameters import DiffusersParameters
from actors.generators.diffusers.settings import DiffusersModelSettings
from actors.hosting.classes import KINDS
from actors.hosting.source_text import doubles_batch
from actors.settings import ImageSettings
from actors.storage import Storage
from tests.hub_models import COMMIT, MODEL, Hub

GB = 10**9
WAN = {
    "_class_name": "WanTransformer3DModel",
    "patch_size": [1, 2, 2],
    "num_attention_heads": 40,
    "attention_head_dim": 128,
}
VAE = {"_class_name": "AutoencoderKLWan", "scale_factor_spatial": 8, "scale_factor_temporal": 4}
# Of Wan 2.1 I2V-14B as it is published: billions of values, and the type of the files.
WAN_PARTS = {
    "transformer": (16.4, "F32", ["diffusers", "WanTransformer3DModel"]),
    "vae": (0.127, "F32", ["diffusers", "AutoencoderKLWan"]),
    "text_encoder": (5.68, "BF16", ["transformers", "UMT5EncoderModel"]),
    "image_encoder": (0.63, "F32", ["transformers", "CLIPVisionModel"]),
}
_BYTES = {"F32": 4, "BF16": 2}


def wan(folder: Path, billions: float | None = None, **transformer: object) -> Path:
    """Its small files, and files of weights that are as long as they say and hold nothing."""
    index: dict[str, Any] = {"_class_name": "WanImageToVideoPipeline"}
    for name, (usual, dtype, kind) in WAN_PARTS.items():
        (folder / name).mkdir(parents=True)
        index[name] = kind
        write_empty(folder / name / "model.safetensors", dtype, round((billions or usual) * 10**9) // 40)
        config = {"transformer": WAN | transformer, "vae": VAE}.get(name, {})
        (folder / name / "config.json").write_text(json.dumps(config))
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def write_empty(path: Path, dtype: str, values: int) -> None:
    """Forty layers of so many values."""
    size = values * _BYTES[dtype]
    header = json.dumps(
        {
            f"blocks.{layer}.ff.weight": {
                "dtype": dtype,
                "shape": [values // 1000, 1000],
                "data_offsets": [layer * size, (layer + 1) * size],
            }
            for layer in range(40)
        }
    ).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with path.open("r+b") as file:
        file.truncate(8 + len(header) + 40 * size)


def needs(folder: Path, generation: dict[str, Any] | None = None, **model: object) -> Memory:
    settings = DiffusersModelSettings.model_validate({"source": str(folder)} | model)
    return settings.memory_needs(DiffusersParameters(**(generation or {})), ImageSettings(), Storage())


def gb(memory: Memory) -> dict[str, float]:
    return {way.name: way.needed_bytes / GB for way in memory.ways}


def test_each_way_needs_what_its_weights_and_a_clip_take(tmp_path: Path) -> None:
    memory = needs(wan(tmp_path / "wan"))
    ways = gb(memory)
    assert list(ways) == ["resident", "offload", "group"]
    weights = 2 * 16.4 + 2 * 5.68 + 4 * 0.63 + 4 * 0.127  # bf16, but for what its authors keep in fp32
    decoding = 1.3 * 4 * 832 * 480 * (4 * 1350 + 81 * 12) / GB
    assert ways["resident"] == pytest.approx(weights + decoding, rel=0.01)
    step = 1.3 * 2 * 11.1 * 5120 * (21 * 30 * 52 + 512) / GB
    assert ways["offload"] == pytest.approx(2 * 16.4 + 4 * 0.127 + step, rel=0.01)
    assert ways["group"] == pytest.approx(3 * 2 * 16.4 / 40 + decoding, rel=0.01)
    host = {way.name: way.host_bytes / GB for way in memory.ways}
    assert host["resident"] == pytest.approx(6 + 2 * 16.4, rel=0.01)  # one network after the other
    assert host["offload"] == pytest.approx(6 + weights, rel=0.01)
    assert host["offload"] < host["group"] <= 6 + 2 * weights


def test_a_longer_or_larger_clip_needs_more_and_8_bits_less(tmp_path: Path) -> None:
    folder = wan(tmp_path / "wan")
    usual = gb(needs(folder))["resident"]
    assert gb(needs(folder, {"num_frames": 161}))["resident"] > usual
    assert gb(needs(folder, precision="fp32"))["resident"] == pytest.approx(usual + 2 * 16.4 + 2 * 5.68, rel=0.01)
    in_8_bits = needs(folder, tier="fast", fast={"weights": "int8"})
    assert gb(in_8_bits) == {"resident": pytest.approx(usual - 16.4, rel=0.01)}
    # Its transformer waits on the CPU for that, as it was loaded, while the others pass.
    assert in_8_bits.ways[0].host_bytes / GB == pytest.approx(6 + 2 * 16.4 + 2 * 5.68, rel=0.01)
    assert gb(needs(folder, vae_tiling=True))["resident"] < usual
    assert list(gb(needs(folder, memory="offload"))) == ["offload", "group"]


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    memory = needs(wan(tmp_path / "wan", num_attention_heads=None))
    assert memory == Memory([], "its transformer's config.json tells no width that is known here")


def test_a_checkpoint_of_the_hub_is_known_once_it_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = wan(tmp_path / "wan", billions=0.004)
    settings = DiffusersModelSettings(source=MODEL, revision=COMMIT, cache_dir=str(tmp_path / "cache"))

    def memory() -> Memory:
        return settings.memory_needs(DiffusersParameters(), ImageSettings(), Storage())

    with Hub(folder).serving() as hub:
        hub.stand_in(tmp_path / "hub", monkeypatch)
        assert memory() == Memory([], f"{MODEL} is on the Hub, and not in this machine's cache")
        wanted = settings.hosted(Storage()).wanted_files
        locate(MODEL, revision=COMMIT, cache_dir=settings.cache_dir, wanted=wanted)
        assert [way.name for way in memory().ways] == ["resident", "offload", "group"]


def test_the_classes_whose_guidance_is_a_batch_of_two() -> None:
    assert {name for name in KINDS if doubles_batch(name)} == {
        "LTXImageToVideoPipeline",
        "LTX2ImageToVideoPipeline",
        "CogVideoXImageToVideoPipeline",
        "SanaImageToVideoPipeline",
    }
