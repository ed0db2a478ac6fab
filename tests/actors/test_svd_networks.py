"""Our UNet and decoder against diffusers', whose weights they share."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor

from actors import compiling
from actors.svd import decoder
from actors.svd.decoder import Decoder
from actors.svd.primitives import FeedForward, Upsampling, row_normed
from actors.svd.unet import UNet
from actors.svd.views import as_images, from_images
from benchmarks.make_checkpoints import TINY_SIZES, SvdSizes, draw_weights, new_unet, new_vae

# Two blocks a level, as in SVD: only then does the decoder use its attention.
SIZES = replace(TINY_SIZES, layers_per_block=2)
FRAMES = 3
TIMESTEPS_S = torch.tensor([1.6, 0.3, -1.5])


def random_unet(sizes: SvdSizes) -> UNetSpatioTemporalConditionModel:
    return draw_weights(new_unet(sizes), torch.Generator().manual_seed(0)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def stock() -> UNetSpatioTemporalConditionModel:
    return random_unet(SIZES).double()


@pytest.fixture(scope="module")
def own(stock: UNetSpatioTemporalConditionModel) -> UNet:
    return UNet(copy.deepcopy(stock)).eval()


@pytest.fixture(scope="module")
def decoders() -> tuple[Any, Decoder]:
    vae = draw_weights(new_vae(SIZES), torch.Generator().manual_seed(1)).eval().requires_grad_(False).double()
    return vae.decoder, Decoder(copy.deepcopy(vae.decoder)).eval()


def unet_inputs(clips: int, height: int = 8, width: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(clips)
    inputs_NFChw = torch.randn(clips, FRAMES, 8, height, width, generator=generator, dtype=torch.float64)
    embeddings_N1D = torch.randn(clips, 1, SIZES.clip_width, generator=generator, dtype=torch.float64)
    time_ids_N3 = torch.tensor([[6.0, 127.0, 0.02], [24.0, 30.0, 0.5]])[:clips]
    return inputs_NFChw, embeddings_N1D, time_ids_N3


# An odd width: the way up has to meet the sizes of the way down.
@pytest.mark.parametrize(("clips", "height", "width"), [(1, 8, 12), (2, 8, 12), (2, 6, 9)])
def test_the_unet_is_the_stock_one_at_every_step(
    stock: UNetSpatioTemporalConditionModel, own: UNet, clips: int, height: int, width: int
) -> None:
    inputs, embeddings, time_ids = unet_inputs(clips, height, width)
    terms = own.terms(TIMESTEPS_S, embeddings, time_ids, FRAMES)
    for timestep, of_step in zip(TIMESTEPS_S, terms, strict=True):
        expected = stock(inputs, timestep, embeddings, time_ids).sample
        # Blending factors go through fp32 in both; all else is double.
        torch.testing.assert_close(own(inputs, of_step).velocity_NFChw, expected, rtol=1e-6, atol=1e-6)


def test_steps_and_images_are_told_apart(own: UNet) -> None:
    inputs, embeddings, time_ids = unet_inputs(1)
    first, second, _ = own.terms(TIMESTEPS_S, embeddings, time_ids, FRAMES)
    other = own.terms(TIMESTEPS_S, 2 * embeddings, time_ids, FRAMES)[0]
    velocity = own(inputs, first).velocity_NFChw
    for changed in (second, other):
        assert (own(inputs, changed).velocity_NFChw - velocity).abs().max() > 1e-3


def test_with_the_deep_features_of_the_same_step_nothing_changes(own: UNet) -> None:
    inputs, embeddings, time_ids = unet_inputs(2)
    terms = own.terms(TIMESTEPS_S, embeddings, time_ids, FRAMES)[0]
    whole = own(inputs, terms)
    assert torch.equal(own(inputs, terms, whole.deep_NFHWC).velocity_NFChw, whole.velocity_NFChw)
    assert not torch.equal(own(inputs, terms, 2 * whole.deep_NFHWC).velocity_NFChw, whole.velocity_NFChw)


# Of 240 pixels at once: all frames of the lowest level, on the next one groups of 2 and a last one of 1.
@pytest.mark.parametrize("pixels_at_once", [2**22, 240])
@pytest.mark.parametrize("num_frames", [1, 5])
def test_the_decoder_is_the_stock_one(
    decoders: tuple[Any, Decoder], num_frames: int, pixels_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "_PIXELS_AT_ONCE", pixels_at_once)
    theirs, ours = decoders
    latents_FChw = torch.randn(num_frames, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = theirs(latents_FChw, image_only_indicator=torch.zeros(1, num_frames), num_frames=num_frames)
    torch.testing.assert_close(ours(latents_FChw), expected, rtol=1e-6, atol=1e-6)


def test_feed_forward_in_pieces_gives_the_same(own: UNet) -> None:
    layers = [module for module in own.modules() if isinstance(module, FeedForward)]
    tokens_NTC = torch.randn(2, 7, layers[0].hidden.in_features, dtype=torch.float64)
    whole = layers[0](tokens_NTC)
    layers[0].pieces = 3
    try:
        torch.testing.assert_close(layers[0](tokens_NTC), whole)
    finally:
        layers[0].pieces = 1


def test_activations_are_never_laid_out_anew_for_a_convolution(own: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    convolve: Callable[..., Tensor] = torch.nn.Conv2d.forward

    def watching(convolution: torch.nn.Conv2d, x: Tensor) -> Tensor:
        seen.append(x.is_contiguous(memory_format=torch.channels_last))
        return convolve(convolution, x)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", watching)
    inputs, embeddings, time_ids = unet_inputs(2)
    own(inputs, own.terms(TIMESTEPS_S, embeddings, time_ids, FRAMES)[0])
    assert len(seen) > 20
    assert all(seen)


@pytest.mark.slow
def test_every_shape_is_one_graph_without_breaks_and_no_clip_compiles_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten clips, upright and not, with guidance and without, decoded whole and in chunks with a shorter last one."""
    monkeypatch.setattr(decoder, "_PIXELS_AT_ONCE", 2 * 8 * 12)  # in groups of frames
    graphs = []

    def counting(graph: torch.fx.GraphModule, _inputs: Any, **_: Any) -> Any:
        graphs.append(graph)
        return graph

    unet = UNet(random_unet(TINY_SIZES)).eval()
    vae_decoder = Decoder(draw_weights(new_vae(TINY_SIZES), torch.Generator().manual_seed(1)).decoder).eval()
    for network in (unet, vae_decoder):
        network.requires_grad_(False).compile(**compiling.OPTIONS, backend=counting)  # they refuse breaks
    sizes, chunks = [(8, 12), (12, 8)], [FRAMES, FRAMES - 1, 1]
    for number in range(10):
        height, width = sizes[number % 2]
        inputs, embeddings, time_ids = unet_inputs(1 + number // 2 % 2, height, width)
        for of_step in unet.terms(TIMESTEPS_S, number + embeddings.float(), time_ids, FRAMES):
            unet(inputs.float(), of_step)
        for frames in chunks:
            vae_decoder(torch.zeros(frames, 4, height, width))
    assert len(graphs) == len(sizes) * (2 + len(chunks))


@pytest.mark.parametrize("size", [None, (10, 14), (9, 13)])
def test_upsampling_is_the_nearest_pixel_then_the_convolution(size: tuple[int, int] | None) -> None:
    torch.manual_seed(0)
    stock = torch.nn.Conv2d(6, 10, 3, padding=1, dtype=torch.float64).requires_grad_(False)
    x_NFHWC = torch.randn(2, 3, 5, 7, 6, dtype=torch.float64)
    enlarged = torch.nn.functional.interpolate(as_images(x_NFHWC), size or (10, 14), mode="nearest")
    expected = from_images(stock(enlarged), (2, 3))
    torch.testing.assert_close(Upsampling(stock)(x_NFHWC, size), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 24, 5, 7), (1, 24, 4, 35)], ids=["images", "sheets"])
def test_group_norm_by_rows_is_group_norm(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm = torch.nn.GroupNorm(4, 24, dtype=torch.float64).requires_grad_(False)
    norm.weight.normal_()
    norm.bias.normal_()
    x_NCHW = (torch.randn(shape, dtype=torch.float64) * 3 + 5).to(memory_format=torch.channels_last)
    normed = row_normed(norm, x_NCHW)
    torch.testing.assert_close(normed, norm(x_NCHW), rtol=1e-12, atol=1e-12)
    assert normed.is_contiguous(memory_format=torch.channels_last)
