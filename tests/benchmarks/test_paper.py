"""What the paper count makes of kernels and calls; none of it needs a GPU, Triton or a compiler."""

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from actors import compiling
from benchmarks.paper import __main__ as command
from benchmarks.paper import networks, pretended, rates
from benchmarks.paper.compiled import Call, Compiled, Kernel
from benchmarks.paper.sectors import Traffic, traffic
from benchmarks.paper.table import clip_seconds, table
from benchmarks.paper.work import Counted, Work, count, kernel_class, work_of_call, work_of_kernel

POINTERS = {"in_ptr0": "*fp16", "out_ptr0": "*fp16", "xnumel": "i32", "XBLOCK": "constexpr"}

ADDS_ONE = """def triton_poi_fused_add_0(in_ptr0, out_ptr0, xnumel, XBLOCK : tl.constexpr):
    xnumel = 1000
    xoffset = tl.program_id(0) * XBLOCK
    xindex = xoffset + tl.arange(0, XBLOCK)[:]
    xmask = xindex < xnumel
    x0 = xindex
    tmp0 = tl.load(in_ptr0 + (x0), xmask).to(tl.float32)
    tmp1 = tl.full([1], 1.0, tl.float32)
    tmp2 = tmp0 + tmp1
    tl.store(out_ptr0 + (x0), tmp2, xmask)
"""

# The mean of each of 32 channels over 96 pixels: as Inductor writes it for images with their channels last.
MEANS = """def triton_red_fused_native_group_norm_0(in_ptr0, out_ptr0, xnumel, r0_numel, XBLOCK : tl.constexpr, R0_BLOCK : tl.constexpr):
    xnumel = 32
    r0_numel = 96
    xoffset = tl.program_id(0) * XBLOCK
    xindex = xoffset + tl.arange(0, XBLOCK)[:, None]
    xmask = xindex < xnumel
    r0_base = tl.arange(0, R0_BLOCK)[None, :]
    x0 = xindex
    tmp1_mean = tl.zeros([XBLOCK, R0_BLOCK], tl.float32)
    tmp1_m2 = tl.zeros([XBLOCK, R0_BLOCK], tl.float32)
    tmp1_weight = tl.zeros([XBLOCK, R0_BLOCK], tl.float32)
    for r0_offset in tl.range(0, r0_numel, R0_BLOCK):
        r0_index = r0_offset + r0_base
        r0_mask = r0_index < r0_numel
        roffset = r0_offset
        tmp0 = tl.load(in_ptr0 + (x0 + 32*r0_index), r0_mask & xmask, eviction_policy='evict_first', other=0.0).to(tl.float32)
        tmp1_mean_next, tmp1_m2_next, tmp1_weight_next = triton_helpers.welford_reduce(
            tmp0, tmp1_mean, tmp1_m2, tmp1_weight, roffset == 0
        )
        tmp1_mean = tl.where(r0_mask & xmask, tmp1_mean_next, tmp1_mean)
    tmp2, tmp3, tmp4 = triton_helpers.welford(tmp1_mean, tmp1_m2, tmp1_weight, 1)
    tmp5 = tmp2[:, None]
    tl.store(out_ptr0 + (x0), tmp5, xmask)
"""  # noqa: E501  # a generated line stays as it is

# Every pixel of a row of 64, moved by a flow that nobody knows: read where the pixel stands itself.
WARPS = """def triton_poi_fused_grid_sampler_2d_0(in_ptr0, in_ptr1, out_ptr0, xnumel, XBLOCK : tl.constexpr):
    xnumel = 64
    xindex = tl.program_id(0) * XBLOCK + tl.arange(0, XBLOCK)[:]
    xmask = xindex < xnumel
    tmp0 = tl.load(in_ptr1 + (xindex), xmask)
    tmp1 = libdevice.floor(xindex.to(tl.float32) + tmp0)
    tmp2 = triton_helpers.minimum(tmp1, tl.full([1], 63.0, tl.float32)).to(tl.int64)
    tmp3 = tl.load(in_ptr0 + (tmp2), xmask)
    tl.store(out_ptr0 + (xindex), libdevice.exp(tmp3), xmask)
"""


def kernel(source: str, *, launches: int = 1, types: dict[str, str] | None = None, **blocks: int) -> Kernel:
    """One of the above."""
    name = source[len("def ") : source.index("(")]
    extra = {"r0_numel": "i32", "R0_BLOCK": "constexpr"} if "R0_BLOCK" in source else {}
    return Kernel(name, source, POINTERS | extra | (types or {}), blocks, launches)


@pytest.mark.parametrize("block", [1000, 1024, 2048])
def test_neighbours_in_memory_use_whole_sectors(block: int) -> None:
    moved = traffic(kernel(ADDS_ONE, XBLOCK=block))
    assert moved == Traffic(needed=2 * 2 * 1000, touched=2 * 32 * np.ceil(2000 / 32))


def test_few_programs_stand_for_all() -> None:
    in_sixteens = traffic(kernel(ADDS_ONE.replace("1000", "16000"), XBLOCK=16))
    assert in_sixteens == Traffic(needed=2 * 2 * 16000, touched=2 * 2 * 16000)


