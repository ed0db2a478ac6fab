"""Files and objects: fsspec in one place.

A *URI* here is a local path, `file://...`, or anything fsspec has a scheme for (`s3://`, `gs://`, `abfs://`, `https://`).
Percent-encoding is never touched: what stands in a URI is the object's name, and what a web server is asked for.

Every failure leaves as StorageError, in one sentence. All requests pass through `Storage._call`, which tries again what
may pass by itself.
"""

import glob
import io
import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import fsspec

from actors import folders
from actors.errors import StorageError
from actors.folders import Listed
from actors.listings import Kind, Looks, Pattern, entries
from actors.moves import copy_local, copy_object, move_local, taken
from actors.retries import is_unsupported, retried
from actors.secrets import remember, secret_options
from actors.storage_errors import NotFound, explained
from actors.store_options import STORES, locate, option_faults, refuse_torn_writes
from actors.transfers import (
    READ_BUFFER_BYTES,
    Stream,
    fetch_at_most,
    is_temporary,
    link_local,
    put_if_absent,
    too_large,
    write_local,
)
from actors.uris import S3, WEB, absolute, is_local, root_of, scheme_in, without_query
from actors.versions import CONDITIONAL, Changed, put_if, remove_if, version_of
from actors.web import WebAccess

__all__ = ["Changed", "Listed", "NotFound", "Storage"]

T = TypeVar("T")

_DOT_SEGMENT = re.compile(r"(^|/)\.\.?(/|$)")


