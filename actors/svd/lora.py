"""LoRAs for SVD's UNet: changes of low rank to its matrices and kernels, as trainers and other programs save them.

| format | names of the two matrices |
|---|---|
| diffusers | `unet.<layer>.lora_A.weight`, `.lora_B.weight` |
| older ones | `unet.<layer>.lora.down.weight`, `.lora.up.weight`; `<block>.processor.to_q_lora.down.weight` |
| PEFT | `base_model.model.<layer>.lora_A.weight`, with `adapter_config.json` beside the file |
| kohya | `lora_unet_<layer, _ for .>.lora_down.weight`, `.lora_up.weight`, `.alpha` |
| ComfyUI | that, or `diffusion_model.<layer>.lora_up.weight` |

A layer is named as diffusers does or as the original does, spatial or temporal. Its weight W becomes
W + scale * alpha / r * B @ A (https://arxiv.org/abs/2106.09685), r being the rank; without an alpha that is r.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from actors.checkpoints.lora_files import Lora, is_lora
from actors.checkpoints.tensor_file import FLOATS, Header, read_header, read_tensor
from actors.errors import CheckpointError
from actors.svd.file_kinds import shortened
from actors.svd.original import Depths, unet_to_original

if TYPE_CHECKING:
    from torch import Tensor, nn

Shapes = Mapping[str, tuple[int, ...]]

_ROLES = {"A": "down", "B": "up", "down": "down", "up": "up"}
_KEYS = (
    re.compile(r"(?P<layer>.+)\.lora_(?P<role>A|B)(?:\.\w+)?\.weight"),  # PEFT may name the adapter: `.default`
    re.compile(r"(?P<layer>.+)\.lora[._](?P<role>down|up)\.weight"),
    re.compile(r"(?P<layer>.+)\.lora_linear_layer\.(?P<role>down|up)\.weight"),
    re.compile(r"(?P<block>.+)\.processor\.(?P<projection>to_\w+)_lora\.(?P<role>down|up)\.weight"),
    re.compile(r"(?P<layer>.+)\.(?P<role>alpha)"),
)
_FORMATS = (
    ("base_model.model.", "PEFT"),
    ("unet.base_model.model.", "PEFT"),
    ("lora_unet_", "kohya's"),
    ("model.diffusion_model.", "ComfyUI's"),
    ("diffusion_model.", "ComfyUI's"),
    ("unet.", "diffusers'"),
    ("", "diffusers'"),
)
# Where diffusers keeps PEFT's configuration, as JSON in the header of the file.
_METADATA = "lora_adapter_metadata"


class Change(NamedTuple):
    """What is done to one layer: its name in diffusers' UNet, and the tensors of the file."""

    layer: str
    down: str
    up: str
    alpha: str | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What a file does.

    Attributes:
        format: how it is to be called.
        config: what stands beside the tensors: `adapter_config.json`, or the same in the file's header.
    """

    format: str
    changes: list[Change]
    config: Mapping[str, Any]

    def factor(self, layer: str, rank: int, alpha: float | None) -> float:
        """alpha / r of a layer."""
        if alpha is None:
            pattern: Mapping[str, float] = self.config.get("alpha_pattern") or {}
            named = (value for name, value in pattern.items() if re.fullmatch(rf"(.*\.)?{name}", layer))
            alpha = next(named, self.config.get("lora_alpha", rank))
        return float(alpha) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


@dataclass(slots=True)
class _Parts:
    """The tensors of a layer, by role."""

    names: dict[str, str] = field(default_factory=dict)


def read_changes(header: Header, config: Mapping[str, Any] | None, shapes: Shapes | None, where: str) -> Changes:
    """What a file would do.

    Args:
        header: of the file.
        config: of `adapter_config.json`; None: there is none.
        shapes: of the UNet's tensors by diffusers' names; None: not known here, and names and shapes are not compared.
        where: what the user calls it, for the error.

    Raises:
        CheckpointError: it is no LoRA, of a kind that is not merged, or does not fit this UNet: no tensor is left over.
    """
    config = _config_of(header) if config is None else config
    if what := _unsupported(config):
        raise _refused(where, f"was trained with {what}, which is not merged here: train or export it without")
    parts, unknown = _sorted_by_layer(header, shapes)
    if not is_lora(header.tensors):
        raise _refused(where, f"is no LoRA: it holds {shortened(sorted(header.tensors)) or 'nothing'}")
    if unknown:
        raise _refused(
            where, f"does not fit SVD's UNet: tensors that fit nowhere: {len(unknown)} ({shortened(sorted(unknown))})"
        )
    if alone := sorted(
        name for found in parts.values() if not {"down", "up"} <= found.names.keys() for name in found.names.values()
    ):
        raise _refused(where, f"is not whole: tensors without their counterpart: {len(alone)} ({shortened(alone)})")
    changes = [
        Change(layer, found.names["down"], found.names["up"], found.names.get("alpha"))
        for layer, found in parts.items()
    ]
    kind = _format_of(header)
    if kind == "PEFT" and not config:
        raise _refused(
            where, "is PEFT's and has no adapter_config.json beside it, where its alpha stands: put it there"
        )
    if other := sorted(_misfits(header, changes, shapes)):
        raise _refused(where, f"does not fit SVD's UNet: tensors of another shape: {len(other)} ({shortened(other)})")
    return Changes(kind, changes, config)


def merge(unet: "nn.Module", lora: Lora) -> None:
    """Change the weights of diffusers' UNet, which are fp32, in place.

    Raises:
        CheckpointError: as `read_changes`; or the file holds what are no numbers.
    """
    import torch

    shapes = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}
    with lora.weights.open("rb") as file, torch.no_grad():
        header = read_header(file, lora.source)
        found = read_changes(header, read_config(lora), shapes, lora.source)

        def tensor(name: str) -> "Tensor":
            return read_tensor(file, header.tensors[name], lora.source).float()

        for change in found.changes:
            down, up = tensor(change.down), tensor(change.up)
            alpha = float(tensor(change.alpha)) if change.alpha else None
            factor = lora.scale * found.factor(change.layer, len(down), alpha)
            delta = factor * (up.flatten(1) @ down.flatten(1))
            if not delta.isfinite().all():
                raise _refused(lora.source, f"holds what are no numbers ({change.down}, {change.up}): export it again")
            weight = unet.get_parameter(f"{change.layer}.weight")
            assert weight.dtype == torch.float32, "sums are made before they are rounded"
            weight.data = weight.data + delta.reshape(weight.shape)


def read_config(lora: Lora) -> dict[str, Any] | None:
    """PEFT's configuration of a LoRA; None: it has none."""
    return None if lora.config is None else parsed_config(lora.config.read_bytes(), lora.source)


