"""Weight files: every format there and back, which variant it is, and why a file is refused."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import fsspec
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from actors.errors import CheckpointError
from actors.rife import ncnn, weights
from actors.rife.ifnet import IFNet
from actors.rife.untrained import SMALL_VARIANT, crossfade_net
from actors.rife.variants import VARIANTS, Variant
from actors.storage import Storage

FP32, FP16 = 0, 0x01306B47

# Sizes of the published ncnn files, bytes; 4.6 comes with its betas folded into the convolutions.
BIN_BYTES = {"4.6": 10_614_320, "4.25": 11_360_684, "4.26": 11_360_684, "4.25.lite": 11_276_252, "4.22.lite": 9_759_728}


def random_net(variant: Variant = SMALL_VARIANT) -> IFNet:
    torch.manual_seed(0)
    with torch.device("meta"):  # the usual initialisation is slow and leaves every beta at 1
        net = IFNet(variant)
    net.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(-0.1, 0.1)
    return net


def loaded(path: Path) -> IFNet:
    """An IFNet out of a file."""
    net = weights.load(path)
    assert isinstance(net, IFNet)
    return net


def authors_state(net: IFNet) -> dict[str, Tensor]:
    """Under the names that the authors' files have."""
    names = {name: name.replace("head.", "encode.").replace("blocks.", "block") for name in net.state_dict()}
    return {names[name]: tensor.clone() for name, tensor in net.state_dict().items()}


def assert_same(net: IFNet, other: IFNet, tolerance: float = 0.0) -> None:
    for (name, one), two in zip(net.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, atol=tolerance, rtol=0, msg=partial("{}: {}".format, name))


class NcnnFiles:
    """Writes a `.param` and a `.bin` as pnnx lays them out: both copies of the head, then block after block."""

    def __init__(self, net: IFNet, *, tag: int, folded_beta: bool = False) -> None:
        self.tag = tag
        self.lines: list[str] = ["Input in0 0 1 in0"]
        self.content = b""
        self.folded_beta = folded_beta
        state = net.state_dict()
        heads = 2 if net.head else 0
        for _ in range(heads):
            for index in range(4):
                self.convolution(state, f"head.cnn{index}", transposed=index == 3)
        for index in range(len(net.blocks)):
            self.block(state, f"blocks.{index}")

    def block(self, state: Mapping[str, Tensor], prefix: str) -> None:
        self.convolution(state, f"{prefix}.conv0.0.0")
        self.convolution(state, f"{prefix}.conv0.1.0")
        for index in range(8):
            if not self.folded_beta:
                self.memory(state[f"{prefix}.convblock.{index}.beta"])
            self.convolution(state, f"{prefix}.convblock.{index}.conv")
            self.lines.append(f"ReLU relu_{len(self.lines)} 1 1 a b 0=2.000000e-01")
        self.convolution(state, f"{prefix}.lastconv.0", transposed=True)

    def convolution(self, state: Mapping[str, Tensor], name: str, *, transposed: bool = False) -> None:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        kind = "Deconvolution" if transposed else "Convolution"
        if transposed:
            weight = weight.transpose(0, 1)
        parameters = f"0={len(bias)} 1={weight.shape[-1]} 3=2 4=1 5=1 6={weight.numel()} 9=2 -23310=1,2.000000e-01"
        self.lines.append(f"{kind:24} conv_{len(self.lines)} 1 1 a b {parameters}")
        numbers = weight.contiguous().numpy().astype("<f2" if self.tag == FP16 else "<f4").tobytes()
        self.content += struct.pack("<I", self.tag) + numbers + b"\0" * (-len(numbers) % 4)
        self.content += bias.numpy().astype("<f4").tobytes()

    def memory(self, beta: Tensor) -> None:
        self.lines.append(f"MemoryData beta_{len(self.lines)} 0 1 a 0=1 1=1 2={beta.numel()}")
        self.content += beta.numpy().astype("<f4").tobytes()

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        header = ["7767517", f"{len(self.lines)} {len(self.lines)}"]
        (folder / "flownet.param").write_text("\n".join([*header, *self.lines]) + "\n")
        (folder / "flownet.bin").write_bytes(self.content)
        return folder / "flownet.param"


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        weights.load(path)
    message = str(caught.value)
    assert str(path.with_suffix("")) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["4.25", "4.25.lite", "4.22.lite", "4.6"])
