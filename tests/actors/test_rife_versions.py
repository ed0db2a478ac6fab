"""Every group of RIFE 4.x: its frames are the reference's, its files are told by their tensors, and the traps hold."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from actors.errors import CheckpointError
from actors.rife import weights
from actors.rife.ifnet import IFNet
from actors.rife.network import Network
from actors.rife.signatures import Signature
from actors.rife.variants import GROUPS, VARIANTS, versions_of
from tests.actors.rife_reference import SPECS, State, random_state, reference

TIMES = torch.tensor([0.25, 0.7])


def network_of(state: State, folder: Path, name: str = "flownet.pkl") -> Network:
    """Through a file, as users have it."""
    torch.save(state, folder / name)
    return weights.load(folder / name)


def pair(height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two batches of two smooth frames, so that a flow's last bit counts little."""
    coarse = torch.rand(4, 3, 1 + height // 10, 1 + width // 10, generator=torch.Generator().manual_seed(seed))
    frames = F.interpolate(coarse, size=(height, width), mode="bilinear")
    return frames[:2], frames[2:]


def made_by(net: Network, img0: Tensor, img1: Tensor, times: Tensor = TIMES) -> Tensor:
    """Padded, called and cropped, as `actors.rife.runner` does."""
    height, width = img0.shape[-2:]
    with torch.inference_mode():
        img0, img1 = net.pad(img0), net.pad(img1)
        made: Tensor = net(img0, img1, net.encode(img0), net.encode(img1), times)
        return made[:, :, :height, :width]


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize("version", SPECS)
def test_frames_are_those_of_the_reference(version: str, tmp_path: Path) -> None:
    state = random_state(version)
    net = network_of(state, tmp_path)
    assert isinstance(net, IFNet)
    assert net.variant == GROUPS[net.name], "told by the tensors alone"
    assert versions_of(net.variant) == tuple(SPECS[version].versions.split())
    assert net.pad_multiple == SPECS[version].pad
    assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 3) == SPECS[version].million
    img0, img1 = pair(70, 97)
    made = made_by(net, img0, img1)
    assert difference(made, reference(version, state, img0, img1, TIMES)) <= 1e-5
    assert difference(made, (img0 + img1) / 2) > 0.1, "the frames say something about the network"


@pytest.mark.slow
@pytest.mark.parametrize("version", SPECS)
def test_the_work_is_the_published_one(version: str) -> None:
    with torch.device("meta"):  # shapes without numbers
        net = IFNet(VARIANTS[version])
        frames = net.pad(torch.zeros(2, 3, 576, 1024))
        with FlopCounterMode(display=False) as counter:
            features = net.encode(frames)
            # What begins anew does so where frames ask for it: not counted.
            *_, last = net.estimates(frames[:1], frames[1:], features[:1], features[1:], torch.zeros(1))
            last.merged()
    assert round(counter.get_total_flops() / 1e9, 1) == SPECS[version].gflop


def test_no_two_groups_have_the_same_signature() -> None:
    assert len({Signature.of(group) for group in GROUPS.values()}) == len(GROUPS) == len(SPECS) == 16
    assert len(VARIANTS) == 36


@pytest.mark.parametrize(
    ("version", "file", "name"),
    [
        ("4.0", "rife40.pth", "4.0"),
        ("4.0", "rife41.pth", "4.1"),
        ("4.0", "sudo_rife4_269.662_testV1_scale1.pth", "4.0/4.1"),
        ("4.0", "rife410.pth", "4.0/4.1"),  # the tensors say otherwise
        ("4.2", "flownet_v4.4.pkl", "4.4"),
        ("4.7", "rife49.pth", "4.9"),
        ("4.7", "flownet.pkl", "4.7-4.9"),
        ("4.10", "rife410.pth", "4.10"),
        ("4.10", "flownet_v4.16.pkl", "4.10-4.15/4.17-4.19/4.24"),  # 4.16 is a lite version alone
        ("4.15.lite", "flownet_v4.16.lite.pkl", "4.16.lite"),
        ("4.21", "flownet_v4.22.pkl", "4.22"),
        ("4.26.heavy", "DRBA_IFNet.pkl", "4.26.heavy"),
        ("4.5", "rife46.pth", "4.5"),
    ],
)
def test_versions_of_the_same_tensors_are_told_by_the_files_name(
    version: str, file: str, name: str, tmp_path: Path
) -> None:
    assert network_of(random_state(version), tmp_path, file).name == name


