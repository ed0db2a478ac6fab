"""Which files a source of the manifest stands for."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from actors.errors import ManifestError
from actors.storage import Storage
from pipelines.manifest.files import EXTENSIONS, Format, format_of
from pipelines.manifest.own_datasets import OwnDatasets
from pipelines.manifest.passed_over import BESIDE, PassedOver, ending_of
from pipelines.manifest.searches import Search
from pipelines.manifest.tables import is_table, table_at

Wanted = Literal["auto"] | Format

# Of what packs many files at once, with or without names of their own.
_ARCHIVES = frozenset({".zip", ".7z", ".rar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst"})


@dataclass(frozen=True, slots=True)
class Found:
    """The files of one source.

    Attributes:
        given: the source as it was named.
        kind: their format.
        files: their URIs in a fixed order, found while they are asked for.
        root: the folder that was looked through; None of a single file.
        passed: what was there besides; whole when `files` has come to its end.
        versions: of files that have just come, where a listing told them.
    """

    given: str
    kind: Format
    files: Iterator[str]
    root: str | None = None
    passed: PassedOver = field(default_factory=PassedOver)
    versions: dict[str, str] = field(default_factory=dict)


def find_files(given: str, wanted: Wanted, storage: Storage, datasets: OwnDatasets) -> Found:
    """What a source stands for.

    Args:
        given: a file, folder, table or glob, local or not.
        wanted: `auto` goes by extensions, and by what lies in a folder that is a table; in any other folder and in a
            glob all must then be of one format.
        datasets: what is left out of every folder.

    Raises:
        ManifestError: there is nothing there, nothing of a known format, or a dataset of ours; while iterating: a file
            of another format.
    """
    uri = storage.absolute(given)
    kind = format_of(uri) if wanted == "auto" else wanted
    if _stands_alone(uri, kind, storage):
        return Found(given, _known(uri, kind), iter([uri]))
    if storage.has_magic(uri) and not storage.exists(uri):
        if wanted != "auto" and is_table(wanted):
            raise ManifestError(f"{given} is a pattern of files, and a table is a folder: name each, manifest=[A, B]")
        root = storage.glob_root(uri)
        datasets.refuse(given, root, is_folder=False)
        return _searched(f"{given} matches", Search(uri, root, wanted, storage, datasets, is_glob=True), given)
    is_folder = storage.is_folder(uri)
    datasets.refuse(given, uri, is_folder=is_folder)
    table = table_at(uri.rstrip("/"), storage, is_folder=is_folder) if wanted == "auto" else kind
    if table is not None and is_table(table) and (is_folder or storage.exists(uri)):
        return Found(given, table, iter([uri.rstrip("/")]))
    if is_folder:
        return _searched(f"the folder {given} holds", Search(uri, uri, wanted, storage, datasets), given)
    if not storage.exists(uri):
        raise ManifestError(f"{given} does not exist")
    return Found(given, _known(uri, kind), iter([uri]))


def _stands_alone(uri: str, kind: Format | None, storage: Storage) -> bool:
    """Whether to take `uri` without asking the store: http has no folders, and a missing image fails as a row."""
    if storage.scheme(uri) in ("http", "https"):
        return True
    return kind == format_of(uri) == "images" and not storage.is_local(uri) and not storage.has_magic(uri)


def _known(uri: str, kind: Format | None) -> Format:
    if kind is not None:
        return kind
    if ending_of(uri) in _ARCHIVES:
        raise ManifestError(
            f"{uri} is a packed archive, in which no image can be read alone: unpack it into a folder, or into a .tar"
        )
    raise ManifestError(
        f"{uri}: the extension does not say what this is; known are {', '.join(EXTENSIONS)}, or set columns.format"
    )


def _searched(found: str, search: Search, given: str) -> Found:
    """The files of one format: the one wanted, or else that of the first file, and then no other may come."""
    files = search.files()
    first = next(files, None)
    if first is None:
        what = "neither images nor manifests" if search.wanted == "auto" else f"no {search.wanted} file"
        known = f" (known are {', '.join(EXTENSIONS)})" if search.wanted == "auto" else ""
        advice = ["set columns.format=json, or text, to read such files"] if BESIDE in search.passed.counts else []
        raise ManifestError("; ".join([f"{found} {what}{known}", *search.passed.reasons(), *advice]))
    uri, kind = first
    rest = (_same_kind(found, search, uri, kind, *other) for other in files)
    return Found(given, kind, chain([uri], rest), search.root, search.passed, search.versions)


def _same_kind(found: str, search: Search, first: str, kind: Format, uri: str, other: Format) -> str:
    if other != kind:
        search.refuse_table_around(first)
        search.refuse_table_around(uri)
        raise ManifestError(
            f"{found} {kind} and also {uri}: set columns.format={kind} to leave the others out, or name that file"
        )
    return uri
