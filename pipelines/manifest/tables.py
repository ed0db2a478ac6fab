"""Tables with a history: Delta, Iceberg, Lance. Which of them lies in a folder, and what their readers have in common.

A table is read as one snapshot, taken once. Its data files are the manifest's files, each with a version of its own,
listed from the table's log and opened when their rows are asked for.
"""

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, get_args, runtime_checkable

from actors.errors import ManifestError, StillreelError
from actors.object_store_options import said_by
from actors.storage import Storage
from pipelines.manifest.files import Format, ManifestFile, TableFormat
from pipelines.manifest.image_uris import AllowedImages
from pipelines.manifest.opening import one_line
from pipelines.manifest.places import is_below, place_of

TABLES: tuple[TableFormat, ...] = get_args(TableFormat)

# The module that reads a table, and the extra that installs it.
_READERS: dict[TableFormat, tuple[str, str]] = {
    "delta": ("deltalake", "delta"),
    "iceberg": ("pyiceberg", "iceberg"),
    "lance": ("lance", "lance"),
}
NAMES: dict[TableFormat, str] = {"delta": "a Delta table", "iceberg": "an Iceberg table", "lance": "a Lance table"}
DELTA_LOG, ICEBERG_METADATA, LANCE_VERSIONS = "_delta_log", "metadata", "_versions"
# An Iceberg table may be named by one of its metadata files: `t/metadata/00003-6f2d.metadata.json`, `v3.metadata.json`.
METADATA_FILE = re.compile(r"(.*)/metadata/([^/]+\.metadata\.json)")


@runtime_checkable
class TableFile(ManifestFile, Protocol):
    """A data file of a table.

    Attributes:
        version: changes when what is read of the file does: it names its content and what was deleted of it.
        base: the table's folder, from which relative URIs start.
    """

    version: str
    base: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which snapshot of a table is read, and where its files may lie.

    Attributes:
        version: as `columns.table_version`; None: the newest.
        allowed: of the table's own source.
    """

    version: int | str | None
    allowed: AllowedImages

    def check_place(self, table: str, uri: str) -> None:
        """Raise ManifestError for a file that lies elsewhere than its table, which somebody else may have written."""
        if Storage.is_local(table) or is_below(uri, place_of(table)):
            return
        if not any(is_below(uri, prefix) for prefix in self.allowed.prefixes):
            raise ManifestError(
                f"{table}: the table has a file elsewhere, {uri}: storage.prefixes can allow that place, if you trust "
                "whoever writes the table"
            )


def table_at(uri: str, storage: Storage, *, is_folder: bool) -> TableFormat | None:
    """Which table lies in a folder, or is named by a metadata file; None for none."""
    if not is_folder:
        return "iceberg" if METADATA_FILE.fullmatch(uri) else None
    if _is_there(f"{uri}/{DELTA_LOG}", storage):
        return "delta"
    if any(name.endswith(".metadata.json") for name in _names_in(f"{uri}/{ICEBERG_METADATA}", storage)):
        return "iceberg"
    if any(name.endswith(".manifest") for name in _names_in(f"{uri}/{LANCE_VERSIONS}", storage)):
        return "lance"
    return None


def _is_there(folder: str, storage: Storage) -> bool:
    """Whether there is such a folder, which on a store holds something: one request tells."""
    return storage.is_folder(folder) if storage.is_local(folder) else bool(storage.list_names(folder))


def _names_in(folder: str, storage: Storage) -> set[str]:
    # On this machine a file may be called so.
    return set() if storage.is_local(folder) and not storage.is_folder(folder) else storage.list_names(folder)


def reader_of(kind: TableFormat, uri: str, module: str = "") -> Any:
    """The library that reads such tables, or one of its modules. Raises ManifestError where it is not installed."""
    package, extra = _READERS[kind]
    try:
        return importlib.import_module(module or package)
    except ImportError as error:
        raise ManifestError(
            f"{uri} is {NAMES[kind]}, for which a reader is not installed ({one_line(str(error))}): "
            f"pip install 'stillreel[{extra}]'"
        ) from error


@contextmanager
def explained(what: str, storage: Storage) -> Iterator[None]:
    """Whatever the reader of a table raises within the block becomes a ManifestError that begins with `what`."""
    try:
        yield
    except StillreelError:
        raise
    except BaseException as error:
        # What goes wrong in Rust is no Exception where it was not foreseen.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ManifestError(f"{what} ({said_by(error, storage.options)})") from error


def no_version(uri: str, version: int | str, why: str) -> ManifestError:
    """What to say of a version that a table has not."""
    return ManifestError(f"{uri}: columns.table_version is {version}, and {why}")


def is_table(kind: Format) -> bool:
    """Whether files of this format are tables."""
    return kind in TABLES
