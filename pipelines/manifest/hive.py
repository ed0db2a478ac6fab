"""Folders called `key=value`, which give the files in them a column more (Hive's, Spark's and pyarrow's partitions)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from urllib.parse import unquote

import pyarrow as pa

from pipelines.manifest.files import Batch, HoldsImages, ManifestFile
from pipelines.manifest.opening import check_names

# What Hive calls a value that is null.
_NULL = "__HIVE_DEFAULT_PARTITION__"


def partitions(uri: str, root: str | None) -> dict[str, str | None]:
    """The columns that the folders between `root` and a file give, all text; none without a root."""
    if root is None:
        return {}
    folders = uri[len(root.rstrip("/")) :].split("/")[1:-1]
    pairs = [folder.split("=", 1) for folder in folders if folder.find("=") > 0]
    return {unquote(key): None if value == _NULL else unquote(value) for key, value in pairs}


def with_partitions(file: ManifestFile, root: str | None) -> ManifestFile:
    """A file with the columns that its folders give it. A column of its own goes before one of that name."""
    values = {key: value for key, value in partitions(file.uri, root).items() if key not in file.schema.names}
    if not values:
        return file
    check_names(file.uri, list(values))
    return _PartitionWithImages(file, values) if isinstance(file, HoldsImages) else _Partition(file, values)


def given_by_folders(file: ManifestFile) -> list[str]:
    """The columns that a file has of its folders."""
    return list(file.values) if isinstance(file, _Partition) else []


def bare(file: ManifestFile) -> ManifestFile:
    """A file without what its folders give it."""
    return file.bare if isinstance(file, _Partition) else file


class _Partition:
    """A file in a partition."""

    def __init__(self, file: ManifestFile, values: dict[str, str | None]) -> None:
        self.uri = file.uri
        self.schema = pa.schema([*file.schema, *(pa.field(name, pa.string()) for name in values)], file.schema.metadata)
        self._file, self.values = file, values

    @property
    def bare(self) -> ManifestFile:
        """The file without its partition."""
        return self._file

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        """As in `ManifestFile`."""
        # Of no column at all some formats give no rows.
        own = self._own(names) or self._file.schema.names[:1]
        return (self._widened(batch, names) for batch in self._file.batches(own, max_rows))

    def _own(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name not in self.values]

    def _widened(self, batch: Batch, names: Sequence[str]) -> Batch:
        size = len(batch.rows)
        columns = {
            name: pa.repeat(pa.scalar(self.values[name], pa.string()), size)
            if name in self.values
            else batch.table[name]
            for name in names
        }
        return replace(batch, table=pa.table(columns))


class _PartitionWithImages(_Partition):
    """The same of a file in which images may be."""

    _file: HoldsImages

    def batches_with_images(self, names: Sequence[str], image: str, max_rows: int, *, hashed: bool) -> Iterator[Batch]:
        """As in `HoldsImages`."""
        batches = self._file.batches_with_images(self._own(names), image, max_rows, hashed=hashed)
        return (self._widened(batch, names) for batch in batches)
