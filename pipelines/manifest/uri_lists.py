"""Plain lists of image URIs as a manifest: a text file, or what a folder, a glob or a list holds."""

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from actors.storage import Storage
from pipelines.manifest.files import URI_COLUMN, Batch
from pipelines.manifest.opening import batched, is_utf8, spelled, text_lines


class TextManifest:
    """One URI a line; blank lines and lines that begin with # are left out."""

    def __init__(self, storage: Storage, uri: str) -> None:
        self.uri, self._storage = uri, storage
        self.schema = pa.schema([pa.field(URI_COLUMN, pa.string())])

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:  # noqa: ARG002 - it has one column
        """As in `ManifestFile`."""
        with text_lines(self._storage, self.uri) as lines:
            stripped = ((number, line.strip()) for number, line in enumerate(lines, 1))
            kept = ((number, line) for number, line in stripped if line and not line.startswith("#"))
            yield from _uri_batches(kept, max_rows)


class ImageList:
    """URIs of images as a manifest: what a folder, a glob or a list holds."""

    uri = "the list of images"

    def __init__(self, images: Iterable[str]) -> None:
        self._images = images
        self.schema = pa.schema([pa.field(URI_COLUMN, pa.string())])

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:  # noqa: ARG002 - it has one column
        """As in `ManifestFile`."""
        return _uri_batches(enumerate(self._images, 1), max_rows)


def _uri_batches(numbered: Iterator[tuple[int, str]], max_rows: int) -> Iterator[Batch]:
    for numbers, uris in batched(((number, uri, len(uri)) for number, uri in numbered), max_rows):
        misnamed = pa.array([not is_utf8(uri) for uri in uris])
        names = pa.array([spelled(uri) for uri in uris], pa.string())
        yield Batch(pa.table({URI_COLUMN: names}), pa.array(numbers, pa.int64()), misnamed)
