"""What a video says of itself: whether it is whole, and the record that it carries."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from actors import scratch
from actors.counting import counted
from actors.errors import StorageError, VideoError
from actors.generators import GENERATORS
from actors.records import clip_schema
from actors.storage import Storage
from actors.whole_video import count_frames
from pipelines.dataset.carried import record_in
from pipelines.upkeep.looking import is_clip_id


@dataclass(frozen=True, slots=True)
class Judged:
    """A video that no row lists.

    Attributes:
        record: what it carries, with the size and hash of its file; None of one that is damaged or no clip's.
        said: why it is none.
    """

    uri: str
    record: Mapping[str, Any] | None
    said: str = ""

    @property
    def clip_id(self) -> str:
        """Of the clip that it is; "" of none."""
        return str(self.record["clip_id"]) if self.record else ""

    @property
    def file_name(self) -> str:
        """What it is called in its part."""
        return self.clip_id + Path(self.uri).suffix.lower()


def judge(uri: str, generator: str | None, storage: Storage) -> Judged:
    """Decode a video and read its record.

    Args:
        generator: of the dataset, whose clips are meant; None: any.
    """
    try:
        data = storage.read_bytes(uri)
    except StorageError as error:
        return Judged(uri, None, str(error))
    with scratch.folder() as folder:
        # Its own name may be anything.
        path = folder / f"video{Path(uri).suffix.lower()}"
        path.write_bytes(data)
        try:
            record = record_in(path)
            frames = count_frames(path) if record else 0
        except VideoError as error:
            return Judged(uri, None, str(error).replace(str(path), "it"))
    said = _fault(record, frames, generator)
    if said:
        return Judged(uri, None, said)
    return Judged(uri, record | {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})


def _fault(record: Mapping[str, Any], frames: int, generator: str | None) -> str:
    """Why this is not the record of a clip of the dataset; "" where it is."""
    if not is_clip_id(record.get("clip_id")):
        return "it carries no record"
    made_by = record.get("generator")
    if not isinstance(made_by, str) or made_by not in GENERATORS or generator not in (None, made_by):
        return f"its clip is of the generator {made_by}"
    if record.get("num_frames") != frames:
        return f"it has {counted(frames, 'frame')}, and its record says {record.get('num_frames')}"
    try:
        row_of(record, clip_schema(GENERATORS[made_by]))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return "its record does not fit the columns of this version"
    return ""


def row_of(record: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """The row of a video's record, with nulls for what no file says."""
    return pa.Table.from_pylist([{name: record.get(name) for name in schema.names}], schema=schema)
