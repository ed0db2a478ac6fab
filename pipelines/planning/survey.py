"""What lies among the parts, as listings tell it: which parts, which videos, and whether a part is what it was.

This machine is asked for two facts a part, S3 for one listing of all files, in pieces that 16 threads take, and any
other store for a listing of each part; so is this machine where a folder does not tell of changes (`actors.mounts`).
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain

from actors.mounts import Mounts
from actors.stamps import stamp
from actors.storage import Listed, Storage
from actors.uris import S3
from pipelines.dataset.layout import Layout, metadata_in, part_of
from pipelines.planning.facts import Names, named

# Listings under way at once: they are latency, not work.
LISTERS = 16
# Parts that one thread looks at: on S3 some 33 requests, the last of which may be in vain.
_PARTS_TOGETHER = 64
_Piece = Sequence[tuple[int, str]]
_LINKS = ("linked file", "broken link")
_NO_VIDEOS = ("folder", "linked folder", "broken link")


@dataclass(frozen=True, slots=True)
class FoundPart:
    """A part's folder.

    Attributes:
        stamp: another one where its records or the names of its files are others; None: not known.
        names: of the files in it, and whether `stamp` knows when they change.
        has_records: False where a listing has shown that there are none.
        record_bytes: the size of its file of records, where a listing has told.
        is_listed: whether `names` are those of a listing, which came before the records are read.
    """

    number: int
    uri: str
    stamp: str | None
    names: Callable[[], tuple[Names, bool]]
    has_records: bool = True
    record_bytes: int | None = None
    is_listed: bool = True


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A part's file of failures."""

    number: int
    uri: str
    stamp: str | None
    record_bytes: int | None = None


def find_parts(layout: Layout, storage: Storage) -> tuple[Iterator[FoundPart], list[str], list[str]]:
    """The parts in order of their URIs; these URIs; and of all else that lies among them, the URIs."""
    numbered, foreign = _ours(storage.list_folders(layout.data))
    is_local, is_s3 = storage.is_local(layout.data), storage.scheme(layout.data) in S3
    together = _PARTS_TOGETHER if is_local or is_s3 else 1
    mounts = Mounts()

    def look(piece: _Piece) -> list[FoundPart]:
        if is_local:
            return [_local_part(number, uri, storage, mounts) for number, uri in piece]
        return _listed_parts(piece, layout.data if is_s3 else piece[0][1], storage)

    pieces = [numbered[start : start + together] for start in range(0, len(numbered), together)]
    return _in_order(pieces, look), [uri for _, uri in numbered], foreign


def find_failures(layout: Layout, storage: Storage) -> tuple[list[FoundFile], list[str]]:
    """The files of failures in order of their URIs; and of all Parquet files that lie among them, the URIs."""
    folder = layout.failures
    if storage.is_local(folder):
        names = sorted(name for name in storage.list_names(folder) if name.endswith(".parquet"))
        uris = [Storage.join(folder, name) for name in names]
        uris += filter(storage.leads_nowhere, storage.list_folders(folder))  # as whose reading says
        numbered, foreign = _ours(uris)
        return [FoundFile(number, uri, _stamp_here(uri)) for number, uri in numbered], foreign
    listed = {
        one.uri: one
        for one in storage.list_sized(folder)
        if one.uri.endswith(".parquet") and Storage.parent(one.uri) == folder
    }
    numbered, foreign = _ours(sorted(listed))
    return [FoundFile(number, uri, listed[uri].version, listed[uri].size) for number, uri in numbered], foreign


def _ours(found: Sequence[str]) -> tuple[list[tuple[int, str]], list[str]]:
    """The parts among `found`, with their numbers; and all others but hidden ones, which are of other programs."""
    numbered = [(part_of(uri), uri) for uri in found]
    foreign = [uri for number, uri in numbered if number is None and not uri.rpartition("/")[2].startswith((".", "_"))]
    return [(number, uri) for number, uri in numbered if number is not None], foreign


def _in_order(pieces: Sequence[_Piece], look: Callable[[_Piece], list[FoundPart]]) -> Iterator[FoundPart]:
    with ThreadPoolExecutor(LISTERS) as listers:
        yield from chain.from_iterable(listers.map(look, pieces))


def _local_part(number: int, uri: str, storage: Storage, mounts: Mounts) -> FoundPart:
    records = _stamp_here(metadata_in(uri))
    if mounts.believed(Storage.absolute(uri)):
        folder = _stamp_here(uri)
        known = None if folder is None or records is None else f"{folder} {records}"
        return FoundPart(number, uri, known, partial(_local_names, uri, storage), is_listed=False)
    names, is_told = _names_here(uri, storage)
    known = None if records is None else f"{_digest(names)} {records}"
    hashed = named(names)
    return FoundPart(number, uri, known, lambda: (hashed, is_told))


def _stamp_here(uri: str) -> str | None:
    return stamp(Storage.absolute(uri), of_place=True)


def _local_names(folder: str, storage: Storage) -> tuple[Names, bool]:
    names, is_told = _names_here(folder, storage)
    return named(names), is_told


def _names_here(folder: str, storage: Storage) -> tuple[list[str], bool]:
    """A folder does not change where a link in it comes to lead nowhere: such a one is looked into each time."""
    kinds = storage.list_kinds(folder)
    names = [name for name, kind in kinds.items() if kind not in _NO_VIDEOS]
    return names, not any(kind in _LINKS for kind in kinds.values())


def _listed_parts(piece: _Piece, folder: str, storage: Storage) -> list[FoundPart]:
    """Some parts that follow each other in `folder`, by what lies in it."""
    files: dict[str, list[Listed]] = {uri: [] for _, uri in piece}
    for one in storage.list_sized(folder, piece[0][1], piece[-1][1]):
        files.get(one.uri.rpartition("/")[0], []).append(one)
    return [_listed_part(number, uri, files[uri]) for number, uri in piece]


def _listed_part(number: int, uri: str, files: Sequence[Listed]) -> FoundPart:
    records = next((one for one in files if one.uri == metadata_in(uri)), None)
    names = [one.uri.rpartition("/")[2] for one in files]
    hashed = named(names)
    if records is None:
        return FoundPart(number, uri, None, lambda: (hashed, True), has_records=False)
    told = None
    if records.version is not None:
        told = f"{_digest(names)} {records.version}"
    return FoundPart(number, uri, told, lambda: (hashed, True), record_bytes=records.size)


def _digest(names: Sequence[str]) -> str:
    return hashlib.blake2b("\0".join(sorted(names)).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