def test_the_authors_format(name: str, tmp_path: Path) -> None:
    net = random_net(VARIANTS[name])
    path = tmp_path / f"flownet_v{name}.pkl"
    torch.save(authors_state(net), path)
    made = loaded(path)
    assert made.variant == VARIANTS[name]
    assert not made.training
    assert_same(made, net)


@pytest.mark.parametrize("prefix", ["module.", "flownet.", "module.flownet."])
@pytest.mark.parametrize("ending", [".pkl", ".pth", ".safetensors"])
def test_prefixes_and_training_leftovers_are_dropped(prefix: str, ending: str, tmp_path: Path) -> None:
    net = random_net()
    state = {prefix + name: tensor for name, tensor in authors_state(net).items()}
    state |= {f"{prefix}teacher.conv0.0.0.weight": torch.ones(2), f"{prefix}caltime.0.bias": torch.ones(3)}
    path = tmp_path / f"flownet{ending}"
    save_file(state, path) if ending == ".safetensors" else torch.save(state, path)
    assert_same(loaded(path), net)


def test_numbered_blocks_and_half_precision_are_read(tmp_path: Path) -> None:
    net = random_net().half().float()
    state = {name.replace("head.", "encode."): tensor.half() for name, tensor in net.state_dict().items()}
    assert "blocks.0.conv0.0.0.weight" in state
    save_file(state, tmp_path / "rife.safetensors")
    made = loaded(tmp_path / "rife.safetensors")
    assert {tensor.dtype for tensor in made.state_dict().values()} == {torch.float32}
    assert_same(made, net)


def test_the_old_pickle_format_is_read(tmp_path: Path) -> None:
    net = random_net()
    torch.save(authors_state(net), tmp_path / "flownet.pkl", _use_new_zipfile_serialization=False)
    assert_same(loaded(tmp_path / "flownet.pkl"), net)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("flownet.pkl", "4.25/4.26"),
        ("flownet_v4.26.pkl", "4.26"),
        ("rife_v4.25.pkl", "4.25"),
        ("rife-v4.26/flownet.pkl", "4.26"),
        ("rife-v4.26/flownet_v4.25.pkl", "4.25"),
        ("rife-v4.6/flownet.pkl", "4.25/4.26"),  # the shapes say otherwise
        ("rife426.pth", "4.26"),
        ("rife425_fp16.pth", "4.25"),
        ("flownet-v425.pkl", "4.25"),
        ("RIFE_IFNet_v426.pkl", "4.26"),
        ("Practical-RIFE v4-26.pkl", "4.26"),
        ("RIFE_v4.26/train_log/flownet.pkl", "4.26"),
        ("rife49.pth", "4.25/4.26"),
        ("flownet-v46.pkl", "4.25/4.26"),
        ("flownet_v4.26_heavy.pkl", "4.25/4.26"),  # the shapes are not those of that
        ("rife4260.pth", "4.25/4.26"),
        ("2024.26.pkl", "4.25/4.26"),
        ("train_log/flownet.pkl", "4.25/4.26"),
    ],
)
def test_the_name_tells_4_25_from_4_26(place: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True, parents=True)
    torch.save(authors_state(random_net(VARIANTS["4.25"])), path)
    assert weights.load(path).name == name


@pytest.mark.parametrize(
    ("file", "variant", "name"),
    [
        ("RIFE4.22.lite.pkl", VARIANTS["4.22.lite"], "4.22.lite"),
        ("rife46.pkl", VARIANTS["4.22.lite"], "4.22.lite"),  # the weights tell
        ("rife426.pkl", VARIANTS["4.6"], "4.6"),
        ("x.pkl", replace(VARIANTS["4.25"], channels=(384, 256, 192, 128, 64)), "4.25.heavy"),
        ("x.pkl", replace(VARIANTS["4.25"], head=(16, 16)), "4.26.heavy"),
    ],
)
def test_weights_tell_more_than_names(file: str, variant: Variant, name: str, tmp_path: Path) -> None:
    torch.save(authors_state(random_net(variant)), tmp_path / file)
    assert loaded(tmp_path / file).variant == replace(variant, name=name)


