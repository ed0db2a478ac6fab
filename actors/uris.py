"""URIs taken apart, as text."""

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# What a URL of a path of this machine begins with (RFC 8089): `file:///x`, `file://localhost/x`, `file:/x`.
FILE_URL = re.compile(r"file:(//(localhost)?(?=/)|(?=/(?!/)))", re.IGNORECASE)

# fsspec's other names of a store's scheme.
_OTHER_NAMES = {"s3a": "s3", "gcs": "gs", "abfss": "abfs", "az": "abfs"}


WEB = ("http", "https")
S3 = ("s3", "s3a")
_LOCAL = ("", "file")


def scheme_in(uri: str) -> str:
    """The scheme in lower case; "" for a plain local path."""
    match = SCHEME.match(uri)
    return match[1].lower() if match else ""


def is_local(uri: str) -> bool:
    """Whether `uri` is a path of this machine."""
    return scheme_in(uri) in _LOCAL


def absolute(uri: str) -> str:
    """A local path made absolute, with `~`, `.` and `..` resolved; any other URI unchanged."""
    if not is_local(uri):
        return uri
    return os.path.abspath(local_path(uri).expanduser())  # noqa: PTH100 - resolve() would follow links


def common_scheme(scheme: str) -> str:
    """The one scheme that stands for all of its store: `gs` for `gcs`; others in lower case."""
    return _OTHER_NAMES.get(scheme.lower(), scheme.lower())


def root_of(uri: str) -> str:
    """`s3://` of an S3 URI, "" of a local path."""
    match = SCHEME.match(uri)
    return match[0] if match else ""


def without_query(uri: str) -> str:
    """A web address as far as its path; any other URI as it is."""
    if scheme_in(uri) not in WEB:
        return uri
    return re.split(r"[?#]", uri, maxsplit=1)[0]


def s3_bucket(uri: str) -> str:
    """The URI of the bucket that `uri` lies in."""
    root = root_of(uri)
    return root + uri[len(root) :].partition("/")[0]


def local_path(uri: str) -> Path:
    """Of a path, or of a `file:` URL, in which percent-encoding is undone."""
    match = FILE_URL.match(uri)
    path = os.fsdecode(unquote_to_bytes(uri[match.end() :])) if match else uri.removeprefix("file://")
    return Path("/" + path.lstrip("/") if path.startswith("//") else path)


def file_name(uri: str) -> str:
    """The last name of a URI; of a URL without its query."""
    path = uri.partition("?")[0] if scheme_in(uri) in WEB else uri
    return path.rpartition("/")[2]
