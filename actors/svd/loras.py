"""LoRAs as the driver looks at them: what identifies them, and whether they fit the UNet. Needs no torch."""

from collections.abc import Callable, Sequence

from actors.checkpoints.lora_files import Place, Wanted, find, part_of_revision
from actors.checkpoints.sources import for_models
from actors.checkpoints.tensor_file import open_header
from actors.secrets import public_uri
from actors.storage import Storage
from actors.svd.lora import Changes, Shapes, parsed_config, read_changes


def revision_of(loras: Sequence[Wanted], shapes: Callable[[], Shapes | None], storage: Storage) -> str:
    """What is added to the revision of the model: content and scale of each; "" where none changes anything.

    Args:
        shapes: those of the UNet's tensors by diffusers' names; None where they cannot be read here.

    Raises:
        CheckpointError: there is no such LoRA, or it does not fit.
        StorageError: it cannot be read.
    """
    storage = for_models(storage)
    known = shapes() if loras else None
    made = ""
    for lora in loras:
        place = find(lora.source, storage)
        _read(place, lora.source, known, storage)
        made += part_of_revision(lora, place, storage)
    return made


def described(loras: Sequence[Wanted], storage: Storage) -> list[str]:
    """What each is, a line."""
    storage = for_models(storage)
    lines = []
    for lora in loras:
        found = _read(find(lora.source, storage), lora.source, None, storage)
        changed = f"layers changed: {len(found.changes)}, scale {lora.scale:g}"
        lines.append(f"LoRA {public_uri(lora.source)}: {found.format} names, {changed}")
    return lines


def _read(place: Place, source: str, shapes: Shapes | None, storage: Storage) -> Changes:
    config = None if place.config is None else parsed_config(storage.read_bytes(place.config), source)
    return read_changes(open_header(place.weights, storage, f"model.loras: {source}"), config, shapes, source)
