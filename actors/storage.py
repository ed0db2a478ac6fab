"""Files and objects: fsspec in one place.

A *URI* here is a local path, `file://...`, or anything fsspec has a scheme for (`s3://`, `gs://`, `abfs://`, `https://`).
Percent-encoding is never touched: what stands in a URI is the object's name.

Every failure leaves as StorageError, in one sentence. All requests pass through `Storage._call`.
"""

import difflib
import glob
import io
import os
import posixpath
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar, cast

import fsspec
from fsspec.registry import known_implementations
from fsspec.utils import glob_translate

from actors.errors import StorageError

T = TypeVar("T")

# A read-ahead that hides 50 ms of latency at 1 Gbit/s, and is small beside a chunk of rows.
READ_BUFFER_BYTES = 8 * 2**20

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_DOT_SEGMENT = re.compile(r"(^|/)\.\.?(/|$)")
_LOCAL = ("", "file")
_HTTP = ("http", "https")
_S3 = ("s3", "s3a")
# The object stores, with the extra that installs their client. In these a PUT, or the end of a multipart upload, makes
# the object visible as a whole. fsspec writes to others (sftp, smb, hdfs) in place: a reader would see half a video.
_STORES = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
# Low enough for difflib to see `az` in `azure`, and `s3` in `s4`.
_LIKENESS = 0.5
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or storage.options.s3 (key, secret; anon)",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS or storage.options.gs (token)",
    "azure": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or storage.options.abfs",
}