def parsed_config(content: bytes, where: str) -> dict[str, Any]:
    """`adapter_config.json`. Raises CheckpointError where it is damaged."""
    try:
        config = json.loads(content)
    except ValueError as error:
        raise _refused(where, f"has a damaged adapter_config.json: {error}") from error
    if not isinstance(config, dict):
        raise _refused(where, "has a damaged adapter_config.json")
    return config


def layers_of(shapes: Shapes) -> dict[str, str]:
    """Each way to name a layer of the UNet that has a matrix or a kernel -> its name in diffusers."""
    depths = Depths.of_unet(shapes)
    made: dict[str, str] = {}
    layers = [name.removesuffix(".weight") for name, shape in shapes.items() if len(shape) > 1 and ".weight" in name]
    for layer in layers:
        theirs = unet_to_original(f"{layer}.weight", depths).removesuffix(".weight")
        for spelling in (layer, layer.removesuffix(".0") if layer.endswith("to_out.0") else layer, theirs):
            made[spelling] = made[spelling.replace(".", "_")] = layer
    return made


def _sorted_by_layer(header: Header, shapes: Shapes | None) -> tuple[dict[str, _Parts], list[str]]:
    """The tensors by diffusers' name of their layer, and those that fit nowhere."""
    layers = None if shapes is None else layers_of(shapes)
    parts: dict[str, _Parts] = {}
    unknown = []
    for name in header.tensors:
        spelled, role = _read_key(name)
        layer = (spelled if layers is None else layers.get(spelled)) if spelled else None
        if layer is None or role in parts.get(layer, _Parts()).names:
            unknown.append(name)
        else:
            parts.setdefault(layer, _Parts()).names[role] = name
    return parts, unknown


def _read_key(name: str) -> tuple[str, str]:
    """How a tensor's name spells its layer, and which of its tensors it is; "" where it is none of a LoRA's."""
    for pattern in _KEYS:
        if found := pattern.fullmatch(name):
            groups = found.groupdict()
            layer = groups.get("layer") or f"{groups['block']}.{groups['projection']}"
            prefix = next(start for start, _ in _FORMATS if layer.startswith(start))
            return layer.removeprefix(prefix), _ROLES.get(groups["role"], groups["role"])
    return "", ""


def _format_of(header: Header) -> str:
    first = next(iter(header.tensors))
    return next(name for start, name in _FORMATS if first.startswith(start))


def _config_of(header: Header) -> dict[str, Any]:
    """PEFT's configuration as diffusers writes it into the header of a file; empty where there is none."""
    try:
        found = json.loads(header.metadata.get(_METADATA, "{}"))
    except (ValueError, TypeError):
        return {}
    return {name.removeprefix("unet."): value for name, value in found.items()} if isinstance(found, dict) else {}


def _unsupported(config: Mapping[str, Any]) -> str | None:
    """What of PEFT's kinds of training cannot be merged as the product of two matrices."""
    if (kind := config.get("peft_type", "LORA")) != "LORA":
        return f"peft_type={kind}"
    switches = (
        "use_dora",
        "modules_to_save",
        "fan_in_fan_out",
        "lora_bias",
        "layer_replication",
        "trainable_token_indices",
    )
    return next((name for name in switches if config.get(name)), None)


def _misfits(header: Header, changes: list[Change], shapes: Shapes | None) -> Iterator[str]:
    """The tensors whose shape or type is not that of a change to their layer."""
    for change in changes:
        down, up = header.tensors[change.down], header.tensors[change.up]
        rank = down.shape[0] if len(down.shape) > 1 else 0
        weight = shapes[f"{change.layer}.weight"] if shapes is not None else (up.shape[:1] + down.shape[1:])
        if not rank or _bare(down.shape[1:]) != _bare(weight[1:]) or down.dtype not in FLOATS:
            yield change.down
        if _bare(up.shape) != _bare((weight[0], rank)) or up.dtype not in FLOATS:
            yield change.up
        if change.alpha and (
            math.prod(header.tensors[change.alpha].shape) != 1 or _dtype(header, change.alpha) not in FLOATS
        ):
            yield change.alpha


def _dtype(header: Header, name: str) -> str:
    return header.tensors[name].dtype


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without ones at the end: a kernel of one pixel is a matrix."""
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _refused(where: str, why: str) -> CheckpointError:
    return CheckpointError(f"model.loras: {where} {why}")
