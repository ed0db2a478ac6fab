"""Which network a file's tensors are, from their names and shapes alone; without PyTorch, so that the driver can ask.

Names here are ours: `blocks.0`, `head`, without the prefixes that tools put before them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from actors.errors import CheckpointError
from actors.rife.shapes import Shape
from actors.rife.variants import DEFAULT_VARIANT, GROUPS, VARIANTS, Body, Variant, versions_of

SUPPORTED = "RIFE 4.0 to 4.26, and HDv3 (3.4 to 3.8)"
CUSTOM_NAME = "custom"  # of a network of 4.25's layout with other widths that does not say its name

# `4.26`, `v4-26` and, as ComfyUI writes it behind a word, `rife426`; then `.lite`, `_heavy`, or ncnn's name for that.
_VERSION = re.compile(
    r"(?:(?<![\d.])4[.-](?P<dotted>\d{1,2})|(?:rife|flownet|ifnet|v)[ _-]*4(?P<bare>\d{1,2}))(?!\d)"
    r"(?:[ ._-]?(?P<kind>lite|heavy|large))?"
)
_CONVOLUTION_DIMS = 4  # of its weight: outputs, inputs, and both sides of the kernel
BRANCHES = "blocks.0.conv2.2.weight"  # HDv3 makes its mask apart from its flow
REFINEMENT = ("contextnet.", "unet.")
_OF_TRAINING = ("teacher.", "caltime.", "block_tea.")
_WIDTH_OF_3_9 = 100
_BLOCKS_OF_PAPER = 3

State = Mapping[str, Shape]  # of each tensor, by its name
T = TypeVar("T")


class Signature(NamedTuple):
    """The names and shapes by which versions differ."""

    channels: tuple[int, ...]  # of each block
    body: Body
    groups: int
    last_channels: int  # of a block's last layer
    has_bare_tail: bool
    head_layers: int
    head: tuple[int, int]  # hidden and output channels; zeros without a head

    @classmethod
    def of(cls, variant: Variant) -> "Signature":
        """That of a network of this variant."""
        return cls(
            variant.channels,
            variant.body,
            variant.groups,
            variant.last_channels,
            variant.has_bare_tail,
            variant.head_layers if variant.head else 0,
            variant.head or (0, 0),
        )


_KNOWN = {Signature.of(group): group for group in GROUPS.values()}


def shown_by(shapes: State, own_name: str | None, path: Path) -> Variant | int:
    """The variant of RIFE 4 that the tensors belong to, or the width of HDv3's blocks.

    Versions of the same shapes are told apart by `own_name`, what the file says it is, or by the name of the file or
    its folders; where neither tells, the name is that of their group. Raises CheckpointError for what is unknown, not
    supported, or not whole.
    """
    for what, is_it in _UNSUPPORTED.items():
        if is_it(shapes):
            raise CheckpointError(f"{path}: this is {what}, which is not supported: use {SUPPORTED}")
    if BRANCHES in shapes:
        return _first_weight(shapes, "blocks.0.conv0.1.0", path)[0]
    return _variant(_signature(shapes, path), own_name, path)


def to_our_names(tensors: Mapping[str, T]) -> dict[str, T]:
    """Without the wrappers' prefixes and without what only training needs."""
    bare = {re.sub(r"^(module\.|flownet\.)+", "", name): tensor for name, tensor in tensors.items()}
    state = {
        re.sub(r"^encode\.", "head.", re.sub(r"^block(\d+)\.", r"blocks.\1.", name)): tensor
        for name, tensor in bare.items()
        if not name.startswith(_OF_TRAINING)
    }
    # Up to 4.12 and 4.13.lite a head of four layers counts its activations, too.
    is_old_head = "head.6.weight" in state
    return {_new_head_name(name) if is_old_head else name: tensor for name, tensor in state.items()}


def _new_head_name(name: str) -> str:
    return re.sub(r"^head\.([0246])\.", lambda found: f"head.cnn{int(found[1]) // 2}.", name)


def _has(state: State, *starts: str) -> bool:
    return any(name.startswith(starts) for name in state)


