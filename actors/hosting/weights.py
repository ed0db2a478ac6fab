"""What the weights of a hosted pipeline take, from the headers of their files: nothing of the weights is read."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from actors.checkpoints.tensor_file import FLOATS, Entry, Header
from actors.hosting.index import Hosted
from actors.hosting.shortcuts import BLOCK
from actors.hosting.source_text import constant_of

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
_FULL_BYTES = 4
# A layer of PyTorch's own attention, which takes the weights of another without calling it: `Host` leaves its network
# on the GPU.
_ATTENTION = re.compile(r"\bin_proj_weight$")
_MATRIX = 2  # axes


@dataclass(frozen=True, slots=True)
class Part:
    """A network of a checkpoint, as it is held.

    Attributes:
        held_bytes: of all its weights.
        largest_bytes: of its largest tensor.
        pinned_bytes: of all its weights in page-locked memory, whose pieces PyTorch rounds up to powers of two.
        loaded_bytes: of all its weights as they are loaded, before linear layers become 8 bits.
        stays: whether it is on the GPU as a whole where layers wait on the CPU.
    """

    held_bytes: int
    largest_bytes: int
    pinned_bytes: int
    loaded_bytes: int
    stays: bool


def parts_of(files: Mapping[str, Header], hosted: Hosted, *, precision: str, in_8_bits: bool) -> dict[str, Part]:
    """The networks by name.

    Args:
        files: of the weights' files, by their names below the checkpoint.
        precision: as it is configured; the files may have another.
        in_8_bits: whether the linear layers of the transformers' blocks are (`model.fast.weights`).
    """
    entries: dict[str, dict[str, Entry]] = {}
    for file, header in files.items():
        entries.setdefault(file.partition("/")[0], {}).update(header.tensors)
    full = {name: _kept_in_fp32(library, kind, precision) for name, library, kind in hosted.parts}
    made = {}
    for name, tensors in entries.items():
        usual = _FULL_BYTES if name in hosted.kind.full else _BYTES[precision]
        is_small = in_8_bits and name.startswith("transformer")
        sizes = {one: _held(one, entry, usual, full.get(name, ()), is_small=is_small) for one, entry in tensors.items()}
        stays = any(_ATTENTION.search(one) for one in tensors)
        pinned = sum(1 << max(size - 1, 0).bit_length() for size in sizes.values())
        loaded = sum(_held(one, entry, usual, full.get(name, ()), is_small=False) for one, entry in tensors.items())
        made[name] = Part(sum(sizes.values()), max(sizes.values(), default=0), pinned, loaded, stays)
    return made


def _held(name: str, entry: Entry, usual: int, full: tuple[str, ...], *, is_small: bool) -> int:
    """Bytes of a tensor as it is held."""
    if entry.dtype not in FLOATS:
        return entry.end - entry.start
    if any(part in full for part in name.split(".")):
        return math.prod(entry.shape) * _FULL_BYTES
    if is_small and len(entry.shape) == _MATRIX and BLOCK.match(name):
        return math.prod(entry.shape)
    return math.prod(entry.shape) * usual


def _kept_in_fp32(library: str, kind: str, precision: str) -> tuple[str, ...]:
    """Layers of a class that its library holds in fp32, whatever it is asked for."""
    if library == "diffusers":
        return tuple(constant_of(kind, "_keep_in_fp32_modules") or ())
    # transformers, of T5 and UMT5, and in fp16 alone.
    return ("wo",) if precision == "fp16" and "T5" in kind else ()
