"""The licence of each image, where the manifest has a column of it: `image_license` in the metadata."""

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from actors.errors import ManifestError
from actors.licences.licence import one_line
from pipelines.manifest.column_names import no_such_column, short_name
from pipelines.manifest.files import ManifestFile

# What the metadata calls it. A column of the manifest that has this very name is that column, and no other beside it.
COLUMN = "image_license"
# Where `columns.license_column` is not set, the first of these that the manifest has; of case and of what is no letter
# nothing depends: `License`, `image-license`. Licences have names and addresses, and names are easier to compare.
NAMES = ("image_license", "license", "license_name", "license_type", "license_url")
_NAMES = tuple(name.replace("_", "") for name in NAMES)


def found_license_column(schema: pa.Schema, taken: Sequence[str | None] = ()) -> str | None:
    """The column that holds the images' licences, by its name; None where there is none of text or whole numbers."""
    places: dict[str, int] = {}
    for field in schema:
        squeezed = re.sub(r"[\W_]", "", field.name).casefold().replace("licence", "license")
        if squeezed in _NAMES and field.name not in taken and _is_told(field.type):
            places[field.name] = _NAMES.index(squeezed)
    return min(places, key=lambda name: (places[name], name != COLUMN), default=None)


def license_column(file: ManifestFile, wanted: str) -> str:
    """The column that `columns.license_column` names. Raises ManifestError where it is not there, or no text."""
    if wanted not in file.schema.names:
        said = no_such_column(wanted, file.schema.names)
        raise ManifestError(f"{file.uri}: columns.license_column is {wanted}, {said}")
    kind = file.schema.field(wanted).type
    if not _is_told(kind):
        said = f"columns.license_column is {short_name(wanted)}, which must be text or whole numbers"
        raise ManifestError(f"{file.uri}: {said}: it is {kind!s:.100}")
    return wanted


def licences(values: pa.Array) -> pa.Array:
    """The values of such a column as text on one line, without secrets and not too long; null where there is none."""
    if not _is_told(values.type):  # of a later file, whose column is another one
        return pa.nulls(len(values), pa.string())
    # Of a million images few have a licence of their own. As bytes, because not all that is called text is UTF-8.
    codes = pc.cast(pc.cast(values, pa.string()), pa.binary()).dictionary_encode()
    texts = [one_line(one.decode("utf-8", "replace")) or None for one in codes.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(codes.indices)


def _is_told(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    checks = (types.is_string, types.is_large_string, types.is_string_view, types.is_integer, types.is_null)
    return any(check(kind) for check in checks)
