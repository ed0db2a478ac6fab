"""An SVD checkpoint, wherever it is: in diffusers layout (`actors.checkpoints`), or a single file (`single_file`)."""

import json
from pathlib import Path

from actors.checkpoints import checkpoint
from actors.checkpoints.files import INDEX
from actors.checkpoints.sources import is_file, is_on_hub, refuse_page, tidied
from actors.errors import CheckpointError
from actors.node_cache import cache_folder
from actors.storage import Storage
from actors.svd import single_file
from actors.svd.layout import wanted_files

_PIPELINE = "StableVideoDiffusionPipeline"


def locate(
    source: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | None = None,
    storage: Storage | None = None,
) -> Path:
    """The folder of this machine that holds the checkpoint; what is remote is fetched, and a file converted, once.

    Args, and what it raises, as of `actors.checkpoints.checkpoint.locate`; `source` may be path or URI of a single
    .safetensors file, too.
    """
    if _is_file(source, revision, variant):
        return single_file.converted_once(tidied(source), cache_folder(cache_dir), storage or Storage())
    return checkpoint.locate(
        source, revision=revision, variant=variant, cache_dir=cache_dir, storage=storage, wanted=wanted_files
    )


def revision_of(
    source: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | None = None,
    storage: Storage | None = None,
) -> str:
    """What identifies the checkpoint's content, as `actors.checkpoints.checkpoint.revision_of`; of a file, too."""
    if _is_file(source, revision, variant):
        return single_file.revision_of(tidied(source), cache_folder(cache_dir), storage or Storage())
    return checkpoint.revision_of(
        source, revision=revision, variant=variant, cache_dir=cache_dir, storage=storage, wanted=wanted_files
    )


def _is_file(source: str, revision: str | None, variant: str | None) -> bool:
    """Whether it is a single file, which is there and may be read. Raises CheckpointError and ConfigError."""
    source = tidied(source)
    refuse_page(source)
    if not is_file(source):
        return False
    single_file.check_place(source)
    single_file.check_settings(source, revision, variant)
    return True


def unet_shapes(
    source: str, *, variant: str | None = None, storage: Storage | None = None
) -> dict[str, tuple[int, ...]] | None:
    """The shapes of the UNet's tensors, by diffusers' names, of a checkpoint that there is; None for one on the Hub.

    Raises CheckpointError and StorageError.
    """
    storage, source = storage or Storage(), tidied(source)
    if is_on_hub(source):
        return None
    if is_file(source):
        return single_file.unet_shapes(source, storage)
    names = checkpoint.wanted_names(source, variant, wanted_files, storage)
    found = checkpoint.headers(source, [name for name in names if name.startswith("unet/")], storage, f"{source}/")
    return {name: entry.shape for header in found.values() for name, entry in header.tensors.items()}


def check_is_svd(source: str, storage: Storage) -> None:
    """Raise CheckpointError for a folder or URI whose index names another pipeline of diffusers."""
    source = tidied(source)
    if is_on_hub(source) or is_file(source):
        return
    content = checkpoint.small_file(source, INDEX, revision=None, cache_dir=None, storage=storage)
    try:
        kind = json.loads(content or b"{}").get("_class_name", _PIPELINE)
    except (ValueError, AttributeError):
        return  # damaged, as its reader says
    if kind != _PIPELINE:
        raise CheckpointError(
            f"model.source={source} is a {kind}, not Stable Video Diffusion ({_PIPELINE}): set generator=diffusers"
        )
