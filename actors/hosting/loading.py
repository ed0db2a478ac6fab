"""A pipeline of diffusers out of a folder: every parameter of its networks comes from the files, and no code does."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from safetensors import SafetensorError
from torch import nn

from actors.device import DTYPES
from actors.errors import CheckpointError, first_line
from actors.hosting.index import Hosted


def load(
    folder: Path,
    hosted: Hosted,
    *,
    variant: str | None,
    precision: str,
    place: Callable[[str, nn.Module], object] = lambda _name, _network: None,
) -> DiffusionPipeline:
    """The pipeline, on the CPU, in evaluation mode.

    Args:
        place: called with each network right after it is loaded, before the next one is; may move it.

    Raises:
        CheckpointError: a file is missing or damaged, or does not fit.
    """
    diffusers.utils.logging.disable_progress_bar()  # a worker's log is plain lines
    transformers.utils.logging.disable_progress_bar()
    kind, parts = getattr(diffusers, hosted.pipeline), dict[str, nn.Module]()
    for name, library, class_name in hosted.parts:
        network = _network_class(library, class_name)
        if network is not None:
            dtype = torch.float32 if name in hosted.kind.full else DTYPES[precision]
            parts[name] = _network(network, folder, name, variant, dtype)
            place(name, parts[name])
    try:
        pipeline: DiffusionPipeline = kind.from_pretrained(folder, **parts, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise CheckpointError(f"{folder} could not be loaded as {hosted.pipeline}: {first_line(error)}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def networks_of(pipeline: DiffusionPipeline) -> Mapping[str, nn.Module]:
    """Its networks by name."""
    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


def transformers_of(pipeline: DiffusionPipeline) -> list[nn.Module]:
    """The networks that are evaluated in every step: one, or two where each has its share of the steps."""
    return [part for name, part in networks_of(pipeline).items() if name.startswith("transformer")]


def _network_class(library: str, name: str) -> type[Any] | None:
    """The class of a component that has weights; None of any other component."""
    module = {"diffusers": diffusers, "transformers": transformers}.get(library)
    if module is None:
        module = importlib.import_module(f"diffusers.pipelines.{library}")
    found = getattr(module, name, None)
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def _network(kind: Any, folder: Path, name: str, variant: str | None, dtype: torch.dtype) -> nn.Module:
    if not (folder / name).is_dir():
        raise CheckpointError(f"{folder} is not complete: there is no {name}; copy the checkpoint again")
    is_own = issubclass(kind, diffusers.ModelMixin)
    has_variant = variant is not None and any((folder / name).glob(f"*.{variant}*"))
    try:
        network, found = kind.from_pretrained(
            folder,
            subfolder=name,
            variant=variant if has_variant else None,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **{"torch_dtype" if is_own else "dtype": dtype},
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder / name} could not be loaded: {first_line(error)}") from error
    # The libraries only warn about these, and go on with random numbers.
    if absent := sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]])):
        raise CheckpointError(
            f"{folder / name} does not fit its config.json: {len(absent)} tensors are missing or of another shape, "
            f"{absent[0]} among them; copy the checkpoint again"
        )
    made: nn.Module = network.eval().requires_grad_(False)
    return made
