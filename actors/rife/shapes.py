"""Names and shapes of the tensors in a file of weights: without PyTorch, which takes seconds to import.

Of a file of some megabytes a few kilobytes are read. A pickle is read by an unpickler that makes tuples of numbers
and nothing else; it refuses whatever is not in a plain state dict.
"""

import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from actors.errors import StorageError
from actors.storage import Storage
from actors.uris import without_query

Shape = tuple[int, ...]

# More is no list of a network's tensors.
_MOST_BYTES = 2**24
# torch's older files begin with a pickle each of these: a magic number, the version, what the machine was.
_PICKLES_BEFORE = 3
_SAFETENSORS_SIZE_BYTES = 8


def shapes_in(uri: str, storage: Storage) -> dict[str, Shape] | None:
    """Of each tensor, as the file names them; None of ncnn's files, and of what cannot be read, which others say."""
    ending = without_query(uri).lower().rpartition(".")[2]
    read = {"safetensors": _of_safetensors, "pkl": _of_pickle, "pth": _of_pickle}.get(ending)
    if read is None:
        return None
    try:
        with storage.open(uri) as file:
            return read(file)
    # A damaged pickle, zip or JSON raises nearly anything.
    except (StorageError, Exception):  # noqa: BLE001 - the worker reads it by PyTorch, and says what is wrong with it
        return None


def _of_safetensors(file: IO[bytes]) -> dict[str, Shape]:
    size = int.from_bytes(file.read(_SAFETENSORS_SIZE_BYTES), "little")
    header = json.loads(file.read(min(size, _MOST_BYTES)))
    return {name: tuple(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}


def _of_pickle(file: IO[bytes]) -> dict[str, Shape]:
    if not zipfile.is_zipfile(file):
        file.seek(0)
        return _named([_Shapes(file).load() for _ in range(_PICKLES_BEFORE + 1)][-1])
    with zipfile.ZipFile(file) as archive:
        (inner,) = (one for one in archive.infolist() if one.filename.rpartition("/")[2] == "data.pkl")
        if inner.file_size > _MOST_BYTES:
            raise ValueError(inner.file_size)
        with archive.open(inner) as content:
            return _named(_Shapes(content).load())


def _named(state: Any) -> dict[str, Shape]:
    return {name: shape for name, shape in state.items() if isinstance(shape, tuple)}


class _Shapes(pickle.Unpickler):
    """Of a state dict: each tensor becomes its shape."""

    def find_class(self, module: str, name: str) -> Any:
        """What a tensor, or a dict in order, is made by; nothing else is called."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name.endswith("Storage"):
            return name
        if module == "torch._utils" and name in _REBUILD:
            return _REBUILD[name]
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, _pid: Any) -> None:
        """The numbers, which are not looked at."""


def _tensor(_storage: None, _offset: int, size: Sequence[int], *_more: Any) -> Shape:
    return tuple(size)


def _parameter(shape: Shape, *_more: Any) -> Shape:
    return shape


_REBUILD: Mapping[str, Callable[..., Shape]] = {
    "_rebuild_tensor": _tensor,
    "_rebuild_tensor_v2": _tensor,
    "_rebuild_parameter": _parameter,
}
