"""The files of a manifest one by one: opened when they are asked for, and what is known of each beside its rows."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from actors.errors import StorageError
from actors.stamps import stamp
from actors.storage import Storage
from pipelines.manifest.columns import ColumnRoles
from pipelines.manifest.files import KnowsVersion, ManifestFile
from pipelines.manifest.image_uris import AllowedImages
from pipelines.manifest.rows import RowProblems


class Later:
    """A file that is opened when it is asked for, which costs requests, and a whole pass over some formats."""

    def __init__(self, uri: str, open_it: Callable[[], ManifestFile], version_of: Callable[[], str | None]) -> None:
        self.uri, self._open, self._version_of = uri, open_it, version_of
        self._opened: ManifestFile | None = None
        self._version: str | None = None
        self._was_asked = False

    @classmethod
    def of(cls, file: ManifestFile) -> "Later":
        """One that is there already, and knows its version itself or has none."""
        return cls(file.uri, lambda: file, lambda: file.version if isinstance(file, KnowsVersion) else None)

    @property
    def version(self) -> str | None:
        """What names its content, as it was before it was opened; None where that is not known."""
        if not self._was_asked:
            self._version, self._was_asked = self._version_of(), True
        return self._version

    def same(self) -> Callable[[], bool]:
        """What asks again whether the file has the version that it had; it keeps nothing else of the file."""
        before, version_of = self.version, self._version_of
        return lambda: version_of() == before

    def opened(self) -> ManifestFile:
        """The file."""
        if self._opened is None:
            _ = self.version  # before its content: one that is too old makes it be read again, and no more
            self._opened = self._open()
        return self._opened


class Tally(Protocol):
    """What was left out of the files of a source, counted for its notes."""

    def take(self) -> dict[str, Any]:
        """What was counted since the last call; JSON can hold it."""

    def add(self, taken: Mapping[str, Any]) -> None:
        """Count what an earlier reading of a file gave."""


@dataclass(frozen=True, slots=True)
class Source:
    """Files of one format and one set of columns.

    Attributes:
        first: the first of them, which has been looked into.
        files: all.
        tally: what counts that which is left out of them, if anything does.
        traits: what decides the rows of a file beside its content, `roles`, `allowed` and the columns of the first.
    """

    first: ManifestFile
    files: Iterator[Later]
    roles: ColumnRoles
    allowed: AllowedImages
    tally: Tally | None = None
    traits: str = ""


@dataclass(slots=True)
class Reading:
    """One file as it is read.

    Attributes:
        problems: of its rows.
        is_whole: all its rows were given.
        is_settled: its rows are what its content says, and nothing else was asked.
        left_out: from its source's `Tally`.
    """

    source: Source
    file: Later
    problems: RowProblems
    is_whole: bool = False
    is_settled: bool = True
    left_out: dict[str, Any] = field(default_factory=dict)


def version_of_file(uri: str, storage: Storage, listed: MutableMapping[str, str]) -> str | None:
    """The version of a manifest's file, where one is known. `listed`: those that a listing has told on the way."""
    if storage.is_local(uri):
        return stamp(storage.native_path(uri))
    if uri in listed:
        return listed.pop(uri)
    with suppress(StorageError):  # as whose reading says
        return storage.version(uri) or None
    return None
