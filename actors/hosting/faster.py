"""Diffusers' own ways to be faster, or to need less memory: features that steps share, 8-bit weights, compiled blocks.

Which of them a checkpoint has is known before (`actors.hosting.shortcuts`); what the machine lacks is found here.
"""

from collections.abc import Sequence

import torch
from diffusers import DiffusionPipeline
from diffusers.hooks import FirstBlockCacheConfig, TaylorSeerCacheConfig
from torch import nn

from actors import compiling
from actors.device import FP8_CAPABILITY, multiplies_fp8
from actors.errors import ConfigError, first_line
from actors.generators.diffusers.settings import DiffusersModelSettings
from actors.hosting.index import Hosted
from actors.hosting.loading import transformers_of
from actors.hosting.shortcuts import BLOCK, can_compile

# What TaylorSeer extrapolates: attention and feed-forward of each block. Its own patterns match `attn` alone, and so
# nothing in Wan, LTX-Video and CogVideoX, whose blocks have `attn1`; diffusers 0.42 says nothing of that.
_KEPT = r"\w*blocks\.\d+\.\w*(attn|ff)\w*"


def prepare(pipeline: DiffusionPipeline, settings: DiffusersModelSettings, device: torch.device) -> None:
    """All that the settings ask for and that does not depend on where the weights lie.

    Raises:
        ConfigError: the machine or the installation lacks what it takes.
    """
    for network in transformers_of(pipeline):
        if settings.attention is not None:
            _set_attention(network, settings.attention)
        if settings.taken.weights is not None:
            _quantize(network, settings.taken.weights, device)
        if settings.taken.cache is not None:
            _cache(network, settings)
    if settings.vae_tiling:
        pipeline.vae.enable_tiling()


def compile_blocks(
    networks: Sequence[nn.Module], hosted: Hosted, settings: DiffusersModelSettings, device: torch.device
) -> None:
    """Compile the blocks that repeat, in place: each kind of call when it first comes."""
    if can_compile(hosted) and compiling.is_compiled(settings.compile, device):
        # A block that keeps features for other steps breaks the graph, and so do kernels that are no part of PyTorch.
        is_plain = settings.attention is None or "native" in settings.attention
        options = compiling.OPTIONS | {"fullgraph": settings.taken.cache is None and is_plain}
        for network in networks:
            network.compile_repeated_blocks(**options)  # type: ignore[operator] # of diffusers' networks


def _set_attention(network: nn.Module, backend: str) -> None:
    try:
        network.set_attention_backend(backend)  # type: ignore[operator] # of diffusers' networks
    except Exception as error:  # kernels of the Hub come with errors of networks
        raise ConfigError(f"model.attention={backend} cannot be used here: {first_line(error)}") from error


def _cache(network: nn.Module, settings: DiffusersModelSettings) -> None:
    taken = settings.taken
    if taken.cache == "first_block":
        config: object = FirstBlockCacheConfig(threshold=taken.threshold)
    else:
        config = TaylorSeerCacheConfig(cache_interval=taken.interval, cache_identifiers=[_KEPT])
    network.enable_cache(config)  # type: ignore[operator] # of diffusers' networks


def _quantize(network: nn.Module, weights: str, device: torch.device) -> None:
    try:
        from torchao.quantization import (
            Float8DynamicActivationFloat8WeightConfig,
            Int8WeightOnlyConfig,
            PerRow,
            quantize_,
        )
    except ImportError as error:
        raise ConfigError(
            f"fast.weights needs torchao, which cannot be imported here ({error}): pip install -e '.[fast]'"
        ) from error
    if weights == "int8":
        quantize_(network, Int8WeightOnlyConfig(set_inductor_config=False), _is_of_blocks, device=device)
        return
    if not multiplies_fp8(device):
        needed = ".".join(map(str, FP8_CAPABILITY))
        raise ConfigError(
            f"fast.weights=fp8 needs an NVIDIA GPU of compute capability {needed} or newer (Ada, Hopper), or int8"
        )
    config = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow(), set_inductor_config=False)
    quantize_(network, config, _is_of_blocks, device=device)


def _is_of_blocks(module: nn.Module, name: str) -> bool:
    """The linear layers of the blocks, in bf16: what embeds time and text is small, and some of it stays fp32."""
    return isinstance(module, nn.Linear) and module.weight.dtype == torch.bfloat16 and bool(BLOCK.match(name))