def _block_count(state: State) -> int:
    return len({name.split(".")[1] for name in state if name.startswith("blocks.")})


# What each needs is another forward pass; by the sentence that names it.
_UNSUPPORTED: dict[str, Callable[[State], bool]] = {
    "RIFE 3.2 with its refinement (contextnet and unet)": lambda state: BRANCHES in state and _has(state, *REFINEMENT),
    "RIFE 1.x or 2.x": lambda state: (
        _has(state, "blocks.0.res0.", "blocks.0.conv1.") and not _has(state, BRANCHES, "blocks.0.lastconv.")
    ),
    "one of the three files of RIFE 1.x to 3.1": lambda state: (
        not _has(state, "blocks.") and _has(state, "conv0.conv1.", "down0.")
    ),
    "RIFE of the paper, or RIFEm": lambda state: (
        _has(state, "blocks.0.lastconv.")
        and _block_count(state) == _BLOCKS_OF_PAPER
        and "blocks.0.conv0.0.1.weight" in state
    ),
    "RIFE 3.9": lambda state: (
        "blocks.0.lastconv.weight" in state
        and "blocks.0.conv0.1.0.weight" in state
        and state["blocks.0.conv0.1.0.weight"][0] == _WIDTH_OF_3_9
    ),
}


def _first_weight(state: State, layer: str, path: Path) -> Shape:
    """Of a convolution, which is there."""
    weight = state.get(f"{layer}.weight")
    if weight is None or len(weight) != _CONVOLUTION_DIMS:
        raise CheckpointError(f"{path}: these are not RIFE weights, or they are not whole")
    return weight


def _signature(state: State, path: Path) -> Signature:
    widths = tuple(_first_weight(state, f"blocks.{index}.conv0.1.0", path)[0] for index in range(_block_count(state)))
    heads = [
        _first_weight(state, name.removesuffix(".weight"), path)
        for name in state
        if re.fullmatch(r"head\.\w+\.weight", name)
    ]
    has_bare_tail = "blocks.0.lastconv.weight" in state
    last = _first_weight(state, "blocks.0.lastconv" if has_bare_tail else "blocks.0.lastconv.0", path)
    body, first_conv = _body(state)
    return Signature(
        widths,
        body,
        max(1, widths[0] // max(1, _first_weight(state, first_conv, path)[1])),
        last[1],
        has_bare_tail,
        len(heads),
        (heads[0][0], heads[-1][1]) if heads else (0, 0),
    )


def _body(state: State) -> tuple[Body, str]:
    """What a block's convolutions are, and the first one's name."""
    if "blocks.0.convblock.0.beta" in state:
        return "residual", "blocks.0.convblock.0.conv"
    return "prelu" if "blocks.0.conv0.0.1.weight" in state else "leaky", "blocks.0.convblock.0.0"


def _variant(signature: Signature, own_name: str | None, path: Path) -> Variant:
    """A version or a group of the table, or a custom variant of 4.25's layout; its widths are free."""
    if group := _KNOWN.get(signature):
        versions = versions_of(group)
        name = own_name or _version_in(path)
        return VARIANTS[name] if name in versions else group
    layout = replace(DEFAULT_VARIANT, name=own_name or CUSTOM_NAME, channels=signature.channels, head=signature.head)
    if len(layout.channels) == len(layout.scales) and Signature.of(layout) == signature:
        return layout
    raise CheckpointError(f"{path}: this is an unknown version of RIFE: use {SUPPORTED}")


def _version_in(path: Path) -> str | None:
    """`4.26` in `flownet_v4.26.pkl`, in `rife426.pth`, or in the folders `rife-v4.26/train_log/`.

    The file's own name counts first.
    """
    for text in _names(path):
        if found := _VERSION.search(text.lower()):
            minor, kind = found["dotted"] or found["bare"], found["kind"]
            return f"4.{minor}" + (f".{'heavy' if kind == 'large' else kind}" if kind else "")
    return None


def _names(path: Path) -> Sequence[str]:
    return path.name, path.parent.name, path.parent.parent.name
