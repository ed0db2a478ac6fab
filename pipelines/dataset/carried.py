"""The record that a video carries, read."""

import json
import tempfile
from pathlib import Path
from typing import Any

from actors import video
from actors.errors import VideoError


def record_in(path: Path) -> dict[str, Any]:
    """The record in a file of this machine; nothing where it carries none.

    Raises:
        VideoError: it cannot be opened.
    """
    try:
        record = json.loads(video.read_tag(path) or "{}")
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def record_in_bytes(data: bytes, uri: str) -> dict[str, Any]:
    """The record in the bytes of a file that is called so; nothing where it carries none, or is no video."""
    with tempfile.NamedTemporaryFile(prefix="stillreel-", suffix=Path(uri).suffix) as copy:
        Path(copy.name).write_bytes(data)
        try:
            return record_in(Path(copy.name))
        except VideoError:
            return {}
