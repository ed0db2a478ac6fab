"""The network: sizes, conventions of flow and time, and what it makes of a motion that is known."""

import math
import subprocess
import sys
from dataclasses import replace
from typing import Literal

import pytest
import skimage.data
import torch
from torch import Tensor, nn

from actors.rife.channels import FLOW, MASK
from actors.rife.flow import warp
from actors.rife.ifnet import IFBlock, IFNet
from actors.rife.untrained import SMALL_VARIANT, crossfade_net
from actors.rife.variants import GROUPS, VARIANTS, Variant

SMALL_CHANNELS = (16, 12, 8, 8, 8)
LAYOUTS = [replace(variant, channels=SMALL_CHANNELS[: len(variant.scales)]) for variant in GROUPS.values()]


def random_net(variant: Variant, gain: float = 1.0) -> IFNet:
    """With the default initialisation, times `gain`: at 3 its flows reach across several pixels."""
    torch.manual_seed(0)
    net = IFNet(variant).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(gain)
    return net


class KnownFlow(nn.Module):
    """In the place of all blocks: the first one answers with the flow, the others add nothing."""

    def __init__(self, flow: tuple[float, float, float, float], mask: float, features: int) -> None:
        super().__init__()
        self.values = (*flow, mask, *[0.0] * features)

    def forward(
        self,
        side0_BCHW: Tensor,
        side1_BCHW: Tensor,
        others: list[Tensor],
        flow_B4HW: Tensor | None,
        coarser: int = 1,
    ) -> tuple[Tensor, Tensor, Tensor]:
        out_BCHW = torch.tensor(self.values).view(1, -1, 1, 1).expand(len(side0_BCHW), -1, *side0_BCHW.shape[-2:])
        change_B4HW = out_BCHW[:, :FLOW] if flow_B4HW is None else torch.zeros_like(flow_B4HW)
        return change_B4HW, out_BCHW[:, FLOW : FLOW + MASK], out_BCHW[:, FLOW + MASK :]


def known_flow_net(flow: tuple[float, float, float, float], mask: float = 0.0) -> IFNet:
    net = IFNet(SMALL_VARIANT)
    net.blocks = nn.ModuleList(KnownFlow(flow, mask, SMALL_VARIANT.features) for _ in net.blocks)
    return net.eval()


def interpolate(net: IFNet, img0_BCHW: Tensor, img1_BCHW: Tensor, *times: float) -> Tensor:
    with torch.inference_mode():
        made_BCHW: Tensor = net(img0_BCHW, img1_BCHW, net.encode(img0_BCHW), net.encode(img1_BCHW), torch.tensor(times))
        return made_BCHW


def astronaut(x: int, y: int, size: int = 256) -> Tensor:
    """A window of the photograph, (1,3,size,size), with its left upper corner at (x, y)."""
    window_HWC = skimage.data.astronaut()[y : y + size, x : x + size]
    return torch.from_numpy(window_HWC.copy()).permute(2, 0, 1)[None].float() / 255


def psnr(one: Tensor, other: Tensor, border: int = 16) -> float:
    """In dB, away from the borders."""
    error = (one - other)[..., border:-border, border:-border].double().square().mean().item()
    return 10 * math.log10(1 / error)


@pytest.mark.parametrize("variant", LAYOUTS, ids=lambda variant: variant.name)
def test_a_batch_equals_its_samples(variant: Variant) -> None:
    net = random_net(variant, gain=1.5)
    frames_BCHW = torch.cat([astronaut(8 * index, 6 * index, size=128) for index in range(4)])
    times = (0.25, 0.5, 0.9)
    together = interpolate(net, frames_BCHW[:3], frames_BCHW[1:], *times)
    for index, time in enumerate(times):
        alone = interpolate(net, frames_BCHW[index : index + 1], frames_BCHW[index + 1 : index + 2], time)
        assert (together[index] - alone[0]).abs().max() <= 5e-5  # of edges, at which a flow's last bits count


@pytest.mark.parametrize("variant", LAYOUTS, ids=lambda variant: variant.name)
def test_each_sample_has_its_own_time(variant: Variant) -> None:
    net = random_net(variant, gain=1.5)
    first, last = torch.rand(2, 1, 3, variant.pad_multiple, variant.pad_multiple).expand(2, 2, -1, -1, -1)
    early, late = interpolate(net, first, last, 0.1, 0.9)
    assert (early - late).abs().max() > 1e-6


def test_warp_fetches_from_where_the_flow_points() -> None:
    source_BCHW = torch.rand(1, 3, 24, 32)
    flow_B2HW = torch.zeros(1, 2, 24, 32)
    flow_B2HW[:, 0], flow_B2HW[:, 1] = 8, 5
    warped_BCHW = warp(source_BCHW, flow_B2HW)
    torch.testing.assert_close(warped_BCHW[..., :-5, :-8], source_BCHW[..., 5:, 8:], atol=1e-5, rtol=0)
    torch.testing.assert_close(warped_BCHW[..., -1, -1], source_BCHW[..., -1, -1])  # beyond the border: the border


