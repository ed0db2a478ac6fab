"""Where an SVD checkpoint is, and what identifies it: a local folder, a Hugging Face id or any fsspec URI."""

import posixpath
import re
import shutil
from pathlib import Path

from filelock import FileLock

from actors.errors import CheckpointError, ConfigError, StorageError
from actors.fingerprint import fingerprint_folder
from actors.node_cache import cache_folder
from actors.storage import Storage
from actors.svd import layout
from actors.uris import without_query

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_HUB_PAGE = re.compile(r"https?://(?:www\.)?huggingface\.co/(\w[\w.-]*/\w[\w.-]*)(?:/.*)?")
_FILE = re.compile(r"\.(safetensors|ckpt|pth?|bin|gguf|pkl|onnx|sft)$", re.IGNORECASE)

# Half of a SHA-256: short enough to read in a path, and no two checkpoints of one node ever share it.
_CACHE_NAME_DIGITS = 32


def locate(
    source: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | None = None,
    storage: Storage | None = None,
) -> Path:
    """The folder of this machine that holds the checkpoint; what is remote is fetched, once per node.

    Args:
        source: local folder (used as it is), `owner/name` on the Hugging Face Hub, or fsspec URI of a folder. An
            existing folder goes before a Hub id of the same name.
        revision: branch, tag or commit; only for the Hub.
        variant: e.g. "fp16"; only its files are fetched. None: the plain files.
        cache_dir: where fetched checkpoints are kept; None: the Hub's own cache, and `~/.cache/stillreel` for URIs.
        storage: how URIs are reached, and how often the Hub is tried.

    Raises:
        CheckpointError: there is no such checkpoint, or it is not complete.
        ConfigError: a revision is given for something that has none.
        StorageError: an object could not be read, or the cache not written.
    """
    storage, source = storage or Storage(), tidied(source)
    _check_source(source, revision)
    if is_on_hub(source):
        from actors.svd import hub  # the Hub's client takes a fifth of a second to import

        return hub.snapshot(source, revision, variant, cache_dir=cache_dir, tries=storage.tries)
    if Storage.is_local(source):
        return Path(Storage.absolute(source))
    return _fetch_once(source, variant, cache_folder(cache_dir), storage)


def revision_of(
    source: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | None = None,
    storage: Storage | None = None,
) -> str:
    """What identifies the checkpoint's content; loads nothing, and reads a few MB at most of large files.

    For the Hub this is the commit (40 hex digits), for folders and URIs a fingerprint of the files that `variant` is
    loaded from (64 hex digits): the same after a move, another one after training.

    Raises as `locate` does.
    """
    storage, source = storage or Storage(), tidied(source)
    _check_source(source, revision)
    if is_on_hub(source):
        from actors.svd import hub

        return hub.commit_of(source, revision, cache_dir=cache_dir, tries=storage.tries)
    names = layout.wanted_files(_file_names(source, storage), variant, source)
    return fingerprint_folder(Storage.absolute(source), names, storage)


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
    return source.startswith(("/", "~", ".")) or _FILE.search(source) is not None or Path(source).exists()


def _check_source(source: str, revision: str | None) -> None:
    """Raise CheckpointError for what can be no checkpoint, ConfigError for a revision of what has none."""
    if page := _HUB_PAGE.fullmatch(source):
        raise CheckpointError(f"model.source={source} is a page: name the model by its id, model.source={page[1]}")
    if _FILE.search(without_query(source)) or (Storage.is_local(source) and Path(Storage.absolute(source)).is_file()):
        raise CheckpointError(_single_file(source))
    if is_on_hub(source) and not _HUB_ID.fullmatch(source):
        raise CheckpointError(
            f"model.source={source}: there is no such folder, and it is neither a URI (s3://...) nor a Hugging Face id"
        )
    if Storage.is_local(source) and not is_on_hub(source) and not Path(Storage.absolute(source)).is_dir():
        raise CheckpointError(f"model.source={source}: there is no such folder ({Storage.absolute(source)})")
    if not is_on_hub(source) and revision is not None:
        raise ConfigError(f"model.revision={revision} has no meaning for {source}: only Hugging Face ids have one")


def _single_file(source: str) -> str:
    is_missing = Storage.is_local(source) and not Path(Storage.absolute(source)).exists()
    return (
        f"model.source={source} is a single file{' (and there is none)' if is_missing else ''}, as other programs load "
        "it; needed is a folder in diffusers layout (model_index.json, unet/, vae/, image_encoder/, ...): such as "
        "stabilityai/stable-video-diffusion-img2vid-xt on the Hugging Face Hub, or, for weights of your own, a copy of "
        "that folder with the UNet that diffusers' scripts/convert_svd_to_diffusers.py makes of this file in unet/"
    )


def _fetch_once(uri: str, variant: str | None, cache: Path, storage: Storage) -> Path:
    """The copy in `cache`, made by whichever process of the node comes first; retrained weights get a new one."""
    names = layout.wanted_files(_file_names(uri, storage), variant, uri)
    target = cache / fingerprint_folder(uri, names, storage)[:_CACHE_NAME_DIGITS]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.is_dir():
                _copy({name: Storage.join(uri, name) for name in names}, target, storage)
    except OSError as error:
        raise StorageError(f"{uri} could not be copied to {target}: {error}") from error
    return target


def _copy(files: dict[str, str], target: Path, storage: Storage) -> None:
    """Copy each URI to its name below `target`, which appears when all are there."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # the caller holds the lock, so this one's owner was killed
    for name, uri in files.items():
        path = partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with storage.open(uri) as source, path.open("wb") as copy:
            shutil.copyfileobj(source, copy)
    partial.rename(target)


def _file_names(folder: str, storage: Storage) -> list[str]:
    """All files of a checkpoint's folder or URI, relative to it."""
    if Storage.is_local(folder):
        return layout.local_names(Path(Storage.absolute(folder)))
    base = storage.native_path(folder)
    return [posixpath.relpath(storage.native_path(file), base) for file in storage.walk(folder)]
