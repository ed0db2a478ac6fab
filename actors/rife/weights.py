"""RIFE weights from the files that users have, and our own back into a file.

    .pkl, .pth      PyTorch state dicts: the authors' `flownet.pkl`, vs-rife's `flownet_v4.25.pkl`
    .safetensors    `rife_v4.25.safetensors`, and what `save` writes
    .param, .bin    ncnn, the two files side by side (see `actors.rife.ncnn`)

The variant is detected from the shapes of the tensors, and then every tensor must be there and none too many.
"""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from actors.errors import CheckpointError, first_line
from actors.rife import ncnn
from actors.rife.ifnet import DEFAULT_VARIANT, SUBPIXELS, VARIANTS, IFNet, Variant
from actors.rife.place import for_models
from actors.storage import Storage
from actors.uris import without_query

VARIANT_KEY = "rife_variant"  # of the metadata in our own .safetensors
CUSTOM_NAME = "custom"  # of a network of 4.25's layout with other widths that does not say its name

# What tells the unsupported versions, which need other code: layers of the head, its output channels, and channels of
# a block's last layer.
UNSUPPORTED = {
    (0, 0, 5): "4.0 to 4.4",
    (0, 0, 20): "4.5",
    (2, 4, 24): "4.7 to 4.9",
    (4, 8, 24): "4.10 to 4.20 or 4.24",
    (4, 4, 24): "4.12.lite to 4.17.lite",
    (4, 8, 52): "4.21 to 4.23",
}

# Networks of 4.25's layout with other widths, known by the widths of their blocks and of their head.
_KNOWN_LAYOUTS: dict[tuple[tuple[int, ...], tuple[int, int]], str] = {
    ((384, 256, 192, 128, 64), (16, 4)): "4.25.heavy",
    ((192, 128, 96, 64, 32), (16, 16)): "4.26.heavy",
}

# `4.26`, `v4-26` and, as ComfyUI writes it behind a word, `rife426`; then `.lite`, `_heavy`, or ncnn's name for that.
_VERSION = re.compile(
    r"(?:(?<![\d.])4[.-](?P<dotted>\d{1,2})|(?:rife|flownet|ifnet|v)[ _-]*4(?P<bare>\d{1,2}))(?!\d)"
    r"(?:[ ._-]?(?P<kind>lite|heavy|large))?"
)

_CONVOLUTION_DIMS = 4  # of its weight: outputs, inputs, and both sides of the kernel


class Signature(NamedTuple):
    """The shapes by which versions differ."""

    channels: tuple[int, ...]  # of each block
    head_layers: int
    head: tuple[int, int]  # hidden and output channels; zeros without a head
    last_channels: int  # of a block's last layer


def load(path: str | Path) -> tuple[IFNet, Variant]:
    """The network with its weights (fp32, on the CPU), and which one it is; `path` is a local file.

    4.25 and 4.26 have the same shapes: the name comes from the file's own metadata or from the name of the file or its
    folders, and is `4.25/4.26` where neither tells. Raises CheckpointError with the reason for what cannot be used.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; set interpolation.weights to a file with RIFE weights")
    tensors, own_name = _read(path)
    state = _to_our_names(tensors)
    variant = _detect(_signature(state, path), own_name, path)
    with torch.device("meta"):  # no random weights first, which would take longer than reading
        net = IFNet(variant)
    _require_same_tensors(net.state_dict(), state, variant, path)
    net.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    return net.eval(), variant


def fetch(uri: str, storage: Storage, scratch: Path) -> Path:
    """A path of this machine for the weights at `uri`: a local file itself, else a copy below the folder `scratch`.

    Raises StorageError when `uri` cannot be read.
    """
    if storage.is_local(uri):
        return Path(storage.native_path(uri))
    bare = without_query(uri)
    query, (stem, ending) = uri[len(bare) :], posixpath.splitext(bare)
    endings = (".param", ".bin") if ending in (".param", ".bin") else (ending,)
    # Their folders may name the version.
    folder = scratch.joinpath(*[_folder_name(storage, bare, levels) for levels in (2, 1)])
    folder.mkdir(parents=True)
    for ending in endings:
        content = for_models(storage).read_bytes(stem + ending + query)
        (folder / posixpath.basename(stem + ending)).write_bytes(content)
    return folder / posixpath.basename(bare)


def _folder_name(storage: Storage, uri: str, levels: int) -> str:
    """The name of the folder so many levels up, "_" where there is none."""
    for _ in range(levels):
        uri = storage.parent(uri)
    return posixpath.basename(uri) or "_"


def save(net: IFNet, path: str | Path) -> None:
    """Write a `.safetensors` under the names that other programs use, with the variant's name in its metadata."""
    state = {_to_their_name(name): tensor.contiguous() for name, tensor in net.state_dict().items()}
    save_file(state, path, metadata={VARIANT_KEY: net.variant.name})