def test_known_motion_is_interpolated_exactly() -> None:
    """The content moves by (8, 6); half-way it has moved by (4, 3), back to the first frame by (-4, -3)."""
    first, middle, last = astronaut(108, 106), astronaut(104, 103), astronaut(100, 100)
    made = interpolate(known_flow_net((-4, -3, 4, 3)), first, last, 0.5)
    assert psnr(made, middle) > 60
    assert psnr(first, middle) == pytest.approx(15.6, abs=1.0)
    assert psnr((first + last) / 2, middle) == pytest.approx(18.2, abs=1.0)


def test_the_mask_chooses_the_frame() -> None:
    first, last = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    assert interpolate(known_flow_net((0, 0, 0, 0), mask=20), first, last, 0.5).max() < 1e-6
    assert interpolate(known_flow_net((0, 0, 0, 0), mask=-20), first, last, 0.5).min() > 1 - 1e-6


@pytest.mark.parametrize("scale", [1, 4, 16])
def test_a_block_takes_and_gives_flow_in_pixels_of_the_full_image(scale: int) -> None:
    block = IFBlock(replace(VARIANTS["4.6"], channels=(8, 8), scales=(2 * scale, scale)), 1)
    seen: list[Tensor] = []
    block.conv0.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert isinstance(block.lastconv, nn.Sequential)
    last = block.lastconv[0]
    assert isinstance(last, nn.ConvTranspose2d)
    assert last.bias is not None
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(1.0)
        flow_B4HW = torch.tensor([16.0, -16.0, 32.0, 8.0]).view(1, 4, 1, 1).expand(1, 4, 64, 128)
        image_BCHW, time_B1HW = torch.zeros(1, 3, 64, 128), torch.zeros(1, 1, 64, 128)
        change_B4HW, mask_B1HW, _ = block(image_BCHW, image_BCHW, [time_B1HW, time_B1HW], flow_B4HW)
    assert seen[0].shape == (1, 7 + MASK + FLOW, 64 // scale, 128 // scale)
    assert seen[0][0, -FLOW:, 0, 0].tolist() == [16 / scale, -16 / scale, 32 / scale, 8 / scale]  # the last channels
    assert change_B4HW.shape == (1, 4, 64, 128)
    assert change_B4HW.unique().tolist() == [scale]
    assert mask_B1HW.unique().tolist() == [1.0]


@pytest.mark.parametrize(("mask", "final"), [("added", 5.0), ("replaced", 1.0)])
def test_masks_of_the_blocks_are_added_or_replaced(mask: Literal["added", "replaced"], final: float) -> None:
    net = known_flow_net((0, 0, 0, 0), mask=1)
    net.variant = replace(SMALL_VARIANT, mask=mask)
    image_BCHW = torch.zeros(1, 3, 64, 64)
    features_BCHW = net.encode(image_BCHW)
    *_, last = net.estimates(image_BCHW, image_BCHW, features_BCHW, features_BCHW, torch.tensor([0.5]))
    assert torch.unique(last.mask_B1HW).tolist() == [final]


def test_half_precision_keeps_flow_and_images_in_full() -> None:
    frames_BCHW = torch.rand(2, 3, 64, 64)
    full = interpolate(random_net(SMALL_VARIANT), frames_BCHW[:1], frames_BCHW[1:], 0.5)
    net = random_net(SMALL_VARIANT).half()
    features_BCHW = net.encode(frames_BCHW)
    with torch.inference_mode():
        estimates = list(
            net.estimates(frames_BCHW[:1], frames_BCHW[1:], features_BCHW[:1], features_BCHW[1:], torch.tensor([0.5]))
        )
    assert all(tensor.dtype == torch.float32 for estimate in estimates for tensor in estimate)
    assert (estimates[-1].merged() - full).abs().max() < 2e-3


def test_padding_repeats_the_border() -> None:
    net = IFNet(SMALL_VARIANT)
    frames_BCHW = torch.rand(2, 3, 37, 53)
    padded_BCHW = net.pad(frames_BCHW)
    assert padded_BCHW.shape == (2, 3, 64, 64)
    assert torch.equal(padded_BCHW[..., :37, :53], frames_BCHW)
    assert torch.equal(padded_BCHW[..., 63, 63], frames_BCHW[..., 36, 52])
    assert net.pad(torch.zeros(1, 3, 576, 1024)).shape == (1, 3, 576, 1024)


@pytest.mark.parametrize("time", [0.25, 0.5, 0.75])
def test_the_untrained_net_fades_from_frame_to_frame(time: float) -> None:
    first, last = torch.rand(1, 3, 64, 128), torch.rand(1, 3, 64, 128)
    made = interpolate(crossfade_net(), first, last, time)
    assert (made - ((1 - time) * first + time * last)).abs().max() < 1e-4


def test_the_untrained_net_follows_from_its_seed_alone() -> None:
    one, same, other = crossfade_net(seed=3), crossfade_net(seed=3), crossfade_net(seed=4)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), same.state_dict().values(), strict=True))
    assert one.head is not None
    assert other.head is not None
    assert not torch.equal(one.state_dict()["head.cnn0.weight"], other.state_dict()["head.cnn0.weight"])
    assert sum(parameter.numel() for parameter in one.parameters()) * 4 < 1e6  # bytes


def test_the_package_does_not_import_ray() -> None:
    check = "import sys, actors.rife; print(sorted({'ray', 'pipelines', 'diffusers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
