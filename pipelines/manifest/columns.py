"""Which columns of a manifest hold what."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from pydantic import Field

from actors.errors import ManifestError
from actors.generators.parameters import Parameters
from actors.settings import Section
from actors.storage import Storage
from pipelines.manifest import licences
from pipelines.manifest.column_names import (
    URI_COLUMNS,
    is_bytes_name,
    listed,
    nearest_names,
    no_such_column,
    short_name,
)
from pipelines.manifest.files import URI_COLUMN, Format, ManifestFile
from pipelines.manifest.image_columns import ImageColumns, found_image_columns, name_beside
from pipelines.manifest.image_uris import AllowedImages
from pipelines.manifest.looking import Look
from pipelines.manifest.pictures import leaf_of
from pipelines.manifest.rows import is_convertible
from pipelines.manifest.spellings import path_of
from pipelines.manifest.tables import TableFile

# What `columns.identity` may be beside a column's name.
URI, CONTENT = "uri", "content"


class ManifestColumns(Section):
    """How the manifest is read."""

    format: Literal["auto", Format] = Field(
        "auto", description="auto goes by the file's extension, and by what lies in the folder of a table"
    )
    table_version: int | str | None = Field(
        None,
        description="of a Delta, Iceberg or Lance table: a version, snapshot or tag; null: the newest",
    )
    uri_column: str | None = Field(
        None,
        description="column with the images' URIs; null: found by name and by its first rows, of several the first of "
        f"{', '.join(URI_COLUMNS)}",
    )
    bytes_column: str | None = Field(
        None,
        description="column with the images themselves, binary or {bytes, path}; null: found by its rows and name",
    )
    identity: str = Field(
        URI,
        min_length=1,
        description="what an image is known by: uri (an image in the manifest that has none: its file and row), "
        "content (which reads every image to plan), or the name of a column",
    )
    license_column: str | None = Field(
        None,
        description="column with the images' licences, for the metadata; null: found by name, of several the first of "
        f"{', '.join(licences.NAMES)}",
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
    """Which columns of a file hold what; the others are not read.

    Attributes:
        kept_out: columns with pictures or other files that would be passed through, were they something else.
        notes: what was decided between columns that could hold the images.
        license: the images' licences.
    """

    uri: str | None
    image: str | None
    identity: str | None
    overrides: tuple[str, ...]
    passthrough: tuple[str, ...]
    kept_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    license: str | None = None

    @property
    def needed(self) -> list[str]:
        """Every column that has to be there, once."""
        named = [name for name in (self.uri, self.image, self.identity) if name is not None]
        return list(dict.fromkeys([*named, *self.overrides, *self.passthrough]))

    @property
    def columns(self) -> list[str]:
        """Every column that is read, once: a file without licences is one like any other."""
        return list(dict.fromkeys([*self.needed, *([] if self.license is None else [self.license])]))


def column_roles(
    file: ManifestFile, columns: ManifestColumns, parameters: type[Parameters], allowed: AllowedImages
) -> ColumnRoles:
    """What the columns of a file hold. Raises ManifestError where none holds images, or one is of no use."""
    base = base_of(file, columns)
    look = Look(file, lambda uri: allowed.why_not(path_of(uri), base) is None)
    found = _image_columns(file, columns, look)
    identity = None if columns.identity in (URI, CONTENT) else _identity_column(file, columns.identity)
    taken = {found.uri, found.image}
    overrides = [name for name in parameters.varying() if name in file.schema.names and name not in taken]
    for name in overrides:
        check_override(name, file, parameters)
    of_license = _license_column(file, columns, [found.uri, found.image, *overrides])
    kept_out: list[str] = []
    if columns.passthrough != "all":
        passthrough = [name for name in columns.passthrough if name in file.schema.names]
    else:
        taken |= {*overrides, *_only_license(of_license)}
        kept_out = [name for name in look.bytes_columns() if name not in taken and _stays_out(name, file, look)]
        passthrough = [name for name in file.schema.names if name not in taken and name not in kept_out]
    return ColumnRoles(
        found.uri, found.image, identity, tuple(overrides), tuple(passthrough), tuple(kept_out), found.notes, of_license
    )


def base_of(file: ManifestFile, columns: ManifestColumns) -> str:
    """The folder that relative URIs of a file start from."""
    if columns.base:
        return Storage.absolute(columns.base)
    return file.base if isinstance(file, TableFile) else Storage.parent(file.uri)


def only_uris(others: Sequence[str], columns: ManifestColumns, parameters: type[Parameters]) -> ColumnRoles:
    """Of a list of URIs, which has no columns beside `others`, of text. Raises ManifestError where one is missing."""
    overrides = tuple(name for name in parameters.varying() if name in others)
    kept = columns.passthrough
    texts = pa.schema([(name, pa.string()) for name in others if name not in overrides])
    of_license = columns.license_column or licences.found_license_column(texts)
    if of_license is not None and of_license not in others:
        raise ManifestError(f"columns.license_column is {of_license}, but a list of images has no such column")
    if columns.passthrough == "all":
        kept = [name for name in others if name not in _only_license(of_license)]
    passthrough = (name for name in others if name not in overrides and name in kept)
    return ColumnRoles(URI_COLUMN, None, None, overrides, tuple(passthrough), license=of_license)


def _stays_out(name: str, file: ManifestFile, look: Look) -> bool:
    """Whether a column with bytes in it holds files, or pictures: megabytes that have no place in the metadata."""
    if (leaf_of(file.schema.field(name).type) or "").casefold() == "bytes":
        return True
    return look.contents(name) == "pictures" or (look.contents(name) == "nothing" and is_bytes_name(name))


def _identity_column(file: ManifestFile, wanted: str) -> str:
    kind = _field(file, wanted, "columns.identity").type
    if not (pa.types.is_string(kind) or pa.types.is_integer(kind)):
        said = f"columns.identity is {wanted}, which must be text or whole numbers"
        raise ManifestError(f"{file.uri}: {said}: it is {kind}")
    return wanted


def _license_column(file: ManifestFile, columns: ManifestColumns, taken: Sequence[str | None]) -> str | None:
    if columns.license_column is not None:
        return licences.license_column(file, columns.license_column)
    return licences.found_license_column(file.schema, taken)


def _only_license(name: str | None) -> set[str]:
    """A licence's column that has the metadata's own name for it: it travels as that alone."""
    return {licences.COLUMN} if name == licences.COLUMN else set()


def _image_columns(file: ManifestFile, columns: ManifestColumns, look: Look) -> ImageColumns:
    image, uri = columns.bytes_column, columns.uri_column
    if image is not None:
        kind = _field(file, image, "columns.bytes_column").type
        if leaf_of(kind) is None:
            raise ManifestError(
                f"{file.uri}: column {short_name(image)} holds no image bytes: it is {kind!s:.100}. "
                "columns.bytes_column takes binary columns and structs with bytes, columns.uri_column takes text"
            )
    if uri is not None:
        kind = _field(file, uri, "columns.uri_column").type
        if not (pa.types.is_string(kind) or uri in look.text_columns()):
            raise ManifestError(
                f"{file.uri}: column {short_name(uri)} holds no URIs: it is {kind!s:.100}. columns.uri_column takes "
                "text, columns.bytes_column takes the images themselves"
            )
    if image is not None or uri is not None:
        return ImageColumns(image, uri or name_beside(look.text_columns()))
    found = found_image_columns(file.schema, look)
    if found.image is None and found.uri is None:
        raise _no_images(file, look)
    return found


def _no_images(file: ManifestFile, look: Look) -> ManifestError:
    """What to say of a file in which no column seems to hold images."""
    near = nearest_names(look.text_columns(), URI_COLUMNS)
    binary = look.bytes_columns()
    lists = [name for name in binary if leaf_of(file.schema.field(name).type) is None]
    pictures = [name for name in lists if look.contents(name) == "pictures"]
    singles = [name for name in binary if name not in lists and not look.is_said_to_be_other(name)]
    said = f"; column {short_name(pictures[0])} holds several pictures a row: write a row for each" if pictures else ""
    return ManifestError(
        f"{file.uri} has no column with the images' URIs, and none with the images themselves{said}: set "
        f"columns.uri_column{_guess(near)} or columns.bytes_column{_guess(singles)}, or name it as one of "
        f"{', '.join(URI_COLUMNS)}. Its columns are {listed(file.schema.names)}"
    )


def _guess(names: list[str]) -> str:
    return f" (perhaps to {short_name(names[0])})" if names else ""


def _field(file: ManifestFile, name: str, setting: str) -> pa.Field:
    if name not in file.schema.names:
        raise ManifestError(f"{file.uri}: {setting} is {name}, {no_such_column(name, file.schema.names)}")
    return file.schema.field(name)


def check_override(name: str, file: ManifestFile, parameters: type[Parameters]) -> None:
    """Raise ManifestError where the column of a parameter is of a type that holds none."""
    kind = file.schema.field(name).type
    if not is_convertible(kind, parameters.arrow_type(name)):
        raise ManifestError(f"{file.uri}: column {name} must be {parameters.arrow_type(name)}, and is {kind}")
