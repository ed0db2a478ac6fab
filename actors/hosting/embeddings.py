"""Texts are encoded once: what a pipeline's `encode_prompt` has given is kept on the CPU, in bounded memory."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

# T5's 512 tokens of 4,096 numbers in bf16 are 4 MB, twice that with what is not wanted: room for 500 such pairs. Those
# of LTX-2, which takes every layer of its encoder, are 385 MB: room for ten.
_MAX_BYTES = 4 * 2**30


class _NoKey(Exception):  # noqa: N818 - says what there is
    """An argument that cannot be told apart from others, such as an image."""


class _Kept(NamedTuple):
    """A tensor on the CPU, and where it was."""

    tensor: Tensor
    device: torch.device


class KeptEmbeddings:
    """Takes the place of a pipeline's `encode_prompt`; the same arguments get the same tensors.

    An encoder that looks at the image, too (HunyuanVideo's), is asked each time.

    Attributes:
        calls: how often the encoder was asked.
    """

    def __init__(self, encode: Any, max_bytes: int = _MAX_BYTES) -> None:
        self._encode, self._max_bytes = encode, max_bytes
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As `encode_prompt`."""
        try:
            key = _key((args, kwargs))
        except _NoKey:
            return self._ask(args, kwargs)
        if key in self._kept:
            self._kept.move_to_end(key)
            return _mapped(self._kept[key][0], lambda kept: kept.tensor.to(kept.device))
        given = self._ask(args, kwargs)
        size = sum(tensor.nbytes for tensor in _tensors(given))
        if size <= self._max_bytes:
            self._kept[key] = _mapped(given, lambda tensor: _Kept(tensor.cpu(), tensor.device)), size
            self._bytes += size
            while self._bytes > self._max_bytes:
                _, (_, freed) = self._kept.popitem(last=False)
                self._bytes -= freed
        return given

    def _ask(self, args: Any, kwargs: Any) -> Any:
        self.calls += 1
        return self._encode(*args, **kwargs)


def _key(value: Any) -> Hashable:
    if isinstance(value, dict):
        return tuple((name, _key(one)) for name, one in sorted(value.items()))
    if isinstance(value, list | tuple):
        return (type(value).__name__, *map(_key, value))
    if value is None or isinstance(value, str | int | float | bool | torch.dtype | torch.device):
        return type(value).__name__, value
    raise _NoKey


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same structure, with each tensor, or what is kept of it, as `change` makes it."""
    if isinstance(value, Tensor | _Kept):
        return change(value)
    if isinstance(value, dict):
        return {name: _mapped(one, change) for name, one in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_mapped(one, change) for one in value)
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from (tensor for one in value.values() for tensor in _tensors(one))
    elif isinstance(value, list | tuple):
        yield from (tensor for one in value for tensor in _tensors(one))
