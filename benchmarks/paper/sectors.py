"""How much memory a Triton kernel touches, by running its index arithmetic in NumPy.

A GPU moves memory in sectors of 32 bytes. A kernel whose neighbouring threads read neighbouring numbers needs all of
each; one that reads a channel of a channels-last image uses 2 bytes of each. Some programs of the kernel's grid run
here, each as Triton runs it, a whole tile at a time: what is loaded reads as zero, what is computed from it does not
matter, and every load and store is noted.

What cannot be seen: caches. Bytes that two programs need, or two passes of one program, count twice.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.paper.compiled import Kernel

SECTOR_BYTES = 32
_PROGRAMS = 5  # that are run along each axis of the grid
_ITEM_BYTES = {"fp64": 8, "i64": 8, "fp32": 4, "i32": 4, "fp16": 2, "bf16": 2, "i16": 2, "i8": 1, "u8": 1, "i1": 1}


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one launch."""

    needed: float
    touched: float  # of all sectors with a needed byte


class Tile(np.ndarray[Any, np.dtype[Any]]):
    """A block of numbers as Triton has them."""

    def to(self, dtype: Any, **_settings: Any) -> "Tile":
        """Cast."""
        return _tile(self.astype(dtype))


def traffic(kernel: Kernel) -> Traffic:
    """What one launch of a kernel moves.

    Raises:
        Exception: of whatever kind, where the kernel does what the stand-ins below do not know.
    """
    columns, rows = _length(kernel, "x"), _length(kernel, "y")
    run = [(x, y) for x in _spread(columns) for y in _spread(rows)]
    needed = touched = 0
    for program in run:
        machine = _Machine(kernel.types, program)
        machine.run(kernel)
        needed += machine.needed
        touched += machine.touched
    number = columns * rows
    return Traffic(needed * number / len(run), touched * number / len(run))


def _spread(programs: int) -> list[int]:
    """Some of them, or all where they are few: of a short axis the last one, which is cut short, weighs something."""
    return sorted({int((index + 0.5) * programs / _PROGRAMS) for index in range(_PROGRAMS)})


def _length(kernel: Kernel, axis: str) -> int:
    """Programs of the kernel's grid along an axis."""
    elements = re.search(rf"^    {axis}numel = (\d+)$", kernel.source, re.MULTILINE)
    return ceil(int(elements[1]) / kernel.blocks.get(f"{axis.upper()}BLOCK", 1)) if elements else 1


@dataclass(frozen=True, slots=True)
class _Pointer:
    """An argument of the kernel, and where in it."""

    name: str
    offsets: Any = 0

    def __add__(self, offsets: Any) -> "_Pointer":
        return _Pointer(self.name, self.offsets + offsets)


