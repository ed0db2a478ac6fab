"""What is in a folder, and below it: of this machine, of S3 page by page, or of any other store."""

import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

from fsspec.utils import glob_translate

from actors.uris import root_of

Kind = Literal["file", "folder", "linked file", "linked folder", "broken link", "device"]
# Why a walk gives nothing of what it has met.
MET_BEFORE = "met once more by a link"
NOWHERE = "that are links to nothing"
NOT_FILES = "being devices, pipes or sockets"

# Files outside a folder that links in it lead to, and that are known again; of more, some may come twice.
_TARGETS = 1_000_000


@dataclass(frozen=True, slots=True)
class Looks:
    """What a walk looks at.

    Attributes:
        into: whether to look into a folder.
        through: the same of where a link leads, by its real path.
        gives: whether a file is wanted. A link to one that is wanted, and that the walk meets anyway, stays away.
        passes: told what the walk does not give, and why (one of the constants above).
        sees: told the version of a file that is given next, where the listing tells it.
    """

    into: Callable[[str], bool] = lambda _folder: True
    through: Callable[[str], bool] = lambda _target: True
    gives: Callable[[str], bool] = lambda _file: True
    passes: Callable[[str, str], None] = lambda _uri, _reason: None
    sees: Callable[[str, str], None] = lambda _uri, _version: None


class Doors:
    """Which files below `root` lie in folders that are looked into."""

    def __init__(self, root: str, into: Callable[[str], bool]) -> None:
        self._root = root.rstrip("/")
        self._into = lru_cache(maxsize=1000)(into)

    def closed(self, uri: str) -> str | None:
        """The outermost folder of a file that is not looked into, or None."""
        at = uri.find("/", len(self._root) + 1)
        while at >= 0:
            if not self._into(uri[:at]):
                return uri[:at]
            at = uri.find("/", at + 1)
        return None


class Pattern:
    """A glob: `*`, `?` and `[...]` stay within a folder's or file's name, `**` alone stands for any folders."""

    def __init__(self, pattern: str, root: str) -> None:
        """`root`: what stands before the first name with a glob character."""
        self._root = root
        below = [part if part == "**" else re.sub(r"\*+", "*", part) for part in pattern[len(root) + 1 :].split("/")]
        self._folders = [None if part == "**" else re.compile(glob_translate(part)).match for part in below[:-1]]
        self._is_deep = below[-1] == "**"
        self._names = re.compile(glob_translate("/".join(below))).match

    def matches(self, uri: str) -> bool:
        """Whether a file is meant."""
        return self._names(uri[len(self._root) + 1 :]) is not None

    def into(self, folder: str) -> bool:
        """Whether a file in this folder, or below it, may be meant."""
        names = folder[len(self._root) + 1 :].split("/")
        for name, matches in zip(names, self._folders, strict=False):
            if matches is None:
                return True
            if not matches(name):
                return False
        return self._is_deep or len(names) <= len(self._folders)


class LocalWalk:
    """The files below a local folder, each once: first those below its real folders, then those that links lead to."""

    def __init__(self, root: str, list_entries: Callable[[str], list[tuple[str, Kind]]], looks: Looks) -> None:
        """`list_entries(folder)` gives its entries (see `entries`)."""
        self._root, self._list, self._looks = root, list_entries, looks
        self._real_root = os.path.realpath(root)
        self._folders: set[tuple[int, int]] = set()  # by device and inode
        self._targets: set[tuple[int, int]] = set()
        self._links: deque[str] = deque()
        self._doors = Doors(root, looks.into)

    def __iter__(self) -> Iterator[str]:
        yield from self._below(self._root)
        while self._links:
            folder = self._links.popleft()
            target = os.path.realpath(folder)
            if f"{self._real_root}/".startswith(f"{target.rstrip('/')}/"):  # a loop, as `find -L` would say
                self._looks.passes(folder, MET_BEFORE)
            elif self._looks.through(target):
                yield from self._below(folder)

    def _below(self, folder: str) -> Iterator[str]:
        found = sorted(self._list(folder))
        if not found:  # or there is no such folder
            return
        facts = os.stat(folder)  # noqa: PTH116 - plain strings, here and below: there are millions
        if (facts.st_dev, facts.st_ino) in self._folders:
            self._looks.passes(folder, MET_BEFORE)
            return
        self._folders.add((facts.st_dev, facts.st_ino))
        yield from (path for path, kind in found if self._is_given(path, kind))
        for path, kind in found:
            if kind == "folder" and self._looks.into(path):
                yield from self._below(path)
        self._links.extend(path for path, kind in found if kind == "linked folder" and self._looks.into(path))

    def _is_given(self, path: str, kind: Kind) -> bool:
        if kind == "device":
            self._looks.passes(path, NOT_FILES)
        if kind == "linked file":
            return self._is_new_target(path)
        if kind == "broken link":
            if not (is_wanted := self._looks.gives(path)):
                self._looks.passes(path, NOWHERE)
            return is_wanted  # to fail as a file that is not there
        return kind == "file" and not self._is_known(path)

    def _is_known(self, path: str) -> bool:
        """Whether a link has led to this file already, which only those outside the root can have."""
        if not self._targets:
            return False
        facts = os.stat(path)  # noqa: PTH116
        known = (facts.st_dev, facts.st_ino) in self._targets
        if known:
            self._looks.passes(path, MET_BEFORE)
        return known

    def _is_new_target(self, link: str) -> bool:
        """Whether a link leads to a file that the walk does not give under another name."""
        target = os.path.realpath(link)
        if not self._looks.through(target):
            return False
        if not self._looks.gives(link):
            return True
        if target.startswith(f"{self._real_root.rstrip('/')}/"):
            path = self._root.rstrip("/") + target[len(self._real_root.rstrip("/")) :]
            is_new = not (self._looks.gives(path) and self._doors.closed(path) is None)
        else:
            facts = os.stat(target)  # noqa: PTH116
            key = (facts.st_dev, facts.st_ino)
            is_new = key not in self._targets
            if len(self._targets) < _TARGETS:
                self._targets.add(key)
        if not is_new:
            self._looks.passes(link, MET_BEFORE)
        return is_new


