"""Which content a file has, and to replace or remove it only while it has that: one try each, as `actors.transfers`.

A *version* is what a store calls one content of one object. "" stands for no file.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from actors.errors import StorageError
from actors.retries import is_conflict
from actors.transfers import write_local

# fsspec's `info` calls it so: s3fs, adlfs.
_ETAG = {"s3": "ETag", "azure": "etag"}
# The stores in which a write can depend on a version. Google's could, but its client in fsspec has no way to ask it.
CONDITIONAL = ("local", *_ETAG)

Put = Callable[[Any, str], str]


class Changed(StorageError):  # noqa: N818 - reads as what it says: `except Changed`
    """The file is not what it was when its version was asked for."""

    def __init__(self, uri: str) -> None:
        super().__init__(f"{uri} was changed by another program while this run was about to write it")


def version_of(store: str, filesystem: Any, path: str) -> str | None:
    """The version of a file; None where this store knows none that a write could depend on.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if store == "local":
        return version_in(store, os.stat(path))  # noqa: PTH116 - a string, as all paths here
    return version_in(store, filesystem.info(path)) if store in _ETAG else None


def version_in(store: str, found: Any) -> str | None:
    """The version in what a store tells of a file: `os.stat_result` on this machine, else a dictionary."""
    if store == "local":
        return f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"
    return _unquoted(found[_ETAG[store]]) if store in _ETAG else None


def put_if(store: str, uri: str, data: bytes, version: str) -> Put:
    """What writes `data` if the file still has `version`, and returns its new one.

    On this machine the look and the write are two steps, of which the second follows at once: no file system has one
    for both.

    Raises (the operation):
        Changed: it has another version.
        NotImplementedError, or an error with status 501: the store has no conditional writes.
    """
    return partial({"local": _put_local, "s3": _put_s3, "azure": _put_azure}[store], uri, data, version)


def _put_local(uri: str, data: bytes, version: str, filesystem: Any, path: str) -> str:
    def publish(temporary: Path, target: Path) -> str:
        new = version_of("local", filesystem, str(temporary))
        assert new is not None
        try:
            found = version_of("local", filesystem, str(target))
        except FileNotFoundError:
            found = ""
        if found != version:
            raise Changed(uri)
        temporary.replace(target)
        return new  # a file keeps its number, times and size under its new name

    return write_local(lambda file: file.write(data), publish, filesystem, path)


def _put_s3(uri: str, data: bytes, version: str, filesystem: Any, path: str) -> str:
    bucket, key, _ = filesystem.split_path(path)
    # Ceph knows a version without its quotation marks only; AWS takes both.
    condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
    try:
        answer = filesystem.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)
    except Exception as error:
        # S3 says "no such key" of an object that was removed meanwhile.
        if is_conflict(error) or (version and isinstance(error, FileNotFoundError)):
            raise Changed(uri) from error
        raise
    return _unquoted(answer["ETag"])


def _put_azure(uri: str, data: bytes, version: str, filesystem: Any, path: str) -> str:
    from azure.core import MatchConditions  # comes with the client of that store

    condition: dict[str, Any] = {"mode": "create"}
    if version:
        condition = {"etag": f'"{version}"', "match_condition": MatchConditions.IfNotModified}
    try:
        answer = filesystem.pipe_file(path, data, **condition)
    except Exception as error:
        if is_conflict(error):
            raise Changed(uri) from error
        raise
    return _unquoted(answer["etag"])


def remove_if(store: str, uri: str, version: str) -> Callable[[Any, str], None] | None:
    """What removes a file if it still has `version`; None of a store in which that cannot be asked for.

    On this machine the look and the removal are two steps, as in `put_if`.

    Raises (the operation):
        Changed: it has another version.
        NotImplementedError, or an error with status 501: the store has no conditional removals.
    """
    removals = {"local": _remove_local, "s3": _remove_s3}
    return partial(removals[store], uri, version) if store in removals else None


def _remove_local(uri: str, version: str, filesystem: Any, path: str) -> None:
    if version_of("local", filesystem, path) != version:
        raise Changed(uri)
    os.unlink(path)  # noqa: PTH108 - a string


def _remove_s3(uri: str, version: str, filesystem: Any, path: str) -> None:
    bucket, key, _ = filesystem.split_path(path)
    try:
        filesystem.call_s3("delete_object", Bucket=bucket, Key=key, IfMatch=version)
    except Exception as error:
        if is_conflict(error):
            raise Changed(uri) from error
        raise
    filesystem.invalidate_cache(path)


def _unquoted(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')
