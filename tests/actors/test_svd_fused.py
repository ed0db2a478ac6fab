"""The kernels against the plain ways in float64, and the networks with them, in Triton's interpreter."""

import copy
import os
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actors.svd import fused
from actors.svd.primitives import FeedForward, GroupNorm, ResidualNorm, SelfAttention, TimeConvolution
from actors.svd.unet import UNet
from benchmarks.make_checkpoints import TINY_SIZES, draw_weights, new_unet

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1" or find_spec("triton") is None,
    reason="the kernels are Triton's and run in its interpreter here (tests/gpu runs them on a GPU)",
)

# Half precision has 11 bits: results are rounded once, by 2e-4 on average; attention also rounds its weights.
ROUNDED_ONCE, ROUNDED_TWICE = 2.5e-4, 4e-4


@pytest.fixture(scope="module", autouse=True)
def _operators() -> Iterator[None]:
    fused.load()
    from triton.runtime import interpreter

    plain = interpreter._patch_lang_tensor

    def with_scalars_as_bounds(tensor: Any, scope: Any) -> None:
        """A scalar is an array of one element, of which NumPy 2.5 makes no `int`: no loop could end at one."""
        plain(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_patch_lang_tensor", with_scalars_as_bounds)
        yield


@pytest.fixture
def op() -> Any:
    return torch.ops.stillreel


def drawn(*shape: int, scale: float = 1.0, offset: float = 0.0) -> Tensor:
    return (torch.randn(shape) * scale + offset).half()


def error(ours: Tensor, expected: Tensor) -> float:
    return float((ours.double() - expected).norm() / expected.norm())


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # of rows that are not there
@pytest.mark.parametrize(
    ("rows", "channels", "silu"), [(70, 128, True), (700, 64, False)], ids=["ragged tile", "many parts"]
)
def test_group_norm(op: Any, rows: int, channels: int, silu: bool) -> None:
    # Far from zero: the difference of large sums would show.
    x, residual = drawn(2, rows, channels, scale=0.1, offset=8.0), drawn(2, rows, channels)
    added, weight, bias = drawn(2, channels), drawn(channels), drawn(channels)

    def expected(x_NRC: Tensor) -> Tensor:
        normed = F.group_norm(x_NRC.double().transpose(1, 2), 32, weight.double(), bias.double(), 1e-6).transpose(1, 2)
        return F.silu(normed) if silu else normed

    made = op.group_norm(x, None, weight, bias, 32, 1e-6, silu)
    assert error(made, expected(x)) < ROUNDED_ONCE
    made = op.group_norm(x, added, weight, bias, 32, 1e-6, silu)
    assert error(made, expected(x.double() + added.double()[:, None])) < ROUNDED_ONCE
    summed, made = op.residual_group_norm(x, residual, added, weight, bias, 32, 1e-6, silu)
    assert error(summed, x.double() + residual.double() + added.double()[:, None]) < ROUNDED_ONCE
    assert error(made, expected(summed)) < ROUNDED_ONCE


@pytest.mark.parametrize(("span", "terms", "is_kept"), [(5, 3, False), (15, 2, True)], ids=["frames", "clips"])
def test_residual_norm(op: Any, span: int, terms: int, is_kept: bool) -> None:
    x, delta = drawn(2, 3, 5, 96), drawn(2, 3, 5, 96)
    term, weight, bias = drawn(terms, 96), drawn(96), drawn(96)
    summed, normed = op.residual_norm(x, delta, term, span, weight, bias, 1e-5, is_kept)
    plain = x.double() + delta.double()
    shape = (1, 3, 1, 96) if terms == 3 else (2, 1, 1, 96)
    with_term = plain + term.double().view(shape)
    assert error(summed, with_term if is_kept else plain) < ROUNDED_ONCE
    assert error(normed, F.layer_norm(with_term, (96,), weight.double(), bias.double())) < ROUNDED_ONCE


@pytest.mark.parametrize("outputs", [72, 264, 512], ids=["narrow", "wide", "as wide as its tile twice"])
@pytest.mark.parametrize("has_residual", [True, False])
def test_time_convolution(op: Any, outputs: int, has_residual: bool) -> None:
    x, weight, bias = drawn(2, 3, 150, 64), drawn(outputs, 64, 3, 1, scale=0.07), drawn(2, outputs)
    residual = drawn(2, 3, 150, outputs) if has_residual else None
    made = op.time_convolution(x, weight.permute(0, 2, 3, 1).flatten(1).contiguous(), bias, residual, 0.3)
    convolved = F.conv2d(x.double().permute(0, 3, 1, 2), weight.double(), padding=(1, 0)).permute(0, 2, 3, 1)
    expected = 0.3 * (convolved + bias.double()[:, None, None])
    if residual is not None:
        expected += residual.double()
    assert error(made, expected) < ROUNDED_ONCE


@pytest.mark.parametrize(("channels", "outputs"), [(128, 384), (512, 512)], ids=["small tiles", "large tiles"])
def test_geglu(op: Any, channels: int, outputs: int) -> None:
    x, bias = drawn(2, 65, channels), drawn(outputs, scale=2.0)
    weight = drawn(outputs, channels, scale=channels**-0.5)
    paired = [torch.stack(tensor.chunk(2), dim=1).flatten(0, 1).contiguous() for tensor in (weight, bias)]
    value, gate = F.linear(x.double(), weight.double(), bias.double()).chunk(2, dim=-1)
    assert error(op.geglu(x, *paired), value * F.gelu(gate)) < ROUNDED_ONCE


@pytest.mark.parametrize("frames", [1, 14, 25])
def test_frame_attention(op: Any, frames: int) -> None:
    qkv = drawn(2, frames, 3, 3 * 2 * 16)
    query, key, value = qkv.double().view(2, frames, 3, 3, 2, 16).permute(3, 0, 2, 4, 1, 5)
    expected = F.scaled_dot_product_attention(query, key, value).permute(0, 3, 1, 2, 4).reshape(2, frames, 3, 32)
    assert error(op.frame_attention(qkv, 2), expected) < ROUNDED_TWICE


def test_a_layer_with_the_kernels_is_the_same_layer() -> None:
    sizes = replace(TINY_SIZES, unet_channels=(64, 64), unet_heads=(1, 1), num_frames=2)
    stock = draw_weights(new_unet(sizes), torch.Generator().manual_seed(0)).eval().requires_grad_(False)
    wide = UNet(copy.deepcopy(stock)).eval()
    half = UNet(copy.deepcopy(stock)).eval().half()
    x, embeddings = torch.randn(1, 2, 8, 8, 64), torch.randn(1, 1, sizes.clip_projection)
    time_ids, timesteps = torch.tensor([[6.0, 127.0, 0.02]]), torch.tensor([0.3])
    expected = wide.down[0].layers[0](x, wide.terms(timesteps, embeddings, time_ids, 2)[0][0]).double()
    layer, terms = half.down[0].layers[0], half.terms(timesteps, embeddings.half(), time_ids, 2)[0][0]
    plain = error(layer(x.half(), terms), expected)
    fused.install(half)
    working = {type(module) for module in layer.modules() if getattr(module, "is_fused", False)}
    assert working >= {GroupNorm, ResidualNorm, TimeConvolution, SelfAttention, FeedForward}
    fused.install(half)  # a second time changes nothing
    assert error(layer(x.half(), terms), expected) < 1.5 * plain


def test_only_what_fits_is_fused() -> None:
    odd = GroupNorm(nn.GroupNorm(4, 24))
    odd.fuse()
    assert not odd.is_fused


def test_the_kernels_are_for_half_precision_on_a_gpu_they_were_measured_on(monkeypatch: pytest.MonkeyPatch) -> None:
    capability = (9, 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert fused.pays(torch.device("cuda"), torch.float16)
    assert not fused.pays(torch.device("cuda"), torch.float32)
    assert not fused.pays(torch.device("cpu"), torch.float16)
    capability = (8, 0)
    assert not fused.pays(torch.device("cuda"), torch.float16)
