"""Which files of a checkpoint in diffusers layout are loaded, of whatever pipeline."""

import re
from collections.abc import Collection

from actors.checkpoints.files import INDEX, check_index
from actors.errors import CheckpointError

# Configurations, tokenizers (vocabularies, merges, sentencepiece models, chat templates) and weights of the components.
_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".safetensors")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")


def wanted_files(names: Collection[str], variant: str | None, where: str, *, components: Collection[str]) -> list[str]:
    """Those of `names` that are loaded, sorted: of each component the variant, where it has one, else the plain files.

    Args, and what it raises, as of `actors.svd.layout.wanted_files`; `components` are those that the index names.
    """
    check_index(names, where, "an image-to-video")
    found, has_variant = [INDEX], variant is None
    for component in sorted(components):
        inside = [name for name in names if name.startswith(f"{component}/") and name.count("/") == 1]
        own = [name for name in inside if name.endswith(_SUFFIXES)]
        if not own:
            raise CheckpointError(f"{where} is not complete: there is no {component}; copy the checkpoint again")
        weights = {name: _variant(name) for name in own if ".safetensors" in name}
        chosen = variant if variant in weights.values() else None
        has_variant |= variant is not None and chosen == variant
        loaded = [name for name in weights if weights[name] == chosen]
        if weights or f"{component}/config.json" in inside:  # a network, and no tokenizer or scheduler
            _check_weights(component, loaded, inside, where)
        found += [name for name in own if name not in weights or name in loaded]
    if not has_variant:
        raise CheckpointError(f"{where} has no weights for model.variant={variant}: set it to null for the plain files")
    return sorted(found)


def _check_weights(component: str, loaded: Collection[str], inside: Collection[str], where: str) -> None:
    """Raise CheckpointError where a network's weights are not there, or not all of them."""
    if not any(name.endswith(".safetensors") for name in loaded):
        if any(name.endswith(_PICKLES) for name in inside):
            raise CheckpointError(
                f"{where} holds the weights of {component} as pickle files only, which can run code; save it again "
                "with safe_serialization=True"
            )
        raise CheckpointError(f"{where} is not complete: {component} has no .safetensors; copy the checkpoint again")
    if f"{component}/config.json" not in inside:
        raise CheckpointError(f"{where} is not complete: {component} has no config.json; copy the checkpoint again")
    shards = [match for name in loaded if name.endswith(".safetensors") and (match := _SHARD.search(name))]
    if shards and len({match[1] for match in shards}) != int(shards[0][2]):
        said = f"{len(shards)} of {int(shards[0][2])} files of {component} are there"
        raise CheckpointError(f"{where} is not complete: {said}; copy the checkpoint again")


def _variant(name: str) -> str | None:
    """`fp16` of `model.fp16.safetensors`, of its shards and of their index; None of plain files."""
    stem = _SHARD.sub("", name.rpartition("/")[2])
    stem = stem.removesuffix(".json").replace(".index", "").replace(".safetensors", "")
    _, dot, variant = stem.partition(".")
    return variant if dot else None
