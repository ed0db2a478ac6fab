"""Which column of a manifest holds the images, chosen by what the columns hold.

The images themselves go before URIs. Of columns with bytes those go first of which the file says that they are images
(`Look.features`) or whose first rows hold pictures; of columns with URIs those that may be fetched. Then names decide,
and then the order. Every rival is noted, with the setting that takes it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipelines.manifest.column_names import (
    URI_COLUMNS,
    bytes_rank,
    is_bytes_name,
    is_loose_uri_name,
    is_side_name,
    is_uri_name,
    short_name,
    uri_rank,
)
from pipelines.manifest.looking import IS_PICTURES_NAME, MAY_BE_FETCHED, Look
from pipelines.manifest.pictures import leaf_of

_NOT_FETCHED = "no URIs that may be fetched, as far as its first rows tell"
_LISTS = "several in a row: write a row for each picture to take them"


@dataclass(frozen=True, slots=True)
class ImageColumns:
    """The column with the images themselves, and the one with their URIs; where both are, the URI is their name."""

    image: str | None
    uri: str | None
    notes: tuple[str, ...] = ()


def found_image_columns(schema: pa.Schema, look: Look) -> ImageColumns:
    """Neither, where no column seems to hold images."""
    texts = look.text_columns()
    singles = [name for name in look.bytes_columns() if leaf_of(schema.field(name).type) is not None]
    named = [name for name in texts if is_uri_name(name)]
    # Nothing to choose from: the first rows need not be read, which may be megabytes from far away.
    if not singles and len(named) == len(texts) == 1:
        return ImageColumns(None, named[0])
    if len(singles) == 1 and not named and is_bytes_name(singles[0]):
        return ImageColumns(singles[0], None)
    image = _image_column(schema, singles, look)
    if image is not None:
        return ImageColumns(image, name_beside(texts), tuple(_rivals_of_image(image, singles, look)))
    uri = _uri_column(texts, look)
    return ImageColumns(None, uri, () if uri is None else tuple(_rivals_of_uri(uri, singles, look)))


def name_beside(texts: Sequence[str]) -> str | None:
    """The column of text that names images which the manifest itself holds."""
    return next((name for name in URI_COLUMNS if name in texts), None)


def _image_column(schema: pa.Schema, singles: Sequence[str], look: Look) -> str | None:
    """The column with the images, of those with an image a row; None where a column of URIs goes before."""
    ranked = sorted(singles, key=lambda name: (not look.is_said_to_be_image(name), bytes_rank(name)))
    pictures = [name for name in ranked if look.contents(name) == "pictures"]
    empty = [name for name in ranked if look.contents(name) == "nothing" and not is_side_name(name)]
    likely = [name for name in pictures if not is_side_name(name)] + [name for name in empty if is_bytes_name(name)]
    if likely:
        return likely[0]
    if _usable_uris(look.text_columns(), look):
        return None
    files = [name for name in empty if pa.types.is_struct(schema.field(name).type)]
    unreadable = [name for name in ranked if is_bytes_name(name)]
    return next(iter([*pictures, *files, *unreadable]), None)


def _usable_uris(texts: Sequence[str], look: Look) -> list[str]:
    """Columns whose URIs may be fetched, the best first."""
    named = [name for name in texts if is_uri_name(name) or look.is_said_to_be_image(name)]
    usable = [name for name in named if look.grade(name) > 0]
    if not usable:
        others = [name for name in texts if name not in named and not is_side_name(name)]
        least = {name: MAY_BE_FETCHED if is_loose_uri_name(name) else IS_PICTURES_NAME for name in others}
        usable = [name for name in others if look.grade(name) >= least[name]]

    def order(name: str) -> tuple[bool, bool, tuple[int, bool]]:
        return not look.is_said_to_be_image(name), look.grade(name) < MAY_BE_FETCHED, uri_rank(name)

    return sorted(usable, key=order)


def _uri_column(texts: Sequence[str], look: Look) -> str | None:
    usable = _usable_uris(texts, look)
    return next(iter([*usable, *sorted(filter(is_uri_name, texts), key=uri_rank)]), None)


def _rivals_of_image(image: str, singles: Sequence[str], look: Look) -> Iterator[str]:
    said = f"the images are those of column {short_name(image)}"
    yield from _other_pictures(said, image, singles, look)
    for name in filter(is_uri_name, look.text_columns()):
        holds = "URIs, too" if look.grade(name) else _NOT_FETCHED
        yield f"{said}; column {short_name(name)} holds {holds} (columns.uri_column={short_name(name)} takes it)"


def _rivals_of_uri(uri: str, singles: Sequence[str], look: Look) -> Iterator[str]:
    said = f"the images' URIs are those of column {short_name(uri)}"
    if not is_uri_name(uri):
        yield f"{said}, by what it holds (columns.uri_column can name another)"
    for name in filter(is_uri_name, look.text_columns()):
        if name != uri:
            holds = "URIs, too" if look.grade(name) else _NOT_FETCHED
            yield f"{said}; column {short_name(name)} holds {holds} (columns.uri_column={short_name(name)} takes it)"
    yield from _other_pictures(said, uri, singles, look)
    for name in filter(is_bytes_name, singles):
        if look.contents(name) != "pictures":
            holds = "no pictures, as far as its first rows tell"
            yield f"{said}; column {short_name(name)} holds {holds} (columns.bytes_column={short_name(name)} takes it)"


def _other_pictures(said: str, taken: str, singles: Sequence[str], look: Look) -> Iterator[str]:
    for name in look.bytes_columns():
        if name != taken and look.contents(name) == "pictures":
            how = f"columns.bytes_column={short_name(name)} takes them" if name in singles else _LISTS
            yield f"{said}; column {short_name(name)} holds pictures, too ({how})"
