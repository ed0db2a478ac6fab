"""Which class reads a file of which format. Column types never depend on which rows a block happens to hold."""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from functools import partial
from typing import Any

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
from pipelines.manifest.readings import Later, version_of_file
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
        self._partitions_here: list[str] = []  # of the file that was opened last

    def files(self, uris: Iterable[str], listed: MutableMapping[str, str]) -> Iterator[Later]:
        """All files, but for tars without pictures that stand before the first with some, which are opened.

        Raises ManifestError where no tar has any. `listed`: versions of files that are known already.
        """
        if is_table(self._kind):
            for table in uris:
                yield from map(Later.of, self._of_table(table))
            return
        last: TarManifest | None = None
        for uri in uris:
            file = Later(uri, partial(self, uri), partial(version_of_file, uri, self._storage, listed))
            if self._kind == "tar" and not self.shards.pictures:
                tar = bare(file.opened())
                assert isinstance(tar, TarManifest), uri
                if not self.shards.pictures:
                    self.shards.add({"without_picture": tar.num_samples})
                    last = tar if last is None or tar.num_samples else last
                    continue
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
        self._partitions_here = given_by_folders(file)
        self._partitions = self._partitions or self._partitions_here
        return file

    def _of_table(self, uri: str) -> Iterator[ManifestFile]:
        """The data files of a table; none is opened. Raises ManifestError where there is none."""
        is_empty = True
        for file in _OF_TABLES[self._kind](uri, self._storage, self._snapshot):
            is_empty = False
            yield file
        if is_empty:
            raise ManifestError(f"the manifest has no rows: {uri}")

    @property
    def traits(self) -> str:
        """As in `Source`."""
        shards = self.shards
        known = [self._kind, self._root, shards.wanted, shards.pictures, shards.texts, sorted(shards.beside)]
        return repr(known)

    def take(self) -> dict[str, Any]:
        """As in `Tally`."""
        taken, self._partitions_here = self._partitions_here, []
        return self.shards.take() | ({"partitions": taken} if taken else {})

    def add(self, taken: Mapping[str, Any]) -> None:
        """As in `Tally`."""
        self._partitions = self._partitions or list(taken.get("partitions", ()))
        self.shards.add(taken)

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
