"""URIs taken apart, as text."""

import re
from pathlib import Path

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def root_of(uri: str) -> str:
    """`s3://` of an S3 URI, "" of a local path."""
    match = SCHEME.match(uri)
    return match[0] if match else ""


def without_query(uri: str) -> str:
    """A web address as far as its path; any other URI as it is."""
    match = SCHEME.match(uri)
    if match is None or match[1].lower() not in ("http", "https"):
        return uri
    return re.split(r"[?#]", uri, maxsplit=1)[0]


def s3_bucket(uri: str) -> str:
    """The URI of the bucket that `uri` lies in."""
    root = root_of(uri)
    return root + uri[len(root) :].partition("/")[0]


def local_path(uri: str) -> Path:
    """Of a path or a `file://` URI."""
    return Path(uri.removeprefix("file://"))
