"""Where a checkpoint in diffusers layout is, and what identifies it: a folder, a Hugging Face id, any fsspec URI."""

import posixpath
import shutil
from pathlib import Path

from actors.checkpoints.files import Wanted, local_names
from actors.checkpoints.sources import check_source, is_on_hub, tidied
from actors.checkpoints.tensor_file import Header, open_header
from actors.fingerprint import fingerprint_folder
from actors.node_cache import CACHE_NAME_DIGITS, cache_folder, made_once
from actors.storage import NotFound, Storage


def locate(
    source: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | None = None,
    storage: Storage | None = None,
    wanted: Wanted,
) -> Path:
    """The folder of this machine that holds the checkpoint; what is remote is fetched, once per node.

    Args:
        source: local folder (used as it is), `owner/name` on the Hugging Face Hub, or fsspec URI of a folder. An
            existing folder goes before a Hub id of the same name.
        revision: branch, tag or commit; only for the Hub.
        variant: e.g. "fp16"; only its files are fetched. None: the plain files.
        cache_dir: where fetched checkpoints are kept; None: the Hub's own cache, and `~/.cache/stillreel` for URIs.
        storage: how URIs are reached, and how often the Hub is tried.
        wanted: which of a checkpoint's files are loaded.

    Raises:
        CheckpointError: there is no such checkpoint, or it is not complete.
        ConfigError: a revision is given for something that has none.
        StorageError: an object could not be read, or the cache not written.
    """
    storage, source = storage or Storage(), tidied(source)
    check_source(source, revision)
    if is_on_hub(source):
        from actors.checkpoints import hub  # the Hub's client takes a fifth of a second to import

        return hub.snapshot(source, revision, variant, cache_dir=cache_dir, tries=storage.tries, wanted=wanted)
    if Storage.is_local(source):
        return Path(Storage.absolute(source))
    return _copied_once(source, wanted(_file_names(source, storage), variant, source), cache_folder(cache_dir), storage)


def revision_of(
    source: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | None = None,
    storage: Storage | None = None,
    wanted: Wanted,
    whole: bool = False,
) -> str:
    """What identifies the checkpoint's content; loads nothing, and reads a few MB at most of large files.

    For the Hub this is the commit (40 hex digits), for all else a fingerprint of the files that are loaded (64 hex
    digits): the same after a move, another one after training.

    Args, and what it raises, as of `locate`. `whole`: weights in a folder, or at a URI, that are shorter or longer than
    they say are a CheckpointError, too.
    """
    storage, source = storage or Storage(), tidied(source)
    check_source(source, revision)
    if is_on_hub(source):
        from actors.checkpoints import hub

        return hub.commit_of(source, revision, cache_dir=cache_dir, tries=storage.tries)
    names = wanted(_file_names(source, storage), variant, source)
    if whole:
        headers(source, names, storage, f"model.source={source}: ")
    return fingerprint_folder(Storage.absolute(source), names, storage)


def headers(source: str, names: list[str], storage: Storage, where: str) -> dict[str, Header]:
    """Of the safetensors files among those of a folder or URI, by name. Raises CheckpointError, and StorageError.

    `where`: what stands before a file's name in an error.
    """
    folder = Storage.absolute(source)
    return {
        name: open_header(Storage.join(folder, name), storage, f"{where}{name}")
        for name in names
        if name.endswith(".safetensors")
    }


def headers_of(
    source: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | None = None,
    storage: Storage,
    wanted: Wanted,
) -> dict[str, Header] | None:
    """What each file of weights says of itself, by its name below the checkpoint, whose files are known to be whole.

    None: the checkpoint is on the Hub, and not in its local cache. Raises CheckpointError and StorageError.
    """
    source = tidied(source)
    if is_on_hub(source):
        from actors.checkpoints import hub

        folder = hub.complete(source, revision, variant, cache_dir, wanted)
        if folder is None:
            return None
        source = str(folder)
    names = wanted_names(source, variant, wanted, storage)
    return headers(source, names, storage, f"model.source={source}: ")


def wanted_names(source: str, variant: str | None, wanted: Wanted, storage: Storage) -> list[str]:
    """The files of a folder or URI that are loaded. Raises CheckpointError and StorageError."""
    source = tidied(source)
    return wanted(_file_names(source, storage), variant, source)


def small_file(
    source: str, name: str, *, revision: str | None, cache_dir: str | None, storage: Storage
) -> bytes | None:
    """The content of a checkpoint's file of a few KB, such as a network's `config.json`; None where there is none.

    Raises CheckpointError, ConfigError and StorageError as `locate` does.
    """
    source = tidied(source)
    check_source(source, revision)
    if is_on_hub(source):
        from actors.checkpoints import hub

        path = hub.small_file(source, revision, name, cache_dir=cache_dir, tries=storage.tries)
        return None if path is None else path.read_bytes()
    try:
        return storage.read_bytes(Storage.join(Storage.absolute(source), name))
    except NotFound:
        return None


def _copied_once(uri: str, names: list[str], cache: Path, storage: Storage) -> Path:
    """The copy of these files in `cache`; retrained weights get a new one."""
    folder = cache / fingerprint_folder(uri, names, storage)[:CACHE_NAME_DIGITS]
    places = {name: Storage.join(uri, name) for name in names}
    return made_once(folder, lambda partial: _copy(places, partial, storage), what=uri, done="copied")


def _copy(places: dict[str, str], folder: Path, storage: Storage) -> None:
    """Copy each URI to its name below `folder`."""
    for name, uri in places.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with storage.open(uri) as source, path.open("wb") as copy:
            shutil.copyfileobj(source, copy)


def _file_names(folder: str, storage: Storage) -> list[str]:
    """All files of a checkpoint's folder or URI, relative to it."""
    if Storage.is_local(folder):
        return local_names(Path(Storage.absolute(folder)))
    base = storage.native_path(folder)
    return [posixpath.relpath(storage.native_path(file), base) for file in storage.walk(folder)]
