"""A look at the first rows of a manifest's file: what its columns hold, and what it says of them itself."""

import json
from collections.abc import Callable
from contextlib import closing, suppress
from functools import cached_property
from typing import Any, Literal, cast

import pyarrow as pa

from actors.errors import ManifestError, StorageError
from pipelines.manifest.column_names import is_bytes_name, is_uri_name
from pipelines.manifest.files import ManifestFile, format_of
from pipelines.manifest.pictures import has_bytes, hold_pictures, may_hold_bytes

# Rows that are looked at until so many hold something. The pages of a column of images are megabytes.
_ROWS, _ROWS_AT_ONCE = 2000, 64
_PICTURES, _TEXTS = 3, 100
# A folder's and a file's name have at most so many bytes; with more, or much text and no ending, it is no path.
_NAME_CHARACTERS, _PATH_CHARACTERS = 255, 1000
# Endings of pictures beside those that are read.
_ENDINGS = (".avif", ".heic", ".heif", ".jp2", ".j2k", ".jpx", ".jxl", ".ico", ".ppm", ".pgm", ".pnm", ".dng", ".svg")

Contents = Literal["pictures", "other bytes", "nothing"]
# Grades of a column of text: its values may be URIs; they look like some; they are named as pictures are.
MAY_BE_URIS, MAY_BE_FETCHED, IS_PICTURES_NAME = 1, 2, 3


class Look:
    """What the columns of one file hold. Each column is read once, and only where it is asked about.

    A column that cannot be read is one that holds nothing: who reads all of it will say so.
    """

    def __init__(self, file: ManifestFile, is_usable: Callable[[str], bool]) -> None:
        """`is_usable` says of an image's URI whether it may be fetched."""
        self._file, self._is_usable = file, is_usable
        self._contents: dict[str, Contents] = {}
        self._grades: dict[str, int] = {}

    @cached_property
    def features(self) -> dict[str, str]:
        """What Hugging Face's `datasets` wrote of its columns: name -> `Image`, `Audio`, `Value` and so on."""
        metadata = self._file.schema.metadata or {}
        with suppress(ValueError, RecursionError, AttributeError, TypeError, KeyError):
            features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
            return {name: kind for name, feature in features.items() if (kind := _feature(feature))}
        return {}

    def contents(self, name: str) -> Contents:
        """Of a column whose type has bytes in it."""
        if name not in self._contents:
            self._contents[name] = self._look_at(name)
        return self._contents[name]

    def _look_at(self, name: str) -> Contents:
        feature = self.features.get(name, "")
        if feature.startswith("Image"):
            return "pictures"
        if feature.startswith(("Audio", "Video", "Pdf")):
            return "other bytes"
        values = [value for value in self._values(name, _PICTURES) if has_bytes(value)]
        if not values:
            return "nothing"
        return "pictures" if any(map(hold_pictures, values)) else "other bytes"

    def grade(self, name: str) -> int:
        """How much the values of a column of text are URIs of images that may be fetched; 0 where they are none."""
        if name not in self._grades:
            texts = [as_text(value) for value in self._values(name, _TEXTS)]
            grades = [self._grade_of(text) for text in texts if text.strip()]
            # A few may be wrong: these are problems of their rows.
            self._grades[name] = sorted(grades)[len(grades) // 2] if grades else 0
        return self._grades[name]

    def _grade_of(self, text: str) -> int:
        likeness = _likeness(text)
        return likeness if likeness and self._is_usable(text) else 0

    def _values(self, name: str, wanted: int) -> list[Any]:
        """The first values that are not null."""
        found: list[Any] = []
        rows = 0
        with (
            suppress(ManifestError, StorageError, ValueError, OverflowError, pa.ArrowException),
            closing(cast("Any", self._file.batches([name], _ROWS_AT_ONCE))) as batches,
        ):
            for batch in batches:
                some = batch.table[name].drop_null().slice(0, wanted - len(found)).to_pylist()
                found += [value for value in some if has_bytes(value) or isinstance(value, str)]
                rows += len(batch.rows)
                if len(found) >= wanted or rows >= _ROWS:
                    break
        return found

    def is_said_to_be_image(self, name: str) -> bool:
        """Whether the file itself says that a value of the column is an image."""
        return self.features.get(name) == "Image"

    def bytes_columns(self) -> list[str]:
        """The columns whose values have bytes in them, in order, but for those of text in bytes."""
        texts = self.text_columns()
        return [field.name for field in self._file.schema if may_hold_bytes(field.type) and field.name not in texts]

    def text_columns(self) -> list[str]:
        """The columns of text, in order; also those of bytes that are named as URIs are, and are such."""
        return list(self._texts)

    @cached_property
    def _texts(self) -> tuple[str, ...]:
        fields = [(field.name, field.type) for field in self._file.schema]
        # Impala and old Spark do not say in Parquet that bytes are text.
        asked = [name for name, kind in fields if pa.types.is_binary(kind) and is_uri_name(name)]
        unsaid = {name for name in asked if not is_bytes_name(name) and self.grade(name) >= MAY_BE_FETCHED}
        return tuple(name for name, kind in fields if pa.types.is_string(kind) or name in unsaid)


def as_text(value: str | bytes) -> str:
    """Bytes as the text that they are; of others as much as can be shown."""
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


def _feature(feature: Any) -> str | None:
    """`Image`, `Audio`, ...; `Image in List` of several."""
    if isinstance(feature, list) and feature:
        return f"{_feature(feature[0])} in List"
    if not isinstance(feature, dict):
        return None
    kind = feature.get("_type")
    if kind in ("Sequence", "List", "LargeList"):
        return f"{_feature(feature.get('feature'))} in List"
    return kind if isinstance(kind, str) else None


def _likeness(text: str) -> int:
    """How much a text looks like an image's URI; 0 for not at all."""
    has_scheme = "://" in text[:20]
    if text.startswith(("{", "[", "data:", "/9j/")) or "\n" in text:  # the last is a JPEG in base64
        return 0
    if max(map(len, text.split("/"))) > _NAME_CHARACTERS and not has_scheme:
        return 0
    if format_of(text) == "images" or text.lower().endswith(_ENDINGS):
        return IS_PICTURES_NAME
    if has_scheme:
        return MAY_BE_FETCHED
    if len(text) > _PATH_CHARACTERS or " " in text.strip():
        return 0
    return MAY_BE_FETCHED if text.startswith("/") else MAY_BE_URIS
