"""Secrets in text and in URIs: what must not come out in messages, logs, saved files and metadata.

`public_uri`  a URI without its login and its signature: what stands in metadata, and what an image is known by
`hidden`      any text with `***` where a secret stands: logins and signatures of URLs, and the values that are known
`remember`    makes values known, such as those of `storage.options`, for the rest of the process

A *signature* is what a store puts into a URL to let its holder in for a while. A new one each hour makes it no other
image, so it is left out of `public_uri` as a whole. Where it cannot be told whether such a value also says which image
is meant (`/get?token=...`), its SHA-256 stands in its place.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

MASK = "***"

# Query parameters, in lower case, that a store or a web service lets somebody in by.
_SIGNATURES = (
    r"x-(?:amz|goog)-.*"  # AWS, Google; also Wasabi, R2, MinIO, Ceph and others that speak as S3 does
    r"|x-(?:oss|cos|obs|bce|tos|ms|emc)-(?!process).*"  # Alibaba, Tencent, Huawei, Baidu and others
    r"|q-(?:sign-algorithm|ak|sign-time|key-time|header-list|url-param-list|signature)"  # Tencent
    r"|(?:aws|oss|google)?access(?:key)?id|googleaccessid|security-token|sig|signature|hmac|key-pair-id"
    r"|hdnts|hdnea|hdntl|__token__|__gda__"  # Akamai
    r"|(?:access|auth|id|refresh|private|session|bearer|security|sas|api)[_-]?token|jwt"
    r"|api[_-]?key|apikey|(?:ocp-apim-)?subscription-key|x-api-key|authorization"
    r"|password|passwd|passphrase|pwd|secret|client[_-]?secret|secret[_-]?(?:access[_-]?)?key|access[_-]?key"
    r"|credentials?|sessionid"
)
# The same, where the name alone does not tell: it may also be what says which image is meant.
_AMBIGUOUS = r"token|sign|auth|verify"
# What stands beside a signature and belongs to it; alone, it is a parameter like any other.
_COMPANIONS = r"expires?|expiry|policy|hash-algorithm|x-id"
_COMPANIONS_IN_AZURE = r"sv|ss|srt|sp|se|st|spr|sr|sip|si|skoid|sktid|skt|ske|sks|skv|saoid|suoid|scid|ses|sdd|sduoid"
_COMPANIONS_OF_FILES = r"exp|e|timestamp|nonce"  # short names: only where the path says which image it is
# Signatures under names that mean other things elsewhere: known by all of them being there.
_GROUPS = (
    frozenset({"ex", "is", "hm"}),
    frozenset({"oh", "oe"}),
    frozenset({"md5", "expires"}),
)  # Discord, Meta, nginx
_IMAGE = re.compile(r"\.(?:jpe?g|jfif|png|webp|tiff?|bmp|gif|avif|heic|heif|jp2|jxl)$", re.IGNORECASE)
_IS_SIGNATURE, _IS_AMBIGUOUS = re.compile(_SIGNATURES), re.compile(_AMBIGUOUS)
# URIs that `public_uri` may change, and some that it does not: to look through millions of them in Arrow, whose
# expressions have no look-ahead.
MAY_CHANGE = (
    r"(?is)^[a-z][a-z0-9+.-]*://([^/?#]*@|[^?#]*(#|\?(.*&)?([^=&#]*%|("
    + "|".join([_SIGNATURES.replace("(?!process)", ""), _AMBIGUOUS, *(min(names) for names in _GROUPS)])
    + r")([=&#]|$))))"
)

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
# In a text: a login up to the last @ before the path, and one whose password holds what should have been encoded.
_LOGIN = re.compile(
    r"(?<![A-Za-z])([A-Za-z][A-Za-z0-9+.-]{0,30})://"  # bounded: a megabyte of letters is looked through once
    r"([^\s/?#]{0,2000}(?=@)|[^\s/@:?#\[]{1,200}:(?!\d{1,5}(?:[\s/?#]|$))[^\s@]{0,200}(?=@))@"
)
_NOT_IN_TEXT = r"x-(?:amz|goog)-.*|x-(?:oss|cos|obs|bce|tos|ms|emc)-(?!process).*"
_IN_TEXT = _SIGNATURES.replace(".*", r"[\w-]+").replace(_NOT_IN_TEXT, "")
_VALUE = r"((?:(?!%26)[^\s&;#\"'<>,)}\]])+)"
_PARAMETER = re.compile(
    rf"((?:(?<![\w-])|(?<=%3F)|(?<=%26))(?:{_IN_TEXT}|{_AMBIGUOUS})(?:=|%3D)|[?&](?:policy|hm|oh|oe|md5)=){_VALUE}",
    re.IGNORECASE,
)
_IN_MAPPING = re.compile(
    rf"([\"'](?:{_IN_TEXT}|{_AMBIGUOUS}|key)[\"']\s*[:=]\s*)([\"'])((?:\\.|(?!\2).){{1,2000}})\2", re.IGNORECASE
)
_IN_HEADER = re.compile(r"\b(Basic|Bearer|AWS4-HMAC-SHA256|SharedKey)(\s+)(?=\S*[0-9=])[\w+/=.~:,-]{8,}", re.IGNORECASE)
_WELL_KNOWN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AIza[\w-]{35}|(?:AKIA|ASIA)[A-Z0-9]{16})\b"
)
# These schemes write something else before the @: abfs://CONTAINER@ACCOUNT, github://OWNER:REPOSITORY@COMMIT.
_WITHOUT_LOGIN = frozenset({"abfs", "abfss", "wasb", "wasbs", "github"})
_WEB = ("http", "https")

# Names of options and of environment variables whose values are secrets.
_SECRET_NAME = re.compile(
    r"(?:^|[._-])(?:key|secrets?|tokens?|passw(?:or)?d|passphrase|pwd|pass|auth|authorization|cookies?|sas|credentials?"
    r"|proxy|proxy_auth|connection_string|api_?key|accesskey)$|secret|token|password|connection_string|access_key"
    r"|account_key|apikey",
    re.IGNORECASE,
)
_SECRET_VARIABLE = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|API_?KEY|ACCESS_KEY|ACCOUNT_KEY|SAS_|CONNECTION_STRING|CREDENTIALS?$"
)
_OPEN_HEADERS = frozenset({"user-agent", "accept", "accept-language", "accept-encoding", "referer"})
# Shorter ones, and words, would be found where they are none.
_LEAST_CHARACTERS = 6
_LEAST_OF_VARIABLE = 12
_MOST_KNOWN = 1000


@dataclass(slots=True)
class _Known:
    """The values that were remembered, and what finds them."""

    values: dict[str, None] = field(default_factory=dict)
    pattern: re.Pattern[str] | None = None


_known = _Known()


def public_uri(uri: str) -> str:
    """A URI without login and signature, the rest of it as it stands; a path of this machine as it is."""
    match = _URI.fullmatch(uri)
    if match is None:
        return uri
    scheme, authority, path, query, fragment = match.groups(default="")
    login, at, place = authority.rpartition("@")
    if at and _is_login(scheme, login):
        authority = place
    if scheme.lower() not in _WEB:  # there, a ? is a letter of the name like any other
        return f"{scheme}://{authority}{path}{_hashed(query)}{fragment}"
    return f"{scheme}://{authority}{path}{_unsigned(query, path)}{hidden(fragment) if fragment else ''}"


def hidden(text: str, uri: str = "") -> str:
    """The text with `***` in the place of secrets; those of `uri` are found in it however they are spelt there."""
    text = _LOGIN.sub(_mask_login, text)
    text = _PARAMETER.sub(rf"\1{MASK}", text)
    text = _IN_MAPPING.sub(rf"\1\2{MASK}\2", text)
    text = _IN_HEADER.sub(rf"\1\2{MASK}", text)
    text = _WELL_KNOWN.sub(MASK, text)
    if _known.pattern is not None:
        text = _known.pattern.sub(MASK, text)
    if uri and (own := _any_of(_variants(_secrets_of(uri)))):
        text = own.sub(MASK, text)
    return text


def remember(*values: str) -> None:
    """From here on, `hidden` masks these values in this process."""
    new = [value for value in _variants(values) if value not in _known.values]
    if new and len(_known.values) < _MOST_KNOWN:
        _known.values.update(dict.fromkeys(new))
        _known.pattern = _any_of(_known.values)


def remember_uri(uri: str) -> None:
    """The same for login and signature of a URI."""
    remember(*_secrets_of(uri))


def remember_environment() -> None:
    """The same for the environment variables whose names say that they are secret."""
    values = (value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name))
    remember(*(value for value in values if len(value) >= _LEAST_OF_VARIABLE and not value.startswith(("/", "~"))))


def known() -> tuple[str, ...]:
    """All that was remembered, for another process."""
    return tuple(_known.values)


def secret_options(tree: Any, name: str = "") -> Iterator[str]:
    """The values of a store's options whose names say that they are secret, and logins of their URLs."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            within = _SECRET_NAME.search(name) is not None
            if name.lower() == "headers" and str(key).lower() not in _OPEN_HEADERS:
                key = "authorization"  # noqa: PLW2901 - whatever it is called, it may let somebody in
            yield from secret_options(value, name if within else str(key))
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from secret_options(value, name)
    elif isinstance(tree, str):
        if _URI.fullmatch(tree):
            yield from _secrets_of(tree)
        elif _SECRET_NAME.search(name) and tree not in ("anon", "google_default", "cloud", "browser", "cache"):
            yield tree
    elif isinstance(tree, int) and not isinstance(tree, bool) and _SECRET_NAME.search(name):
        yield str(tree)


