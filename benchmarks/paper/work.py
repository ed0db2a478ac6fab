"""What each kernel and each call of a library does, by class, and how long that should take."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf, prod

from benchmarks.paper import rates
from benchmarks.paper.compiled import OWN, Call, Compiled, Kernel
from benchmarks.paper.sectors import Traffic, traffic

_GROUP_NORM, _LAYER_NORM = "group norm", "layer norm, residuals"
_OVER_TIME, _AMONG_FRAMES = "conv over time", "attention over time"
_MANY_FRAMES = 100  # attention among fewer tokens is over time, among more over pixels

# By a part of the name, which Inductor makes of the operations that it fused; the first that fits.
_KERNELS = {
    "gelu": "GEGLU",
    "layer_norm": _LAYER_NORM,
    "lerp": _LAYER_NORM,
    "group_norm": _GROUP_NORM,
    "var_mean": _GROUP_NORM,
    "_mean_": _GROUP_NORM,
    "grid_sampl": "warping",
}
_OTHER_KERNELS = "other elementwise"
_REDUCTIONS = ("triton_red_", "triton_per_")  # Inductor's prefixes: in a loop, or in one tile


@dataclass(slots=True)
class Work:
    """Of one or more kernels."""

    number: int = 0
    flop: float = 0.0  # of matrix products, convolutions and attention
    needed: float = 0.0  # bytes
    touched: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(rates.GPUS, 0.0))

    def add(self, other: "Work") -> None:
        """Take another's work over."""
        self.number += other.number
        self.flop += other.flop
        self.needed += other.needed
        self.touched += other.touched
        for gpu, seconds in other.seconds.items():
            self.seconds[gpu] += seconds


@dataclass(slots=True)
class Counted:
    """All that one call of a network does."""

    classes: dict[str, Work] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)  # what is not in it, with why

    @property
    def total(self) -> Work:
        """Of all classes."""
        return together(self.classes.values())

    def add(self, name: str, work: Work) -> None:
        """Count it in a class."""
        self.classes.setdefault(name, Work()).add(work)


def together(works: Iterable[Work]) -> Work:
    """Their sum."""
    total = Work()
    for work in works:
        total.add(work)
    return total


def count(compiled: Compiled) -> Counted:
    """Classes of kernels with their work."""
    counted = Counted(unknown=dict.fromkeys(compiled.others, "its work is not known"))
    for call in compiled.calls:
        counted.add(*work_of_call(call))
    for kernel in compiled.kernels:
        try:
            moved = traffic(kernel)
        except Exception as error:  # noqa: BLE001 - it is said under the table, and the rest is still worth having
            counted.unknown[kernel.name] = repr(error)
        else:
            counted.add(kernel_class(kernel.name), work_of_kernel(kernel, moved))
    return counted


def kernel_class(name: str) -> str:
    """The class of one of Inductor's kernels."""
    return next((kind for part, kind in _KERNELS.items() if part in name), _OTHER_KERNELS)


def work_of_kernel(kernel: Kernel, moved: Traffic) -> Work:
    """Of all its launches."""
    needed, touched = kernel.launches * moved.needed, kernel.launches * moved.touched
    is_reduction = kernel.name.startswith(_REDUCTIONS)
    seconds = {
        name: rates.kernel_seconds(gpu, needed, touched, is_reduction=is_reduction) if needed else 0.0
        for name, gpu in rates.GPUS.items()
    }
    return Work(kernel.launches, 0.0, needed, touched, seconds)


def work_of_call(call: Call) -> tuple[str, Work]:
    """Its class, and what it does; libraries are trusted to touch no more than they need."""
    if OWN in call.name:
        kind, flop, flop_per_s = _own(call)
    elif "attention" in call.name:
        kind, flop, flop_per_s = _attention(call)
    elif "convolution" in call.name:
        kind, flop, flop_per_s = _convolution(call)
    else:
        kind, flop, flop_per_s = _product(call)
    needed = float(call.needed_bytes)
    if kind == _GROUP_NORM:  # reads everything once for the statistics, and once to apply them
        needed += call.item_bytes * prod(call.inputs[0])
    seconds = {name: rates.call_seconds(gpu, flop, flop_per_s, needed) for name, gpu in rates.GPUS.items()}
    return kind, Work(1, flop, needed, needed, seconds)


def _own(call: Call) -> tuple[str, float, float]:
    name = call.name.partition(OWN)[2].partition(".")[0]
    first, *others = call.inputs
    if name == "geglu":
        return "linear with GEGLU", 2.0 * prod(first) * others[0][0], rates.geglu(first[-1])
    if name == "time_convolution":
        flop = 2.0 * prod(first[:-1]) * prod(others[0])
        return _OVER_TIME, flop, rates.own_over_time(min(first[-1], others[0][0]))
    if name == "frame_attention":  # of queries, keys and values side by side; waits for memory
        return _AMONG_FRAMES, 4.0 * prod(first) / 3 * first[1], inf
    return (_LAYER_NORM if name == "residual_norm" else _GROUP_NORM), 0.0, inf


def _attention(call: Call) -> tuple[str, float, float]:
    *batch, tokens, head = call.inputs[0]
    flop = 4.0 * prod(batch) * tokens**2 * head
    kind = _AMONG_FRAMES if tokens < _MANY_FRAMES else "attention, spatial"
    return kind, flop, rates.attention(tokens, head)


def _convolution(call: Call) -> tuple[str, float, float]:
    image, (out_or_in, in_or_out, *taps) = call.inputs  # a transposed one has its inputs first
    positions = prod(image) if call.is_transposed else prod(call.outputs[0])
    flop = 2.0 * positions * in_or_out * prod(taps)
    is_over_time = taps == [3, 1]
    kind = _OVER_TIME if is_over_time else f"conv {'x'.join(map(str, taps))}"
    if call.is_transposed:
        kind += ", transposed"
    rate = rates.over_time if is_over_time else rates.convolution
    return kind, flop, rate(min(out_or_in, in_or_out))


def _product(call: Call) -> tuple[str, float, float]:
    left, right = call.inputs
    return "linear", 2.0 * prod(left) * right[-1], rates.product(left[-1])
