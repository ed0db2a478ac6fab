"""Where a checkpoint is, and what identifies it: a folder, a Hugging Face id, any fsspec URI, or a single file."""

import json
import posixpath
import re
import shutil
from pathlib import Path

from actors.errors import CheckpointError, ConfigError
from actors.fingerprint import fingerprint_folder
from actors.node_cache import CACHE_NAME_DIGITS, cache_folder, made_once
from actors.storage import NotFound, Storage
from actors.svd import layout, single_file
from actors.svd.layout import Wanted, wanted_files
from actors.svd.tensor_file import Header, open_header

_PIPELINE = "StableVideoDiffusionPipeline"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_HUB_PAGE = re.compile(r"https?://(?:www\.)?huggingface\.co/(\w[\w.-]*/\w[\w.-]*)(?:/.*)?")


def locate(
    source: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | None = None,
    storage: Storage | None = None,
    wanted: Wanted = wanted_files,
) -> Path:
    """The folder of this machine that holds the checkpoint; what is remote is fetched, once per node.

    Args:
        source: local folder (used as it is), `owner/name` on the Hugging Face Hub, fsspec URI of a folder, or path or
            URI of a single .safetensors file (`single_file`). An existing folder goes before a Hub id of the same name.
        revision: branch, tag or commit; only for the Hub.
        variant: e.g. "fp16"; only its files are fetched. None: the plain files.
        cache_dir: where fetched and converted checkpoints are kept; None: the Hub's own cache, and
            `~/.cache/stillreel` for URIs and files.
        storage: how URIs are reached, and how often the Hub is tried.
        wanted: which of a checkpoint's files are loaded.

    Raises:
        CheckpointError: there is no such checkpoint, or it is not complete.
        ConfigError: a revision is given for something that has none.
        StorageError: an object could not be read, or the cache not written.
    """
    storage, source = storage or Storage(), tidied(source)
    _check_source(source, revision)
    if single_file.is_one(source):
        single_file.check_settings(source, revision, variant)
        return single_file.converted_once(source, cache_folder(cache_dir), storage)
    if is_on_hub(source):
        from actors.svd import hub  # the Hub's client takes a fifth of a second to import

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
    wanted: Wanted = wanted_files,
) -> str:
    """What identifies the checkpoint's content; loads nothing, and reads a few MB at most of large files.

    For the Hub this is the commit (40 hex digits), for all else a fingerprint of the files that are loaded (64 hex
    digits): the same after a move, another one after training.

    Raises as `locate` does.
    """
    storage, source = storage or Storage(), tidied(source)
    _check_source(source, revision)
    if single_file.is_one(source):
        single_file.check_settings(source, revision, variant)
        return single_file.revision_of(source, cache_folder(cache_dir), storage)
    if is_on_hub(source):
        from actors.svd import hub

        return hub.commit_of(source, revision, cache_dir=cache_dir, tries=storage.tries)
    names = wanted(_file_names(source, storage), variant, source)
    return fingerprint_folder(Storage.absolute(source), names, storage)


def unet_shapes(
    source: str, *, variant: str | None = None, storage: Storage | None = None
) -> dict[str, tuple[int, ...]] | None:
    """The shapes of the UNet's tensors, by diffusers' names, of a checkpoint that there is; None for one on the Hub.

    Raises CheckpointError and StorageError.
    """
    storage, source = storage or Storage(), tidied(source)
    if is_on_hub(source):
        return None
    if single_file.is_one(source):
        return single_file.unet_shapes(source, storage)
    names = layout.wanted_files(_file_names(source, storage), variant, source)
    files = [name for name in names if name.startswith("unet/") and name.endswith(".safetensors")]
    headers = (open_header(Storage.join(Storage.absolute(source), name), storage, f"{source}/{name}") for name in files)
    return {name: entry.shape for header in headers for name, entry in header.tensors.items()}


def small_file(
    source: str, name: str, *, revision: str | None, cache_dir: str | None, storage: Storage
) -> bytes | None:
    """The content of a checkpoint's file of a few KB, such as a network's `config.json`; None where there is none.

    Raises CheckpointError, ConfigError and StorageError as `locate` does.
    """
    source = tidied(source)
    _check_source(source, revision)
    if is_on_hub(source):
        from actors.svd import hub

        path = hub.small_file(source, revision, name, cache_dir=cache_dir, tries=storage.tries)
        return None if path is None else path.read_bytes()
    try:
        return storage.read_bytes(Storage.join(Storage.absolute(source), name))
    except NotFound:
        return None


