"""What an image of the manifest is known by: rows of one identity are one image, which is animated once."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from actors.errors import StorageError
from actors.secrets import shown
from actors.storage import Storage
from pipelines.manifest.parquet_images import Embedded
from pipelines.manifest.rows import Marks

# Images fetched at once, where their content is asked for: each is a request and a few megabytes.
_READERS = 16


def by_column(name: str, values: pa.Array, marks: Marks) -> pa.Array:
    """The values of a column as text; a row where it is empty has a problem."""
    texts = pc.cast(values, pa.string())
    empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(texts), ""), True)
    marks.mark(empty, f"no identity: {name} is empty")
    return pc.binary_join_element_wise("id:", pc.fill_null(texts, ""), "")


def by_content(uris: pa.Array, images: Embedded | None, storage: Storage, max_bytes: int, marks: Marks) -> pa.Array:
    """The SHA-256 of each image; one that cannot be read is a problem of its row, and known by its URI."""
    hashes = [None] * len(uris) if images is None else images.sha256.to_pylist()
    wanted = [row for row, text in enumerate(marks.texts) if hashes[row] is None and text is None]
    with ThreadPoolExecutor(_READERS) as readers:
        found = list(readers.map(partial(_hash, storage, max_bytes), [uris[row].as_py() for row in wanted]))
    reasons: list[str | None] = [None] * len(uris)
    for row, (sha256, reason) in zip(wanted, found, strict=True):
        hashes[row], reasons[row] = sha256, reason
    for reason in dict.fromkeys(filter(None, reasons)):
        marks.mark(pa.array([other == reason for other in reasons]), f"the image cannot be read: {reason}")
    pairs = zip(uris.to_pylist(), hashes, strict=True)
    known = [shown(uri or "") if sha256 is None else f"sha256:{sha256}" for uri, sha256 in pairs]
    return pa.array(known, pa.string())


def _hash(storage: Storage, max_bytes: int, uri: str | None) -> tuple[str | None, str | None]:
    if uri is None:
        return None, "there is none, and no URI that may be fetched"
    try:
        return hashlib.sha256(storage.read_bytes(uri, max_bytes=max_bytes)).hexdigest(), None
    except StorageError as error:
        return None, str(error)
