"""How `pyiceberg` reads files: as everything here does, with the same settings, tries and limits. It writes nothing."""

import io
from typing import Any

from pyiceberg.io import FileIO, InputFile

from actors.storage import Storage
from pipelines.manifest.tables import Wanted

# S3 by the name that Hadoop once had for it.
_S3N = "s3n://"


class StorageIO(FileIO):  # type: ignore[misc] # it has no types here
    """Files of one table, which may name no others (`Wanted.check_place`).

    Attributes:
        storage: what reads them.
    """

    def __init__(self, storage: Storage, table: str, wanted: Wanted) -> None:
        super().__init__({})
        self.storage, self._table, self._wanted = storage, table, wanted

    @staticmethod
    def uri_of(location: str) -> str:
        """What a table calls a file, as we do."""
        return Storage.absolute(f"s3://{location[len(_S3N) :]}" if location.startswith(_S3N) else location)

    def new_input(self, location: str) -> "_Input":
        """As the library has it; raises ManifestError for a file elsewhere."""
        uri = self.uri_of(location)
        self._wanted.check_place(self._table, uri)
        return _Input(location, self.storage, uri)

    def new_output(self, location: str) -> Any:
        """Nothing is written."""
        raise AssertionError(location)

    def delete(self, location: object) -> None:
        """Nothing is removed."""
        raise AssertionError(location)


class _Input(InputFile):  # type: ignore[misc] # the same
    def __init__(self, location: str, storage: Storage, uri: str) -> None:
        super().__init__(location)
        self._storage, self._uri = storage, uri

    def __len__(self) -> int:
        return self._storage.size(self._uri)

    def exists(self) -> bool:
        """As the library has it."""
        return self._storage.exists(self._uri)

    def open(self, seekable: bool = True) -> io.BufferedReader:  # noqa: ARG002, FBT001, FBT002 - the library's own
        """As the library has it."""
        return self._storage.open(self._uri)
