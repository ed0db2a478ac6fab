"""8-bit floats: where they are refused, and which layers get them. What torchao does with a layer is torchao's."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from actors.errors import ConfigError
from actors.svd import fp8
from actors.svd.unet import UNet
from benchmarks.make_checkpoints import TINY_SIZES, draw_weights, new_unet

CUDA = torch.device("cuda:0")


@pytest.fixture
def unet() -> UNet:
    return UNet(draw_weights(new_unet(TINY_SIZES), torch.Generator().manual_seed(0)).requires_grad_(False).bfloat16())


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")


def test_the_cpu_is_refused(unet: UNet) -> None:
    with pytest.raises(ConfigError, match=r"fast\.fp8 needs .* 8\.9 or newer .* SVD runs on the cpu here"):
        fp8.quantize(unet, torch.device("cpu"))


def test_an_older_gpu_is_refused_by_name(unet: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, (8, 0))
    with pytest.raises(ConfigError, match=r"8\.9 or newer .*; NVIDIA A100 has 8\.0"):
        fp8.quantize(unet, CUDA)


def test_without_torchao_the_extra_is_named(unet: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, (9, 0))
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[fast\]'"):
        fp8.quantize(unet, CUDA)


def test_the_layers_over_tokens_are_quantized_and_no_others(unet: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, (9, 0))
    quantized: list[nn.Module] = []
    configs: list[dict[str, Any]] = []
    fake = SimpleNamespace(
        Float8DynamicActivationFloat8WeightConfig=lambda **options: configs.append(options),
        PerRow=lambda: "row",
        quantize_=lambda module, config: quantized.append(module),
    )
    monkeypatch.setitem(sys.modules, "torchao", SimpleNamespace(quantization=fake))
    monkeypatch.setitem(sys.modules, "torchao.quantization", fake)
    fp8.quantize(unet, CUDA)
    assert configs == [{"granularity": "row", "set_inductor_config": False}]
    names = {name for name, module in unet.named_modules() if module in quantized}
    attention_and_feed_forward = {
        *("spatial_blocks.0.attention.qkv", "spatial_blocks.0.attention.out"),
        *("spatial_blocks.0.feed_forward.hidden", "spatial_blocks.0.feed_forward.out"),
        *("temporal_blocks.0.attention.qkv", "temporal_blocks.0.attention.out"),
        *("temporal_blocks.0.feed_forward.hidden", "temporal_blocks.0.feed_forward.out"),
        *("temporal_blocks.0.feed_forward_in.hidden", "temporal_blocks.0.feed_forward_in.out"),
    }
    assert {name.partition(".transformer.")[2] for name in names} == attention_and_feed_forward
    assert len(names) % len(attention_and_feed_forward) == 0, "all of them in every transformer"
