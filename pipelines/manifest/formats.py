"""Which class reads a file of which format. Column types never depend on which rows a block happens to hold."""

from collections.abc import Callable, Iterable, Iterator

from actors.errors import ManifestError
from actors.storage import Storage
from pipelines.manifest.arrow_files import ArrowManifest
from pipelines.manifest.csv_files import CsvManifest
from pipelines.manifest.delta_tables import delta_files
from pipelines.manifest.files import Format, ManifestFile
from pipelines.manifest.hive import bare, given_by_folders, with_partitions
from pipelines.manifest.iceberg_tables import iceberg_files
from pipelines.manifest.json_files import JsonManifest
from pipelines.manifest.json_lines import JsonLinesManifest
from pipelines.manifest.lance_tables import lance_files
from pipelines.manifest.opening import is_utf8, spelled
from pipelines.manifest.parquet_files import ParquetManifest
from pipelines.manifest.tables import Wanted, is_table
from pipelines.manifest.tar_files import Shards, TarManifest
from pipelines.manifest.uri_lists import TextManifest

_OF_TABLES: dict[Format, Callable[[str, Storage, Wanted], Iterator[ManifestFile]]] = {
    "delta": delta_files,
    "iceberg": iceberg_files,
    "lance": lance_files,
}


class Opener:
    """Opens the files of one source, which are of one format."""

    def __init__(
        self, storage: Storage, kind: Format, root: str | None, bytes_column: str | None, snapshot: Wanted
    ) -> None:
        """`root`: the folder below which names of folders give columns, if any; `bytes_column` as in the settings.

        `snapshot`: of a table.
        """
        self._storage, self._kind, self._root, self._snapshot = storage, kind, root, snapshot
        self.shards = Shards(bytes_column)
        self._partitions: list[str] = []

    def opened(self, files: Iterable[str]) -> Iterator[ManifestFile]:
        """All files, but for tars without pictures that stand before the first with some.

        Raises ManifestError where no tar has any.
        """
        if is_table(self._kind):
            for table in files:
                yield from self._of_table(table)
            return
        last: TarManifest | None = None
        for uri in files:
            file = self(uri)
            if isinstance(tar := bare(file), TarManifest) and not self.shards.pictures:
                self.shards.without_picture += tar.num_samples
                last = tar if last is None or tar.num_samples else last
            else:
                yield file
        if last is not None and not self.shards.pictures:
            if not last.num_samples:
                raise ManifestError(f"the manifest has no rows: {last.uri}")
            raise ManifestError(f"{last.uri} holds no pictures: the members of its samples are {last.first_members}")

    def __call__(self, uri: str) -> ManifestFile:
        """Read what must be known before the rows: the columns and their types."""
        if not is_utf8(uri):  # the names of its images begin with its own
            raise ManifestError(f"{spelled(uri)}: this path is not UTF-8 text: rename it")
        file = self._opened(uri)
        if self._kind == "text":
            return file
        file = with_partitions(file, self._root)
        self._partitions = self._partitions or given_by_folders(file)
        return file

    def _of_table(self, uri: str) -> Iterator[ManifestFile]:
        """The data files of a table; none is opened. Raises ManifestError where there is none."""
        is_empty = True
        for file in _OF_TABLES[self._kind](uri, self._storage, self._snapshot):
            is_empty = False
            yield file
        if is_empty:
            raise ManifestError(f"the manifest has no rows: {uri}")

    def notes(self, given: str) -> list[str]:
        """What the user may want to know, when all was read."""
        said = f"{given}: the names of its folders give the columns {', '.join(self._partitions)}"
        return [*([said] if self._partitions else []), *self.shards.notes(given)]

    def _opened(self, uri: str) -> ManifestFile:  # noqa: PLR0911 - a line for each format
        storage = self._storage
        match self._kind:
            case "parquet":
                return ParquetManifest(storage, uri)
            case "arrow":
                return ArrowManifest(storage, uri)
            case "tar":
                return TarManifest(storage, uri, self.shards)
            case "jsonl":
                return JsonLinesManifest(storage, uri)
            case "json":
                return JsonManifest(storage, uri)
            case "text":
                return TextManifest(storage, uri)
            case kind:
                return CsvManifest(storage, uri, "\t" if kind == "tsv" else ",")


def may_lack_columns(file: ManifestFile) -> bool:
    """Whether a column that the first file has and this one lacks is as good as null."""
    return isinstance(bare(file), JsonLinesManifest | TarManifest)
