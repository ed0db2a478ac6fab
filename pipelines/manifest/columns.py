"""Which columns of a manifest hold what."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal

import pyarrow as pa
from pydantic import Field

from actors.errors import ManifestError
from actors.generators.parameters import Parameters
from actors.settings import Section
from pipelines.manifest.files import URI_COLUMN, Format, ManifestFile
from pipelines.manifest.rows import is_convertible, is_image_struct

# Where `columns.uri_column` is not set, the first of these that the manifest has.
URI_COLUMNS = ("image_uri", "uri", "url", "image_url", "image_path", "path", "file_name", "image")
# The same for `columns.bytes_column`; a struct of `bytes` and `path` (Hugging Face) may have any name.
BYTES_COLUMNS = ("image", "image_bytes", "bytes")
# What `columns.identity` may be beside a column's name.
URI, CONTENT = "uri", "content"
# Of a long path the end, because that is where files differ.
_SHOWN_CHARACTERS = 50
_SHOWN_COLUMNS = 30


class ManifestColumns(Section):
    """How the manifest is read."""

    format: Literal["auto", Format] = Field("auto", description="auto goes by the file's extension")
    uri_column: str | None = Field(
        None, description=f"column with the images' URIs; null: the first there is of {', '.join(URI_COLUMNS)}"
    )
    bytes_column: str | None = Field(
        None, description="column with the images themselves, binary or {bytes, path}; null: found by name and type"
    )
    identity: str = Field(
        URI,
        min_length=1,
        description="what an image is known by: uri (an image in the manifest that has none: its file and row), "
        "content (which reads every image to plan), or the name of a column",
    )
    base: str | None = Field(None, description="folder that relative URIs start from; null: the manifest's own")
    passthrough: Literal["all"] | list[str] = Field(
        "all", description="columns that travel into the metadata: all the others, or a list of names"
    )
    types: dict[str, Literal["string", "int64", "float64", "bool"]] = Field(
        {}, description="types of pass-through columns, e.g. {score: float64}; CSV columns are text otherwise"
    )
    limit: int | None = Field(None, ge=1, description="read no more than so many rows")


@dataclass(frozen=True, slots=True)
class ColumnRoles:
    """Which columns of a file hold what; the others are not read."""

    uri: str | None
    image: str | None
    identity: str | None
    overrides: tuple[str, ...]
    passthrough: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """Every column that has to be there, once."""
        named = [name for name in (self.uri, self.image, self.identity) if name is not None]
        return list(dict.fromkeys([*named, *self.overrides, *self.passthrough]))


def column_roles(file: ManifestFile, columns: ManifestColumns, parameters: type[Parameters]) -> ColumnRoles:
    """What the columns of a file hold. Raises ManifestError where none holds images, or one is of no use."""
    image = _image_column(file, columns)
    uri = _uri_column(file, columns, image)
    identity = None if columns.identity in (URI, CONTENT) else _identity_column(file, columns.identity)
    taken = {uri, image}
    overrides = [name for name in parameters.varying() if name in file.schema.names and name not in taken]
    for name in overrides:
        check_override(name, file, parameters)
    if columns.passthrough != "all":
        passthrough = [name for name in columns.passthrough if name in file.schema.names]
    else:
        taken |= set(overrides)
        passthrough = [f.name for f in file.schema if f.name not in taken and not is_image_struct(f.type)]
    return ColumnRoles(uri, image, identity, tuple(overrides), tuple(passthrough))


def only_uris() -> ColumnRoles:
    """Of a list of URIs, which has no other columns."""
    return ColumnRoles(URI_COLUMN, None, None, (), ())


def _identity_column(file: ManifestFile, wanted: str) -> str:
    kind = _field(file, wanted, "columns.identity").type
    if not (pa.types.is_string(kind) or pa.types.is_integer(kind)):
        said = f"columns.identity is {wanted}, which must be text or whole numbers"
        raise ManifestError(f"{file.uri}: {said}: it is {kind}")
    return wanted


def _image_column(file: ManifestFile, columns: ManifestColumns) -> str | None:
    wanted = columns.bytes_column
    if wanted is not None:
        kind = _field(file, wanted, "columns.bytes_column").type
        if not (pa.types.is_binary(kind) or is_image_struct(kind)):
            raise ManifestError(f"{file.uri}: column {wanted} holds no image bytes: it is {kind}")
        return wanted
    if columns.uri_column is not None:
        return None
    structs = (field_.name for field_ in file.schema if is_image_struct(field_.type))
    binaries = (
        name for name in BYTES_COLUMNS if name in file.schema.names and pa.types.is_binary(file.schema.field(name).type)
    )
    return next(chain(structs, binaries), None)


def _uri_column(file: ManifestFile, columns: ManifestColumns, image: str | None) -> str | None:
    wanted = columns.uri_column
    if wanted is not None:
        kind = _field(file, wanted, "columns.uri_column").type
        if not pa.types.is_string(kind):
            raise ManifestError(f"{file.uri}: column {wanted} holds no URIs: it is {kind}")
        return wanted
    names = [field_.name for field_ in file.schema if pa.types.is_string(field_.type)]
    found = next((name for name in URI_COLUMNS if name in names), None)
    if found is None and image is None:
        near = [name for name in names if difflib.get_close_matches(name.lower(), URI_COLUMNS, 1)]
        raise ManifestError(
            f"{file.uri} has no column with the images' URIs: set columns.uri_column"
            f"{f' (perhaps to {near[0]})' if near else ''}, or name it as one of {', '.join(URI_COLUMNS)}. "
            f"Its columns are {_listed(file.schema.names)}"
        )
    return found


def _field(file: ManifestFile, name: str, setting: str) -> pa.Field:
    if name not in file.schema.names:
        raise ManifestError(f"{file.uri}: {setting} is {name}, {no_such_column(name, file.schema.names)}")
    return file.schema.field(name)


def no_such_column(name: str, names: Collection[str]) -> str:
    """A clause about a column that is named and not there."""
    near = difflib.get_close_matches(name, names, 1)
    guess = f" (perhaps {near[0]})" if near else ""
    return f"but there is no such column{guess}. The columns are {_listed(names)}"


def _listed(names: Collection[str]) -> str:
    """The first names, each on one line and not too long."""
    shown = [" ".join(name.split())[:_SHOWN_CHARACTERS] for name in islice(names, _SHOWN_COLUMNS)]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def check_override(name: str, file: ManifestFile, parameters: type[Parameters]) -> None:
    """Raise ManifestError where the column of a parameter is of a type that holds none."""
    kind = file.schema.field(name).type
    if not is_convertible(kind, parameters.arrow_type(name)):
        raise ManifestError(f"{file.uri}: column {name} must be {parameters.arrow_type(name)}, and is {kind}")