def entries(_filesystem: object, path: str) -> list[tuple[str, Kind]]:
    """What is in a local folder, and what each is."""
    with os.scandir(path) as found:
        return [(f"{path.rstrip('/')}/{entry.name}", _kind(entry)) for entry in found]


def _kind(entry: "os.DirEntry[str]") -> Kind:
    if not entry.is_symlink():
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "device"
    try:
        mode = entry.stat().st_mode
    except OSError:  # it leads nowhere, or to itself
        return "broken link"
    return "linked folder" if stat.S_ISDIR(mode) else "linked file" if stat.S_ISREG(mode) else "device"


def list_s3_page(request: dict[str, str], filesystem: Any, _path: str) -> dict[str, Any]:
    """One page of a listing."""
    return cast("dict[str, Any]", filesystem.call_s3("list_objects_v2", **request))


def scan_folder(filesystem: object, path: str) -> tuple[list[str], list[str]]:
    """The names of the files and of the folders in a local folder, links followed.

    A link that leads nowhere is no file, and counts as a folder: it is where one was meant to be.
    """
    found = entries(filesystem, path)
    folders = [name for name, kind in found if kind in ("folder", "linked folder", "broken link")]
    files = [name for name, kind in found if kind not in ("folder", "linked folder", "broken link")]
    return [name.rpartition("/")[2] for name in files], [name.rpartition("/")[2] for name in folders]


def list_files_of(filesystem: Any, path: str) -> list[str]:
    """The names of the files directly in a folder."""
    entries = filesystem.ls(path, detail=True)
    return [entry["name"].rpartition("/")[2] for entry in entries if entry["type"] != "directory"]


def list_folders_of(filesystem: Any, path: str) -> list[str]:
    """The folders directly in a folder, as the filesystem names them."""
    found = filesystem.ls(path, detail=True)
    return [entry["name"].rstrip("/") for entry in found if entry["type"] == "directory"]


def list_below(filesystem: Any, path: str) -> list[str]:
    """All files below a folder, as the filesystem names them."""
    return list(filesystem.find(path))


def list_details(filesystem: Any, path: str) -> dict[str, dict[str, Any]]:
    """All files below a folder, as the filesystem names them, in order of name, with what it knows of each."""
    return dict(sorted(filesystem.find(path, detail=True).items()))


def uris_of(found: Iterable[str], folder: str, filesystem: Any, path: str) -> list[str]:
    """URIs of what a filesystem has found in `folder`, which it calls `path`, sorted.

    They begin as `folder` does: fsspec writes all schemes of a store as one (`gcs://` as `gs://`), and leaves out what
    it knows otherwise (`abfs://container@account`).
    """
    root, below = root_of(folder), f"{path.rstrip('/')}/"
    start = root + folder[len(root) :].rstrip("/")
    names = (name if name.startswith("/") or below != "/" else f"/{name}" for name in found)
    # Of the Hub a short name of a branch comes back as the long one.
    return sorted(
        start + name[len(below) - 1 :] if name.startswith(below) else filesystem.unstrip_protocol(name)
        for name in names
    )