@contextmanager
def without_secrets() -> Iterator[None]:
    """What is raised within the block is raised without the secrets in its message, and without causes that hold some.

    For code that Ray calls: it prints what is raised there, whole, in places of its own.
    """
    try:
        yield
    except Exception as error:
        if hidden(str(error)) != str(error):
            raise RuntimeError(hidden(f"{type(error).__name__}: {error}")) from None
        if any(hidden(str(one)) != str(one) for one in _chain(error)):
            raise error from None
        raise


def _chain(error: BaseException) -> Iterator[BaseException]:
    before: BaseException | None = error
    while before is not None:
        yield before
        before = before.__cause__ or before.__context__


def copy_hidden(path: Path, copy: Path, *, with_last_line: bool) -> bool:
    """Copy a text file, secrets masked; whether there was anything to copy.

    Without `with_last_line` a line that has not come to its end, because somebody still writes it, is left out.
    """
    with (
        path.open(encoding="utf-8", errors="surrogateescape") as lines,
        copy.open("w", encoding="utf-8", errors="surrogateescape") as kept,
    ):
        kept.writelines(hidden(line) for line in lines if with_last_line or line.endswith("\n"))
    return copy.stat().st_size > 0


def _is_login(scheme: str, login: str) -> bool:
    return scheme.lower() not in _WITHOUT_LOGIN and (scheme.lower() in _WEB or ":" in login)


