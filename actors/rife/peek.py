"""What the driver asks of RIFE weights: without torch, which takes seconds to import, and without running a pickle."""

from pathlib import Path

from actors.checkpoints.sources import for_models
from actors.errors import CheckpointError
from actors.rife.memory import COUNTED_BYTES_PER_PIXEL, HEAVY, HEAVY_BYTES_PER_PIXEL
from actors.rife.shapes import shapes_in
from actors.rife.signatures import BRANCHES, shown_by, to_our_names
from actors.storage import Storage
from actors.uris import without_query


def knows_the_middle_alone(weights: str, storage: Storage) -> bool:
    """Whether these are weights of HDv3, which makes no other time than 1/2; False where they cannot be read.

    HDv3 alone makes its mask apart from its flow. ncnn's files have no names, and none of them is HDv3's.
    """
    shapes = shapes_in(weights, for_models(storage))
    return shapes is not None and BRANCHES in to_our_names(shapes)


def refuse_unsupported(weights: str, storage: Storage) -> None:
    """Raise CheckpointError for weights that no worker could use, as that one would; what cannot be read is passed.

    So is what is on the web, where it would be a download of its own.
    """
    if storage.scheme(weights) in ("http", "https"):
        return
    shapes = shapes_in(weights, for_models(storage))
    if shapes is not None:
        shown_by(to_our_names(shapes), None, Path(without_query(weights)))


def counted_bytes_per_pixel(weights: str | None, storage: Storage) -> int:
    """The most that tensors take in a call, for each pixel of each pair; of weights that tell no version, the usual."""
    shapes = shapes_in(weights, for_models(storage)) if weights else None
    if weights is None or shapes is None:
        return COUNTED_BYTES_PER_PIXEL
    try:
        shown = shown_by(to_our_names(shapes), None, Path(weights))
    except CheckpointError:
        return COUNTED_BYTES_PER_PIXEL
    is_heavy = not isinstance(shown, int) and shown.name == HEAVY
    return HEAVY_BYTES_PER_PIXEL if is_heavy else COUNTED_BYTES_PER_PIXEL