@pytest.mark.parametrize("prefix", ["", "module.", "flownet."])
@pytest.mark.parametrize("version", ["4.0", "4.2", "4.7", "4.12.lite"])
def test_prefixes_and_what_is_not_used(version: str, prefix: str, tmp_path: Path) -> None:
    state = random_state(version)
    extra = {"teacher.conv0.0.0.weight": torch.ones(2), "caltime.0.bias": torch.ones(3)}
    if version in ("4.0", "4.2"):
        extra |= {"contextnet.conv1.conv1.0.weight": torch.ones(2), "unet.down0.conv1.0.weight": torch.ones(2)}
    net = network_of({prefix + name: tensor for name, tensor in (state | extra).items()}, tmp_path)
    numbers = {tensor.sum().item() for tensor in net.state_dict().values()}
    assert numbers == {tensor.sum().item() for tensor in state.values()}


def test_a_refinement_where_none_belongs_is_an_error(tmp_path: Path) -> None:
    state = random_state("4.7") | {"contextnet.conv1.conv1.0.weight": torch.ones(2)}
    with pytest.raises(CheckpointError, match=r"contextnet\.conv1\.conv1\.0\.weight is not part of it"):
        network_of(state, tmp_path)


@pytest.mark.parametrize("version", ["4.0", "4.7", "4.10", "4.14.lite"])
def test_our_own_file_keeps_network_and_name(version: str, tmp_path: Path) -> None:
    net = network_of(random_state(version), tmp_path)
    weights.save(net, tmp_path / "own.safetensors")
    again = weights.load(tmp_path / "own.safetensors")
    assert again.name == net.name
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in net.state_dict().items())


# The traps. Each test fails under the rule that is easily taken for the right one.


def test_the_mask_is_replaced_where_blocks_hand_on_no_features(tmp_path: Path) -> None:
    """4.7 has 4.6's tail, whose spare channel is none of the features, and yet not its rule for the mask."""
    net = network_of(random_state("4.7"), tmp_path)
    assert isinstance(net, IFNet)
    assert (net.variant.mask, net.variant.features) == ("replaced", 0)
    img0, img1 = pair(64, 96)
    right = reference("4.7", random_state("4.7"), img0, img1, TIMES)
    assert difference(made_by(net, img0, img1), right) <= 1e-5
    net.variant = VARIANTS["4.5"]  # whose masks are added
    assert difference(made_by(net, img0, img1), right) > 0.1


def far_moving_state() -> State:
    """4.0 whose second block changes the flow by more than 32 px in both directions, and by less where frames are dark.

    Nothing but the images moves it: what has no biases answers half with half.
    """
    state = random_state("4.0")
    state["block1.lastconv.weight"] *= 20
    for name, tensor in state.items():
        if name.startswith(("block0.", "block1.")) and name.endswith(".bias"):
            tensor.zero_()
    for block in ("block0", "block1"):
        state[f"{block}.conv0.0.0.weight"][:, 6] = 0  # of the time
    return state