def test_a_channel_at_a_time_touches_sixteen_times_what_it_needs() -> None:
    one = traffic(kernel(MEANS, XBLOCK=1, R0_BLOCK=32))
    image, means = 2 * 32 * 96, 2 * 32
    assert one == Traffic(needed=image + means, touched=16 * (image + means))
    rows = traffic(kernel(MEANS, XBLOCK=32, R0_BLOCK=32))
    assert rows == Traffic(needed=image + means, touched=image + means)


def test_a_warp_reads_where_the_flow_would_begin() -> None:
    moved = traffic(kernel(WARPS, XBLOCK=64, types={"in_ptr1": "*fp32"}))
    assert moved == Traffic(needed=64 * (2 + 4 + 2), touched=64 * (2 + 4 + 2))


def test_what_a_kernel_does_is_counted_once_a_launch() -> None:
    added = kernel(ADDS_ONE, launches=3, XBLOCK=1024)
    work = work_of_kernel(added, Traffic(needed=2.8e9, touched=2.8e9))
    assert (work.number, work.needed, work.touched) == (3, 3 * 2.8e9, 3 * 2.8e9)
    assert work.seconds["H100"] == pytest.approx(3 * 2.8e9 / rates.GPUS["H100"].memory)
    assert work.seconds["H200"] == pytest.approx(3 * 2.8e9 / rates.GPUS["H200"].memory)


def test_a_reduction_that_misses_the_caches_reads_memory_again() -> None:
    reduction, gpu = kernel(MEANS), rates.GPUS["H100"]
    moved = Traffic(needed=1e9, touched=8e9)
    assert work_of_kernel(reduction, moved).seconds["H100"] == pytest.approx(8e9 / gpu.memory)
    assert work_of_kernel(kernel(ADDS_ONE), moved).seconds["H100"] == pytest.approx(8e9 / gpu.cache)


def test_what_cannot_be_counted_is_named_and_the_others_are_counted() -> None:
    sorting = kernel(ADDS_ONE.replace("tl.full([1], 1.0", "tl.sort([1], 1.0").replace("add_0", "sort_0"), XBLOCK=64)
    counted = count(Compiled(kernels=[sorting, kernel(ADDS_ONE, XBLOCK=64)], others={"fft"}))
    assert sorted(counted.unknown) == ["fft", "triton_poi_fused_sort_0"]
    assert "sort" in counted.unknown["triton_poi_fused_sort_0"]
    assert counted.total.number == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("triton_poi_fused_gelu_mul_split_view_14", "GEGLU"),
        ("triton_per_fused_add_native_layer_norm_view_12", "layer norm, residuals"),
        ("triton_poi_fused_add_lerp_transpose_view_18", "layer norm, residuals"),
        ("triton_red_fused_clone_native_group_norm_permute_view_11", "group norm"),
        ("triton_per_fused_mean_pow_sub_var_mean_5", "group norm"),
        ("triton_poi_fused_add_convolution_permute_view_20", "other elementwise"),
    ],
)
def test_kernels_have_their_class_from_what_is_fused(name: str, kind: str) -> None:
    assert kernel_class(name) == kind


def on_meta(*shape: int) -> torch.Tensor:
    """A tensor without data."""
    return torch.empty(shape, device="meta")


CALLS: dict[str, tuple[Call, Callable[[], torch.Tensor]]] = {
    "conv 3x3": (
        Call("convolution", ((2, 16, 6, 10), (24, 16, 3, 3)), ((2, 24, 6, 10),), 2),
        lambda: F.conv2d(on_meta(2, 16, 6, 10), on_meta(24, 16, 3, 3), padding=1),
    ),
    "conv over time": (
        Call("convolution", ((2, 16, 5, 60), (24, 16, 3, 1)), ((2, 24, 5, 60),), 2),
        lambda: F.conv2d(on_meta(2, 16, 5, 60), on_meta(24, 16, 3, 1), padding=(1, 0)),
    ),
    "conv 4x4, transposed": (
        Call("convolution", ((2, 16, 6, 10), (16, 24, 4, 4)), ((2, 24, 12, 20),), 2, is_transposed=True),
        lambda: F.conv_transpose2d(on_meta(2, 16, 6, 10), on_meta(16, 24, 4, 4), stride=2, padding=1),
    ),
    "linear": (
        Call("bmm", ((2, 30, 16), (2, 16, 24)), ((2, 30, 24),), 2),
        lambda: on_meta(2, 30, 16) @ on_meta(2, 16, 24),
    ),
    "attention, spatial": (
        Call("attention", ((2, 4, 120, 8),) * 3, ((2, 4, 120, 8),), 2),
        lambda: F.scaled_dot_product_attention(
            query=on_meta(2, 4, 120, 8), key=on_meta(2, 4, 120, 8), value=on_meta(2, 4, 120, 8)
        ),
    ),
}


