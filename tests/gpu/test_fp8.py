"""8-bit floats in the UNet's token layers, by torchao."""

import pytest
import torch

from actors.svd import fp8
from actors.svd.unet import UNet
from benchmarks.make_checkpoints import draw_weights, new_unet
from tests.gpu.pair import CASE, SMALL_SIZES, relative_error


@torch.no_grad()
def test_an_evaluation_is_near_to_the_one_in_bf16_and_the_same_every_time(gpu: torch.device) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed")
    if torch.cuda.get_device_capability(gpu) < (8, 9):
        pytest.skip("this GPU has no matrix product of 8-bit floats")
    stock = draw_weights(new_unet(SMALL_SIZES), torch.Generator().manual_seed(0)).eval().requires_grad_(False)
    unet = UNet(stock).eval().to(gpu, torch.bfloat16)
    inputs = torch.randn(2, CASE.num_frames, 8, 16, 24, generator=torch.Generator().manual_seed(1)).to(
        gpu, torch.bfloat16
    )
    embeddings = torch.ones(2, 1, SMALL_SIZES.clip_projection, device=gpu, dtype=torch.bfloat16)
    time_ids = torch.tensor([[6.0, 127.0, 0.02]] * 2, device=gpu)
    (terms,) = unet.terms(torch.tensor([0.5], device=gpu), embeddings, time_ids, CASE.num_frames)
    in_bf16 = unet(inputs, terms).velocity_NFChw.cpu().float()
    fp8.quantize(unet, gpu)
    first, second = (unet(inputs, terms).velocity_NFChw for _ in range(2))
    assert torch.equal(first, second)
    # e4m3 has 4 bits with the hidden one, so that a number is off by 2 % in the mean.
    assert 0.001 < relative_error(first, in_bf16) < 0.1
