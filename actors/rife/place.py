"""Where RIFE weights are: what `interpolation.weights` names, as the one file that is read.

Needs no PyTorch: the driver looks, the workers are given what it found.
"""

import posixpath
import re
from collections.abc import Sequence

from actors.errors import CheckpointError
from actors.storage import NotFound, Storage
from actors.uris import without_query

ENDINGS = (".pkl", ".pth", ".safetensors", ".param", ".bin")
# Practical-RIFE keeps `flownet.pkl` in this folder of its own.
_INNER = "train_log"
_NETWORK = re.compile(r"flownet|ifnet|rife", re.IGNORECASE)


def weights_file(uri: str, storage: Storage) -> str:
    """The file itself, or that of a folder which tools name as a whole: `train_log/flownet.pkl`, `rife-v4.6/`.

    Local paths come out absolute.

    Raises CheckpointError where it is no kind of weights, is not there, or a folder holds none or several.
    """
    uri = storage.absolute(given := uri.strip())
    if _ending(uri) in ENDINGS and not _is_local_folder(uri, storage):
        return _checked(uri, given, storage)
    folder = uri.rstrip("/") or uri
    is_web = storage.scheme(uri) in ("http", "https")
    if is_web or not storage.is_folder(folder):
        if not is_web and not storage.exists(folder):
            raise _missing(given)
        raise CheckpointError(
            f"interpolation.weights={given} is no kind of RIFE weights: {', '.join(ENDINGS[:3])}, or ncnn's .param "
            "and .bin"
        )
    inside = [name for name in _names(folder, storage) if _ending(name) in ENDINGS]
    found = _weights_among(inside) or _weights_among([n for n in inside if n.startswith(f"{_INNER}/")], _INNER)
    if len(found) != 1:
        what = f"several files of weights ({', '.join(found)})" if found else "no file of RIFE weights"
        raise CheckpointError(f"interpolation.weights={given} is a folder with {what}: name the file itself")
    return storage.join(folder, found[0])


def _checked(uri: str, given: str, storage: Storage) -> str:
    """A local file that is there; what a store holds is known when it is read."""
    if storage.is_local(uri):
        if not storage.exists(uri):
            raise _missing(given)
        if _ending(uri) in (".param", ".bin"):
            stem = uri[: -len(_ending(uri))]
            for other in (".param", ".bin"):
                if not storage.exists(stem + other):
                    raise CheckpointError(
                        f"interpolation.weights={given}: there is no {stem + other} beside it; ncnn weights are a "
                        ".param and a .bin together"
                    )
    return uri


def _missing(uri: str) -> CheckpointError:
    return CheckpointError(
        f"interpolation.weights={uri} does not exist: name a file of RIFE weights, or its folder, or null for none"
    )


def _is_local_folder(uri: str, storage: Storage) -> bool:
    return storage.is_local(uri) and storage.exists(uri) and storage.is_folder(uri)


def _names(folder: str, storage: Storage) -> list[str]:
    """Files below a folder, relative to it."""
    try:
        base = storage.native_path(folder)
        return [posixpath.relpath(storage.native_path(uri), base) for uri in storage.walk(folder)]
    except NotFound:
        return []


def _weights_among(names: Sequence[str], folder: str = "") -> list[str]:
    """Those directly in `folder`; ncnn's pair is one. Files that are called as the network is go before others."""
    own = [name for name in names if posixpath.dirname(name) == folder]
    own = [name for name in own if _ending(name) != ".bin" or _other(name, ".param") in own]
    own = [name for name in own if _ending(name) != ".bin"]
    own = [name for name in own if _ending(name) != ".param" or _other(name, ".bin") in names]
    named = [name for name in own if _NETWORK.search(posixpath.basename(name))]
    return named or own


def _other(name: str, ending: str) -> str:
    return posixpath.splitext(name)[0] + ending


def _ending(uri: str) -> str:
    return posixpath.splitext(without_query(uri))[1].lower()
