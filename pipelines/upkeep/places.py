"""What lies in the dataset's folders, whatever it is: on a store from one listing, on this machine folder by folder."""

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from actors.errors import StorageError
from actors.storage import Storage
from pipelines.dataset.layout import part_of

# Folders and files under way at once: listing and reading are latency, not work.
READERS = 16
# Of links that lead to links: as many as Linux follows.
_MOST_STEPS = 40

Kind = Literal["file", "broken link", "empty folder", "other"]

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, or what stands where one is looked for.

    Attributes:
        name: below the folder that was looked into, with `/` between.
        size: bytes; 0 of what is no file.
        kind: "other" are devices, pipes, and links to folders.
        is_link: of a file, whether it is a link to one.
    """

    name: str
    size: int
    kind: Kind = "file"
    is_link: bool = False

    @property
    def is_hidden(self) -> bool:
        """Whether readers of datasets pass over it: it, or a folder on the way to it, begins with `.` or `_`."""
        return any(part.startswith((".", "_")) for part in self.name.split("/"))


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder directly in `data/`.

    Attributes:
        entries: lists all that is below it.
        target: of a link, the folder that it leads to; "" of no link.
    """

    uri: str
    entries: Callable[[], list[Entry]]
    target: str = ""

    @property
    def name(self) -> str:
        """Its own name."""
        return self.uri.rpartition("/")[2]

    @property
    def number(self) -> int | None:
        """That of the part; None for a name that is none of ours."""
        return part_of(self.uri)


def list_data(data: str, storage: Storage) -> Iterator[Entry | Folder]:
    """The folders in `data`, and what else lies directly in it, in order of name.

    Raises:
        StorageError: the store does not list it.
    """
    if storage.is_local(data):
        yield from _local(storage.native_path(data))
        return
    name, found = "", list[Entry]()
    for listed in storage.list_sized(data):
        first, slash, rest = listed.uri[len(data) + 1 :].partition("/")
        if first != name and found:
            yield Folder(f"{data}/{name}", partial(list, found))
            found = []
        name = first
        if slash:
            found.append(Entry(rest, listed.size))
        else:
            yield Entry(first, listed.size)
    if found:
        yield Folder(f"{data}/{name}", partial(list, found))


def list_all(folder: str, storage: Storage) -> list[Entry]:
    """All that is below a folder; nothing where there is none."""
    if storage.is_local(folder):
        path = storage.native_path(folder)
        return _below(path, "") if os.path.lexists(path) else []
    return [Entry(listed.uri[len(folder) + 1 :], listed.size) for listed in storage.list_sized(folder)]


def own_path(path: str) -> str:
    """The path of a file or of a link itself, through folders that are no links."""
    folder, name = os.path.split(path)
    return f"{os.path.realpath(folder).rstrip('/')}/{name}"


def steps_of(path: str) -> Iterator[str]:
    """What a link leads to, as `own_path`: the next link, and so on, and at last the file."""
    for _ in range(_MOST_STEPS):
        if not os.path.islink(path):  # noqa: PTH114 - strings, here and below, as all paths here
            return
        path = own_path(os.path.join(os.path.dirname(path), os.readlink(path)))  # noqa: PTH115, PTH118, PTH120
        yield path


def in_order(pool: ThreadPoolExecutor, work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """`map` by a pool that takes of `items` no more than are soon worked on, so that these may be many."""
    waiting: deque[Future[B]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= 2 * READERS:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _local(path: str) -> Iterator[Entry | Folder]:
    if not os.path.exists(path):  # noqa: PTH110 - strings, as all paths here
        return
    for found in _scanned(path):
        if not _is_folder(found):
            yield _entry(found, found.name)
        else:
            target = os.path.realpath(found.path) if found.is_symlink() else ""
            yield Folder(found.path, partial(_below, found.path, ""), target)


def _below(path: str, before: str) -> list[Entry]:
    entries: list[Entry] = []
    for found in _scanned(path):
        name = before + found.name
        if found.is_dir(follow_symlinks=False):
            below = _below(found.path, f"{name}/")
            entries += below or [Entry(name, 0, "empty folder")]
        else:
            entries.append(_entry(found, name))
    return entries


def _entry(found: "os.DirEntry[str]", name: str) -> Entry:
    try:
        facts = found.stat()
    except FileNotFoundError:
        return Entry(name, 0, "broken link" if found.is_symlink() else "other")  # removed since
    except OSError as error:
        if found.is_symlink():  # a loop of links
            return Entry(name, 0, "broken link")
        raise _unlisted(found.path, error) from error
    if not stat.S_ISREG(facts.st_mode):
        return Entry(name, 0, "other", found.is_symlink())
    return Entry(name, facts.st_size, is_link=found.is_symlink())


def _is_folder(found: "os.DirEntry[str]") -> bool:
    try:
        return found.is_dir()
    except OSError:  # a loop of links
        return False


def _scanned(path: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(path) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise _unlisted(path, error) from error


def _unlisted(path: str, error: OSError) -> StorageError:
    return StorageError(f"{path} could not be listed: {error.strerror or error}")
