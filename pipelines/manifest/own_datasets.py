"""Datasets of ours that lie where a manifest is looked for: they are no manifest, above all the one that it feeds."""

import os

import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import ManifestError, StorageError
from actors.storage import Storage
from actors.uris import common_scheme, root_of
from pipelines.dataset.layout import Layout, metadata_in, part_of, root_of_place
from pipelines.manifest.passed_over import PassedOver

# Columns of every metadata.parquet that we write: what tells a dataset that was copied without `_lease` and `_runs`.
_RECORD_COLUMNS = {"clip_id", "file_name", "image_uri"}


class OwnDatasets:
    """Knows a dataset by what is in it, and the run's own output by where it is, too."""

    def __init__(self, output: str | None, storage: Storage) -> None:
        self._storage = storage
        self._output = None if output is None else canonical_folder(output)
        self._known: dict[str, bool] = {}

    def looks_into(self, folder: str, passed: PassedOver) -> bool:
        """Whether a folder is not of a dataset; that of a dataset is noted."""
        root = root_of_place(folder)
        if root is None or not self._is_dataset(root):
            return True
        passed.add_dataset(root)
        return False

    def is_card(self, uri: str) -> bool:
        """Whether a file is what a dataset says of itself."""
        root = Storage.parent(uri)
        return uri == Layout(root).card and self._is_dataset(root)

    def looks_through(self, target: str, passed: PassedOver) -> bool:
        """The same of where a link leads, which may be deep within a dataset."""
        return self._holder(target, passed) is None

    def refuse(self, given: str, uri: str, *, is_folder: bool) -> None:
        """Raise ManifestError where a source is the run's own output or within it, or another dataset as a whole."""
        place = os.path.realpath(uri) if Storage.is_local(uri) else uri.rstrip("/")
        holder = self._holder(place, PassedOver())
        here = canonical_folder(place) if is_folder else None
        if self._output is not None and self._output in (here, holder and canonical_folder(holder)):
            raise ManifestError(
                f"manifest={given} is, or lies in, the dataset that this run writes to: a dataset cannot be its own "
                "manifest; name the folder of the images, or another output"
            )
        if holder is None and is_folder and self._is_dataset(place):
            raise ManifestError(
                f"{given} is a dataset of clips: to animate its images anew, name its records, "
                f"manifest={metadata_in(Layout(given.rstrip('/')).data + '/*')}"
            )

    def _holder(self, place: str, passed: PassedOver) -> str | None:
        """The dataset in whose folders a place lies."""
        root = root_of(place)
        names = place[len(root) :].split("/")
        for depth in range(len(names), 1, -1):
            folder = root + "/".join(names[:depth])
            if not self.looks_into(folder, passed):
                return folder.rpartition("/")[0]
        return None

    def _is_dataset(self, root: str) -> bool:
        if root not in self._known:
            self._known[root] = canonical_folder(root) == self._output or self._has_our_folders(root)
        return self._known[root]

    def _has_our_folders(self, root: str) -> bool:
        layout, folders = Layout(root), self._storage.list_folders(root)
        if {layout.lease, layout.runs}.issubset(folders):
            return True
        parts = self._storage.list_folders(layout.data) if layout.data in folders else []
        part = next((folder for folder in parts if part_of(folder) is not None), None)
        return part is not None and self._holds_records(metadata_in(part))

    def _holds_records(self, uri: str) -> bool:
        try:
            with self._storage.open(uri) as stream:
                return set(pq.read_schema(stream).names) >= _RECORD_COLUMNS
        except (StorageError, pa.ArrowException, OSError):
            return False


def canonical_folder(uri: str) -> str:
    """A folder's URI with links resolved, one scheme a store and no slash at its end."""
    if Storage.is_local(uri):
        return os.path.realpath(Storage.absolute(uri))
    scheme, _, path = uri.partition("://")
    return f"{common_scheme(scheme)}://{path.rstrip('/')}"
