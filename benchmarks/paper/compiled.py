"""Lower and compile a network for the pretended GPU, and keep what it would launch.

Inductor leaves Triton kernels of its own, calls of libraries (matrix products, convolutions, attention) and of our own
operators, and views, which cost nothing.
"""

import importlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any, cast
from unittest.mock import patch

import torch

from benchmarks.paper.networks import Network

OWN = "stillreel."  # the namespace of our own operators (`actors.svd.fused`)
_CALLS = ("convolution", "mm", "attention", OWN)  # what is not Inductor's, by a part of its name


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a library, or of an operator of our own."""

    name: str
    inputs: tuple[tuple[int, ...], ...]  # shapes; of libraries without a bias
    outputs: tuple[tuple[int, ...], ...]
    item_bytes: int
    is_transposed: bool = False  # a convolution that enlarges

    @property
    def needed_bytes(self) -> int:
        """Everything read once and written once."""
        return self.item_bytes * sum(map(prod, self.inputs + self.outputs))


@dataclass(frozen=True, slots=True)
class Kernel:
    """A Triton kernel as Inductor writes it."""

    name: str
    source: str  # from `def` on
    types: dict[str, str]  # of its arguments: "*fp16", "i32"
    blocks: dict[str, int]  # XBLOCK and the like: the first configuration that compiles, of those a GPU would try
    launches: int = 1


@dataclass(slots=True)
class Compiled:
    """What one call of a network launches."""

    calls: list[Call] = field(default_factory=list)
    kernels: list[Kernel] = field(default_factory=list)
    others: set[str] = field(default_factory=set)  # calls of which nothing is known but the name
    seconds: float = 0.0  # that the compiler took here


class _EndedError(Exception):
    """Compiled, and about to run."""


def compile_network(network: Network) -> Compiled:
    """Compile it, after `pretended.install`. Takes minutes at full size."""
    mode = importlib.import_module("torch._subclasses").FakeTensorMode(allow_non_fake_inputs=True)
    compile_fx: Any = importlib.import_module("torch._inductor.compile_fx").compile_fx
    found, started = Compiled(), time.perf_counter()
    with mode, torch.no_grad(), _noted(found):

        def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
            _choose_attention(graph)
            compile_fx(graph, inputs, config_patches=network.options)
            return _end

        function, arguments = network.call()
        try:
            torch.compile(function, fullgraph=True, dynamic=False, backend=backend)(*arguments)
        except _EndedError:
            found.seconds = time.perf_counter() - started
    assert found.seconds, "the network was not compiled"
    return found


def _end(*_arguments: Any) -> Any:
    raise _EndedError


def _choose_attention(graph: torch.fx.GraphModule) -> None:
    """cuDNN's attention, which PyTorch's dispatcher takes on Hopper; it cannot ask a device that is not there."""

    def attention(query: Any, key: Any, value: Any, *_args: Any, **_settings: Any) -> Any:
        of_cudnn = torch.ops.aten._scaled_dot_product_cudnn_attention
        return of_cudnn(query, key, value, None, False, 0.0, False, False)[0]

    for node in graph.graph.nodes:
        if node.op == "call_function" and "scaled_dot_product_attention" in str(node.target):
            node.target = attention
    graph.recompile()


@contextmanager
def _noted(found: Compiled) -> Iterator[None]:
    """Note in `found` what the compiler makes meanwhile."""
    scheduler: Any = importlib.import_module("torch._inductor.scheduler")
    tuner: Any = importlib.import_module("torch._inductor.runtime.triton_heuristics").CachingAutotuner
    lowering: Any = importlib.import_module("torch._inductor.graph").GraphLowering
    schedule, precompile, write = scheduler.Scheduler.codegen, tuner._precompile_config, lowering.codegen
    kernels: dict[str, Kernel] = {}
    code: list[str] = []

    def noting_calls(self: Any) -> Any:
        for node in self.nodes:
            if isinstance(node, scheduler.ExternKernelSchedulerNode):
                _note_call(found, node.node)
        return schedule(self)

    def noting_kernel(self: Any, config: Any) -> Any:
        result = precompile(self, config)
        kernel = _kernel(self, config)
        kernels.setdefault(kernel.name, kernel)
        return result

    def noting_code(self: Any) -> Any:
        written = write(self)
        code.append(written[0].value)
        return written

    with ExitStack() as patches:
        patches.enter_context(patch.object(scheduler.Scheduler, "codegen", noting_calls))
        patches.enter_context(patch.object(tuner, "_precompile_config", noting_kernel))
        patches.enter_context(patch.object(lowering, "codegen", noting_code))
        yield
    for kernel in kernels.values():
        launches = sum(len(re.findall(rf"\b{kernel.name}\.run\(", text)) for text in code)
        found.kernels.append(Kernel(kernel.name, kernel.source, kernel.types, kernel.blocks, launches))


def _note_call(found: Compiled, node: Any) -> None:
    name = str(getattr(node, "python_kernel_name", None) or getattr(node, "op_overload", None) or "")
    if any(part in name for part in _CALLS):
        found.calls.append(_call(name, node))
    elif name:  # without one it is a view of another call's output
        found.others.add(name)


def _call(name: str, node: Any) -> Call:
    shapes = [_ints(value.get_size()) for value in node.inputs if hasattr(value, "get_size")]
    if OWN in name:
        inputs, outputs = shapes, [_ints(output.get_size()) for output in node.outputs]
    elif "attention" in name:
        inputs, outputs = shapes[:3], shapes[:1]  # it has several outputs, the first as large as the query
    else:
        inputs = shapes[:2] if "convolution" in name else shapes[-2:]  # `addmm` has its bias first
        outputs = [_ints(node.get_size())]
    transposed = bool(getattr(node, "kwargs", {}).get("transposed", False))
    return Call(name, tuple(inputs), tuple(outputs), _item_bytes(node), transposed)


def _item_bytes(node: Any) -> int:
    dtype = cast("torch.dtype", node.inputs[0].get_dtype())
    return dtype.itemsize


def _ints(size: Any) -> tuple[int, ...]:
    return tuple(map(int, size))


def _kernel(tuner: Any, config: Any) -> Kernel:
    source: str = tuner.fn.src
    blocks = {name: int(value) for name, value in config.kwargs.items() if name.endswith("BLOCK")}
    types = {name: str(kind) for name, kind in tuner.triton_meta["signature"].items()}
    return Kernel(tuner.inductor_meta["kernel_name"], source[source.index("def ") :], types, blocks)
