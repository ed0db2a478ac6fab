"""Plain lists of image URIs as a manifest: a text file, or what a folder, a glob or a list holds."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import pyarrow as pa

from actors.storage import Storage
from pipelines.manifest.column_names import listed
from pipelines.manifest.files import URI_COLUMN, Batch
from pipelines.manifest.hive import partitions
from pipelines.manifest.opening import batched, check_names, is_utf8, spelled, text_lines

# Names that a note has at most.
_OTHERS = 20


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
    """URIs of images as a manifest: what folders, globs or a list hold.

    Attributes:
        columns: those that the folders of the first images are called after, as in `label=cat/a.jpg`.
    """

    uri = "the list of images"

    def __init__(self, sources: Iterable[tuple[str | None, Iterator[str]]]) -> None:
        """`sources` are images, with the folder below which names of folders give columns, if any."""
        self._sources = [(root, first, images) for root, images in sources if (first := next(images, None)) is not None]
        found = (partitions(first, root) for root, first, _ in self._sources if is_utf8(first))
        names = chain.from_iterable(found)
        self.columns = tuple(name for name in dict.fromkeys(names) if name != URI_COLUMN)
        self._root: str | None = None  # of the image at hand
        self._others: set[str] = set()
        check_names(self.uri, self.columns)
        self.schema = pa.schema([pa.field(name, pa.string()) for name in (URI_COLUMN, *self.columns)])

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        """As in `ManifestFile`."""
        for batch in _uri_batches(enumerate(self._images(), 1), max_rows, self._columns_of):
            yield replace(batch, table=batch.table.select(list(names)))

    def notes(self) -> list[str]:
        """What the user may want to know, when all was read."""
        said = "the names of the images' folders give"
        notes = [f"{said} the columns {', '.join(self.columns)}"] if self.columns else []
        if self._others:
            names = listed(sorted(self._others))
            notes.append(f"{said} also {names}, which the first image's folders do not: these columns were left out")
        return notes

    def _images(self) -> Iterator[str]:
        for root, first, others in self._sources:
            self._root = root
            yield first
            yield from others

    def _columns_of(self, uri: str) -> dict[str, str | None]:
        found = partitions(uri, self._root) if "=" in uri and is_utf8(uri) else {}
        if len(self._others) < _OTHERS:
            self._others.update(found.keys() - {*self.columns, URI_COLUMN})
        return {name: found.get(name) for name in self.columns}


def _uri_batches(
    numbered: Iterator[tuple[int, str]],
    max_rows: int,
    columns_of: Callable[[str], dict[str, str | None]] = lambda _uri: {},
) -> Iterator[Batch]:
    rows = ((number, (uri, columns_of(uri)), len(uri)) for number, uri in numbered)
    for numbers, found in batched(rows, max_rows):
        misnamed = pa.array([not is_utf8(uri) for uri, _ in found])
        columns = {URI_COLUMN: pa.array([spelled(uri) for uri, _ in found], pa.string())}
        for name in found[0][1]:
            columns[name] = pa.array([more[name] for _, more in found], pa.string())
        yield Batch(pa.table(columns), pa.array(numbers, pa.int64()), misnamed)