@dataclass(frozen=True, slots=True)
class Storage:
    """Access to all schemes. Small and picklable: it travels to the workers, connections do not.

    `options`: fsspec's options per scheme, e.g. `{"s3": {"client_kwargs": {"endpoint_url": ...}}}`. All schemes of one
    store share them (`s3`, `S3`, `s3a`).
    `tries`: how often a request is tried before a failure that might pass by itself is raised.
    `web`: where http(s) URLs may lead; None, for URLs of the user's own: anywhere.
    Every method raises StorageError, and NotFound where that is the reason.
    """

    options: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    tries: int = 5
    web: WebAccess | None = None

    @staticmethod
    def check_options(options: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """What is wrong with `options`, a sentence each; none shows a value, because these may be secrets."""
        return [fault for name in options for fault in option_faults(name, options)]

    scheme = staticmethod(scheme_in)
    is_local = staticmethod(is_local)
    absolute = staticmethod(absolute)

    @staticmethod
    def join(uri: str, *parts: str) -> str:
        """`parts` below `uri`, their `.` and `..` resolved; a part that is absolute or has a scheme stands alone."""
        for part in parts:
            if Storage.scheme(part) or part.startswith("/"):
                uri = part
            else:
                root = root_of(uri)
                path = posixpath.join(uri[len(root) :], part)
                # In a key `//` means something, so only a path with dots is normalised.
                uri = root + (posixpath.normpath(path) if _DOT_SEGMENT.search(part) else path)
        return uri

    @staticmethod
    def parent(uri: str) -> str:
        """The folder that holds `uri`."""
        root = root_of(uri)
        path = without_query(uri)[len(root) :]  # a signature may hold slashes, and is of no other file
        return root + posixpath.dirname(path.rstrip("/"))

    @staticmethod
    def has_magic(uri: str) -> bool:
        """Whether `uri` holds glob characters. In http(s) a `?` begins the query, so those never do."""
        return Storage.scheme(uri) not in WEB and glob.has_magic(uri)

    @staticmethod
    def glob_root(pattern: str) -> str:
        """The folder that everything matching `pattern` lies in: what stands before its first glob character."""
        first = min((at for at in map(pattern.find, "*?[") if at >= 0), default=len(pattern))
        return pattern[:first].rpartition("/")[0]

    def guarded(self, web: WebAccess) -> "Storage":
        """The same for URIs that somebody else chose."""
        return replace(self, web=web)

    def filesystem(self, uri: str) -> Any:
        """The fsspec filesystem of `uri`, for libraries that take one; what it retries is up to it."""
        return self._call("reached", uri, lambda _fs, _path: self._locate(uri)[0])

    def native_path(self, uri: str) -> str:
        """`uri` as `filesystem(uri)` names it: without the scheme, mostly."""
        return self._call("reached", uri, lambda _, path: path)

    def read_bytes(self, uri: str, max_bytes: int | None = None) -> bytes:
        """The whole file; one of more than `max_bytes` is refused, over http(s) as soon as so many have come."""
        if max_bytes is not None and self.scheme(uri) in WEB:
            return self._call("read", uri, partial(fetch_at_most, max_bytes, uri))
        if max_bytes is not None and self.size(uri) > max_bytes:
            raise too_large(uri, max_bytes)
        # s3fs asks for the size first where it may fetch pieces at once: a request more for each image.
        how = {"max_concurrency": 1} if self.scheme(uri) in S3 else {}
        return cast("bytes", self._call("read", uri, lambda fs, path: fs.cat_file(path, **how)))

    def read_ranges(self, uri: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes from each start up to its end: one request a range, many at once where the store allows it."""
        starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
        return self._call(
            "read", uri, lambda fs, path: fs.cat_ranges([path] * len(ranges), starts, ends, on_error="raise")
        )

    def open(self, uri: str) -> io.BufferedReader:
        """A seekable stream for reading, to be closed by the caller; reading from it raises StorageError too."""
        if self.scheme(uri) in WEB:
            return self._download(uri)
        return io.BufferedReader(Stream(uri, partial(self._call, "read", uri)), READ_BUFFER_BYTES)

    def open_exact(self, uri: str) -> io.RawIOBase | io.BufferedReader:
        """As `open`, without reading ahead: for whoever knows which bytes are wanted. Over http(s) it is the same."""
        if self.scheme(uri) in WEB:
            return self._download(uri)
        return Stream(uri, partial(self._call, "read", uri), read_ahead=False)

    def put_bytes(self, uri: str, data: bytes) -> None:
        """Write a file so that a reader sees all of it or what was there before."""
        if self.is_local(uri):
            self._call("written", uri, partial(write_local, lambda file: file.write(data), Path.replace))
        else:
            refuse_torn_writes(uri)
            self._call("written", uri, lambda fs, path: fs.pipe_file(path, data))

    def put_file(self, uri: str, source: Path) -> None:
        """Copy a file of this machine to `uri`, whole or not at all, as `put_bytes` does."""
        if self.is_local(uri):

            def copy(file: IO[bytes]) -> None:
                with source.open("rb") as opened:
                    shutil.copyfileobj(opened, file, READ_BUFFER_BYTES)

            self._call("written", uri, partial(write_local, copy, Path.replace))
        else:
            refuse_torn_writes(uri)
            self._call("written", uri, lambda fs, path: fs.put_file(str(source), path))

    def version(self, uri: str) -> str | None:
        """What `replace_bytes` may depend on: "" where there is no file, None where this store knows nothing of it."""
        try:
            return self._call("found", uri, partial(version_of, self._store(uri)))
        except NotFound:
            return "" if self._store(uri) in CONDITIONAL else None

    def replace_bytes(self, uri: str, data: bytes, version: str | None) -> str | None:
        """As `put_bytes`, but only while the file has this version; its new one.

        With None, and in a store that knows no conditions, it is `put_bytes`; then the new version is None as well.

        Raises:
            Changed: it has another one.
        """
        if version is not None:
            try:
                return self._call("written", uri, put_if(self._store(uri), uri, data, version))
            except StorageError as error:
                if error.__cause__ is None or not is_unsupported(error.__cause__):
                    raise
        self.put_bytes(uri, data)
        return None

    def create_bytes(self, uri: str, data: bytes) -> bool:
        """Write a file, whole, only where there is none; False if there is one. Of several at once, one succeeds.

        `data` is to hold something that no other writer has, such as a random token: when the answer to a write was
        lost, the file that the next try finds is known as ours by its content.
        """
        if self.is_local(uri):
            link = partial(link_local, uri)
            created = self._call("created", uri, partial(write_local, lambda file: file.write(data), link))
        else:
            refuse_torn_writes(uri)
            created = self._call("created", uri, partial(put_if_absent, uri, data))
        if not created:
            with suppress(NotFound):
                created = self.read_bytes(uri) == data
        return created

    def exists(self, uri: str) -> bool:
        """Whether there is a file or a folder; a refusal by the store is an error, not a no."""
        try:
            self._info(uri)
        except NotFound:
            return False
        return True

    def is_folder(self, uri: str) -> bool:
        """Whether `uri` is a folder, or a prefix of objects; False for a file and for nothing at all."""
        try:
            return bool(self._info(uri)["type"] == "directory")
        except NotFound:
            return False

    def size(self, uri: str) -> int:
        """Bytes in the file."""
        info = self._info(uri)
        if info["type"] in ("directory", "other"):
            raise StorageError(
                f"{uri} is a {'folder' if info['type'] == 'directory' else 'device or pipe'}, not a file"
            )
        return int(info["size"])

    def remove(self, uri: str) -> None:
        """Delete a file; it is not an error that there is none."""
        with suppress(NotFound):
            self._call("removed", uri, lambda fs, path: fs.rm_file(path))

    def remove_unchanged(self, uri: str, version: str | None) -> None:
        """As `remove`, but only while the file has this version; Azure and Google Cloud Storage do not look.

        Raises:
            Changed: it has another one.
        """
        removal = remove_if(self._store(uri), uri, version) if version else None
        if removal is not None:
            try:
                with suppress(NotFound):
                    self._call("removed", uri, removal)
            except StorageError as error:
                if error.__cause__ is None or not is_unsupported(error.__cause__):
                    raise
            else:
                return
        self.remove(uri)

    def copy(self, uri: str, to: str) -> None:
        """Have the same content at `to`, too, in the same store: by a hard link, or by a copy that the store makes.

        Raises StorageError also where `to` is there.
        """
        if self.is_local(uri):
            self._call("copied", uri, partial(copy_local, self.absolute(to)))
        elif self.exists(to):
            raise taken(to)
        else:
            self._call("copied", uri, partial(copy_object, to))

    def move(self, uri: str, to: str) -> None:
        """Give a file of a store another place in it; of this machine also a folder, or a link itself.

        Raises StorageError also where `to` is there.
        """
        if self.is_local(uri):
            self._call("moved", uri, partial(move_local, self.absolute(to)))
        else:
            self.copy(uri, to)
            self.remove(uri)

    def prune(self, folder: str) -> None:
        """Remove a local folder and those above it, as far up as they are empty; object stores have no folders."""
        if self.is_local(folder):
            with suppress(OSError):
                os.removedirs(self.native_path(folder))

    def walk(self, folder: str, looks: Looks | None = None) -> Iterator[str]:
        """URIs of all files below `folder`, in an order that does not change; nothing where there is no such folder.

        Local folders and S3 are streamed. Links to folders are followed, and no folder is looked into twice.
        """
        return folders.walk(self._call, folder, looks or Looks())

    def list_files(self, folder: str, suffix: str = "") -> list[str]:
        """What `walk` finds whose name ends in `suffix`."""
        return [uri for uri in self.walk(folder) if uri.endswith(suffix)]

    def list_sized(self, folder: str, first: str | None = None, last: str | None = None) -> Iterator[Listed]:
        """All files below `folder` with size and version, streamed: on S3, 1,000 files for each request.

        `first`, `last`: on S3, only those in the folders of `folder` from one to another, by name; else no limits.
        """
        return folders.list_sized(self._call, folder, first, last)

    def list_kinds(self, folder: str) -> dict[str, Kind]:
        """What is directly in a folder of this machine, by name; nothing where there is no such folder."""
        found: list[tuple[str, Kind]] = []
        with suppress(NotFound):
            found = self._call("listed", self.absolute(folder), entries)
        return {path.rpartition("/")[2]: kind for path, kind in found}

    def list_folders(self, folder: str) -> list[str]:
        """URIs of the folders directly in `folder`, sorted, without listing what they hold.

        A link of this machine counts as the folder that it leads to, also where that is missing (`leads_nowhere`).
        """
        return folders.list_folders(self._call, folder)

    def list_names(self, folder: str) -> set[str]:
        """The names of the files directly in `folder`; a link that leads nowhere is none."""
        return folders.list_names(self._call, folder)

    @staticmethod
    def is_temporary(uri: str) -> bool:
        """Whether this is what a write on this machine leaves that was cut short."""
        return Storage.is_local(uri) and is_temporary(uri.rpartition("/")[2])

    def leads_nowhere(self, uri: str) -> bool:
        """Whether `uri` is a link of this machine, and what it leads to is not there."""
        if not self.is_local(uri):
            return False
        path = Path(self.absolute(uri))
        return path.is_symlink() and not path.exists()

    def glob(self, pattern: str, looks: Looks | None = None) -> Iterator[str]:
        """URIs of the files that match, as `walk` orders them; `*` stays within a folder, `**` does not."""
        pattern, looks = self.absolute(pattern), looks or Looks()
        root, into, gives = self.glob_root(pattern), looks.into, looks.gives
        meant = Pattern(pattern, root)
        narrowed = replace(
            looks,
            into=lambda folder: meant.into(folder) and into(folder),
            gives=lambda uri: meant.matches(uri) and gives(uri),
        )
        return filter(meant.matches, self.walk(root or "/", narrowed))

    def _download(self, uri: str) -> io.BufferedReader:
        """A copy on this machine, because many web servers cannot send parts of a file."""
        with tempfile.NamedTemporaryFile(prefix="stillreel-") as copy:
            self._call("read", uri, lambda fs, path: fs.get_file(path, copy.name))
            return Path(copy.name).open("rb")  # outlives its name

    def _store(self, uri: str) -> str:
        """What all schemes of one store are called in `actors.versions`."""
        return "local" if self.is_local(uri) else STORES.get(self.scheme(uri), "")

    def _info(self, uri: str) -> dict[str, Any]:
        return cast("dict[str, Any]", self._call("found", uri, lambda fs, path: fs.info(path)))

    def _call(self, done: str, uri: str, operation: Callable[[Any, str], T]) -> T:
        """`operation(filesystem, path)`, tried again while it fails with what may pass by itself.

        Whatever it raises in the end becomes a StorageError saying that `uri` was not `done`.
        """
        number = 0

        def try_once() -> T:
            nonlocal number
            number += 1
            filesystem, path = self._locate(uri, retries=False)
            return operation(filesystem, path)

        scheme = self.scheme(uri)
        try:
            # A new filesystem looks for credentials anew.
            return retried(
                try_once,
                self.tries,
                renew=lambda: fsspec.get_filesystem_class(scheme).clear_instance_cache(),
            )
        except StorageError:
            raise
        except Exception as error:  # botocore, aiohttp, google and azure share no base class but this one
            remember(*secret_options(self.options))  # of which their messages may hold some
            raise explained(error, done, uri, scheme, STORES.get(scheme, ""), number) from error

    def _locate(self, uri: str, *, retries: bool = True) -> tuple[Any, str]:
        return locate(uri, self.options, self.web, retries=retries)
