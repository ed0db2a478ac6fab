"""Which files make an SVD checkpoint in diffusers layout, and what to say when some are not there.

Only names are looked at here, so that a folder, an object store and the Hugging Face Hub are judged alike.
"""

import fnmatch
import re
from collections.abc import Collection

from actors.checkpoints.files import INDEX, check_index
from actors.errors import CheckpointError

SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
PREPROCESSOR_CONFIG = "feature_extractor/preprocessor_config.json"

# The networks, and how diffusers and transformers call the file that holds the weights of each.
WEIGHT_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "image_encoder": "model"}

_CONFIGS = (INDEX, SCHEDULER_CONFIG, PREPROCESSOR_CONFIG, *(f"{component}/config.json" for component in WEIGHT_STEMS))


def wanted_patterns(variant: str | None) -> list[str]:
    """Glob patterns of all files that `variant` is loaded from, relative to the checkpoint; None: the plain files."""
    weights = (pattern for component in WEIGHT_STEMS for pattern in _weight_patterns(component, variant))
    return [*_CONFIGS, *weights]


def wanted_files(names: Collection[str], variant: str | None, where: str) -> list[str]:
    """Those of `names` that `variant` is loaded from, sorted.

    Args:
        names: all files of the checkpoint, relative to it.
        variant: e.g. "fp16"; None for the plain files.
        where: what the user calls the checkpoint, for the error.

    Raises:
        CheckpointError: they do not make a checkpoint; the message says what is missing, and which variants there are.
    """
    check_index(names, where, "a Stable Video Diffusion")
    if missing := [name for name in _CONFIGS if name not in names]:
        raise CheckpointError(f"{where} is not complete: {', '.join(missing)} is missing; copy the checkpoint again")
    for component in WEIGHT_STEMS:
        if not any(fnmatch.filter(names, pattern) for pattern in _weight_patterns(component, variant)):
            raise CheckpointError(_no_weights(names, component, variant, where))
    patterns = wanted_patterns(variant)
    return sorted(name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))


def _weight_patterns(component: str, variant: str | None) -> list[str]:
    """One file; or an index and shards, whose variant diffusers has put before the number and behind it."""
    stem = f"{component}/{WEIGHT_STEMS[component]}"
    dot = f".{variant}" if variant else ""
    shard = "-?????-of-?????"
    return [
        f"{stem}{dot}.safetensors",
        f"{stem}.safetensors.index{dot}.json",
        f"{stem}{dot}{shard}.safetensors",
        f"{stem}{shard}{dot}.safetensors",
    ]


def _no_weights(names: Collection[str], component: str, variant: str | None, where: str) -> str:
    wanted = f"model.variant={variant}" if variant else "the plain files (model.variant=null)"
    if variants := _variants(names, component):
        return f"{where} has no {component} weights for {wanted}; it has {' and '.join(variants)}"
    if any(name.startswith(f"{component}/") and name.endswith((".bin", ".ckpt", ".pt")) for name in names):
        return (
            f"{where} holds the weights of {component} as pickle files only, which can run code; "
            "save it again with safe_serialization=True"
        )
    return f"{where} is not complete: {component} has no .safetensors file; copy the checkpoint again"


def _variants(names: Collection[str], component: str) -> list[str]:
    """The variants that a component's safetensors come in, as one would write them in the configuration."""
    stem = re.escape(f"{component}/{WEIGHT_STEMS[component]}")
    shard = r"(?:-\d{5}-of-\d{5})?"
    pattern = re.compile(rf"{stem}(?:\.(\w+))?{shard}(?:\.(\w+))?\.safetensors")
    matches = [match for name in names if (match := pattern.fullmatch(name))]
    return sorted({f"model.variant={match[1] or match[2] or 'null'}" for match in matches})
