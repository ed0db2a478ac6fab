"""What is known of a clip: the row that travels through the stages, and the record that is committed.

A *row* (`WORK_SCHEMA`) is a clip still to be made. It ends as exactly one *record*: a line of `metadata.parquet`
(`CLIP_SCHEMA`) or of `failures/` (`FAILURE_SCHEMA`). Both schemas are what users' queries rely on: a test freezes them.
Pass-through columns of the manifest stay with the driver and are joined to the records when these are committed.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

PARAMETER_FIELDS = [
    pa.field("seed", pa.int64()),
    pa.field("fps", pa.int32()),
    pa.field("motion_bucket_id", pa.int32()),
    pa.field("noise_aug_strength", pa.float64()),
    pa.field("min_guidance_scale", pa.float64()),
    pa.field("max_guidance_scale", pa.float64()),
]


@dataclass(frozen=True, slots=True)
class ClipParameters:
    """What may differ between the clips of a batch; ranges as in `actors.settings.GenerationSettings`."""

    seed: int
    fps: int
    motion_bucket_id: int
    noise_aug_strength: float
    min_guidance_scale: float
    max_guidance_scale: float

    @property
    def is_guided(self) -> bool:
        """Without a scale above 1 there is no guidance at all, as in the stock pipeline (where min <= max)."""
        return max(self.min_guidance_scale, self.max_guidance_scale) > 1


WORK_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("part", pa.int32()),
        pa.field("attempts", pa.int32()),  # earlier attempts that failed
        pa.field("image_uri", pa.string()),
        # Where the manifest has a column of images (else null): the Parquet file, the path of the column in its schema,
        # the row group, the row in that, both from 0; and the URI to fetch where there turns out to be no image.
        pa.field("image_file", pa.string()),
        pa.field("image_column", pa.string()),
        pa.field("image_group", pa.int32()),
        pa.field("image_row", pa.int32()),
        pa.field("image_fallback", pa.string()),
        pa.field("problem", pa.string()),  # why the manifest's row cannot be used; "" where it can
        *PARAMETER_FIELDS,
    ]
)

PLACE_FIELDS = ("image_file", "image_column", "image_group", "image_row", "image_fallback")

CLIP_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("file_name", pa.string()),
        pa.field("image_uri", pa.string()),
        pa.field("image_sha256", pa.string()),
        pa.field("image_width", pa.int32()),
        pa.field("image_height", pa.int32()),
        pa.field("fit", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("num_frames", pa.int32()),
        pa.field("generated_frames", pa.int32()),
        pa.field("interpolation_factor", pa.float64()),
        pa.field("interpolation_model", pa.string()),
        pa.field("video_fps", pa.float64()),
        pa.field("duration_s", pa.float64()),
        pa.field("codec", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("sha256", pa.string()),
        *PARAMETER_FIELDS,
        pa.field("num_inference_steps", pa.int32()),
        pa.field("model", pa.string()),
        pa.field("model_revision", pa.string()),
        pa.field("precision", pa.string()),
        pa.field("tier", pa.string()),
        pa.field("load_s", pa.float64()),
        pa.field("generate_s", pa.float64()),
        pa.field("interpolate_s", pa.float64()),
        pa.field("encode_s", pa.float64()),
        pa.field("upload_s", pa.float64()),
        pa.field("device", pa.string()),
        pa.field("memory_mode", pa.string()),
        pa.field("stillreel_version", pa.string()),
        pa.field("created_at", pa.timestamp("us", tz="UTC")),
    ]
)

FAILURE_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("image_uri", pa.string()),
        pa.field("stage", pa.string()),
        pa.field("error_type", pa.string()),
        pa.field("error", pa.string()),
        pa.field("attempts", pa.int32()),
        pa.field("created_at", pa.timestamp("us", tz="UTC")),
    ]
)


def part_name(part: int) -> str:
    """The folder, and the stem of the failures' file, of a part."""
    return f"part-{part:05d}"


# A clip's own file carries only what another run on the same versions would find again: no times and no machine (the
# model is there by its revision, not by the path that it was read from), and neither its own size nor its own hash,
# which it cannot know. The memory mode is there, although the machine decides on it: it changes pixels, and no other
# place says so where the row itself was lost.
NOT_IN_FILE = frozenset(
    {"bytes", "sha256", "model", "device", "created_at"} | {name for name in CLIP_SCHEMA.names if name.endswith("_s")}
) - {"duration_s"}


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is the same for all clips of a run and stands on each one's record."""

    model: str
    model_revision: str
    precision: str
    tier: str
    num_inference_steps: int
    fit: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row ended without a clip."""

    stage: str
    error_type: str
    error: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row at the end of its way: the clip's record, or the failure.

    Exactly one of `clip` (the values of `CLIP_SCHEMA`, `created_at` as ISO 8601) and `failure` is set.
    """

    clip_id: str
    part: int
    image_uri: str
    attempts: int
    finished_at: str
    clip: dict[str, Any] | None = None
    failure: Failure | None = None

    def to_json(self) -> str:
        """As it travels from the last stage to the driver."""
        assert (self.clip is None) != (self.failure is None), self.clip_id
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        """The inverse of `to_json`."""
        values = json.loads(text)
        failure = values.pop("failure")
        return cls(**values, failure=Failure(**failure) if failure else None)


def file_tag(clip: dict[str, Any]) -> str:
    """The record that a clip's own file carries: JSON of the reproducible columns, in the schema's order."""
    return json.dumps({name: clip[name] for name in CLIP_SCHEMA.names if name not in NOT_IN_FILE}, ensure_ascii=False)
