"""What a manifest consists of: files of a few formats, each of which gives batches of rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import pyarrow as pa

from actors.uris import file_name
from pipelines.manifest.parquet_images import Embedded

TableFormat = Literal["delta", "iceberg", "lance"]
Format = Literal["parquet", "arrow", "tar", "csv", "tsv", "jsonl", "json", "text", "images", TableFormat]

EXTENSIONS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".tar": "tar",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".txt": "text",
    **dict.fromkeys(
        (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".tif", ".tiff", ".bmp", ".dib"), "images"
    ),
    **dict.fromkeys(
        (".gif", ".avif", ".avifs", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".jxl"), "images"
    ),
}
# What may be packed, and how; named after the list's own ending: `list.csv.zst`.
_LISTS = frozenset({"csv", "tsv", "jsonl", "json", "text"})
PACKED = (".gz", ".bz2", ".xz", ".zst")
URI_COLUMN = "image_uri"  # of the formats that have no header

# Bytes of rows held at once: a batch of embedded images must not be a hundred thousand of them.
BATCH_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Batch:
    r"""Rows of one file.

    Attributes:
        table: the columns asked for.
        rows: each row's number in the file as a person would count: lines from 1 in text and JSON lines, rows from 1 in
            Parquet, rows in CSV with the header as row 1 (blank lines left out), entries of a JSON list and samples of
            a tar from 1.
        misnamed: mask of the files whose names are not UTF-8, odd bytes of which the table spells as in `b\udcff.jpg`.
        images: those that the rows carry, of a file that was read for them.
    """

    table: pa.Table
    rows: pa.Array
    misnamed: pa.Array | None = None
    images: Embedded | None = None


class ManifestFile(Protocol):
    """One file, or one list of images."""

    @property
    def uri(self) -> str:
        """Where it is, as messages name it."""

    @property
    def schema(self) -> pa.Schema:
        """All its columns."""

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        """The columns `names`, at most `max_rows` rows at a time.

        Raises:
            ManifestError: the file is damaged.
            StorageError: it cannot be read.
        """


@runtime_checkable
class HoldsImages(ManifestFile, Protocol):
    """A file in which the images themselves may be."""

    def batches_with_images(self, names: Sequence[str], image: str, max_rows: int, *, hashed: bool) -> Iterator[Batch]:
        """As `batches`, and where the images of the column `image` lie; `hashed`: read them for their SHA-256."""


def images_uri(file: ManifestFile) -> str:
    """Where workers find the images that a file holds: there, but for a table that must say of which version."""
    return str(getattr(file, "images_uri", file.uri))


def format_of(uri: str) -> Format | None:
    """By the extension; None where it says nothing. `.gz` and its like after a list's own is looked through."""
    stem, _, extension = file_name(uri).lower().rpartition(".")
    if "." + extension in PACKED:
        kind = EXTENSIONS.get("." + stem.rpartition(".")[2])
        return kind if kind in _LISTS else None
    return EXTENSIONS.get("." + extension) if stem else None
