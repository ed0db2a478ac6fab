"""ncnn files of every group: the published sizes, the same network, and layouts that are easily taken for others."""

import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor

from actors.errors import CheckpointError
from actors.rife import weights
from actors.rife.variants import GROUPS, versions_of
from tests.actors.rife_reference import SPECS, State, random_state

FP32, FP16 = 0, 0x01306B47


class Writer:
    """A `.param` and a `.bin` as the converter lays them out."""

    def __init__(self, tag: int) -> None:
        self.tag = tag
        self.lines: list[str] = ["Input in0 0 1 in0"]
        self.content = bytearray()

    def conv(self, state: State, name: str, *, groups: int = 1) -> None:
        """A convolution, and the PReLU behind it where there is one."""
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        kind = "ConvolutionDepthWise" if groups > 1 else "Convolution"
        self._layer(kind, weight, bias, f" 7={groups}" if groups > 1 else "")
        slopes = state.get(f"{name.removesuffix('.0')}.1.weight") if name.endswith(".0") else None
        if slopes is not None and slopes.dim() == 1:
            self.lines.append(f"PReLU slope_{len(self.lines)} 1 1 a b 0={len(slopes)}")
            self.content += slopes.numpy().astype("<f4").tobytes()

    def deconv(self, state: State, name: str) -> None:
        """A deconvolution, whose outputs ncnn puts first."""
        self._layer("Deconvolution", state[f"{name}.weight"].transpose(0, 1), state[f"{name}.bias"], "")

    def beta(self, beta: Tensor) -> None:
        """`MemoryData`."""
        self.lines.append(f"MemoryData beta_{len(self.lines)} 0 1 a 0=1 1=1 2={beta.numel()}")
        self.content += beta.numpy().astype("<f4").tobytes()

    def write(self, folder: Path) -> Path:
        """The `.param`'s path."""
        header = ["7767517", f"{len(self.lines)} {len(self.lines)}"]
        (folder / "flownet.param").write_text("\n".join([*header, *self.lines]) + "\n")
        (folder / "flownet.bin").write_bytes(self.content)
        return folder / "flownet.param"

    def _layer(self, kind: str, weight: Tensor, bias: Tensor, more: str) -> None:
        shape = f"0={len(bias)} 1={weight.shape[-1]} 5=1 6={weight.numel()}{more}"
        self.lines.append(f"{kind} conv_{len(self.lines)} 1 1 a b {shape}")
        numbers = weight.contiguous().numpy().astype("<f2" if self.tag == FP16 else "<f4").tobytes()
        self.content += struct.pack("<I", self.tag) + numbers + b"\0" * (-len(numbers) % 4)
        self.content += bias.numpy().astype("<f4").tobytes()


def written(version: str, state: State, tag: int, *, folded: bool = False, runs: int = 1) -> Writer:
    """Both copies of the head, then the blocks; `runs` is 2 for `ensembleTrue`."""
    spec, writer = SPECS[version], Writer(tag)
    for _ in range(2 if spec.head[0] else 0):
        *convs, last = sorted({name.rsplit(".", 1)[0] for name in state if name.startswith("encode.")})
        for name in convs:
            writer.conv(state, name)
        writer.deconv(state, last)
    for index in range(len(spec.widths)):
        for run in range(runs):
            block = f"block{index}"
            writer.conv(state, f"{block}.conv0.0.0")
            writer.conv(state, f"{block}.conv0.1.0")
            for layer in range(8):
                name = f"{block}.convblock.{layer}"
                if spec.body == "R" and not folded and run == 0:
                    writer.beta(state[f"{name}.beta"])
                writer.conv(state, f"{name}.conv" if spec.body == "R" else f"{name}.0", groups=spec.groups)
            writer.deconv(state, f"{block}.lastconv" if spec.tail == "5 bare" else f"{block}.lastconv.0")
    return writer


def assert_holds(path: Path, state: State, tolerance: float = 0.0) -> None:
    """The file is the network of the state: every number of it, under whichever name."""
    net = weights.load(path)
    torch.save(state, path.with_suffix(".pkl"))
    wanted = weights.load(path.with_suffix(".pkl"))
    assert net.name == wanted.name
    for name, tensor in wanted.state_dict().items():
        torch.testing.assert_close(net.state_dict()[name], tensor, atol=tolerance, rtol=0)


@pytest.mark.parametrize("version", SPECS)
def test_files_have_the_published_size_and_are_the_same_network(version: str, tmp_path: Path) -> None:
    state = random_state(version)
    writer = written(version, state, FP16)
    assert len(writer.content) == SPECS[version].bin_bytes
    path = writer.write(tmp_path)
    assert_holds(path, state, tolerance=2e-3)


@pytest.mark.parametrize("version", ["4.0", "4.2", "4.15.lite"])
def test_of_blocks_that_are_there_twice_one_is_taken(version: str, tmp_path: Path) -> None:
    state = random_state(version)
    writer = written(version, state, FP32, runs=2)
    assert_holds(writer.write(tmp_path), state)
    other = random_state(version, seed=1)
    spoilt = written(version, state, FP32, runs=2)
    spoilt.content = spoilt.content[:-400] + written(version, other, FP32, runs=2).content[-400:]
    with pytest.raises(CheckpointError, match="its blocks come twice, but not with the same numbers"):
        weights.load(spoilt.write(tmp_path))


@pytest.mark.parametrize("version", ["4.0", "4.2"])
def test_a_second_stage_behind_the_blocks_is_not_used(version: str, tmp_path: Path) -> None:
    """`fastFalse`: contextnet for both frames, then unet, with deconvolutions of its own."""
    state = random_state(version)
    writer = written(version, state, FP16)
    extra = {"c.weight": torch.ones(4, 3, 3, 3), "c.bias": torch.ones(4)}
    extra |= {"d.weight": torch.ones(3, 4, 4, 4), "d.bias": torch.ones(4)}
    for part in (24, 0, 0, 0):
        for _ in range(part):
            writer.conv(extra, "c")
        writer.deconv(extra, "d")
    writer.conv(extra, "c")
    assert_holds(writer.write(tmp_path), state, tolerance=2e-3)


def test_4_2_and_a_folded_4_6_differ_in_their_last_layers_alone(tmp_path: Path) -> None:
    """Neither has a MemoryData nor a PReLU; in 4.2 nothing is added, in 4.6 each convolution's input is."""
    for version in ("4.2", "4.6"):
        state = random_state(version)
        writer = written(version, state, FP32, folded=True)
        net = weights.load(writer.write(tmp_path))
        assert versions_of(GROUPS[net.name])[0] == version
        betas = [tensor for name, tensor in net.state_dict().items() if name.endswith(".beta")]
        assert [torch.unique(beta).tolist() for beta in betas] == [[1.0]] * (32 if version == "4.6" else 0)


def test_older_networks_are_refused_by_name(tmp_path: Path) -> None:
    state = random_state("4.0")
    writer = Writer(FP16)
    for layer in range(6):  # six convolutions a block, as up to 3.1
        writer.conv(state, f"block3.convblock.{layer}.0")
    writer.deconv(state, "block3.lastconv")
    with pytest.raises(CheckpointError, match=r"not those of a RIFE 4 network \(RIFE 1\.x to 3\.x of ncnn is not"):
        weights.load(writer.write(tmp_path))
