"""JSON lines as a manifest: column types come from a first pass over the whole file.

Boolean, int64, float64 or text. Objects, lists, and columns whose values have several types travel as JSON text.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from actors.errors import ManifestError
from actors.storage import Storage
from pipelines.manifest.files import Batch
from pipelines.manifest.opening import batched, check_names, text_lines

_JSON_ROWS = 10_000


class JsonLinesManifest:
    """One JSON object a line; a key that a line lacks is null."""

    def __init__(self, storage: Storage, uri: str) -> None:
        self.uri, self._storage = uri, storage
        kinds: dict[str, set[type]] = defaultdict(set)
        for _, row, _ in self._rows():
            for key, value in row.items():
                kinds[key].add(type(value) if type(value) is not int or -(2**63) <= value < 2**63 else object)
        check_names(uri, list(kinds))
        self.schema = pa.schema([pa.field(name, _json_type(found)) for name, found in kinds.items()])

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        """As in `ManifestFile`."""
        fields = [self.schema.field(name) for name in names]
        for numbers, rows in batched(self._rows(), min(max_rows, _JSON_ROWS)):
            columns = [_json_column([row.get(field.name) for row in rows], field.type) for field in fields]
            yield Batch(pa.Table.from_arrays(columns, schema=pa.schema(fields)), pa.array(numbers, pa.int64()))

    def _rows(self) -> Iterator[tuple[int, Mapping[str, Any], int]]:
        """The number of each line, its object, and its length."""
        with text_lines(self._storage, self.uri) as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ManifestError(f"{self.uri}, line {number} is not JSON: {error}") from error
                except (ValueError, RecursionError) as error:  # a number of 5,000 digits, a thousand brackets
                    raise ManifestError(f"{self.uri}, line {number} cannot be read as JSON: {error}") from error
                if not isinstance(row, dict):
                    raise ManifestError(f"{self.uri}, line {number} is not a JSON object: {line.strip()[:60]}")
                yield number, row, len(line)


def _json_type(found: set[type]) -> pa.DataType:
    found = found - {type(None)}
    if found == {bool}:
        return pa.bool_()
    if found == {int}:
        return pa.int64()
    if found and found <= {int, float}:
        return pa.float64()
    return pa.string()


def _json_column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.float64():  # Arrow takes no int for one that it would have to round
        return pa.array([value if value is None else float(value) for value in values], kind)
    if kind != pa.string():
        return pa.array(values, kind)
    texts = [
        value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values
    ]
    try:
        return pa.array(texts, kind)
    except UnicodeEncodeError:  # half an emoji, which JSON can spell and UTF-8 cannot
        return pa.array([text and text.encode("utf-8", "replace").decode() for text in texts], kind)
