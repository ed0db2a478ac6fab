"""Where an SVD checkpoint is, and what identifies it: a local folder, a Hugging Face id or any fsspec URI."""

import os
import posixpath
import re
import shutil
from pathlib import Path

import huggingface_hub
from filelock import FileLock
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError
from huggingface_hub.hf_api import ModelInfo

from actors.errors import CheckpointError, ConfigError, StorageError, first_line
from actors.fingerprint import StorageOptions, fingerprint_folder
from actors.storage import Storage
from actors.svd import layout

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")

# Half of a SHA-256: short enough to read in a path, and no two checkpoints of one node ever share it.
_CACHE_NAME_DIGITS = 32


def locate(
    source: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | None = None,
    storage_options: StorageOptions | None = None,
) -> Path:
    """The folder of this machine that holds the checkpoint; what is remote is fetched, once per node.

    Args:
        source: local folder (used as it is), `owner/name` on the Hugging Face Hub, or fsspec URI of a folder. An
            existing folder goes before a Hub id of the same name.
        revision: branch, tag or commit; only for the Hub.
        variant: e.g. "fp16"; only its files are fetched. None: the plain files.
        cache_dir: where fetched checkpoints are kept; None: the Hub's own cache, and `~/.cache/stillreel` for URIs.
        storage_options: fsspec's options per scheme.

    Raises:
        CheckpointError: there is no such checkpoint, or it is not complete.
        ConfigError: a revision is given for something that has none.
        StorageError: an object could not be read, or the cache not written.
    """
    _check_source(source, revision)
    if is_on_hub(source):
        return _download(source, revision, variant, cache_dir)
    if Storage.scheme(source):
        return _fetch_once(source, variant, cache_folder(cache_dir), storage_options)
    return Path(source).expanduser()


def revision_of(
    source: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    storage_options: StorageOptions | None = None,
) -> str:
    """What identifies the checkpoint's content; loads nothing, and reads a few MB at most of large files.

    For the Hub this is the commit (40 hex digits), for folders and URIs a fingerprint of the files that `variant` is
    loaded from (64 hex digits): the same after a move, another one after training.

    Raises as `locate` does.
    """
    _check_source(source, revision)
    if is_on_hub(source):
        return revision if revision and _COMMIT.fullmatch(revision) else _resolve(source, revision)
    names = layout.wanted_files(_file_names(source, storage_options), variant, source)
    return fingerprint_folder(Storage.absolute(source), names, storage_options)


def is_on_hub(source: str) -> bool:
    """Whether it is to be looked for on the Hugging Face Hub: neither a folder of this machine nor a URI."""
    return not Path(source).expanduser().is_dir() and not Storage.scheme(source)


def _check_source(source: str, revision: str | None) -> None:
    """Raise CheckpointError for what can be no checkpoint, ConfigError for a revision of what has none."""
    if not is_on_hub(source) and revision is not None:
        raise ConfigError(f"model.revision={revision} has no meaning for {source}: only Hugging Face ids have one")
    if is_on_hub(source) and not _HUB_ID.fullmatch(source):
        raise CheckpointError(
            f"model.source={source}: there is no such folder, and it is neither a URI (s3://...) nor a Hugging Face id"
        )


def _hub_model(source: str, revision: str | None) -> ModelInfo | None:
    """What the Hub says about the model; None when the Hub cannot be reached."""
    try:
        return huggingface_hub.HfApi().model_info(source, revision=revision)
    except HfHubHTTPError as error:  # the Hub has answered, with a no
        raise CheckpointError(
            f"model.source={source} (revision {revision or 'main'}): {_no_folder(source)}, and the Hugging Face Hub "
            f"refuses it; check the name, or set HF_TOKEN if it is private or gated: {first_line(error)}"
        ) from error
    except (OSError, HTTPError):
        return None


def _resolve(source: str, revision: str | None) -> str:
    """The commit of a branch or tag (None: main); from the local cache when the Hub cannot be reached."""
    if model := _hub_model(source, revision):
        return str(model.sha)
    return _cached_snapshot(source, revision, None, [layout.INDEX]).name


def _download(source: str, revision: str | None, variant: str | None, cache_dir: str | None) -> Path:
    """The Hub's snapshot in its local cache, with only the files that `variant` is loaded from."""
    model = _hub_model(source, revision)
    if model is None:
        return _cached_snapshot(source, revision, cache_dir, layout.wanted_patterns(variant))
    files = layout.wanted_files([file.rfilename for file in model.siblings or []], variant, source)
    try:
        return Path(
            huggingface_hub.snapshot_download(source, revision=model.sha, cache_dir=cache_dir, allow_patterns=files)
        )
    except (OSError, HTTPError) as error:
        raise CheckpointError(f"{source} could not be downloaded: {first_line(error)}") from error


def _cached_snapshot(source: str, revision: str | None, cache_dir: str | None, patterns: list[str]) -> Path:
    try:
        return Path(
            huggingface_hub.snapshot_download(
                source, revision=revision, cache_dir=cache_dir, allow_patterns=patterns, local_files_only=True
            )
        )
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"model.source={source} (revision {revision or 'main'}): {_no_folder(source)}, the Hugging Face Hub cannot "
            "be reached and its local cache does not hold it; correct the path, or fetch the checkpoint where there is "
            "a network and set model.source to its folder"
        ) from error


def _fetch_once(uri: str, variant: str | None, cache: Path, storage_options: StorageOptions | None) -> Path:
    """The copy in `cache`, made by whichever process of the node comes first; retrained weights get a new one."""
    names = layout.wanted_files(_file_names(uri, storage_options), variant, uri)
    target = cache / fingerprint_folder(uri, names, storage_options)[:_CACHE_NAME_DIGITS]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.is_dir():
                _copy({name: Storage.join(uri, name) for name in names}, target, Storage(storage_options or {}))
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


def _file_names(folder: str, storage_options: StorageOptions | None) -> list[str]:
    """All files below a folder or a URI, relative to it."""
    storage, folder = Storage(storage_options or {}), Storage.absolute(folder)
    base = storage.native_path(folder)
    return [posixpath.relpath(storage.native_path(file), base) for file in storage.walk(folder)]


def cache_folder(cache_dir: str | None) -> Path:
    """Where this node keeps what it has fetched or compiled."""
    return (
        Path(cache_dir) if cache_dir else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stillreel"
    )


def _no_folder(source: str) -> str:
    return f"there is no folder {Path(source).expanduser().absolute()}"
