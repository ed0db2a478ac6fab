"""The record that a clip's own file carries, so that the dataset can be put together again from its files."""

import json
from collections.abc import Mapping

from actors.contracts import Value

# Only what another run on the same versions would find again: no times and no machine (the model is there by its
# revision, not by the path that it was read from), and neither the file's own size nor its hash, which it cannot know.
# The memory mode is there, although the machine decides on it: it changes pixels, and no other place says so where the
# row itself was lost.
_NOT_IN_FILE = frozenset({"bytes", "sha256", "model", "device", "created_at"})
_LENGTH = "duration_s"


def is_seconds(column: str) -> bool:
    """Whether it says how long something took; the one other column in `_s` is the clip's length."""
    return column.endswith("_s") and column != _LENGTH


def is_in_file(column: str) -> bool:
    """Whether the file says it."""
    return column not in _NOT_IN_FILE and not is_seconds(column)


def file_tag(record: Mapping[str, Value]) -> str:
    """JSON of the record's reproducible columns, in order of name: the order of the code must not change a file."""
    return json.dumps({name: record[name] for name in sorted(record) if is_in_file(name)}, ensure_ascii=False)
