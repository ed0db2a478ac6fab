"""8-bit floats in the UNet's linear layers over tokens (45 % of its arithmetic), with torchao on a recent GPU.

Weights once, and activations as they come, are rounded to float8 (e4m3: 3 bits of mantissa) with one scale for each
output channel and each token. Products are summed up in fp32 and come out in bf16.
"""

from collections.abc import Iterator

import torch
from torch import nn

from actors.device import FP8_CAPABILITY, multiplies_fp8
from actors.errors import ConfigError
from actors.svd.primitives import FeedForward, SelfAttention


def quantize(unet: nn.Module, device: torch.device) -> None:
    """Replace the weights of the UNet's token layers, which must be bf16, in place.

    Raises:
        ConfigError: the device cannot, or torchao is not there.
    """
    _check_device(device)
    try:
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_
    except ImportError as error:
        raise ConfigError(
            f"fast.fp8 needs torchao, which cannot be imported here ({error}): pip install -e '.[fast]'"
        ) from error
    # Its own settings of the compiler would hold for every network of the process.
    config = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow(), set_inductor_config=False)
    for linear in token_linears(unet):
        quantize_(linear, config)
    for module in unet.modules():
        if isinstance(module, FeedForward):
            assert not module.is_fused, "its kernel takes no 8-bit weights"
            module.is_quantized = True


def token_linears(unet: nn.Module) -> Iterator[nn.Linear]:
    """The linear layers of attention and feed-forward.

    The projections into and out of a transformer are few, and what is computed once for a clip costs nothing.
    """
    for module in unet.modules():
        if isinstance(module, SelfAttention):
            yield from (module.qkv, module.out)
        elif isinstance(module, FeedForward):
            yield from (module.hidden, module.out)


def _check_device(device: torch.device) -> None:
    needed = "fast.fp8 needs an NVIDIA GPU of compute capability {}.{} or newer (Ada, Hopper)".format(*FP8_CAPABILITY)
    if device.type != "cuda":
        raise ConfigError(f"{needed}, and SVD runs on the {device.type} here")
    if not multiplies_fp8(device):
        name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
        raise ConfigError(f"{needed}; {name} has {capability[0]}.{capability[1]}")