def near_and_far(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The first sample is dark and moves little; the second makes the network begin anew."""
    img0, img1 = pair(height, width)
    light = torch.tensor([0.05, 1.0]).view(2, 1, 1, 1)
    return img0 * light, img1 * light


def changes_of(net: IFNet, img0: Tensor, img1: Tensor) -> list[float]:
    """The largest change of flow that the second block makes, for each sample."""
    with torch.inference_mode():
        first, second, *_ = net.estimates(img0, img1, img0[:, :0], img1[:, :0], TIMES)
    return (second.flow_B4HW - first.flow_B4HW).abs().amax(dim=(1, 2, 3)).tolist()


def test_4_0_begins_anew_each_sample_for_itself(tmp_path: Path) -> None:
    state = far_moving_state()
    net = network_of(state, tmp_path)
    assert isinstance(net, IFNet)
    img0, img1 = near_and_far(64, 128)
    near, far = changes_of(net, img0, img1)
    assert near < 32 < far
    made = made_by(net, img0, img1)
    assert difference(made, reference("4.0", state, img0, img1, TIMES)) <= 1e-4  # of flows of hundreds of pixels
    alone = [made_by(net, img0[i : i + 1], img1[i : i + 1], TIMES[i : i + 1]) for i in range(2)]
    assert difference(made, torch.cat(alone)) <= 1e-4
    with torch.inference_mode():
        *_, usual = net.estimates(img0, img1, img0[:, :0], img1[:, :0], TIMES)
        *_, coarse = net.estimates(img0, img1, img0[:, :0], img1[:, :0], TIMES, coarser=2)
    assert difference(made[0], usual.merged()[0]) <= 1e-6
    assert difference(made[0], coarse.merged()[0]) > 1e-3
    assert difference(made[1], coarse.merged()[1]) <= 1e-6
    assert difference(made[1], usual.merged()[1]) > 0.1


@pytest.mark.slow
def test_compiled_code_begins_anew_too(tmp_path: Path) -> None:
    """It is one graph, without a question of what is in a tensor."""
    net = network_of(far_moving_state(), tmp_path)
    img0, img1 = near_and_far(64, 64)
    inputs = (img0, img1, img0[:, :0], img1[:, :0], TIMES)
    with torch.inference_mode():
        compiled = torch.compile(net, backend="eager", fullgraph=True, dynamic=False)
        assert difference(compiled(*inputs), net(*inputs)) <= 1e-5


def test_4_0_is_padded_for_its_doubled_scales(tmp_path: Path) -> None:
    """At a size of 32 more than a multiple of 64, where other programs fail."""
    state = far_moving_state()
    net = network_of(state, tmp_path)
    assert isinstance(net, IFNet)
    img0, img1 = pair(96, 160)
    assert max(changes_of(net, net.pad(img0), net.pad(img1))) > 32
    assert difference(made_by(net, img0, img1), reference("4.0", state, img0, img1, TIMES)) <= 1e-4


def test_the_groups_of_4_14_lite_are_seen(tmp_path: Path) -> None:
    """But for them it has 4.14's tensors, and 4.14 with half of each weight is none."""
    net = network_of(random_state("4.14.lite"), tmp_path, "flownet_v4.14.pkl")
    assert net.name == "4.14.lite"
    state = random_state("4.14.lite")
    state["block2.convblock.3.conv.weight"] = random_state("4.10")["block2.convblock.3.conv.weight"]
    with pytest.raises(CheckpointError, match=r"block2\.convblock\.3\.conv\.weight has the shape \(96, 96, 3, 3\)"):
        network_of(state, tmp_path)


def test_4_25_lite_has_scales_of_its_own(tmp_path: Path) -> None:
    net = network_of(random_state("4.25.lite"), tmp_path)
    img0, img1 = pair(128, 128)
    right = reference("4.25.lite", random_state("4.25.lite"), img0, img1, TIMES)
    assert difference(made_by(net, img0, img1), right) <= 1e-5
    blocks = net.get_submodule("blocks").children()
    for block, scale in zip(blocks, (16, 8, 4, 2, 1), strict=True):  # those of 4.25
        block.scale = scale  # type: ignore[assignment]
    assert difference(made_by(net, img0, img1), right) > 0.05


# What is refused, by its name.


def paper_state() -> State:
    return {name: tensor for name, tensor in random_state("4.0").items() if not name.startswith("block3")}


def narrow(state: State, version_width: int) -> State:
    return state | {"block0.conv0.1.0.weight": torch.zeros(version_width, version_width // 2, 3, 3)}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (paper_state(), "this is RIFE of the paper, or RIFEm, which is not supported"),
        (narrow(random_state("4.0"), 100), "this is RIFE 3.9, which is not supported"),
        (
            {"block0.conv0.0.0.weight": torch.zeros(1), "block0.conv1.weight": torch.zeros(1)},
            "this is RIFE 1.x or 2.x, which is not supported",
        ),
        ({"block0.res0.conv1.0.weight": torch.zeros(1)}, "this is RIFE 1.x or 2.x, which is not supported"),
        ({"conv0.conv1.0.weight": torch.zeros(1)}, "this is one of the three files of RIFE 1.x to 3.1"),
        (narrow(random_state("4.6"), 20), "this is an unknown version of RIFE"),
    ],
    ids=["paper", "3.9", "2.x", "1.x", "contextnet", "unknown"],
)
def test_others_are_refused_by_name(state: State, words: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        network_of(state, tmp_path)
    assert words in str(caught.value)
    assert str(caught.value).endswith(": use RIFE 4.0 to 4.26, and HDv3 (3.4 to 3.8)")
    assert "\n" not in str(caught.value)
