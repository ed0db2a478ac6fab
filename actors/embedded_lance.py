"""Images in a Lance table: each is read at random, in a request or two, from the version that was planned."""

import re
from typing import Any

import pyarrow as pa

from actors.contracts import Place
from actors.errors import ImageError, StorageError
from actors.object_store_options import in_common_scheme, object_store_options, said_by
from actors.storage import Storage

_FILE = re.compile(r"(.+)#version=(\d+)&fragment=(\d+)", re.DOTALL)
# Blobs of the second kind may lie in files that the table only names.
_BLOB_V2 = "lance.blob.v2"
_BLOB_URI = "blob_uri"


def lance_file(table: str, version: int, fragment: int) -> str:
    """What `Place.file` says of a fragment of a table."""
    return f"{table}#version={version}&fragment={fragment}"


def lance_uri(uri: str) -> str:
    """A table as the library names it."""
    found = in_common_scheme(uri)
    return f"az{found.removeprefix('abfs')}" if found.startswith("abfs://") else found


def is_blob_v2(kind: pa.DataType) -> bool:
    """Whether a column holds blobs that may lie anywhere."""
    return getattr(kind, "extension_name", "") == _BLOB_V2


def names_other_files(descriptions: Any) -> bool:
    """Whether one of the blobs so described lies in a file that the table only names."""
    column = descriptions.combine_chunks() if isinstance(descriptions, pa.ChunkedArray) else descriptions
    places = [value.get(_BLOB_URI) for value in column.to_pylist() if value is not None]
    return any(places)


class OpenFragment:
    """A fragment of a table, open for its images."""

    def __init__(self, file: str, storage: Storage) -> None:
        """Raises StorageError where the table, or this version of it, cannot be read any more."""
        self.file, self._storage = file, storage
        match = _FILE.fullmatch(file)
        assert match is not None, file  # made by `lance_file`
        table, version, number = match[1], int(match[2]), int(match[3])
        try:
            import lance

            options = object_store_options(table, storage.options) or None
            dataset = lance.dataset(lance_uri(table), version=version, storage_options=options)
            self._fragment = dataset.get_fragment(number)
            self._schema: pa.Schema = dataset.schema
        except ImportError as error:
            raise StorageError(
                f"{table} is a Lance table, for which a reader is not installed on this node: "
                "pip install 'stillreel[lance]'"
            ) from error
        except (ValueError, OSError) as error:
            raise StorageError(
                f"version {version} of {table} cannot be read ({said_by(error, storage.options)})"
            ) from error

    def read(self, place: Place, max_bytes: int | None) -> bytes | None:
        """The value of one row of those that the fragment has.

        Raises:
            ImageError: it is not there, larger than `max_bytes`, or in another file.
            StorageError: it cannot be read.
        """
        where = {"columns": [place.column], "offset": place.row, "limit": 1}
        try:
            if is_blob_v2(self._schema.field(place.column.partition(".")[0]).type):
                described = self._fragment.scanner(**where, blob_handling="blobs_descriptions").to_table()
                if names_other_files(described.column(0)):
                    raise ImageError(f"{place} lies in a file that the table only names, which is not read")
            found = self._fragment.scanner(**where, blob_handling="all_binary").to_table()
        except (ValueError, OSError, KeyError) as error:
            raise StorageError(f"{place} could not be read: {said_by(error, self._storage.options)}") from error
        if not len(found):
            raise ImageError(f"{self.file} has changed since it was planned: run again")
        data: bytes | None = found.column(0)[0].as_py()
        if data is not None and max_bytes is not None and len(data) > max_bytes:
            raise ImageError(f"{place} is larger than the {max_bytes:,} bytes allowed")
        return data

    def close(self) -> None:
        """Nothing is kept open."""
