"""fsspec's options: what may be wrong with them, what we add, and the filesystem of a URI."""

import difflib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import fsspec
from fsspec.registry import known_implementations

from actors.errors import StorageError
from actors.transfers import refuse_redirect
from actors.uris import S3, WEB, is_local, local_path, scheme_in
from actors.web import WebAccess, as_asked, with_user_agent

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

    from actors.guarded_web import guarded_session

    # Which addresses may be read is judged by the URI: a server must not choose another one, inside the network.
    options = {"allow_redirects": False} | options | {"encoded": True}
    given: dict[str, Any] = options.get("client_kwargs") or {}
    client: dict[str, Any] = {}
    if not options["allow_redirects"]:
        client["raise_for_status"] = refuse_redirect
    if not retries:
        client["timeout"] = aiohttp.ClientTimeout(total=None, sock_connect=_HTTP_CONNECT_S, sock_read=_HTTP_SILENCE_S)
    client |= given | {"headers": with_user_agent(given.get("headers") or {})}
    guarded = {} if access is None else {"get_client": partial(guarded_session, access.by_proxy(options))}
    return options | guarded | {"client_kwargs": client}


def _store(scheme: str) -> str:
    """A name that all schemes of one store have in common."""
    known = known_implementations.get(scheme, {})
    return STORES.get(scheme) or known.get("class", scheme)


def names_of_one_store(scheme: str, options: Mapping[str, object]) -> list[str]:
    """The keys of `options` that mean the store of `scheme`."""
    return [name for name in options if _store(name.lower()) == _store(scheme)]


def locate(
    uri: str, store_options: Mapping[str, Mapping[str, Any]], access: WebAccess | None, *, retries: bool
) -> tuple[Any, str]:
    """The filesystem of `uri` and the path in it; fsspec keeps the filesystems, one per thread and options.

    Without `retries` S3's clients try once: botocore's five times within s3fs's five, within ours, would turn one
    request to a dead store into a hundred and many minutes.
    """
    if is_local(uri):
        return fsspec.filesystem("file"), str(local_path(uri))
    scheme = scheme_in(uri)
    # fsspec's listings cache would hide what other workers write.
    options: dict[str, Any] = {"use_listings_cache": False}
    for name in names_of_one_store(scheme, store_options):
        options |= store_options[name]
    if not retries and scheme in S3:
        options["config_kwargs"] = {"retries": {"total_max_attempts": 1}} | options.get("config_kwargs", {})
    if scheme in WEB:
        return fsspec.filesystem(scheme, **http_options(options, retries=retries, access=access)), as_asked(uri)
    filesystem, path = fsspec.core.url_to_fs(uri, **options)
    if not retries and scheme in S3:
        filesystem.retries = 1  # s3fs has no argument for it
    return filesystem, path


def refuse_torn_writes(uri: str) -> None:
    """Raise StorageError for a store that does not replace a file at once."""
    scheme = scheme_in(uri)
    if scheme in STORES:
        return
    stores = ", ".join(name + "://" for name in STORES)
    why, instead = "cannot replace a file at once", f"write to a local folder or to one of {stores}"
    if scheme == "hf":
        why = "makes a commit of each file, and the Hub allows some hundred an hour"
        instead += ", and upload the finished dataset with `hf upload-large-folder`"
    raise StorageError(f"{uri} could not be written: {scheme}:// {why}; {instead}")


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
