"""LoRAs for a hosted pipeline: read by diffusers' own loaders, and merged in fp32; strictly, where those only warn."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from actors.checkpoints.lora_files import Lora
from actors.errors import CheckpointError, first_line
from actors.hosting.loading import networks_of

_SHOWN = 3
_PREFIX = "transformer."
_ENDS = (".lora_A.weight", ".lora_B.weight", ".alpha")


def merge(pipeline: DiffusionPipeline, loras: Sequence[Lora], networks: Sequence[str]) -> None:
    """Add each to the weights of its network, in place. The sum is rounded once, however many there are.

    Args:
        networks: `transformer` or `transformer_2` of each.

    Raises:
        CheckpointError: one does not fit, or cannot be read.
    """
    for network in dict.fromkeys(networks):
        own = [lora for lora, name in zip(loras, networks, strict=True) if name == network]
        for number, lora in enumerate(own):
            _load(pipeline, lora, network, _adapter(number))
        _add(networks_of(pipeline)[network], {_adapter(number): lora.scale for number, lora in enumerate(own)})
    if loras:
        pipeline.unload_lora_weights()


def _adapter(number: int) -> str:
    return f"stillreel{number}"


def _load(pipeline: DiffusionPipeline, lora: Lora, network: str, adapter: str) -> None:
    folder, name = str(lora.weights.parent), lora.weights.name
    second = {"load_into_transformer_2": True} if network == "transformer_2" else {}
    try:
        found = pipeline.lora_state_dict(folder, weight_name=name)
        layers = _layers(found[0] if isinstance(found, tuple) else found, pipeline, lora, network)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are several is as it should be
            pipeline.load_lora_weights(folder, weight_name=name, adapter_name=adapter, **second)
    except KeyError as error:
        raise CheckpointError(f"model.loras: {lora.source} lacks {error}, which diffusers looks for in it") from error
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        raise CheckpointError(f"model.loras: {lora.source} cannot be read: {first_line(error)}") from error
    changed = {name for name, layer in _changed(networks_of(pipeline)[network], adapter)}
    if changed != layers:
        raise CheckpointError(
            f"model.loras: {lora.source}: diffusers takes {len(changed)} of the {len(layers)} layers that it changes, "
            "so that it cannot be merged"
        )


def _layers(tensors: Mapping[str, Tensor], pipeline: DiffusionPipeline, lora: Lora, network: str) -> set[str]:
    """The layers that a LoRA changes. Raises CheckpointError where a tensor of it has no place."""
    there = {name for name, _ in networks_of(pipeline)[network].named_modules()}
    places = {name: _place(name) for name in tensors}
    foreign = sorted(name for name, place in places.items() if place not in there)
    if foreign or not tensors:
        said = f"{len(foreign)} of {len(tensors)} tensors have no place in it, such as {', '.join(foreign[:_SHOWN])}"
        raise CheckpointError(
            f"model.loras: {lora.source} does not fit the {network} of {type(pipeline).__name__}: "
            f"{said if tensors else 'it holds no tensors'}"
        )
    return {place for place in places.values() if place is not None}


def _place(name: str) -> str | None:
    end = next((end for end in _ENDS if name.endswith(end)), None)
    return name.removeprefix(_PREFIX).removesuffix(end) if end is not None and name.startswith(_PREFIX) else None


def _changed(network: nn.Module, adapter: str) -> list[tuple[str, Any]]:
    """The layers to which PEFT has given a change of that name."""
    return [(name, module) for name, module in network.named_modules() if adapter in getattr(module, "lora_A", {})]


@torch.no_grad()
def _add(network: nn.Module, scales: Mapping[str, float]) -> None:
    sums: dict[str, tuple[Any, Tensor]] = {}
    for adapter, scale in scales.items():
        for name, layer in _changed(network, adapter):
            for part in (layer.lora_A, layer.lora_B):
                part[adapter].float()
            layer_sum = sums[name][1] if name in sums else layer.get_base_layer().weight.float()
            sums[name] = layer, layer_sum + scale * layer.get_delta_weight(adapter)
    for layer, weight in sums.values():
        base = layer.get_base_layer().weight
        base.copy_(weight.to(base.dtype))
