"""Whether a checkpoint is of SVD's published size: from its small files, or the header of its one file."""

import json
from typing import Any

from actors.checkpoints.checkpoint import small_file
from actors.checkpoints.sources import is_file
from actors.errors import StillreelError
from actors.storage import Storage
from actors.svd.checkpoint import unet_shapes

# Of `unet/config.json`, as published: what a step costs goes by these. Diffusers takes them where it says nothing.
_PUBLISHED: dict[str, Any] = {"block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2}
# The same of the UNet in a single file: as wide as its first and its last block.
_TIME_EMBEDDING = ("time_embedding.linear_1.weight", (1280, 320))


def is_full_size(source: str, *, revision: str | None, cache_dir: str | None, storage: Storage) -> bool:
    """False, too, where that cannot be known: it never fails."""
    try:
        if is_file(source):
            return _TIME_EMBEDDING in (unet_shapes(source, storage=storage) or {}).items()
        text = small_file(source, "unet/config.json", revision=revision, cache_dir=cache_dir, storage=storage)
        content = json.loads(text or b"null")
    except (StillreelError, ValueError):
        return False
    return isinstance(content, dict) and all(content.get(name, value) == value for name, value in _PUBLISHED.items())
