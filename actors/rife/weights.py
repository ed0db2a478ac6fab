"""RIFE weights from the files that users have, and our own back into a file.

    .pkl, .pth      PyTorch state dicts: the authors' `flownet.pkl`, vs-rife's `flownet_v4.25.pkl`
    .safetensors    `rife_v4.25.safetensors`, and what `save` writes
    .param, .bin    ncnn, the two files side by side (see `actors.rife.ncnn`)

The version is detected from the tensors alone (`actors.rife.detection`), and then every one must be there and none too
many.
"""

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from actors.checkpoints.sources import for_models
from actors.errors import CheckpointError, first_line
from actors.rife import ncnn
from actors.rife.detection import identify
from actors.rife.ifnet import IFNet
from actors.rife.network import Network
from actors.rife.signatures import REFINEMENT, to_our_names
from actors.storage import Storage
from actors.uris import without_query

VARIANT_KEY = "rife_variant"  # of the metadata in our own .safetensors


def load(path: str | Path) -> Network:
    """The network with its weights (fp32, on the CPU), named by its version; `path` is a local file.

    Versions of the same shapes are told apart by the file's own metadata, or by the name of the file or its folders:
    where neither tells, the name is that of them all, such as `4.25/4.26`. Raises CheckpointError with the reason for
    what cannot be used.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; set interpolation.weights to a file with RIFE weights")
    tensors, own_name = _read(path)
    state = to_our_names(tensors)
    net = identify(state, own_name, path)
    state = _without_refinement(state, net)
    _require_same_tensors(net.state_dict(), state, net.name, path)
    net.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    return net.eval()


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


def save(net: Network, path: str | Path) -> None:
    """Write a `.safetensors` under the names that other programs use, with the variant's name in its metadata."""
    state = {_to_their_name(name): tensor.contiguous() for name, tensor in net.state_dict().items()}
    save_file(state, path, metadata={VARIANT_KEY: net.name})


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


def _without_refinement(state: dict[str, Tensor], net: Network) -> dict[str, Tensor]:
    """4.0 to 4.4 come with a second stage, which their authors' programs have long left out."""
    if not (isinstance(net, IFNet) and net.variant.has_bare_tail):
        return state
    return {name: tensor for name, tensor in state.items() if not name.startswith(REFINEMENT)}


def _to_their_name(name: str) -> str:
    return re.sub(r"^head\.", "encode.", re.sub(r"^blocks\.(\d+)\.", r"block\1.", name))


def _require_same_tensors(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], version: str, path: Path) -> None:
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
        raise CheckpointError(f"{path}: these are not whole RIFE {version} weights: {first}{more}")