def test_a_name_that_does_not_tell_is_kept_as_it_is(tmp_path: Path) -> None:
    torch.save(authors_state(random_net(VARIANTS["4.25"])), tmp_path / "flownet.pkl")
    weights.save(weights.load(tmp_path / "flownet.pkl"), tmp_path / "copy.safetensors")
    assert weights.load(tmp_path / "copy.safetensors").name == "4.25/4.26"


@pytest.mark.parametrize("name", ["4.26", "4.22.lite"])
def test_our_own_file_keeps_the_name(name: str, tmp_path: Path) -> None:
    net = random_net(VARIANTS[name])
    weights.save(net, tmp_path / "weights.safetensors")
    made = loaded(tmp_path / "weights.safetensors")
    assert made.variant == VARIANTS[name]
    assert_same(made, net)


def test_our_own_file_has_the_authors_names_and_is_reproducible(tmp_path: Path) -> None:
    for name in ("one", "two"):
        weights.save(crossfade_net(), tmp_path / f"{name}.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    with safe_open(tmp_path / "one.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(authors_state(crossfade_net()))


def test_other_widths_of_4_25s_layout(tmp_path: Path) -> None:
    net = crossfade_net()
    weights.save(net, tmp_path / "own.safetensors")
    torch.save(authors_state(net), tmp_path / "flownet_v4.26.pkl")
    assert loaded(tmp_path / "own.safetensors").variant == SMALL_VARIANT
    assert loaded(tmp_path / "flownet_v4.26.pkl").variant == replace(SMALL_VARIANT, name="custom")


@pytest.mark.parametrize("tag", [FP32, FP16])
@pytest.mark.parametrize("ending", [".param", ".bin"])
def test_ncnn_files(tag: int, ending: str, tmp_path: Path) -> None:
    net = random_net()
    path = NcnnFiles(net, tag=tag).write(tmp_path).with_suffix(ending)
    made = loaded(path)
    assert made.variant == replace(SMALL_VARIANT, name="custom")
    assert_same(made, net, tolerance=1e-4 if tag == FP16 else 0.0)


@pytest.mark.parametrize("name", BIN_BYTES)
def test_ncnn_files_have_the_published_sizes(name: str, tmp_path: Path) -> None:
    files = NcnnFiles(random_net(VARIANTS[name]), tag=FP16, folded_beta=name == "4.6")
    assert len(files.content) == BIN_BYTES[name]
    path = files.write(tmp_path / f"rife-v{name}")
    assert loaded(path).variant == VARIANTS[name]


def test_ncnn_without_betas_has_them_folded(tmp_path: Path) -> None:
    net = IFNet(replace(VARIANTS["4.6"], channels=(8, 8, 8, 8)))
    state = ncnn.read(NcnnFiles(net, tag=FP32, folded_beta=True).write(tmp_path))
    assert state.keys() == net.state_dict().keys()
    assert torch.unique(state["blocks.3.convblock.7.beta"]).tolist() == [1.0]


class RunsCode:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (Path.touch, (Path("code-was-run"),))  # type: ignore[return-value]


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(authors_state(random_net()) | {"extra": RunsCode()}, tmp_path / "flownet.pkl")
    assert "holds code" in refusal(tmp_path / "flownet.pkl")
    assert not (tmp_path / "code-was-run").exists()


def test_missing_file_and_unknown_ending(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "flownet.pkl")
    (tmp_path / "flownet.onnx").touch()
    assert "'.onnx' is no kind of RIFE weights" in refusal(tmp_path / "flownet.onnx")


@pytest.mark.parametrize("ending", [".pkl", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 100, 300_000])
def test_truncated_files(ending: str, kept: int, tmp_path: Path) -> None:
    path = tmp_path / f"flownet{ending}"
    save_file(authors_state(random_net()), path) if ending == ".safetensors" else torch.save(
        authors_state(random_net()), path
    )
    path.write_bytes(path.read_bytes()[:kept])
    assert "damaged" in refusal(path) if ending == ".pkl" else "not a whole" in refusal(path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, torch.zeros(3)])
