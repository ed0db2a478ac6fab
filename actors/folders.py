"""What is in folders: of this machine, of S3 page by page, of any other store at once.

Each function takes `call(done, uri, operation)`, which is `Storage._call`: it tries an operation again.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from actors.listings import (
    Doors,
    Kind,
    LocalWalk,
    Looks,
    entries,
    list_below,
    list_details,
    list_files_of,
    list_folders_of,
    list_s3_page,
    scan_folder,
    uris_of,
)
from actors.storage_errors import NotFound
from actors.store_options import STORES
from actors.uris import S3, absolute, is_local, root_of, s3_bucket, scheme_in
from actors.versions import version_in

Call = Callable[[str, str, Callable[[Any, str], Any]], Any]


@dataclass(frozen=True, slots=True)
class Listed:
    """A file as a listing tells of it.

    Attributes:
        size: bytes.
        version: as `Storage.version` gives it; None where the store's listing tells none.
    """

    uri: str
    size: int
    version: str | None


def walk(call: Call, folder: str, looks: Looks) -> Iterator[str]:
    """As `Storage.walk`."""
    if is_local(folder):
        return _walk_local(call, folder, looks)
    doors = Doors(folder, looks.into)
    if scheme_in(folder) in S3:
        return _walk_s3(call, folder, doors)
    found = _found_in(call, folder, list_below)
    return (uri for uri in found if doors.closed(uri) is None)


def list_sized(call: Call, folder: str) -> Iterator[Listed]:
    """As `Storage.list_sized`."""
    if is_local(folder):
        for uri in _walk_local(call, folder, Looks()):
            with suppress(FileNotFoundError):  # removed since, or a link that leads nowhere
                found = os.stat(uri)  # noqa: PTH116 - a string, as all paths here
                yield Listed(uri, found.st_size, version_in("local", found))
    elif scheme_in(folder) in S3:
        for page in _s3_pages(call, folder):
            for entry in page.get("Contents", ()):
                if not entry["Key"].endswith("/"):
                    uri = f"{s3_bucket(folder)}/{entry['Key']}"
                    yield Listed(uri, entry["Size"], version_in("s3", entry))
    else:
        store = STORES.get(scheme_in(folder), "")
        found = call("listed", folder, partial(_details, folder))
        for uri, details in found.items():
            yield Listed(uri, int(details["size"]), version_in(store, details))


def list_folders(call: Call, folder: str) -> list[str]:
    """As `Storage.list_folders`."""
    if scheme_in(folder) in S3:
        pages = _s3_pages(call, folder, Delimiter="/")
        prefixes = (entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ()))
        return sorted(f"{s3_bucket(folder)}/{prefix.removesuffix('/')}" for prefix in prefixes)
    with suppress(NotFound):
        if is_local(folder):
            path = absolute(folder)
            return sorted(f"{path.rstrip('/')}/{name}" for name in call("listed", path, scan_folder)[1])
        return _found_in(call, folder, list_folders_of)
    return []


def list_names(call: Call, folder: str) -> set[str]:
    """As `Storage.list_names`."""
    if scheme_in(folder) in S3:
        pages = _s3_pages(call, folder, Delimiter="/")
        return {entry["Key"].rpartition("/")[2] for page in pages for entry in page.get("Contents", ())} - {""}
    with suppress(NotFound):
        if is_local(folder):
            return set(call("listed", absolute(folder), scan_folder)[0])
        return set(call("listed", folder, list_files_of))
    return set()


def _details(folder: str, filesystem: Any, path: str) -> dict[str, dict[str, Any]]:
    """What a store knows of each file, by URI, in their order."""
    found = list_details(filesystem, path)
    return dict(zip(uris_of(found, folder, filesystem, path), found.values(), strict=True))


def _found_in(call: Call, folder: str, find: Callable[[Any, str], list[str]]) -> list[str]:
    found: list[str] = call("listed", folder, lambda fs, path: uris_of(find(fs, path), folder, fs, path))
    return found


def _walk_local(call: Call, folder: str, looks: Looks) -> Iterator[str]:
    def list_entries(path: str) -> list[tuple[str, Kind]]:
        try:
            found: list[tuple[str, Kind]] = call("listed", path, entries)
        except NotFound:
            return []
        return found

    return iter(LocalWalk(absolute(folder), list_entries, looks))


def _walk_s3(call: Call, folder: str, doors: Doors) -> Iterator[str]:
    after: dict[str, str] | None = {}
    while after is not None:
        pages, after = _s3_pages(call, folder, **after), None
        for page in pages:
            closed = None
            for entry in page.get("Contents", ()):
                uri = f"{s3_bucket(folder)}/{entry['Key']}"
                closed = doors.closed(uri)
                if closed is None and not uri.endswith("/"):  # "x/" marks a folder
                    yield uri
            if closed is not None and page["IsTruncated"]:  # go on behind it: it may hold millions
                after = {"StartAfter": closed[len(s3_bucket(folder)) + 1 :] + "/\U0010ffff"}
                break


def _s3_pages(call: Call, folder: str, **limits: str) -> Iterator[dict[str, Any]]:
    """The listing page by page: s3fs's own `find` holds about 1 kB for each object of it."""
    bucket, _, key = folder[len(root_of(folder)) :].partition("/")
    request = {"Bucket": bucket, "Prefix": key.rstrip("/") + "/" if key else "", **limits}
    while True:
        page: dict[str, Any] = call("listed", folder, partial(list_s3_page, request))
        yield page
        if not page["IsTruncated"]:
            return
        request["ContinuationToken"] = page["NextContinuationToken"]