def _read(path: Path) -> tuple[Mapping[str, Tensor], str | None]:
    """The tensors as the file names them, and the variant's name where the file says it."""
    match path.suffix.lower():
        case ".safetensors":
            return _read_safetensors(path)
        case ".pkl" | ".pth":
            return _read_pickle(path), None
        case ".param" | ".bin":
            return ncnn.read(path), None
        case suffix:
            raise CheckpointError(f"{path}: '{suffix}' is no kind of RIFE weights: .pkl, .pth, .safetensors or .param")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # this is no dict
            return tensors, (file.metadata() or {}).get(VARIANT_KEY)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: this is not a whole .safetensors file: {error}") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = first_line(error)
        raise CheckpointError(
            f"{path}: this file is damaged, or it holds code, which is never run, instead of tensors alone: {reason}"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path}: this holds no named tensors, so it is not RIFE weights")
    return content


def _to_our_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the wrappers' prefixes and without what only training needs."""
    bare = {re.sub(r"^(module\.|flownet\.)+", "", name): tensor for name, tensor in tensors.items()}
    return {
        re.sub(r"^encode\.", "head.", re.sub(r"^block(\d+)\.", r"blocks.\1.", name)): tensor
        for name, tensor in bare.items()
        if not name.startswith(("teacher.", "caltime."))
    }


def _to_their_name(name: str) -> str:
    return re.sub(r"^head\.", "encode.", re.sub(r"^blocks\.(\d+)\.", r"block\1.", name))


def _signature(state: Mapping[str, Tensor], path: Path) -> Signature:
    block_count = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    heads = [tensor for name, tensor in state.items() if re.fullmatch(r"head\.\w+\.weight", name)]
    lasts = [tensor for name, tensor in state.items() if re.fullmatch(r"blocks\.0\.lastconv(\.0)?\.weight", name)]
    second_convs = [state.get(f"blocks.{index}.conv0.1.0.weight") for index in range(block_count)]
    channels = tuple(conv.shape[0] for conv in second_convs if conv is not None)
    if (
        len(lasts) != 1
        or len(channels) != block_count
        or any(tensor.dim() != _CONVOLUTION_DIMS for tensor in heads + lasts)
    ):
        raise CheckpointError(f"{path}: these are not RIFE 4 weights, or they are not whole")
    head = (heads[0].shape[0], heads[-1].shape[1]) if heads else (0, 0)
    return Signature(channels, len(heads), head, lasts[0].shape[1])


def _detect(signature: Signature, own_name: str | None, path: Path) -> Variant:
    """A variant of the table, or a custom one of 4.25's layout; its widths are free, its scales are 4.25's."""
    same = {name: variant for name, variant in VARIANTS.items() if _fits(variant, signature)}
    if same:
        name = own_name or _version_in(path)
        return same[name] if name in same else replace(next(iter(same.values())), name="/".join(same))
    layout = Variant(
        own_name or _KNOWN_LAYOUTS.get((signature.channels, signature.head), CUSTOM_NAME),
        signature.channels,
        DEFAULT_VARIANT.scales,
        signature.head,
        DEFAULT_VARIANT.tail,
        DEFAULT_VARIANT.mask,
    )
    if len(layout.channels) == len(layout.scales) and _fits(layout, signature):
        return layout
    version = UNSUPPORTED.get((signature.head_layers, signature.head[1], signature.last_channels))
    what = f"RIFE {version}" if version else "an unknown version of RIFE"
    raise CheckpointError(f"{path}: this is {what}, which is not supported: use one of {', '.join(VARIANTS)}")


def _fits(variant: Variant, signature: Signature) -> bool:
    head_layers = 4 if variant.head else 0
    head = variant.head or (0, 0)
    return signature == (variant.channels, head_layers, head, SUBPIXELS * variant.tail)


def _version_in(path: Path) -> str | None:
    """`4.26` in `flownet_v4.26.pkl`, in `rife426.pth`, or in the folders `rife-v4.26/train_log/`.

    The file's own name counts first.
    """
    for text in (path.name, path.parent.name, path.parent.parent.name):
        if found := _VERSION.search(text.lower()):
            minor, kind = found["dotted"] or found["bare"], found["kind"]
            return f"4.{minor}" + (f".{'heavy' if kind == 'large' else kind}" if kind else "")
    return None


def _require_same_tensors(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], variant: Variant, path: Path
) -> None:
    problems = [f"{_to_their_name(name)} is missing" for name in wanted.keys() - found.keys()]
    problems += [f"{_to_their_name(name)} is not part of it" for name in found.keys() - wanted.keys()]
    problems += [
        f"{_to_their_name(name)} has the shape {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted.keys() & found.keys()
        if found[name].shape != wanted[name].shape
    ]
    if problems:
        first, *others = sorted(problems)
        more = f" (and {len(others)} more differences)" if others else ""
        raise CheckpointError(f"{path}: these are not whole RIFE {variant.name} weights: {first}{more}")