def test_pickles_of_other_things(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "flownet.pkl")
    assert "no named tensors" in refusal(tmp_path / "flownet.pkl")


@pytest.mark.parametrize("state", [{}, {"conv.weight": torch.zeros(2)}, {"block0.lastconv.0.weight": torch.zeros(2)}])
def test_tensors_of_another_network(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "flownet.pkl")
    assert "not RIFE weights" in refusal(tmp_path / "flownet.pkl")


def test_missing_extra_and_misshapen_tensors(tmp_path: Path) -> None:
    path = tmp_path / "flownet.pkl"
    state = authors_state(random_net())
    torch.save({name: tensor for name, tensor in state.items() if name != "block2.convblock.1.beta"}, path)
    assert "block2.convblock.1.beta is missing" in refusal(path)
    torch.save(state | {"block5.spare": torch.zeros(1), "encode.cnn4.bias": torch.zeros(1)}, path)
    assert "not whole" in refusal(path)
    torch.save(state | {"encode.cnn4.bias": torch.zeros(1)}, path)
    assert "encode.cnn4.bias is not part of it" in refusal(path)
    torch.save(state | {"block1.convblock.0.beta": torch.zeros(1, 3, 1, 1)}, path)
    assert "block1.convblock.0.beta has the shape (1, 3, 1, 1) instead of (1, 24, 1, 1)" in refusal(path)


def test_damaged_ncnn_files(tmp_path: Path) -> None:
    param = NcnnFiles(random_net(), tag=FP16).write(tmp_path)
    text, content = param.read_text(), param.with_suffix(".bin").read_bytes()

    def refuse(new_text: str = text, new_content: bytes = content) -> str:
        param.write_text(new_text)
        param.with_suffix(".bin").write_bytes(new_content)
        return refusal(param)

    assert "cut off" in refuse(new_content=content[:-10])
    assert "do not belong together" in refuse(new_content=content + b"\0\0\0\0")
    assert "neither fp32 nor fp16 (tag 0x000d4b38)" in refuse(new_content=struct.pack("<I", 0x000D4B38) + content[4:])
    assert "not a text .param file" in refuse(new_text="7767516" + text[7:])
    assert "not a text .param file" in refuse(new_text="")
    assert "not a text .param file" in refuse(new_text=text + "Convolution conv\n")
    assert "not one that RIFE 4 has" in refuse(new_text=text.replace(" 5=1", " 5=0", 1))
    assert "not one that RIFE 4 has" in refuse(new_text=text.replace(" 6=", " 6=1", 1))
    assert "41 MemoryData layers, but RIFE with these blocks has 40" in refuse(
        new_text=text + "MemoryData spare 0 1 a 0=1 1=1 2=1\n", new_content=content + b"\0" * 4
    )
    assert "not those of a RIFE 4 network" in refuse(
        new_text="7767517\n1 1\nConvolution c 1 1 a b 0=1 1=1 5=1 6=1\n", new_content=b"\0" * 12
    )


@pytest.mark.parametrize("lost", [".param", ".bin"])
def test_ncnn_files_belong_together(lost: str, tmp_path: Path) -> None:
    param = NcnnFiles(random_net(), tag=FP16).write(tmp_path)
    param.with_suffix(lost).unlink()
    left = ".bin" if lost == ".param" else ".param"
    assert "a .param and a .bin together" in refusal(param.with_suffix(left))


def test_fetch_leaves_local_files_and_copies_remote_ones(tmp_path: Path) -> None:
    param = NcnnFiles(random_net(), tag=FP16).write(tmp_path / "rife-v4.26")
    assert weights.fetch(str(param), Storage(), tmp_path) == param
    remote = fsspec.filesystem("memory")
    for file in param.parent.iterdir():
        remote.pipe_file(f"/models/rife-v4.26/{file.name}", file.read_bytes())
    (tmp_path / "scratch").mkdir()
    copy = weights.fetch("memory://models/rife-v4.26/flownet.param", Storage(), tmp_path / "scratch")
    assert (copy.parent.name, copy.name) == ("rife-v4.26", "flownet.param")
    assert copy.with_suffix(".bin").read_bytes() == param.with_suffix(".bin").read_bytes()
