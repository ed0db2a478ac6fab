"""What it costs the driver to write a part of the dataset, on a local disk."""

import tempfile
import time

import pyarrow as pa

from actors.contracts import Made, Row
from actors.generators import GENERATORS
from actors.records import clip_schema
from actors.storage import Storage
from benchmarks.scale.model import Commits
from pipelines.dataset.commit import Committer
from pipelines.dataset.layout import PART_CLIPS, Layout


def measured(parts: int, *, flush_s: float, answer_s: float) -> Commits:
    """Of parts whose rows all come between two commits, as they do at the rates at which it matters.

    Args:
        flush_s: `run.flush_s`.
        answer_s: see `Commits`.
    """
    schema = clip_schema(GENERATORS["null"])
    seconds = cpu_s = 0.0
    with tempfile.TemporaryDirectory() as name:
        expected = dict.fromkeys(range(parts), PART_CLIPS)
        committer = Committer(Layout(name), Storage(), schema, pa.schema([]), expected, lambda: None)
        for part in range(parts):
            for clip in range(PART_CLIPS):
                committer.add(_made(part, clip, schema))
            begun, cpu_begun = time.perf_counter(), time.process_time()
            committer.flush()
            seconds += time.perf_counter() - begun
            cpu_s += time.process_time() - cpu_begun
    return Commits(seconds / parts, cpu_s / parts, answer_s, PART_CLIPS, flush_s)


def _made(part: int, clip: int, schema: pa.Schema) -> Made:
    clip_id = f"{part * PART_CLIPS + clip:064x}"
    values = {field.name: _value(field.type, clip_id) for field in schema if field.name != "created_at"}
    return Made(Row(clip_id, part, 0, f"s3://bucket/images/{clip_id}.jpg", {}, values | {"clip_id": clip_id}))


def _value(kind: pa.DataType, clip_id: str) -> str | bool | int | float | None:
    """Some value of a type, as long as most are."""
    if pa.types.is_string(kind):
        return clip_id
    if pa.types.is_boolean(kind):
        return True
    if pa.types.is_integer(kind):
        return 1024
    return 9.5 if pa.types.is_floating(kind) else None
