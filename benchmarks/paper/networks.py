"""The networks that are counted, as the product builds, feeds and compiles them, with tensors that hold no data.

Shapes: N halves of a guided clip, F frames, h w latent pixels, B samples, H W pixels, C channels, D width of the image
embedding, S steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, TypeVar, cast
from unittest.mock import patch

import torch
from torch import Tensor, nn

from actors import compiling
from actors.rife import runner
from actors.rife.ifnet import IFNet
from actors.rife.variants import DEFAULT_VARIANT
from actors.svd import fused, model
from actors.svd.decoder import Decoder
from actors.svd.unet import UNet
from benchmarks.make_checkpoints import SVD_XT_SIZES, TINY_SIZES, SvdSizes, new_unet, new_vae

N = TypeVar("N", bound=nn.Module)
Name = Literal["unet", "decoder", "rife"]
Size = Literal["full", "tiny"]

_GUIDED = 2  # the UNet sees a guided clip twice
_SHRINKING = 8  # pixels of the frame to one of the latents, of SVD's VAE
_RIFE_SAMPLES = 8  # of one call


@dataclass(frozen=True, slots=True)
class Clip:
    """What is generated."""

    sizes: SvdSizes
    frames: int
    height: int  # pixels
    width: int
    steps: int


CLIPS: dict[Size, Clip] = {
    "full": Clip(SVD_XT_SIZES, frames=25, height=576, width=1024, steps=25),
    "tiny": Clip(TINY_SIZES, frames=3, height=64, width=96, steps=25),
}


@dataclass(frozen=True, slots=True)
class Network:
    """Something to compile."""

    call: Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]  # puts it on the pretended device, with a call of it
    options: dict[str, Any]  # Inductor's, as the product sets them


def unet(clip: Clip, *, is_plain: bool = False) -> Network:
    """One guided evaluation, both halves, in fp16."""
    with torch.device("meta"):
        network = UNet(new_unet(clip.sizes))

    def call() -> tuple[UNet, tuple[Any, ...]]:
        _work_as_on_a_gpu(network, is_plain=is_plain)
        inputs_NFChw = _empty(_GUIDED, clip.frames, 8, *_latent(clip))
        embeddings_N1D = _empty(_GUIDED, 1, clip.sizes.clip_projection)
        timesteps_S, time_ids_N3 = _empty(clip.steps).float(), _empty(_GUIDED, 3).float()
        terms = network.terms(timesteps_S, embeddings_N1D, time_ids_N3, clip.frames)[0]
        return network, (inputs_NFChw, terms)

    return Network(call, _svd_options())


def decoder(clip: Clip, *, is_plain: bool = False) -> Network:
    """The frames of a clip out of its latents, in fp16."""
    with torch.device("meta"):
        network = Decoder(new_vae(clip.sizes).decoder)

    def call() -> tuple[Decoder, tuple[Any, ...]]:
        _work_as_on_a_gpu(network, is_plain=is_plain)
        return network, (_empty(clip.frames, 4, *_latent(clip)),)

    return Network(call, _svd_options())


def rife(clip: Clip, *, is_plain: bool = False) -> Network:  # noqa: ARG001 - all are asked alike
    """Frames between others, in fp16 as on a GPU; it is always plain, and of both sizes of clip the same network."""
    with torch.device("meta"):
        network = IFNet(DEFAULT_VARIANT).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        head = network.encode(torch.empty(1, 3, 64, 64)).shape[1]  # features of a frame

    def call() -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        size = (clip.height, clip.width)
        channels = (3, 3, head, head)
        images_and_features = [_empty(_RIFE_SAMPLES, of_one, *size).float() for of_one in channels]
        return runner._between, (_place(network), *images_and_features, _empty(_RIFE_SAMPLES).float(), size)

    return Network(call, _rife_options())


NETWORKS: dict[Name, Callable[..., Network]] = {"unet": unet, "decoder": decoder, "rife": rife}


def _latent(clip: Clip) -> tuple[int, int]:
    return clip.height // _SHRINKING, clip.width // _SHRINKING


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float16, device="cuda")


def _work_as_on_a_gpu(network: nn.Module, *, is_plain: bool) -> None:
    _place(network)
    if not is_plain and fused.pays(torch.device("cuda"), torch.float16):
        fused.install(network)


def _place(network: N) -> N:
    """Put it on the pretended device, in fp16 and in the layout that its weights have."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(_placed(parameter), requires_grad=False))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, _placed(buffer))
    return network.eval()


def _placed(tensor: Tensor) -> Tensor:
    dtype = torch.float16 if tensor.is_floating_point() else tensor.dtype
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype, device="cuda")


def _svd_options() -> dict[str, Any]:
    both = SimpleNamespace(
        unet=nn.Identity(), vae_decoder=nn.Identity(), device=torch.device("cpu"), dtype=torch.float16
    )
    return _options_of(lambda: model.compile_networks(cast("model.SvdModel", both)))


def _rife_options() -> dict[str, Any]:
    return _options_of(lambda: compiling.compiled(runner._between))


def _options_of(compile_something: Callable[[], Any]) -> dict[str, Any]:
    """The options that the product hands to the compiler."""
    with patch.object(torch, "compile") as compile_:
        compile_something()
    options: dict[str, Any] = compile_.call_args.kwargs["options"]
    return options
