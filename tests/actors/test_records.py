"""The public record schemas, frozen: users' queries and old datasets rely on them."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from actors.file_tag import file_tag
from actors.generators import GENERATORS
from actors.generators.svd.generator import SvdGenerator
from actors.records import FAILURE_SCHEMA, clip_schema

CLIP_SCHEMA = clip_schema(SvdGenerator)

CLIP_COLUMNS = """\
clip_id: string
file_name: string
image_uri: string
image_sha256: string
image_width: int32
image_height: int32
image_license: string
fit: string
seed: int64
fps: int64
num_inference_steps: int64
motion_bucket_id: int64
noise_aug_strength: double
min_guidance_scale: double
max_guidance_scale: double
generator: string
model: string
model_revision: string
model_license: string
device: string
precision: string
tier: string
memory_mode: string
width: int32
height: int32
num_frames: int32
generated_frames: int32
interpolation_factor: double
interpolation_model: string
video_fps: double
duration_s: double
codec: string
bytes: int64
sha256: string
interpolate_s: double
encode_s: double
upload_s: double
stillreel_version: string
load_s: double
generate_s: double
finish_s: double
created_at: timestamp[us, tz=UTC]"""

FAILURE_COLUMNS = """\
clip_id: string
image_uri: string
stage: string
error_type: string
error: string
attempts: int32
created_at: timestamp[us, tz=UTC]"""


@pytest.mark.parametrize(("schema", "frozen"), [(CLIP_SCHEMA, CLIP_COLUMNS), (FAILURE_SCHEMA, FAILURE_COLUMNS)])
def test_schemas_are_frozen(schema: pa.Schema, frozen: str) -> None:
    assert "\n".join(f"{field.name}: {field.type}" for field in schema) == frozen


def test_another_generator_has_its_own_columns_and_all_those_of_the_stages() -> None:
    of_svd = {"num_inference_steps", "motion_bucket_id", "noise_aug_strength", "min_guidance_scale"}
    of_svd |= {"max_guidance_scale", "precision", "tier", "memory_mode"}
    assert set(CLIP_SCHEMA.names) - set(clip_schema(GENERATORS["null"]).names) == of_svd


@pytest.mark.parametrize("schema", [CLIP_SCHEMA, FAILURE_SCHEMA])
def test_the_docs_explain_every_column(schema: pa.Schema) -> None:
    page = (Path(__file__).parents[2] / "docs/output.md").read_text()
    assert [name for name in schema.names if f"`{name}`" not in page] == []


def test_the_files_own_record_holds_only_what_can_be_reproduced() -> None:
    clip = dict.fromkeys(CLIP_SCHEMA.names, 1)
    names = list(json.loads(file_tag(clip)))
    times = ["load_s", "generate_s", "interpolate_s", "encode_s", "upload_s", "finish_s", "created_at"]
    left_out = ["bytes", "sha256", "model", "device", *times]
    assert names == sorted(name for name in CLIP_SCHEMA.names if name not in left_out)
