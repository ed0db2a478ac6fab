"""An H100 that is not there: torch, Inductor and Triton compile for it, and nothing can run on it.

Each function that would ask the driver gets a stand-in. They are internals of torch 2.11 and 2.13; another version may
ask in another place, and then says that there is no driver.
"""

import importlib
import importlib.util
from types import SimpleNamespace
from typing import Any, cast

import torch

# NVIDIA's data sheet and what `torch.cuda.get_device_properties` says on the card. An H200 is the same processor with
# more and faster memory: its kernels are the same ones.
_PROPERTIES = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    minor=0,
    total_memory=84_900_000_000,
    multi_processor_count=132,
    warp_size=32,
    regs_per_multiprocessor=65_536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    L2_cache_size=50 * 2**20,
    shared_memory_per_block=49_152,
    shared_memory_per_block_optin=232_448,
    shared_memory_per_multiprocessor=233_472,
    is_integrated=0,
    is_multi_gpu_board=0,
    uuid="none",
    gcnArchName="",
)
_CAPABILITY = (_PROPERTIES.major, _PROPERTIES.minor)
_ARCHITECTURE = 10 * _PROPERTIES.major + _PROPERTIES.minor
_UTILITIES = {
    "max_shared_mem": _PROPERTIES.shared_memory_per_block_optin,
    "multiprocessor_count": _PROPERTIES.multi_processor_count,
    "warpSize": _PROPERTIES.warp_size,
    "max_num_regs": _PROPERTIES.regs_per_multiprocessor,
    "sm_clock_rate": 1_980_000,  # kHz
    "mem_clock_rate": 2_619_000,
    "mem_bus_width": 5120,  # bits
}


def missing() -> str | None:
    """Why nothing can be compiled for a GPU here, in one sentence; None: it can."""
    wanted = "the paper count needs a CUDA build of torch with Triton (no GPU): in an environment of its own, "
    wanted += "`pip install torch` from PyPI on Linux"
    if torch.version.cuda is None:
        return f"{wanted}; this is torch {torch.__version__}"
    if importlib.util.find_spec("triton") is None:
        return f"{wanted}; this one lacks triton"
    return None


def install() -> None:
    """Pretend, from here to the end of the process."""
    # One process compiles, in which the stand-ins are; and nothing is taken from a cache, which would compile nothing.
    inductor = cast("Any", importlib.import_module("torch._inductor.config"))
    inductor.compile_threads = 1
    inductor.force_disable_caches = True
    _pretend_torch()
    _pretend_interface()
    _pretend_triton()
    _skip_what_runs()


def _replace(owner: Any, **members: Any) -> None:
    for name, member in members.items():
        setattr(owner, name, member)


def _returning(value: Any) -> Any:
    return lambda *_args, **_settings: value


def _pretend_torch() -> None:
    nothing = _returning(None)
    _replace(
        torch.cuda,
        is_available=_returning(True),
        is_initialized=_returning(True),
        init=nothing,
        _lazy_init=nothing,
        _is_in_bad_fork=_returning(False),
        device_count=_returning(1),
        current_device=_returning(0),
        set_device=nothing,
        _exchange_device=_returning(0),
        _maybe_exchange_device=_returning(0),
        get_device_name=_returning(_PROPERTIES.name),
        get_device_properties=_returning(_PROPERTIES),
        get_device_capability=_returning(_CAPABILITY),
        mem_get_info=_returning((_PROPERTIES.total_memory, _PROPERTIES.total_memory)),
        synchronize=nothing,
        is_current_stream_capturing=_returning(False),
        get_rng_state=lambda *_args, **_settings: torch.zeros(16, dtype=torch.uint8),
        set_rng_state=nothing,
    )
    bindings = cast("Any", torch._C)
    bindings._ensureCUDADeviceGuardSet()
    _replace(bindings, _cuda_init=nothing, _cuda_isCurrentStreamCapturing=_returning(False))
    _replace(importlib.import_module("torch._subclasses.fake_tensor"), init_gpu_context=nothing)


def _pretend_interface() -> None:
    """What Dynamo and Inductor ask instead of `torch.cuda`, whose functions it took at its import."""

    def static(value: Any) -> Any:
        return staticmethod(_returning(value))

    interface = cast("Any", importlib.import_module("torch._dynamo.device_interface")).CudaInterface
    _replace(
        interface,
        is_available=static(True),
        get_device_properties=static(_PROPERTIES),
        get_compute_capability=static(_ARCHITECTURE),
        device_count=static(1),
        current_device=static(0),
        set_device=static(None),
        exchange_device=static(0),
        maybe_exchange_device=static(0),
        synchronize=static(None),
        get_raw_stream=static(0),
    )
    _replace(
        interface.Worker,
        get_device_properties=static(_PROPERTIES),
        current_device=static(0),
        set_device=static(None),
    )


def _pretend_triton() -> None:
    target = cast("Any", importlib.import_module("triton.backends.compiler")).GPUTarget
    driver = SimpleNamespace(
        utils=SimpleNamespace(get_device_properties=_returning(_UTILITIES)),
        is_active=_returning(True),
        get_current_target=_returning(target("cuda", _ARCHITECTURE, _PROPERTIES.warp_size)),
        get_current_device=_returning(0),
        set_current_device=_returning(None),
        get_current_stream=_returning(0),
        get_device_interface=_returning(torch.cuda),
        get_active_torch_device=_returning(torch.device("cuda", 0)),
        launcher_cls=None,
    )
    cast("Any", importlib.import_module("triton.runtime.driver")).driver.set_active(driver)
    asked = cast("Any", importlib.import_module("torch.utils._triton"))
    for question in (asked.has_triton, asked.has_triton_package):  # whose answers are kept
        if hasattr(question, "cache_clear"):
            question.cache_clear()
    helpers = importlib.import_module("torch._inductor.runtime.triton_helpers")
    _replace(helpers, set_driver_to_gpu=_returning(None))


def _skip_what_runs() -> None:
    """What loads a kernel, tries one, or puts a number on the device while it compiles."""
    heuristics = cast("Any", importlib.import_module("torch._inductor.runtime.triton_heuristics"))
    _replace(heuristics.CachingAutotuner, _make_launchers=_returning(None), _dynamic_scale_rblock=_returning(None))
    passes = "torch._inductor.fx_passes"
    _replace(importlib.import_module(f"{passes}.fuse_attention"), _sfdp_init=_returning(None))
    _replace(importlib.import_module(f"{passes}.pad_mm"), _pad_mm_init=_returning(None))
    folder = cast("Any", importlib.import_module(f"{passes}.joint_graph")).UniformValueConstantFolder
    deduce = folder._deduce_value
    aten = torch.ops.aten

    def on_the_cpu(self: Any, node: torch.fx.Node) -> Any:
        settings = {name: value for name, value in node.kwargs.items() if name != "pin_memory"} | {"device": "cpu"}
        if node.target is aten.full.default:  # one number stands for a tensor of any size
            return aten.full.default([1], node.args[1], **settings)
        if node.target is aten.scalar_tensor.default:
            return aten.scalar_tensor.default(*node.args, **settings)
        return deduce(self, node)

    folder._deduce_value = on_the_cpu
