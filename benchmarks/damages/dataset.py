"""A small dataset, made as a run makes it but without Ray: parts, failures, a card, a lease that was returned."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.contracts import Failed, Generated, Made, Row, Value
from actors.generators.null import NullGenerator
from actors.records import clip_schema, work_schema
from actors.settings import ImageSettings, InterpolationSettings, VideoSettings
from actors.stages.finish import Finish
from actors.storage import Storage
from pipelines.dataset import card
from pipelines.dataset.commit import Committer
from pipelines.dataset.layout import Layout
from pipelines.dataset.lease import held
from pipelines.dataset.work import WorkFile

EXTRAS = pa.schema([pa.field("caption", pa.string())])
_SIZE = 16  # pixels
_MODEL: dict[str, Value] = {"generator": "null", "model": "/models/null", "model_revision": "rev", "device": "cpu"}
_MODEL |= {"model_license": "apache-2.0"}
_IMAGE: dict[str, Value] = {"image_sha256": "0" * 64, "image_width": 64, "image_height": 64, "fit": "crop"}
_IMAGE |= {"image_license": "cc0-1.0"}


def clip_id(number: int) -> str:
    """Of the clip of that number."""
    return hashlib.sha256(f"clip {number}".encode()).hexdigest()


def make_dataset(root: Path, parts: Sequence[int] = (6, 6, 6, 6), failures: int = 2) -> None:
    """Parts of so many clips, and in each part so many rows that failed; the same bytes each time."""
    storage, layout = Storage(), Layout(str(root))
    with held(layout, storage, run_id="20260101T000000Z-aaaaaa", lease_s=60) as lease:
        card.write(layout, storage)
        schema = clip_schema(NullGenerator)
        counts = {part: clips + failures for part, clips in enumerate(parts)}
        committer = Committer(layout, storage, schema, EXTRAS, counts, lease.check)
        rows = _rows(parts, failures)
        committer.begin([write_work(root / "work.parquet", [row for row, _ in rows])])
        finish = _finish(layout, storage)
        for row, fails in rows:
            committer.add(Failed(row, "load", "ImageError", "broken") if fails else made(row, finish))
        committer.flush()
    (root / "work.parquet").unlink()
    run = layout.run("20260101T000000Z-aaaaaa")
    storage.put_bytes(run.config, b"generator: 'null'\nmodel: {}\n")


def store_video(root: Path, number: int, part: int) -> Path:
    """A finished video of another clip, as a run leaves it that was killed before it could list it."""
    layout, storage = Layout(str(root)), Storage()
    row = made(new_row(number, part), _finish(layout, storage)).row
    return Path(layout.video(part, str(row.columns["file_name"])))


def made(row: Row, finish: Finish) -> Made:
    """Its clip, stored."""
    picture = np.random.default_rng(int(row.clip_id[:8], 16)).integers(0, 255, (_SIZE, _SIZE, 3), np.uint8)
    frames = np.stack([np.roll(picture, shift, axis=1) for shift in range(3)])
    seconds = {"load_s": 0.1, "generate_s": 0.2, "finish_s": 0.3}
    return Made(finish(Generated(row.with_columns(**_IMAGE, **_MODEL), frames)).row.with_columns(**seconds))


def write_work(path: Path, rows: Sequence[Row]) -> WorkFile:
    """A work file of these rows."""
    schema = pa.schema([*work_schema(NullGenerator), *EXTRAS])
    table = [
        dict.fromkeys(schema.names)
        | {"clip_id": row.clip_id, "part": row.part, "attempts": 0, "image_uri": row.image_uri}
        | {"caption": f"of {row.image_uri}", "problem": ""}
        | dict(row.parameters)
        for row in rows
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(table, schema=schema), path)
    return WorkFile(str(path), len(rows))


def _finish(layout: Layout, storage: Storage) -> Finish:
    return Finish(InterpolationSettings(), VideoSettings(threads=1), ImageSettings(), layout.video, storage)


def _rows(parts: Sequence[int], failures: int) -> list[tuple[Row, bool]]:
    rows: list[tuple[Row, bool]] = []
    for part, clips in enumerate(parts):
        rows += [(new_row(len(rows) + number, part), number >= clips) for number in range(clips + failures)]
    return rows


def new_row(clip: int | str, part: int) -> Row:
    """A row of a clip, by its number or its clip_id."""
    seed, own = (clip, clip_id(clip)) if isinstance(clip, int) else (0, clip)
    return Row(own, part, 0, f"/images/{seed}.png", {"seed": seed, "num_frames": 3, "fps": 7})
