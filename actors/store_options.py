"""fsspec's options: those of one store under all its schemes, what may be wrong with them, and what we add."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec
from fsspec.registry import known_implementations

from actors.transfers import refuse_redirect
from actors.web import WebAccess, with_user_agent

# The object stores, with the extra that installs their client. In these a PUT, or the end of a multipart upload, makes
# the object visible as a whole. fsspec writes to others (sftp, smb, hdfs) in place: a reader would see half a video.
STORES = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
# Low enough for difflib to see `az` in `azure`, and `s3` in `s4`.
_LIKENESS = 0.5
# aiohttp's own limit is five minutes for the whole answer: long for a server that is silent, short for a large file.
_HTTP_CONNECT_S = 15.0
_HTTP_SILENCE_S = 30.0


def http_options(options: dict[str, Any], *, retries: bool, access: WebAccess | None = None) -> dict[str, Any]:
    """`options` with what fsspec leaves to the defaults of its client; paths are to be as `as_asked` gives them.

    `access`: where somebody else's URLs may lead; None for URLs of the user's own.
    """
    import aiohttp  # an extra of fsspec: only whoever reads http(s) needs it

    # Which addresses may be read is judged by the URI: a server must not choose another one, inside the network.
    options = {"allow_redirects": False} | options | {"encoded": True}
    given: dict[str, Any] = options.get("client_kwargs") or {}
    client: dict[str, Any] = {}
    if not options["allow_redirects"]:
        client["raise_for_status"] = refuse_redirect
    if not retries:
        client["timeout"] = aiohttp.ClientTimeout(total=None, sock_connect=_HTTP_CONNECT_S, sock_read=_HTTP_SILENCE_S)
    client |= given | {"headers": with_user_agent(given.get("headers") or {})}
    guarded = {} if access is None else {"get_client": access.by_proxy(options)}
    return options | guarded | {"client_kwargs": client}


def _store(scheme: str) -> str:
    """A name that all schemes of one store have in common."""
    known = known_implementations.get(scheme, {})
    return STORES.get(scheme) or known.get("class", scheme)


def names_of_one_store(scheme: str, options: Mapping[str, object]) -> list[str]:
    """The keys of `options` that mean the store of `scheme`."""
    return [name for name in options if _store(name.lower()) == _store(scheme)]


def option_faults(name: str, options: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong with the options of one scheme, a sentence each."""
    scheme, known = name.lower(), {*fsspec.available_protocols(), *STORES}
    if scheme not in known:
        near = difflib.get_close_matches(scheme, sorted(known), 1, cutoff=_LIKENESS)
        guess = f" (perhaps {near[0]})" if near else ""
        yield f"storage.options.{name}: there is no such scheme{guess}; the object stores are {', '.join(STORES)}"
    elif _store(scheme) == _store("file"):
        yield f"storage.options.{name} has no effect: local files take no options; remove it"
    first = names_of_one_store(scheme, options)[0]
    if options[first] != options[name]:
        yield f"storage.options.{first} and storage.options.{name} are one store with different options; keep one"
