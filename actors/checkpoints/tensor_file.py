"""safetensors files, tensor by tensor: of any store, without holding more than one tensor, and without torch to look.

A file is the length of its header (8 bytes), the header (JSON: name -> dtype, shape, offsets behind it), and the bytes
of all tensors: https://github.com/huggingface/safetensors#format
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self

from actors.errors import CheckpointError
from actors.storage import Storage

if TYPE_CHECKING:
    from torch import Tensor

LENGTH_BYTES = 8
# The format's own limit; a longer "header" is something else that was read as one.
_MAX_HEADER_BYTES = 100 * 10**6
# Of the types that the format has, those that weights come in here; bytes a value.
FLOATS = {"F32": 4, "F16": 2, "BF16": 2}
_BYTES = FLOATS | {"F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
# How a zip archive and a pickle begin: what torch.save writes, whatever the file is called.
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class Entry(NamedTuple):
    """A tensor in a file: its bytes are those from `start` up to `end` of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    tensors: dict[str, Entry]
    metadata: dict[str, str]


def open_header(uri: str, storage: Storage, where: str) -> Header:
    """The header of a file on this machine or a store. Raises as `read_header`, and StorageError."""
    with storage.open(uri) as file:
        return read_header(file, where)


def read_header(file: IO[bytes], where: str) -> Header:
    """The header of an open file, whose length is as the header says.

    Args:
        where: what the user calls the file, for the error.

    Raises:
        CheckpointError: it is no safetensors file, or not a whole one.
    """
    size = file.seek(0, 2)
    file.seek(0)
    first = file.read(LENGTH_BYTES)
    if first.startswith(_PICKLES):
        raise CheckpointError(
            f"{where} is a pickle file, which can run code, whatever its name says: take it as .safetensors"
        )
    length = int.from_bytes(first, "little")
    try:
        content: Any = json.loads(file.read(length)) if length <= min(size, _MAX_HEADER_BYTES) else None
        metadata = content.pop("__metadata__", {})
        begin = LENGTH_BYTES + length
        tensors = {name: _entry(found, begin) for name, found in content.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{where} is damaged: it is no safetensors file; copy it again") from None
    expected = max((entry.end for entry in tensors.values()), default=begin)
    if size != expected:
        raise CheckpointError(f"{where} is damaged: {size} bytes instead of {expected}; copy it again")
    return Header(tensors, metadata if isinstance(metadata, dict) else {})


def _entry(found: Any, begin: int) -> Entry:
    dtype, shape, (start, end) = found["dtype"], tuple(map(int, found["shape"])), found["data_offsets"]
    if dtype in _BYTES and end - start != math.prod(shape) * _BYTES[dtype]:
        raise ValueError(shape)
    return Entry(dtype, shape, begin + start, begin + end)


def read_tensor(file: IO[bytes], entry: Entry, where: str) -> "Tensor":
    """One tensor of an open file, in the type that it is held in, which is one of `FLOATS`.

    Raises CheckpointError where the file ends before the tensor does.
    """
    import torch

    file.seek(entry.start)
    data = bytearray(file.read(entry.end - entry.start))
    if len(data) != entry.end - entry.start:
        raise CheckpointError(f"{where} became shorter while it was read: copy it again")
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[entry.dtype]
    return torch.frombuffer(data, dtype=dtype).reshape(entry.shape) if data else torch.empty(entry.shape, dtype=dtype)


class Writer:
    """A new file whose tensors are known by shape, and come one after the other in any order.

    It becomes the file that the library writes, byte by byte: on a CPU, where weights are mapped into memory, sums
    depend in their last bit on where a tensor begins.
    """

    def __init__(self, path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        """Write the header: dtype and shape of each tensor by its name."""
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name, (dtype, shape) in sorted(tensors.items(), key=lambda item: (-FLOATS[item[1][0]], item[0])):
            start, end = end, end + math.prod(shape) * FLOATS[dtype]
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % LENGTH_BYTES)  # tensors begin at a multiple of eight
        self._places = {name: header[name]["data_offsets"][0] + LENGTH_BYTES + len(text) for name in tensors}
        self._file = path.open("wb")
        self._file.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def write(self, name: str, tensor: "Tensor") -> None:
        """One of the tensors, in the type and shape that were announced."""
        import torch

        self._file.seek(self._places[name])
        self._file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