class _Machine:
    """Runs one program of a kernel's grid."""

    def __init__(self, types: dict[str, str], program: tuple[int, int]) -> None:
        self.needed = self.touched = 0
        self._types, self._program = types, program
        self._repeats = 1  # of what runs now, in the loops around it

    def run(self, kernel: Kernel) -> None:
        """Call the kernel's function with pointers."""
        names: dict[str, Any] = {"tl": self._language(), "triton_helpers": _helpers(), "libdevice": _Elementwise()}
        names |= {"tl_math": _Elementwise(), "range": self._loop}
        exec(kernel.source, names)  # noqa: S102 - Inductor's own code, from this process
        function = names[kernel.source[len("def ") : kernel.source.index("(")]]
        with np.errstate(all="ignore"):
            function(**{name: self._argument(name, kind, kernel) for name, kind in kernel.types.items()})

    def _argument(self, name: str, kind: str, kernel: Kernel) -> Any:
        # Lengths are given in the kernel's own text once more, as constants.
        return _Pointer(name) if kind.startswith("*") else kernel.blocks.get(name, 1)

    def _language(self) -> SimpleNamespace:
        """`triton.language`, as far as Inductor uses it where nothing is sorted or scanned."""
        return SimpleNamespace(
            constexpr=int,
            float64=np.float64,
            float32=np.float32,
            float16=np.float16,
            bfloat16=np.float32,
            int64=np.int64,
            int32=np.int32,
            int16=np.int16,
            int8=np.int8,
            uint8=np.uint8,
            int1=np.bool_,
            program_id=lambda axis: (*self._program, 0)[axis],
            num_programs=lambda _axis: 1,
            range=self._loop,
            load=self._load,
            store=self._store,
            arange=lambda start, end: _tile(np.arange(start, end)),
            full=lambda shape, value, dtype: _tile(np.full(shape, value, dtype)),
            zeros=lambda shape, dtype: _tile(np.zeros(shape, dtype)),
            where=lambda condition, yes, no: _tile(np.where(condition, yes, no)),
            broadcast_to=lambda tile, shape: _tile(np.broadcast_to(tile, shape)),
            sum=_reduce,
            max=_reduce,
            min=_reduce,
            minimum=np.minimum,
            maximum=np.maximum,
            sigmoid=_elementwise,
            fma=_elementwise,
            debug_barrier=lambda: None,
            device_assert=lambda *_arguments: None,
        )

    def _loop(self, start: int, end: int, step: int = 1) -> Iterator[int]:
        """One pass for all: a middle one, since the last may be cut short."""
        passes = range(start, end, step)
        self._repeats *= len(passes)
        yield passes[len(passes) // 2] if len(passes) > 2 else passes[0]
        self._repeats //= len(passes)

    # Inductor may give the first three by place.
    def _load(self, pointer: _Pointer, mask: Any = None, other: Any = None, **_settings: Any) -> Tile:  # noqa: ARG002
        return _tile(np.zeros(self._note(pointer, mask).shape, np.bool_ if self._is_bool(pointer) else np.float32))

    def _store(self, pointer: _Pointer, _value: Any, mask: Any = None, **_settings: Any) -> None:
        self._note(pointer, mask)

    def _is_bool(self, pointer: _Pointer) -> bool:
        return self._types[pointer.name] == "*i1"

    def _note(self, pointer: _Pointer, mask: Any) -> npt.NDArray[Any]:
        offsets, mask = np.broadcast_arrays(pointer.offsets, True if mask is None else mask)
        items = np.unique(offsets[mask])
        item_bytes = _ITEM_BYTES[self._types[pointer.name].removeprefix("*")]
        self.needed += self._repeats * item_bytes * items.size
        self.touched += self._repeats * SECTOR_BYTES * np.unique(items * item_bytes // SECTOR_BYTES).size
        return offsets


def _tile(values: Any) -> Tile:
    return np.asarray(values).view(Tile)


def _elementwise(*values: Any) -> Tile:
    """Any function of numbers on which no index depends."""
    return _tile(np.zeros(np.broadcast_shapes(*map(np.shape, values)), np.float32))


class _Elementwise:
    """A module of such functions; indices of a picture that is warped go through a few that count."""

    floor, ceil, rint = np.floor, np.ceil, np.rint

    def __getattr__(self, name: str) -> Any:
        return _elementwise


def _reduce(tile: Tile, axis: int) -> Tile:
    return _tile(np.zeros_like(tile).sum(axis))


def _helpers() -> SimpleNamespace:
    """Inductor's `triton_helpers`."""
    return SimpleNamespace(
        minimum=np.minimum,
        maximum=np.maximum,
        div_floor_integer=np.floor_divide,
        remainder_integer=np.remainder,
        promote_to_tensor=_tile,
        max2=_reduce,
        min2=_reduce,
        any=_reduce,
        welford_reduce=lambda value, *_sofar: (_elementwise(value),) * 3,
        welford_combine=lambda mean, *_others: (_elementwise(mean),) * 3,
        welford=lambda mean, _m2, _weight, axis: (_reduce(mean, axis),) * 3,
    )