def check_whole(source: str, variant: str | None, wanted: Wanted, storage: Storage) -> None:
    """Raise CheckpointError for weights in a folder, or at a URI, that are shorter or longer than they say."""
    if not is_on_hub(source):
        headers_of(source, variant=variant, storage=storage, wanted=wanted)


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
        from actors.svd import hub

        folder = hub.complete(source, revision, variant, cache_dir, wanted)
        if folder is None:
            return None
        source = str(folder)
    place, names = Storage.absolute(source), wanted(_file_names(source, storage), variant, source)
    return {
        name: open_header(Storage.join(place, name), storage, f"model.source={source}: {name}")
        for name in names
        if name.endswith(".safetensors")
    }


def check_is_svd(source: str, storage: Storage) -> None:
    """Raise CheckpointError for a folder or URI whose index names another pipeline of diffusers."""
    source = tidied(source)
    if is_on_hub(source) or single_file.is_one(source):
        return
    content = small_file(source, layout.INDEX, revision=None, cache_dir=None, storage=storage)
    try:
        kind = json.loads(content or b"{}").get("_class_name", _PIPELINE)
    except (ValueError, AttributeError):
        return  # damaged, as its reader says
    if kind != _PIPELINE:
        raise CheckpointError(
            f"model.source={source} is a {kind}, not Stable Video Diffusion ({_PIPELINE}): set generator=diffusers"
        )


def tidied(source: str) -> str:
    """Without white space and slashes at its end."""
    bare = source.strip()
    return bare.rstrip("/") or bare


def is_on_hub(source: str) -> bool:
    """Whether it is to be looked for on the Hugging Face Hub: neither a path of this machine nor a URI."""
    source = tidied(source)
    return not Storage.scheme(source) and not (source and _is_path(source))


def _is_path(source: str) -> bool:
    """Whether it can be nothing but a path, or there is something at it."""
    return source.startswith(("/", "~", ".")) or single_file.is_one(source) or Path(source).exists()


def _check_source(source: str, revision: str | None) -> None:
    """Raise CheckpointError for what can be no checkpoint, ConfigError for a revision of what has none."""
    if page := _HUB_PAGE.fullmatch(source):
        raise CheckpointError(
            f"model.source={source} is a page: name the model by its id, model.source={page[1]}, or download the file "
            "and name its path"
        )
    if single_file.is_one(source):
        single_file.check_place(source)
        return
    if is_on_hub(source) and not _HUB_ID.fullmatch(source):
        raise CheckpointError(
            f"model.source={source}: there is no such folder, and it is neither a URI (s3://...) nor a Hugging Face id"
        )
    if Storage.is_local(source) and not is_on_hub(source) and not Path(Storage.absolute(source)).is_dir():
        raise CheckpointError(f"model.source={source}: there is no such folder ({Storage.absolute(source)})")
    if not is_on_hub(source) and revision is not None:
        raise ConfigError(f"model.revision={revision} has no meaning for {source}: only Hugging Face ids have one")


def _copied_once(uri: str, names: list[str], cache: Path, storage: Storage) -> Path:
    """The copy of these files in `cache`; retrained weights get a new one."""
    folder = cache / fingerprint_folder(uri, names, storage)[:CACHE_NAME_DIGITS]
    files = {name: Storage.join(uri, name) for name in names}
    return made_once(folder, lambda partial: _copy(files, partial, storage), what=uri, done="copied")


def _copy(files: dict[str, str], folder: Path, storage: Storage) -> None:
    """Copy each URI to its name below `folder`."""
    for name, uri in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with storage.open(uri) as source, path.open("wb") as copy:
            shutil.copyfileobj(source, copy)


def _file_names(folder: str, storage: Storage) -> list[str]:
    """All files of a checkpoint's folder or URI, relative to it."""
    if Storage.is_local(folder):
        return layout.local_names(Path(Storage.absolute(folder)))
    base = storage.native_path(folder)
    return [posixpath.relpath(storage.native_path(file), base) for file in storage.walk(folder)]
