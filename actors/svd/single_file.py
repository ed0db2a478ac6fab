"""A checkpoint that is a single file: where it is, what may be said beside it, and its copy in diffusers layout."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from actors.checkpoints.sources import for_models
from actors.checkpoints.tensor_file import open_header, read_header
from actors.errors import CheckpointError, ConfigError
from actors.fingerprint import fingerprint, fingerprint_opened
from actors.node_cache import CACHE_NAME_DIGITS, made_once
from actors.storage import Storage
from actors.svd import one_file
from actors.svd.original import UNET, Depths, to_diffusers
from actors.uris import WEB, without_query

_PICKLE = re.compile(r"\.(ckpt|pth?|bin|pkl)$", re.IGNORECASE)
_READ = ".safetensors"
# Raised when the same file begins to be converted otherwise, so that what nodes keep is made anew.
_CONVERSION = "original-1"


def check_place(source: str) -> None:
    """Raise CheckpointError where it is not there, or of a kind that is not read."""
    place, name = f"model.source={source}", without_query(source)
    if Storage.is_local(source) and not Path(Storage.absolute(source)).exists():
        raise CheckpointError(f"{place}: there is no such file ({Storage.absolute(source)})")
    if _PICKLE.search(name):
        raise CheckpointError(
            f"{place} is a pickle file, which can run code, and is not read: take the same checkpoint as .safetensors "
            "(svd.safetensors, svd_xt.safetensors), or a folder in diffusers layout"
        )
    if not name.lower().endswith(_READ):
        raise CheckpointError(
            f"{place} is a single file of a kind that is not read: needed is one that ends in {_READ}, or a folder in "
            "diffusers layout"
        )


def check_settings(source: str, revision: str | None, variant: str | None) -> None:
    """Raise ConfigError for settings that have no meaning for a file."""
    given = {"model.revision": revision, "model.variant": variant}
    if meant := [name for name, value in given.items() if value is not None]:
        raise ConfigError(
            f"{' and '.join(meant)} {'have' if len(meant) > 1 else 'has'} no meaning for a single file ({source}): set "
            + " ".join(f"{name}=null" for name in meant)
        )


def revision_of(source: str, cache: Path, storage: Storage) -> str:
    """What identifies its content; what it is, is checked, unless this node has converted it already.

    Raises CheckpointError and StorageError.
    """
    with _opened(source, storage) as (file, digest):
        if not _folder(cache, digest).is_dir():
            one_file.conversion_of(read_header(file, source), source)
        return digest


def converted_once(source: str, cache: Path, storage: Storage) -> Path:
    """The folder in `cache` that it became, made by whichever process of the node comes first.

    Raises CheckpointError and StorageError.
    """
    with _opened(source, storage) as (file, digest):
        return made_once(
            _folder(cache, digest),
            lambda partial: one_file.convert(file, partial, source),
            what=source,
            done="converted",
        )


def unet_shapes(source: str, storage: Storage) -> dict[str, tuple[int, ...]]:
    """The shapes of the UNet's tensors, by diffusers' names. Raises CheckpointError and StorageError."""
    tensors = open_header(Storage.absolute(source), for_models(storage), source).tensors
    depths = Depths.of_file(tensors)
    found = {name: to_diffusers(name, depths) for name in tensors if name.startswith(UNET)}
    return {target.name: tensors[name].shape for name, targets in found.items() for target in targets}


@contextmanager
def _opened(source: str, storage: Storage) -> Iterator[tuple[IO[bytes], str]]:
    """The file, and what identifies its content; over http(s), where parts cannot be asked for, by one download."""
    storage, uri = for_models(storage), Storage.absolute(source)
    is_web = storage.scheme(uri) in WEB
    digest = "" if is_web else fingerprint(uri, storage)
    with storage.open(uri) as file:
        yield file, fingerprint_opened(file, without_query(uri)) if is_web else digest


def _folder(cache: Path, digest: str) -> Path:
    return cache / f"{digest[:CACHE_NAME_DIGITS]}-{_CONVERSION}"
