"""Checkpoints on the Hugging Face Hub: asked once a node, and not at all where the node has them.

What the Hub refuses for good is a CheckpointError with what to do; what may pass is tried again, and in the end the
local cache answers, or a StorageError says so.
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import huggingface_hub
from filelock import FileLock
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo

from actors.checkpoints.files import INDEX, Wanted, local_names
from actors.errors import CheckpointError, StorageError, first_line
from actors.node_cache import cache_folder
from actors.retries import Fault, causes, fault_of, retried

T = TypeVar("T")

COMMIT = re.compile(r"[0-9a-f]{40}")


def commit_of(source: str, revision: str | None, *, cache_dir: str | None, tries: int) -> str:
    """The commit of a branch or tag (None: main); from the local cache where the Hub cannot be asked.

    Raises CheckpointError and StorageError.
    """
    if revision and COMMIT.fullmatch(revision):
        return revision
    answer = _asked(source, revision, lambda: huggingface_hub.HfApi().model_info(source, revision=revision), tries)
    if isinstance(answer, ModelInfo):
        _remember(source, revision, str(answer.sha), cache_dir)
        return str(answer.sha)
    if (folder := _cached(source, revision, cache_dir)) is not None:
        return folder.name
    raise _unreachable(source, revision, answer)


def small_file(source: str, revision: str | None, name: str, *, cache_dir: str | None, tries: int) -> Path | None:
    """One file of a few KB in the Hub's local cache, fetched where it is not there; None where there is no such file.

    Raises CheckpointError and StorageError.
    """
    folder, _, file = name.rpartition("/")
    place: dict[str, Any] = {"subfolder": folder or None, "revision": revision, "cache_dir": cache_dir}

    def fetch() -> Path | None:
        try:
            return Path(huggingface_hub.hf_hub_download(source, file, **place))
        except RemoteEntryNotFoundError:
            return None

    answer = _asked(source, revision, fetch, tries)
    if not isinstance(answer, Exception):
        return answer
    if (snapshot_folder := _cached(source, revision, cache_dir)) is None:
        raise _unreachable(source, revision, answer)
    return path if (path := snapshot_folder / name).is_file() else None


def snapshot(
    source: str, revision: str | None, variant: str | None, *, cache_dir: str | None, tries: int, wanted: Wanted
) -> Path:
    """The folder in the Hub's local cache that holds the files which `variant` is loaded from.

    A commit that is there is taken without a request. Else one process of the node fetches it, the others wait.
    Raises CheckpointError and StorageError.
    """
    is_pinned = revision is not None and COMMIT.fullmatch(revision) is not None
    if is_pinned and (folder := complete(source, revision, variant, cache_dir, wanted)):
        return folder
    digest = hashlib.sha256(f"{source}\0{revision}\0{variant}".encode()).hexdigest()[:32]
    locks = cache_folder(cache_dir)
    try:
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"hub-{digest}.lock"):
            if is_pinned and (folder := complete(source, revision, variant, cache_dir, wanted)):
                return folder
            return _fetched(source, revision, variant, cache_dir, tries, wanted)
    except OSError as error:  # ours are none
        raise StorageError(f"{source} could not be fetched into {locks}: {error}") from error


def _fetched(
    source: str, revision: str | None, variant: str | None, cache_dir: str | None, tries: int, wanted: Wanted
) -> Path:
    def fetch() -> Path:
        model = huggingface_hub.HfApi().model_info(source, revision=revision)
        files = wanted([file.rfilename for file in model.siblings or []], variant, source)
        return Path(
            huggingface_hub.snapshot_download(source, revision=model.sha, cache_dir=cache_dir, allow_patterns=files)
        )

    answer = _asked(source, revision, fetch, tries)
    if isinstance(answer, Path):
        return answer
    if folder := complete(source, revision, variant, cache_dir, wanted):
        return folder
    raise _unreachable(source, revision, answer)


def _asked(source: str, revision: str | None, ask: Callable[[], T], tries: int) -> T | Exception:
    """What the Hub answers; where it cannot be reached, or has too much to do for long, the reason.

    Raises CheckpointError where it refuses.
    """
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what it tries again, the end of this says better

    def once() -> T | Exception:
        try:
            return ask()
        except OfflineModeIsEnabled as raised:  # by the environment: another try would be no other
            offline: Exception = raised
            return offline

    try:
        return retried(once, tries)
    except (OSError, HTTPError) as raised:
        error: Exception = raised
        chain = list(causes(error))
        if any(isinstance(cause, OfflineModeIsEnabled) for cause in chain):
            return error
        refusal = next((cause for cause in chain if isinstance(cause, HfHubHTTPError)), None)
        if refusal is not None and fault_of(error) is Fault.LASTING:
            raise CheckpointError(_refused(source, revision, refusal)) from error
        return error


def _refused(source: str, revision: str | None, error: HfHubHTTPError) -> str:
    place = f"model.source={source}"
    if isinstance(error, GatedRepoError):
        return (
            f"{place} is gated: accept its licence at https://huggingface.co/{source}, and set HF_TOKEN to a token of "
            "that account, for the driver and the workers"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{place} has no revision {revision}: correct model.revision"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{place}: {_no_folder(source)}, and there is no such model on the Hugging Face Hub, or it is private; "
            "check the name, or set HF_TOKEN"
        )
    said = first_line(error)
    return f"{place} (revision {revision or 'main'}): the Hugging Face Hub refuses it; check HF_TOKEN: {said}"


def _unreachable(source: str, revision: str | None, reason: Exception) -> CheckpointError | StorageError:
    place = f"model.source={source} (revision {revision or 'main'})"
    if any(isinstance(cause, HfHubHTTPError) for cause in causes(reason)):
        return StorageError(
            f"{place}: the Hugging Face Hub cannot answer now, and its local cache does not hold it; run it again "
            f"later: {first_line(reason)}"
        )
    why = "cannot be reached"
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in causes(reason)):
        why = "is not asked (HF_HUB_OFFLINE)"
    return CheckpointError(
        f"{place}: {_no_folder(source)}, the Hugging Face Hub {why} and its local cache does not hold it; correct the "
        "path, or fetch the checkpoint where there is a network and set model.source to its folder"
    )


def _remember(source: str, revision: str | None, commit: str, cache_dir: str | None) -> None:
    """Note in the local cache what a branch or tag is, as its own layout has it: offline it is looked up there."""
    cache = Path(cache_dir or huggingface_hub.constants.HF_HUB_CACHE).expanduser()
    note = (
        cache
        / f"models--{source.replace('/', '--')}"
        / "refs"
        / (revision or huggingface_hub.constants.DEFAULT_REVISION)
    )
    with suppress(OSError):  # a cache that is only read
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(commit)


def _cached(source: str, revision: str | None, cache_dir: str | None) -> Path | None:
    """The snapshot in the local cache, whole or not."""
    index = huggingface_hub.try_to_load_from_cache(source, INDEX, cache_dir=cache_dir, revision=revision)
    return Path(index).parent if isinstance(index, str) else None


def complete(
    source: str, revision: str | None, variant: str | None, cache_dir: str | None, wanted: Wanted
) -> Path | None:
    """The snapshot in the local cache, if it has all files that `variant` is loaded from."""
    folder = _cached(source, revision, cache_dir)
    if folder is None:
        return None
    with suppress(CheckpointError, OSError, ValueError):
        files = wanted(local_names(folder), variant, source)
        shards = [shard for name in files if name.endswith(".json") for shard in _shards(folder / name)]
        if all(shard.is_file() for shard in shards):
            return folder
    return None


def _shards(index: Path) -> list[Path]:
    """The files that an index of shards names; none of another JSON file."""
    content = json.loads(index.read_text())
    names = content.get("weight_map", {}).values() if isinstance(content, dict) else ()
    return [index.with_name(name) for name in set(names)]


def _no_folder(source: str) -> str:
    return f"there is no folder {Path(source).expanduser().absolute()}"
