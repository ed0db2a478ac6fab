"""Where a URI lies: the bucket, host or repository that it is part of, and whether it is below a folder."""

import posixpath
import re
from functools import lru_cache
from urllib.parse import unquote

from actors.addresses import server_of
from actors.storage import Storage
from actors.uris import common_scheme, root_of
from actors.web import SCHEMES as WEB
from actors.web import as_asked

LOCAL_SCHEME = "file"  # what `storage.schemes` calls paths of this machine
_NEEDS_A_LOOK = re.compile(r"[/\\]\.|[%?#]")
_DOTS = re.compile(r"(^|[/\\])\.\.?([/\\]|$)")


def scheme_of(uri: str) -> str:
    """In lower case; `file` of a path of this machine."""
    return LOCAL_SCHEME if Storage.is_local(uri) else Storage.scheme(uri)


def place_of(uri: str) -> str:
    """What a store gives rights for: the bucket, container, host or repository of a URI; a local path is its own."""
    scheme = scheme_of(uri)
    if scheme == LOCAL_SCHEME:
        return Storage.absolute(uri)
    if scheme in WEB:
        return server_of(uri) or uri
    root = root_of(uri)
    names = uri[len(root) :].split("/")
    count = 1
    if scheme == "hf":  # hf://datasets/OWNER/NAME, hf://OWNER/NAME
        count = 3 if names[0] in ("datasets", "spaces", "buckets") else 2
    elif names[0].endswith(":accesspoint"):  # s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/KEY
        count = 2
    return root + "/".join(names[:count])


def is_below(uri: str, folder: str) -> bool:
    """Whether a URI lies below a folder, bucket or host, or is it; of a scheme alone (`https://`), all that have it.

    Not where `.` or `..` stands in its path, be it percent-encoded: what these make of it is up to the store.
    """
    if uri.startswith(f"{folder}/") and not _NEEDS_A_LOOK.search(uri):  # a manifest's own bucket, ten million times
        return True
    inner, outer = _plain(uri), _plain_folder(folder)
    if inner is None or outer is None:
        return False
    return inner == outer or inner.startswith(outer if outer.endswith("/") else f"{outer}/")


@lru_cache
def _plain_folder(folder: str) -> str | None:
    return _plain(folder)


def _plain(uri: str) -> str | None:
    """In one spelling, without query and fragment; None where it cannot be told what it is below."""
    scheme = scheme_of(uri)
    if scheme == LOCAL_SCHEME:
        return posixpath.normpath(Storage.absolute(uri))
    root, rest = root_of(uri), uri[len(root_of(uri)) :]
    if not rest:
        return f"{common_scheme(scheme)}://"
    if scheme in WEB:
        server = server_of(uri)
        path = re.split(r"[?#]", as_asked(uri)[len(root) :], maxsplit=1)[0].partition("/")[2]
        plain = None if server is None else f"{server}/{path}"
    else:
        path = rest
        plain = f"{common_scheme(scheme)}://{rest}"
    return None if _DOTS.search(unquote(unquote(path))) else plain
