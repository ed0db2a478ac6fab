"""Which files a source of the manifest stands for."""

from collections.abc import Collection, Iterator
from functools import partial
from itertools import chain
from typing import Literal

from actors.errors import ManifestError
from actors.storage import Storage
from pipelines.manifest.files import EXTENSIONS, Format, format_of

Wanted = Literal["auto"] | Format


def find_files(given: str, wanted: Wanted, storage: Storage) -> tuple[Format, Iterator[str]]:
    """The format of a source, and the URIs of its files in a fixed order.

    Args:
        given: a file, folder or glob, local or not.
        wanted: `auto` goes by extensions; in a folder or a glob all must then be of one format.

    Raises:
        ManifestError: there is nothing there, or nothing of a known format; while iterating: a file of another format.
    """
    uri = storage.absolute(given)
    kind = format_of(uri) if wanted == "auto" else wanted
    if _stands_alone(uri, kind, storage):
        return _known(uri, kind), iter([uri])
    # Text beside other files is captions, or a README, unless it is what the pattern asks for.
    kinds = frozenset(EXTENSIONS.values()) - (frozenset() if format_of(uri) == "text" else {"text"})
    if storage.has_magic(uri) and not storage.exists(uri):
        files = filter(partial(_is_visible, storage.glob_root(uri)), storage.glob(uri))
        return _one_kind(f"{given} matches", files, wanted, kinds)
    if storage.is_folder(uri):
        files = filter(partial(_is_visible, uri), storage.walk(uri))
        return _one_kind(f"the folder {given} holds", files, wanted, kinds)
    if not storage.exists(uri):
        raise ManifestError(f"{given} does not exist")
    return _known(uri, kind), iter([uri])


def _stands_alone(uri: str, kind: Format | None, storage: Storage) -> bool:
    """Whether to take `uri` without asking the store: http has no folders, and a missing image fails as a row."""
    if storage.scheme(uri) in ("http", "https"):
        return True
    return kind == format_of(uri) == "images" and not storage.is_local(uri) and not storage.has_magic(uri)


def _known(uri: str, kind: Format | None) -> Format:
    if kind is None:
        raise ManifestError(
            f"{uri}: the extension does not say what this is; known are {', '.join(EXTENSIONS)}, or set columns.format"
        )
    return kind


def _one_kind(
    found: str, files: Iterator[str], wanted: Wanted, kinds: Collection[Format]
) -> tuple[Format, Iterator[str]]:
    """The files of one format: the one wanted, or else that of the first file, and then no other may come."""
    if wanted != "auto":
        files = (uri for uri in files if format_of(uri) == wanted)
        first = next(files, None)
        if first is None:
            raise ManifestError(f"{found} no {wanted} file")
        return wanted, chain([first], files)
    files = (uri for uri in files if format_of(uri) in kinds)
    first = next(files, None)
    if first is None:
        raise ManifestError(f"{found} neither images nor manifests (known are {', '.join(EXTENSIONS)})")
    kind = _known(first, format_of(first))
    return kind, chain([first], (_same_kind(found, kind, uri) for uri in files))


def _same_kind(found: str, kind: Format, uri: str) -> str:
    if format_of(uri) != kind:
        raise ManifestError(
            f"{found} {kind} and also {uri}: set columns.format={kind} to leave the others out, or name that file"
        )
    return uri


def _is_visible(folder: str, uri: str) -> bool:
    """Whether no part of the path below `folder` is hidden, or a writer's own (`_SUCCESS`, `_temporary`).

    Among images the underscore means nothing: cameras write `_MG_0001.JPG`.
    """
    hidden = (".",) if format_of(uri) == "images" else (".", "_")
    return not any(part.startswith(hidden) for part in uri.removeprefix(folder).split("/"))