class NotFound(StorageError):  # noqa: N818 - reads as what it says: `except NotFound`
    """There is no such file, object or bucket."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Access to all schemes. Small and picklable: it travels to the workers, connections do not.

    `options`: fsspec's options per scheme, e.g. `{"s3": {"client_kwargs": {"endpoint_url": ...}}}`. All schemes of one
    store share them (`s3`, `S3`, `s3a`).
    Every method raises StorageError, and NotFound where that is the reason.
    """

    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    @staticmethod
    def check_options(options: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """What is wrong with `options`, a sentence each; none shows a value, because these may be secrets."""
        return [fault for name in options for fault in _option_faults(name, options)]

    @staticmethod
    def scheme(uri: str) -> str:
        """The scheme in lower case; "" for a plain local path."""
        match = _SCHEME.match(uri)
        return match[1].lower() if match else ""

    @staticmethod
    def is_local(uri: str) -> bool:
        """Whether `uri` is a path of this machine."""
        return Storage.scheme(uri) in _LOCAL

    @staticmethod
    def absolute(uri: str) -> str:
        """A local path made absolute, with `~`, `.` and `..` resolved; any other URI unchanged."""
        if not Storage.is_local(uri):
            return uri
        return os.path.abspath(_local_path(uri).expanduser())  # noqa: PTH100 - resolve() would follow links

    @staticmethod
    def join(uri: str, *parts: str) -> str:
        """`parts` below `uri`, their `.` and `..` resolved; a part that is absolute or has a scheme stands alone."""
        for part in parts:
            if Storage.scheme(part) or part.startswith("/"):
                uri = part
            else:
                root = _root(uri)
                path = posixpath.join(uri[len(root) :], part)
                # In a key `//` means something, so only a path with dots is normalised.
                uri = root + (posixpath.normpath(path) if _DOT_SEGMENT.search(part) else path)
        return uri

    @staticmethod
    def parent(uri: str) -> str:
        """The folder that holds `uri`."""
        root = _root(uri)
        return root + posixpath.dirname(uri[len(root) :].rstrip("/"))

    @staticmethod
    def has_magic(uri: str) -> bool:
        """Whether `uri` holds glob characters. In http(s) a `?` begins the query, so those never do."""
        return Storage.scheme(uri) not in _HTTP and glob.has_magic(uri)

    @staticmethod
    def glob_root(pattern: str) -> str:
        """The folder that everything matching `pattern` lies in: what stands before its first glob character."""
        first = min((at for at in map(pattern.find, "*?[") if at >= 0), default=len(pattern))
        return pattern[:first].rpartition("/")[0]

    def filesystem(self, uri: str) -> Any:
        """The fsspec filesystem of `uri`, for libraries that take one; fsspec keeps one per process and options."""
        return self._call("reached", uri, lambda fs, _: fs)

    def native_path(self, uri: str) -> str:
        """`uri` as `filesystem(uri)` names it: without the scheme, mostly."""
        return self._call("reached", uri, lambda _, path: path)

    def read_bytes(self, uri: str) -> bytes:
        """The whole file."""
        return cast(bytes, self._call("read", uri, lambda fs, path: fs.cat_file(path)))

    def open(self, uri: str) -> io.BufferedReader:
        """A seekable stream for reading, to be closed by the caller; reading from it raises StorageError too."""
        if self.scheme(uri) in _HTTP:
            return self._download(uri)
        opened = self._call("read", uri, lambda fs, path: fs.open(path, "rb", block_size=READ_BUFFER_BYTES))
        return io.BufferedReader(_Stream(self, uri, opened), READ_BUFFER_BYTES)

    def put_bytes(self, uri: str, data: bytes) -> None:
        """Write a file so that a reader sees all of it or what was there before."""
        if self.is_local(uri):
            self._replace_local(uri, lambda file: file.write(data))
        else:
            self._refuse_torn_writes(uri)
            self._call("written", uri, lambda fs, path: fs.pipe_file(path, data))

    def put_file(self, uri: str, source: Path) -> None:
        """Copy a file of this machine to `uri`, whole or not at all, as `put_bytes` does."""
        if self.is_local(uri):
            with source.open("rb") as opened:
                self._replace_local(uri, lambda file: shutil.copyfileobj(opened, file, READ_BUFFER_BYTES))
        else:
            self._refuse_torn_writes(uri)
            self._call("written", uri, lambda fs, path: fs.put_file(str(source), path))

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
        if info["type"] == "directory":
            raise StorageError(f"{uri} is a folder, not a file")
        return int(info["size"])

    def remove(self, uri: str) -> None:
        """Delete a file; it is not an error that there is none."""
        with suppress(NotFound):
            self._call("removed", uri, lambda fs, path: fs.rm_file(path))

    def walk(self, folder: str) -> Iterator[str]:
        """URIs of all files below `folder`, in an order that does not change; nothing where there is no such folder.

        Local folders and S3 are streamed; links to folders are not followed.
        """
        if self.is_local(folder):
            return self._walk_local(folder)
        if self.scheme(folder) in _S3:
            return self._walk_s3(folder)
        return iter(self._call("listed", folder, lambda fs, path: sorted(map(fs.unstrip_protocol, fs.find(path)))))

    def list_files(self, folder: str, suffix: str = "") -> list[str]:
        """What `walk` finds whose name ends in `suffix`."""
        return [uri for uri in self.walk(folder) if uri.endswith(suffix)]

    def list_folders(self, folder: str) -> list[str]:
        """URIs of the folders directly in `folder`, sorted, without listing what they hold; links are left out."""
        if self.scheme(folder) in _S3:
            pages = self._s3_pages(folder, Delimiter="/")
            prefixes = (entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ()))
            return sorted(f"{_s3_bucket(folder)}/{prefix.removesuffix('/')}" for prefix in prefixes)
        list_one = _scan if self.is_local(folder) else _list_folders
        try:
            return sorted(self._call("listed", self.absolute(folder), list_one))
        except NotFound:
            return []

    def glob(self, pattern: str) -> Iterator[str]:
        """URIs of the files that match, sorted; `*` stays within a folder, `**` does not."""
        if self.is_local(pattern):
            found = glob.iglob(self.absolute(pattern), recursive=True)  # noqa: PTH207 - Path.glob also gives hidden files
            yield from (path for path in sorted(found) if os.path.isfile(path))  # noqa: PTH113 - plain strings
        else:
            yield from filter(re.compile(glob_translate(pattern)).match, self.walk(self.glob_root(pattern)))

    def _download(self, uri: str) -> io.BufferedReader:
        """A copy on this machine, because many web servers cannot send parts of a file."""
        with tempfile.NamedTemporaryFile(prefix="stillreel-") as copy:
            self._call("read", uri, lambda fs, path: fs.get_file(path, copy.name))
            return Path(copy.name).open("rb")  # outlives its name

    def _info(self, uri: str) -> dict[str, Any]:
        return cast(dict[str, Any], self._call("found", uri, lambda fs, path: fs.info(path)))

    def _call(self, done: str, uri: str, operation: Callable[[Any, str], T]) -> T:
        """`operation(filesystem, path)`; whatever it raises becomes a StorageError saying that `uri` was not `done`."""
        try:
            filesystem, path = self._locate(uri)
            return operation(filesystem, path)
        except Exception as error:  # botocore, aiohttp, google and azure share no base class but this one
            raise _explained(done, uri, error) from error

    def _locate(self, uri: str) -> tuple[Any, str]:
        """The filesystem of `uri` and the path in it; fsspec keeps the filesystems, one per process and options."""
        if self.is_local(uri):
            return fsspec.filesystem("file"), str(_local_path(uri))
        # fsspec's listings cache would hide what other workers write.
        options: dict[str, Any] = {"use_listings_cache": False}
        for name in _names_of_one_store(self.scheme(uri), self.options):
            options |= self.options[name]
        filesystem, path = fsspec.core.url_to_fs(uri, **options)
        return filesystem, path

    def _refuse_torn_writes(self, uri: str) -> None:
        if self.scheme(uri) not in _STORES:
            raise StorageError(
                f"{uri} could not be written: {self.scheme(uri)}:// cannot replace a file at once; "
                f"write to a local folder or to one of {', '.join(name + '://' for name in _STORES)}"
            )

    def _replace_local(self, uri: str, write: Callable[[IO[bytes]], object]) -> None:
        def replace(_fs: object, path: str) -> None:
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            with _temporary_beside(target) as temporary:
                with temporary.open("xb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)

        self._call("written", uri, replace)

    def _walk_local(self, folder: str) -> Iterator[str]:
        def refuse(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise _explained("listed", folder, error) from error

        for within, subfolders, names in os.walk(self.absolute(folder), onerror=refuse):
            subfolders.sort()
            yield from (f"{within.rstrip('/')}/{name}" for name in sorted(names))

    def _walk_s3(self, folder: str) -> Iterator[str]:
        keys = (entry["Key"] for page in self._s3_pages(folder) for entry in page.get("Contents", ()))
        return (f"{_s3_bucket(folder)}/{key}" for key in keys if not key.endswith("/"))  # "x/" marks a folder

    def _s3_pages(self, folder: str, **limits: str) -> Iterator[dict[str, Any]]:
        """The listing page by page: s3fs's own `find` holds about 1 kB for each object of it."""
        bucket, _, key = folder[len(_root(folder)) :].partition("/")
        request = {"Bucket": bucket, "Prefix": key.rstrip("/") + "/" if key else "", **limits}
        while True:
            page = self._call("listed", folder, partial(_list_s3_page, request))
            yield page
            if not page["IsTruncated"]:
                return
            request["ContinuationToken"] = page["NextContinuationToken"]


class _Stream(io.RawIOBase):
    """An opened fsspec file whose reads go through `Storage._call`."""

    def __init__(self, storage: Storage, uri: str, opened: BinaryIO) -> None:
        self._storage, self._uri, self._opened = storage, uri, opened

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._opened.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._opened.seek(offset, whence)

    def tell(self) -> int:
        return self._opened.tell()

    def readinto(self, buffer: Any) -> int:
        data = self._storage._call("read", self._uri, lambda _fs, _path: self._opened.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._opened.close()
        super().close()


@contextmanager
def _temporary_beside(target: Path) -> Iterator[Path]:
    """A hidden name in the folder of `target`, gone afterwards; dataset readers pass over names with a dot."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _list_s3_page(request: dict[str, str], filesystem: Any, _path: str) -> dict[str, Any]:
    return cast(dict[str, Any], filesystem.call_s3("list_objects_v2", **request))


def _s3_bucket(uri: str) -> str:
    """The URI of the bucket that `uri` lies in."""
    root = _root(uri)
    return root + uri[len(root) :].partition("/")[0]


def _scan(_filesystem: object, path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [f"{path.rstrip('/')}/{entry.name}" for entry in entries if entry.is_dir(follow_symlinks=False)]


def _list_folders(filesystem: Any, path: str) -> list[str]:
    entries = filesystem.ls(path, detail=True)
    return [filesystem.unstrip_protocol(entry["name"].rstrip("/")) for entry in entries if entry["type"] == "directory"]


def _store(scheme: str) -> str:
    """A name that all schemes of one store have in common."""
    known = known_implementations.get(scheme, {})
    return _STORES.get(scheme) or known.get("class", scheme)


def _names_of_one_store(scheme: str, options: Mapping[str, object]) -> list[str]:
    """The keys of `options` that mean the store of `scheme`."""
    return [name for name in options if _store(name.lower()) == _store(scheme)]


def _option_faults(name: str, options: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    scheme, known = name.lower(), {*fsspec.available_protocols(), *_STORES}
    if scheme not in known:
        near = difflib.get_close_matches(scheme, sorted(known), 1, cutoff=_LIKENESS)
        guess = f" (perhaps {near[0]})" if near else ""
        yield f"storage.options.{name}: there is no such scheme{guess}; the object stores are {', '.join(_STORES)}"
    elif _store(scheme) == _store("file"):
        yield f"storage.options.{name} has no effect: local files take no options; remove it"
    first = _names_of_one_store(scheme, options)[0]
    if options[first] != options[name]:
        yield f"storage.options.{first} and storage.options.{name} are one store with different options; keep one"


def _root(uri: str) -> str:
    """`s3://` of an S3 URI, "" of a local path."""
    match = _SCHEME.match(uri)
    return match[0] if match else ""


def _local_path(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def _explained(done: str, uri: str, error: Exception) -> StorageError:
    if isinstance(error, StorageError):
        return error
    said = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
    if isinstance(error, FileNotFoundError):
        if "bucket does not exist" in said:
            return NotFound(f"{uri} could not be {done}: the bucket does not exist; create it, or correct the name")
        return NotFound(f"{uri} does not exist")
    return StorageError(f"{uri} could not be {done}: {_reason(uri, said, error)}")


def _reason(uri: str, said: str, error: Exception) -> str:
    """What went wrong, and what to do about it."""
    scheme, kind = Storage.scheme(uri), type(error).__name__
    extra = _STORES.get(scheme, "")
    if isinstance(error, ImportError):
        return f"a package is missing ({said})" + (f"; pip install -e '.[{extra}]'" if extra else "")
    if isinstance(error, ValueError) and "Protocol not known" in said:
        return f"{scheme}:// is not a known scheme; use a local path, s3://, gs://, abfs:// or https://"
    if isinstance(error, IsADirectoryError):
        return "it is a folder, not a file"
    if kind in ("NoCredentialsError", "PartialCredentialsError"):
        return f"there are no credentials; set {_CREDENTIALS[extra]}"
    if isinstance(error, PermissionError) and scheme in _LOCAL:
        return "this user has no permission"
    if isinstance(error, PermissionError):
        return f"access denied ({said}); check {_CREDENTIALS.get(extra, 'storage.options.' + scheme)}"
    if status := getattr(error, "status", None):
        return f"the server answered {status} {getattr(error, 'message', '')}".rstrip()
    if isinstance(error, (ConnectionError, TimeoutError)) or "Connect" in kind or "Timeout" in kind:
        return f"no connection ({said}); check the network, and the endpoint in storage.options.{scheme}"
    return said
