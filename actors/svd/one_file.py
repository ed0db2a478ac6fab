"""SVD from one file: its original layout, made into a folder in diffusers layout, a tensor at a time.

Strict: every tensor of the file is used or known not to be needed, each of the networks is there, and all shapes fit.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from actors.checkpoints.tensor_file import FLOATS, Header, Writer, read_header, read_tensor
from actors.errors import CheckpointError
from actors.svd import layout
from actors.svd.file_kinds import refusal, shortened
from actors.svd.original import THIRDS, Cut, Depths, Target, is_ballast, to_diffusers, to_original
from actors.svd.original_config import configs_of

if TYPE_CHECKING:
    from torch import Tensor

# Networks by component, as `diffusers` and `transformers` call them.
Made = dict[tuple[str, str], tuple[int, ...]]  # (component, name) -> shape


@dataclass(frozen=True, slots=True)
class Conversion:
    """What becomes of a file.

    Attributes:
        targets: of each tensor that is needed, by its name in the file.
        configs: the JSON files of the folder, by name.
    """

    targets: Mapping[str, list[Target]]
    configs: Mapping[str, dict[str, Any]]


def convert(file: IO[bytes], folder: Path, where: str) -> None:
    """Write the folder; holds one tensor at a time.

    Args:
        where: what the user calls the file, for the error.

    Raises:
        CheckpointError: the file is no whole SVD checkpoint.
        OSError: the disk is full.
    """
    header = read_header(file, where)
    conversion = conversion_of(header, where)
    for name, content in conversion.configs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    with ExitStack() as open_files:
        writers = {}
        for component, stem in layout.WEIGHT_STEMS.items():
            path = folder / component / f"{stem}.safetensors"
            writers[component] = open_files.enter_context(Writer(path, _announced(header, conversion, component)))
        for name, entry in sorted(header.tensors.items(), key=lambda item: item[1].start):
            if targets := conversion.targets.get(name):
                tensor = read_tensor(file, entry, where)
                for target in targets:
                    writers[target.component].write(target.name, cut(tensor, target.cut))


def conversion_of(header: Header, where: str) -> Conversion:
    """What becomes of a file with this header. Raises CheckpointError where it is no whole SVD checkpoint."""
    names = header.tensors
    if why := refusal(names):
        raise CheckpointError(f"model.source={where} {why}")
    depths = Depths.of_file(names)
    shapes = {name: entry.shape for name, entry in names.items()}
    try:
        configs = configs_of(shapes, depths)
    except KeyError as error:
        _refuse(where, "tensors that are missing", [str(error.args[0])])
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"model.source={where} is no Stable Video Diffusion: {error}") from None
    targets = {name: to_diffusers(name, depths) for name in names}
    if unknown := sorted(name for name, found in targets.items() if not found and not is_ballast(name)):
        _refuse(where, "tensors that are none of SVD's", unknown)
    _check_shapes(header, targets, _networks(configs, where), depths, where)
    return Conversion({name: found for name, found in targets.items() if found}, configs)


def _check_shapes(
    header: Header, targets: Mapping[str, list[Target]], wanted: Made, depths: Depths, where: str
) -> None:
    made: Made = {}
    origins = {}
    for name, found in targets.items():
        entry = header.tensors[name]
        for target in found:
            made[target.component, target.name] = cut_shape(entry.shape, target.cut)
            origins[target.component, target.name] = name
    if missing := sorted({to_original(*key, depths)[0] for key in wanted.keys() - made.keys()}):
        _refuse(where, "tensors that are missing", missing)
    if unknown := sorted({origins[key] for key in made.keys() - wanted.keys()}):
        _refuse(where, "tensors that are none of SVD's", unknown)
    if other := sorted({origins[key] for key, shape in made.items() if shape != wanted[key]}):
        _refuse(where, "tensors of another shape than SVD's", other)
    if odd := sorted({entry.dtype for name, entry in header.tensors.items() if targets[name]} - FLOATS.keys()):
        raise CheckpointError(
            f"model.source={where} holds weights as {', '.join(odd)}: take it in fp32, fp16 or bf16; model.tier=fast "
            "with model.fast.fp8 makes 8-bit weights of them"
        )


def _refuse(where: str, what: str, names: list[str]) -> NoReturn:
    raise CheckpointError(
        f"model.source={where} is no whole SVD checkpoint: {what}: {len(names)} ({shortened(names)}); take "
        "svd.safetensors or svd_xt.safetensors as published"
    )


def _networks(configs: Mapping[str, dict[str, Any]], where: str) -> Made:
    """The tensors of the networks that are to be: built without memory for weights."""
    import torch
    from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    try:
        with torch.device("meta"):
            networks: dict[str, Any] = {
                "unet": UNetSpatioTemporalConditionModel.from_config(configs["unet/config.json"]),
                "vae": AutoencoderKLTemporalDecoder.from_config(configs["vae/config.json"]),
                "image_encoder": CLIPVisionModelWithProjection(
                    CLIPVisionConfig(**configs["image_encoder/config.json"])
                ),
            }
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise CheckpointError(f"model.source={where} is no Stable Video Diffusion: {error}") from error
    return {
        (component, name): tuple(tensor.shape)
        for component, network in networks.items()
        for name, tensor in network.state_dict().items()
    }


def _announced(header: Header, conversion: Conversion, component: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each tensor of a network's file."""
    return {
        target.name: (header.tensors[name].dtype, cut_shape(header.tensors[name].shape, target.cut))
        for name, targets in conversion.targets.items()
        for target in targets
        if target.component == component
    }


def cut(tensor: "Tensor", how: Cut) -> "Tensor":
    """What a folder has of a tensor of the file."""
    if how in THIRDS:
        return tensor.chunk(3)[THIRDS.index(how)]
    if how == "transposed":
        return tensor.T
    return tensor.flatten(1) if how == "flat" else tensor


def cut_shape(shape: tuple[int, ...], how: Cut) -> tuple[int, ...]:
    """Its shape; a shape that cannot be cut so is given back, and fits nowhere."""
    if how in THIRDS:
        return (shape[0] // 3, *shape[1:]) if shape and shape[0] % 3 == 0 else shape
    if how == "transposed":
        return shape[::-1]
    return shape[:2] if how == "flat" and shape[2:] == (1, 1) else shape