def _mask_login(match: re.Match[str]) -> str:
    return f"{match[1]}://{MASK}@" if _is_login(match[1], match[2]) else match[0]


def _unsigned(query: str, path: str) -> str:
    """A query (with its `?`) without what signs it; what is kept stays in its place and as it is spelt."""
    if not query:
        return query
    parts = query[1:].split("&")
    names = [_name(part) for part in parts]
    roles = [_role(name) for name in names]
    group = {name for names_ in _GROUPS if names_ <= set(names) for name in names_}
    is_signed = any(roles) or bool(group)
    if not is_signed:
        return query
    # Where the path is an image's own, no parameter of access says which image it is.
    names_image = _IMAGE.search(unquote(path)) is not None
    companions = [_COMPANIONS, *([_COMPANIONS_IN_AZURE] if "sig" in names else [])]
    companion = re.compile("|".join([*companions, *([_COMPANIONS_OF_FILES] if names_image else [])]))
    kept = []
    for part, name, role in zip(parts, names, roles, strict=True):
        if role == "ambiguous" and not names_image:
            kept.append(_hash_of(part))
        elif not role and name not in group and not companion.fullmatch(name):
            kept.append(part)
    return f"?{'&'.join(kept)}" if kept else ""


def _hashed(query: str) -> str:
    """The same parts, those that sign as hashes: nothing is left out that may say what is meant."""
    parts = query[1:].split("&")
    roles = [_role(_name(part)) for part in parts]
    if not any(roles):
        return query
    return "?" + "&".join(_hash_of(part) if role else part for part, role in zip(parts, roles, strict=True))


def _hash_of(parameter: str) -> str:
    name = parameter.partition("=")[0]
    return f"{name}=sha256-{hashlib.sha256(parameter.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _name(parameter: str) -> str:
    name = parameter.partition("=")[0].lower()
    return unquote(name).lower() if "%" in name else name


@lru_cache(maxsize=1000)
def _role(name: str) -> str:
    if _IS_SIGNATURE.fullmatch(name):
        return "signature"
    return "ambiguous" if _IS_AMBIGUOUS.fullmatch(name) else ""


def _secrets_of(uri: str) -> Iterator[str]:
    match = _URI.fullmatch(uri)
    if match is None:
        return
    scheme, authority, _, query, fragment = match.groups(default="")
    login, at, _ = authority.rpartition("@")
    if at and _is_login(scheme, login):
        yield login
        yield from login.split(":", 1)[1:]
    for part in [*query[1:].split("&"), *fragment[1:].split("&")]:
        if _role(_name(part)) and (value := part.partition("=")[2]):
            yield value


def _variants(values: Any) -> dict[str, None]:
    """The values as they may be spelt in a message, the longest first."""
    found: dict[str, None] = {}
    for value in values:
        if len(value) >= _LEAST_CHARACTERS:
            spelt = (value, unquote(value), quote(value, safe=""), json.dumps(value)[1:-1], repr(value)[1:-1])
            found.update(dict.fromkeys(one for one in spelt if len(one) >= _LEAST_CHARACTERS))
    return found


def _any_of(values: Any) -> re.Pattern[str] | None:
    """Whichever of these stands in a text; a short one only as a word of its own."""
    texts = sorted(values, key=len, reverse=True)
    if not texts:
        return None
    short = _LEAST_OF_VARIABLE
    return re.compile(
        "|".join(
            re.escape(text) if len(text) >= short else rf"(?<![A-Za-z0-9]){re.escape(text)}(?![A-Za-z0-9])"
            for text in texts
        )
    )
