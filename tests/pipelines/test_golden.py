"""The demo's clips, made without Ray, as they were: no change of the code changes frames, ids or files unmeant.

`golden.json` beside this file holds them. After a change that is meant, `GOLDEN=write pytest THIS_FILE`
writes it anew; the difference then shows whether the frames stayed.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from actors.contracts import Made, Stage
from actors.generators import GENERATORS
from actors.runner.packing import planned
from actors.runner.runner import Runner
from actors.stages.finish import Finish
from actors.stages.generate import Generate
from actors.stages.load import Load
from actors.tries.guard import Guard
from actors.tries.ledger import LocalLedger
from pipelines.config import Config, load_config
from pipelines.job import Job
from tests.jobs import ROOT

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).with_name("golden.json")
SMALL = ("image.width=96", "image.height=64", "generation.num_frames=4", "generation.num_inference_steps=3")
CHECKPOINTS = (f"model.source={ROOT}/checkpoints/svd-demo", "model.device=cpu", "interpolation.device=cpu")
WITH_RIFE = f"interpolation.weights={ROOT}/checkpoints/rife-demo.safetensors"
SETTINGS = {
    "small": (*SMALL, "interpolation.weights=null", "interpolation.factor=1"),
    "rife": (*SMALL, WITH_RIFE, "generation.seed=11", "generation.max_guidance_scale=2", "image.fit=pad"),
    "lossless": (
        *SMALL,
        WITH_RIFE,
        "interpolation.factor=2",
        "video.codec=ffv1",
        "variants=[{motion_bucket_id: [40, 200]}]",
    ),
}


def write_manifest(path: Path) -> Path:
    """Two pictures, landscape and upright, within the manifest, and their names.

    With `columns.identity=content` no path of this machine is part of an id.
    """
    images: list[bytes] = []
    names = []
    for name, (height, width) in (("wide.bmp", (80, 120)), ("tall.bmp", (120, 80))):
        y, x = np.mgrid[:height, :width]
        pixels_HWC = np.stack([x * 2, y * 2, (x - width / 2) ** 2 / 20 + (y - height / 2) ** 2 / 20], -1).clip(0, 255)
        Image.fromarray(pixels_HWC.astype(np.uint8)).save(path.with_name(name))
        images.append(path.with_name(name).read_bytes())
        names.append(name)
    pq.write_table(pa.table({"image": images, "file_name": names}), path)
    return path


def processor() -> str:
    """What frames depend on to the last bit beside the code: the order of sums in the CPU's kernels."""
    return f"torch {torch.__version__} on {torch.backends.cpu.get_cpu_capability()}"


def described(clip: dict[str, Any], folder: Path) -> dict[str, Any]:
    path = folder / clip["file_name"]
    with av.open(path) as container:
        frames_FHWC = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    return {
        "clip_id": clip["clip_id"],
        "levels": np.round(frames_FHWC.mean(axis=(1, 2, 3)), 1).tolist(),
        "frames": hashlib.sha256(frames_FHWC.tobytes()).hexdigest(),
        "file": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def write_golden(name: str, clips: dict[str, Any]) -> None:
    held = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {"clips": {}}
    held = {"processor": processor(), "clips": held["clips"] | {name: clips}}
    GOLDEN.write_text(json.dumps(held, indent=2, sort_keys=True) + "\n")


def made_without_ray(config: Config) -> list[dict[str, Any]]:
    """The records of all clips of a job: planned, and then through the stages as a worker would call them."""
    job = Job.to_run(config)
    plan = job.plan(None, with_work=True)
    model, revision = config.model, job.revisions[0]
    generator = GENERATORS[config.generator]
    guard = Guard(LocalLedger(max_deaths=1))
    stages: list[Stage[Any, Any]] = [
        Load(config.image, job.storage),
        Generate(generator, model, config.generation, revision, config.image, job.storage),
        Finish(config.interpolation, config.video, config.image, job.layout.video, job.storage),
    ]
    records = []
    for work in (row for file in plan.work for row in pq.read_table(file.uri).to_pylist()):
        item: Any = planned(work)
        for stage in stages:
            item = Runner(stage, guard)(item)
        assert isinstance(item, Made), item
        records.append(item.record)
    return records


@pytest.mark.parametrize("name", SETTINGS)
def test_the_demos_clips_are_as_they_were(name: str, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "manifest.parquet")
    overrides = [f"manifest={manifest}", f"output={tmp_path}/out", "columns.identity=content"]
    overrides += [*CHECKPOINTS, *SETTINGS[name]]
    config = load_config([str(ROOT / "conf/demo.yaml")], overrides)
    records = made_without_ray(config)
    folder = tmp_path / "out/data/part-00000"
    made = {f"{record['image_uri']} {record['motion_bucket_id']}": described(record, folder) for record in records}
    if os.environ.get("GOLDEN") == "write":
        write_golden(name, made)
    golden = json.loads(GOLDEN.read_text())
    expected = golden["clips"][name]
    assert {key: clip["clip_id"] for key, clip in made.items()} == {key: c["clip_id"] for key, c in expected.items()}
    for key, clip in made.items():
        assert clip["levels"] == pytest.approx(expected[key]["levels"], abs=1), key
    if processor() == golden["processor"]:  # on another, levels may differ by one here and there
        assert made == expected
