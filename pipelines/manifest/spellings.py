"""The many spellings of one image: paths are brought to one, URLs and keys only to one identity.

A path of this machine has one spelling afterwards. A URL is asked for as it stands, and only what it is known by is
brought to one form, as RFC 3986 (section 6.2) has it. A key of an object store keeps its bytes: there `a//b`, `a/./b`
and `a%20b` are three objects.
"""

import os
import posixpath
import re
from functools import lru_cache
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from actors.uris import FILE_URL, common_scheme, local_path
from pipelines.manifest.files import format_of

# Of a `file://` URL of another machine, or of none.
NOT_HERE = "a file:// URL must name a path of this machine, as in file:///folder/image.png"

_HAS_ROOT = r"^([A-Za-z][A-Za-z0-9+.-]*://|/)"
_FILE = r"^(?i:file):/"
_PATH_TO_MEND = r"(?s)^/(.*?/)?(/|\.\.?(/|$))"
_DOT_SEGMENT = r"(^|/)\.\.?(/|$)"

_PORTS = {"http": "80", "https": "443"}
# Nearly all URIs, which are known by what they are.
_ORDINARY = r"^(/|(https?://[a-z0-9.-]+/|(s3|gs|abfs|hf)://)[A-Za-z0-9/_.~!$&'()*+,;=:@?#-]*$)"
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<user>[^/?#]*@)?(?P<host>\[[^\]/?#]*\]|[^/?#:@]*)(?::(?P<port>[0-9]*))?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?P<fragment>#.*)?",
    re.IGNORECASE | re.DOTALL,
)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_NEED_NO_ESCAPE = "%/:?#[]@!$&'()*+,;=-._~"


def as_paths(uris: pa.Array) -> tuple[pa.Array, pa.Array]:
    """`file:` URLs as the paths that they mean; and the mask of those that mean none (see NOT_HERE), as they stand."""
    is_file = pc.fill_null(pc.match_substring_regex(uris, _FILE), False)
    if not pc.any(is_file).as_py():
        return uris, pa.array([False] * len(uris), pa.bool_())
    given = uris.filter(is_file).to_pylist()
    paths = [_path_of_file(url) for url in given]
    refused = pc.replace_with_mask(is_file, is_file, pa.array([path is None for path in paths], pa.bool_()))
    plain = pa.array([url if path is None else path for url, path in zip(given, paths, strict=True)], pa.string())
    return pc.replace_with_mask(uris, is_file, plain), refused


def path_of(uri: str) -> str:
    """The path that a `file:` URL means; all others as they are."""
    return _path_of_file(uri) or uri


def _path_of_file(url: str) -> str | None:
    if not FILE_URL.match(url):
        return None
    path = str(local_path(url))
    try:
        path.encode()
    except UnicodeEncodeError:  # escapes that are no UTF-8
        return None
    return path


def resolved(uris: pa.Array, base: str) -> pa.Array:
    """Relative URIs made absolute, from the folder `base`, and paths of this machine in one spelling."""
    relative = pc.invert(pc.match_substring_regex(uris, _HAS_ROOT))
    is_dotted = pc.fill_null(pc.and_(relative, pc.match_substring_regex(uris, _DOT_SEGMENT)), False)
    absolute = pc.if_else(relative, pc.binary_join_element_wise(base.rstrip("/"), uris, "/"), uris)
    to_mend = pc.fill_null(pc.match_substring_regex(absolute, _PATH_TO_MEND), False)
    mended = pc.or_(is_dotted, to_mend)
    if not pc.any(mended).as_py():
        return absolute
    return pc.replace_with_mask(absolute, mended, pa.array(map(_mended, absolute.filter(mended).to_pylist())))


def _mended(uri: str) -> str:
    """A path in one spelling; of another URI, the dots of its path resolved."""
    if not uri.startswith("/"):
        root, mark, path = uri.partition("://")
        return root + mark + _without_dots(path)
    plain = posixpath.normpath("/" + uri.lstrip("/"))
    # What `..` leads to is the system's to say where a folder on the way is a link.
    if ".." in uri.split("/") and not _is_one_folder(posixpath.dirname(uri), posixpath.dirname(plain)):
        return uri
    return plain


@lru_cache(maxsize=1000)
def _is_one_folder(folder: str, other: str) -> bool:
    try:
        return os.path.realpath(folder) == os.path.realpath(other)
    except ValueError:  # a NUL
        return True


def _without_dots(path: str) -> str:
    """`.` and `..` resolved, and all else left, such as `//`."""
    parts: list[str] = []
    names = path.split("/")
    for name in names:
        if name == "..":
            if len(parts) > 1:
                parts.pop()
        elif name != ".":
            parts.append(name)
    if names[-1] in (".", ".."):
        parts.append("")
    return "/".join(parts)


def identities(uris: pa.ChunkedArray) -> list[str]:
    """What images are known by that have no other identity than their URIs: equal for spellings of one image."""
    texts: list[str] = uris.to_pylist()
    odd = pc.invert(pc.match_substring_regex(uris, _ORDINARY))
    odd = pc.or_(odd, pc.match_substring_regex(uris, r"(?s)^https?://([^#]*/\.\.?([/?#]|$)|[^#]*#)"))
    for row in pc.indices_nonzero(odd).to_pylist():
        texts[row] = identity(texts[row])
    return texts


def identity(uri: str) -> str:
    """A URI in the one form that stands for all which a server or a store cannot tell apart."""
    if match := _URL.fullmatch(uri):
        return _of_web(match)
    scheme, mark, rest = uri.partition("://")
    if not mark or not scheme.isascii() or "/" in scheme:
        return uri
    return f"{common_scheme(scheme)}://{rest}"


def _of_web(url: re.Match[str]) -> str:
    scheme, port = url["scheme"].lower(), url["port"]
    shown_port = f":{port}" if port and port != _PORTS[scheme] else ""
    path = _without_dots(_escaped(url["path"] or "/"))
    # What follows # is no part of the request. Of a table or tar it tells the images in it apart.
    fragment = "" if format_of(path) == "images" else url["fragment"] or ""
    return (
        f"{scheme}://{url['user'] or ''}{_host(url['host'])}{shown_port}{path}{_escaped(url['query'] or '')}{fragment}"
    )


def _host(host: str) -> str:
    try:
        return host.lower() if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return host.lower()


def _escaped(text: str) -> str:
    """Percent-encoding where it is needed, in upper case, and nowhere else."""

    def one(match: re.Match[str]) -> str:
        letter = chr(int(match[1], 16))
        return letter if _UNRESERVED.fullmatch(letter) else match[0].upper()

    return quote(_ESCAPE.sub(one, text), safe=_NEED_NO_ESCAPE)
