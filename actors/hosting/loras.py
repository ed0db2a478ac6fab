"""LoRAs for a hosted pipeline, read by diffusers' own loaders and merged: strictly, where those only warn."""

from collections.abc import Sequence

from diffusers import DiffusionPipeline

from actors.errors import CheckpointError, first_line
from actors.hosting.loading import networks_of
from actors.svd.lora import Lora

_SHOWN = 3
_ADAPTER = "stillreel"
_ENDS = (".lora_A.weight", ".lora_B.weight", ".lora_A.bias", ".lora_B.bias", ".alpha", ".diff", ".diff_b")


def merge(pipeline: DiffusionPipeline, loras: Sequence[Lora]) -> None:
    """Add each to the weights, in place, one after the other.

    Raises:
        CheckpointError: one does not fit, or the pipeline takes none.
    """
    if loras and not hasattr(pipeline, "load_lora_weights"):
        raise CheckpointError(f"model.loras: {type(pipeline).__name__} of diffusers takes no LoRAs: remove them")
    for lora in loras:
        _check(pipeline, lora)
        folder, name = str(lora.weights.parent), lora.weights.name
        try:
            pipeline.load_lora_weights(folder, weight_name=name, adapter_name=_ADAPTER)
            pipeline.fuse_lora(lora_scale=lora.scale, adapter_names=[_ADAPTER])
        except (ValueError, KeyError, RuntimeError, OSError, ImportError) as error:
            raise CheckpointError(f"model.loras: {lora.source} cannot be merged: {first_line(error)}") from error
        pipeline.unload_lora_weights()


def _check(pipeline: DiffusionPipeline, lora: Lora) -> None:
    """Raise CheckpointError where a tensor of the file has no place."""
    try:
        found = pipeline.lora_state_dict(str(lora.weights.parent), weight_name=lora.weights.name)
    except KeyError as error:
        raise CheckpointError(f"model.loras: {lora.source} lacks {error}, which diffusers looks for in it") from error
    except (ValueError, RuntimeError, OSError) as error:
        raise CheckpointError(f"model.loras: {lora.source} is no LoRA of this model: {first_line(error)}") from error
    tensors = found[0] if isinstance(found, tuple) else found
    there = {f"{part}.{name}" for part, network in networks_of(pipeline).items() for name, _ in network.named_modules()}
    foreign = sorted(name for name in tensors if _module(name) not in there)
    if foreign or not tensors:
        named = ", ".join(foreign[:_SHOWN])
        raise CheckpointError(
            f"model.loras: {lora.source} does not fit {type(pipeline).__name__}: {len(foreign)} of {len(tensors)} "
            f"tensors have no place in it, such as {named}"
            if foreign
            else f"model.loras: {lora.source} holds no tensors of a LoRA"
        )


def _module(name: str) -> str:
    return next((name.removesuffix(end) for end in _ENDS if name.endswith(end)), name)