@pytest.mark.parametrize("kind", list(CALLS))
def test_calls_of_libraries_have_the_flop_that_pytorch_counts(kind: str) -> None:
    call, compute = CALLS[kind]
    with FlopCounterMode(display=False) as counter:
        compute()
    found, work = work_of_call(call)
    assert (found, work.flop) == (kind, counter.get_total_flops())


OWN_CALLS: dict[str, tuple[Call, str, float, float]] = {
    # operator: a call, its class, its FLOP, and the fp16 numbers that it reads and writes
    "geglu": (
        Call("torch.ops.stillreel.geglu.default", ((2, 30, 64), (256, 64), (256,)), ((2, 30, 128),), 2),
        "linear with GEGLU",
        2 * 60 * 64 * 256,
        60 * 64 + 256 * 64 + 256 + 60 * 128,
    ),
    "time_convolution": (
        Call(
            "torch.ops.stillreel.time_convolution.default", ((1, 5, 60, 64), (96, 192), (1, 96)), ((1, 5, 60, 96),), 2
        ),
        "conv over time",
        2 * 300 * 64 * 96 * 3,
        300 * 64 + 96 * 192 + 96 + 300 * 96,
    ),
    "frame_attention": (
        Call("torch.ops.stillreel.frame_attention.default", ((1, 5, 60, 3 * 64),), ((1, 5, 60, 64),), 2),
        "attention over time",
        2 * 2 * 60 * 5 * 5 * 64,
        300 * 192 + 300 * 64,
    ),
    "group_norm": (
        Call("torch.ops.stillreel.group_norm.default", ((2, 60, 64), (64,), (64,)), ((2, 60, 64),), 2),
        "group norm",
        0,
        3 * 120 * 64 + 2 * 64,
    ),
    "residual_norm": (
        Call("torch.ops.stillreel.residual_norm.default", ((1, 5, 60, 64),) * 2, ((1, 5, 60, 64),) * 2, 2),
        "layer norm, residuals",
        0,
        4 * 300 * 64,
    ),
}


@pytest.mark.parametrize("name", list(OWN_CALLS))
def test_our_own_operators_are_counted_by_what_they_compute_and_move(name: str) -> None:
    call, kind, flop, numbers = OWN_CALLS[name]
    found, work = work_of_call(call)
    assert (found, work.flop, work.needed) == (kind, flop, 2 * numbers)
    assert work.seconds["H100"] > 0


def test_a_call_computes_or_waits_for_memory() -> None:
    _, long = work_of_call(Call("mm", ((8192, 8192), (8192, 8192)), ((8192, 8192),), 2))
    assert long.seconds["H100"] == long.seconds["H200"] == pytest.approx(2 * 8192**3 / rates.product(8192))
    _, thin = work_of_call(Call("mm", ((10**7, 16), (16, 16)), ((10**7, 16),), 2))
    assert thin.seconds["H100"] == pytest.approx(thin.needed / rates.GPUS["H100"].memory)


def test_attention_among_few_frames_pays_for_whole_tiles() -> None:
    assert rates.attention(25, 64) < rates.attention(64, 64) < rates.attention(9216, 64)
    assert rates.attention(9216, 512) < rates.attention(9216, 64)


def test_the_table_has_each_class_and_the_sum() -> None:
    seconds = {"H100": 0.002, "H200": 0.001}
    step = Counted(
        {"linear": Work(2, 3e12, 4e9, 4e9, seconds), "GEGLU": Work(1, 0.0, 1e9, 2e9, {"H100": 0.01, "H200": 0.01})}
    )
    console = Console(width=80)
    with console.capture() as printed:
        console.print(table({"unet": step}))
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.get().splitlines() if "│" in line]
    assert lines == [
        ["GEGLU", "1", "", "1.0", "2.0", "10.0", "10.0"],
        ["linear", "2", "3.00", "4.0", "4.0", "2.0", "1.0"],
        ["norms, elementwise", "1", "", "1.0", "2.0", "10.0", "10.0"],
        ["unet", "3", "3.00", "5.0", "6.0", "12.0", "11.0"],
    ]


def test_a_clip_is_encoded_once_and_decoded_once() -> None:
    step, decode = (Counted({"all": Work(seconds=dict.fromkeys(rates.GPUS, seconds))}) for seconds in (0.4, 0.6))
    seconds = clip_seconds({"unet": step, "decoder": decode}, networks.CLIPS["full"])
    assert seconds == pytest.approx(dict.fromkeys(rates.GPUS, rates.ENCODING_S + 25 * 0.4 + 0.6))


@pytest.mark.parametrize("name", list(networks.NETWORKS))
def test_networks_are_compiled_with_the_products_options(name: networks.Name) -> None:
    network = networks.NETWORKS[name](networks.CLIPS["tiny"])
    assert network.options.items() >= compiling.OPTIONS["options"].items()


def test_a_build_without_cuda_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(sys, "argv", ["paper", "unet"])
    assert command.main() == 2
    said = capsys.readouterr().err
    assert said == f"{pretended.missing()}\n"
    assert "CUDA build" in said
