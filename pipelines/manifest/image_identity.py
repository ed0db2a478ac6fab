"""What an image of the manifest is known by: rows of one identity are one image, which is animated once."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from actors.errors import StorageError
from actors.secrets import public_uri
from actors.storage import NotFound, Storage
from pipelines.manifest.parquet_images import Embedded
from pipelines.manifest.rows import Marks

# Images fetched at once, where their content is asked for: each is a request and a few megabytes.
_READERS = 16

# Of images, by what records call them: the SHA-256 that they had; None where no clip was made of one.
Made = Callable[[Sequence[str]], Sequence[str | None]]


def by_column(name: str, values: pa.Array, marks: Marks) -> pa.Array:
    """The values of a column as text; a row where it is empty has a problem."""
    texts = pc.cast(values, pa.string())
    empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(texts), ""), True)
    marks.mark(empty, f"no identity: {name} is empty")
    return pc.binary_join_element_wise("id:", pc.fill_null(texts, ""), "")


def by_content(
    uris: pa.Array,
    images: Embedded | None,
    fetch: "Fetch",
    names: pa.Array,
    made: Made,
    marks: Marks,
) -> pa.Array:
    """The SHA-256 of each image; one that cannot be read is a problem of its row, and known by its URI.

    Args:
        names: what the records of clips call the images.
        made: tells of images that are gone which content they had when clips were made of them.
    """
    hashes = [None] * len(uris) if images is None else images.sha256.to_pylist()
    wanted = [row for row, text in enumerate(marks.texts) if hashes[row] is None and text is None]
    with ThreadPoolExecutor(_READERS) as readers:
        found = list(readers.map(fetch.sha256_of, [uris[row].as_py() for row in wanted]))
    reasons: list[str | None] = [None] * len(uris)
    for row, one in zip(wanted, found, strict=True):
        hashes[row], reasons[row] = one.sha256, one.reason
    gone = [row for row, one in zip(wanted, found, strict=True) if one.is_gone]
    for row, sha256 in zip(gone, made([names[row].as_py() for row in gone]) if gone else [], strict=True):
        if sha256 is not None:
            hashes[row], reasons[row] = sha256, None
    for reason in dict.fromkeys(filter(None, reasons)):
        marks.mark(pa.array([other == reason for other in reasons]), f"the image cannot be read: {reason}")
    pairs = zip(uris.to_pylist(), hashes, strict=True)
    known = [public_uri(uri or "") if sha256 is None else f"sha256:{sha256}" for uri, sha256 in pairs]
    return pa.array(known, pa.string())


@dataclass(frozen=True, slots=True)
class Fetch:
    """Reads images for their content, none of more than `max_bytes`."""

    storage: Storage
    max_bytes: int

    def sha256_of(self, uri: str | None) -> "Fetched":
        """Of one image, or why there is none."""
        if uri is None:
            return Fetched(reason="there is none, and no URI that may be fetched")
        try:
            return Fetched(hashlib.sha256(self.storage.read_bytes(uri, max_bytes=self.max_bytes)).hexdigest())
        except StorageError as error:
            return Fetched(reason=str(error), is_gone=isinstance(error, NotFound))


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of it."""

    sha256: str | None = None
    reason: str | None = None
    is_gone: bool = False
