"""What columns are called that hold images, or their URIs; and how a message names a column."""

import difflib
import re
from collections.abc import Collection, Iterable
from itertools import islice

# Where `columns.uri_column` is not set, the first of these that the manifest has.
URI_COLUMNS = ("image_uri", "uri", "url", "image_url", "image_path", "path", "file_name", "image")
# The same for `columns.bytes_column`; a struct of `bytes` and `path` (Hugging Face) may have any name.
BYTES_COLUMNS = ("image", "image_bytes", "bytes")

# Less common names. Case and what is no letter make no difference: `imageUrl`, `Image-URL`, `IMAGE_URL`.
_MORE_URI_COLUMNS = (
    *("img_url", "img_uri", "img_path", "image_file", "image_file_name", "image_link", "img_file", "img_link"),
    *("photo_url", "photo_uri", "photo_path", "picture_url", "picture_uri", "picture_path", "file_path"),
    *("img", "picture", "photo", "jpg", "jpeg", "png", "webp", "s3_uri", "gcs_uri", "source_url", "file_uri"),
)
_MORE_BYTES_COLUMNS = (
    *("jpg", "jpeg", "png", "webp", "img", "picture", "photo", "img_bytes", "image_data", "img_data", "jpg_bytes"),
    *("jpeg_bytes", "png_bytes", "picture_bytes", "photo_bytes", "image_binary", "image_content", "image_raw"),
)
# These may be anything, so the values have to show that they are URIs.
_LOOSE_URI_COLUMNS = ("link", "href", "src", "location", "file", "content", "source", "key", "name")
_PICTURE_WORDS = {"image", "images", "img", "picture", "photo", "photos", "pic", "jpg", "jpeg", "png", "webp", "frame"}
# What goes with a picture and is mostly none that anybody would animate.
_SIDE_WORDS = (
    *("mask", "masks", "depth", "seg", "segmentation", "thumb", "thumbnail", "preview", "annotation", "annotations"),
    *("label", "labels", "control", "condition", "conditioning", "pose", "canny", "edge", "edges", "normal", "normals"),
    *("alpha", "matte", "heatmap", "overlay", "icon", "logo", "avatar", "edited", "target", "embedding", "feature"),
    *("audio", "sound", "speech", "video", "page", "html", "blur", "blurred", "lowres", "small"),
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

# Of a long path the end, because that is where files differ.
_SHOWN_CHARACTERS = 50
_SHOWN_COLUMNS = 30


def _squeezed(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()


def _places(names: Iterable[str]) -> dict[str, int]:
    return {_squeezed(name): place for place, name in reversed(list(enumerate(names)))}


_URI_PLACES = _places([*URI_COLUMNS, *_MORE_URI_COLUMNS])
_BYTES_PLACES = _places([*BYTES_COLUMNS, *_MORE_BYTES_COLUMNS])
_LOOSE = _places(_LOOSE_URI_COLUMNS)


def is_uri_name(name: str) -> bool:
    """Whether a column of this name holds the images' URIs, if it holds text."""
    return _squeezed(name) in _URI_PLACES


def is_loose_uri_name(name: str) -> bool:
    """Whether it may, if its values look like URIs."""
    return _squeezed(name) in _LOOSE


def is_bytes_name(name: str) -> bool:
    """Whether a column of this name holds the images themselves, if it holds bytes."""
    return _squeezed(name) in _BYTES_PLACES


def is_side_name(name: str) -> bool:
    """Whether it is named as what goes with a picture: a mask, a thumbnail."""
    return not {word.lower() for word in _WORD.findall(name)}.isdisjoint(_SIDE_WORDS)


def uri_rank(name: str) -> tuple[int, bool]:
    """The lower the more likely is a column of text the one with the images' URIs."""
    return _rank(name, _URI_PLACES, URI_COLUMNS)


def bytes_rank(name: str) -> tuple[int, bool]:
    """The lower the more likely is a column of bytes the one with the images."""
    return _rank(name, _BYTES_PLACES, BYTES_COLUMNS)


def _rank(name: str, places: dict[str, int], exact: Collection[str]) -> tuple[int, bool]:
    squeezed = _squeezed(name)
    words = {word.lower() for word in _WORD.findall(name)}
    rank = places.get(squeezed, len(places) + words.isdisjoint(_PICTURE_WORDS))
    return rank + 1000 * is_side_name(name) * (squeezed not in places), name not in exact


def nearest_names(names: Iterable[str], known: Collection[str]) -> list[str]:
    """Those that are like a known name."""
    return [name for name in names if difflib.get_close_matches(name.casefold(), known, 1)]


def no_such_column(name: str, names: Collection[str]) -> str:
    """A clause about a column that is named and not there."""
    near = difflib.get_close_matches(name, names, 1)
    guess = f" (perhaps {near[0]})" if near else ""
    return f"but there is no such column{guess}. The columns are {listed(names)}"


def listed(names: Collection[str]) -> str:
    """The first names, each on one line and not too long."""
    some = [short_name(name) for name in islice(names, _SHOWN_COLUMNS)]
    return ", ".join(some) + (f" and {len(names) - len(some)} more" if len(names) > len(some) else "")


def short_name(name: str) -> str:
    """A name on one line and not too long."""
    return " ".join(name.split())[:_SHOWN_CHARACTERS]
