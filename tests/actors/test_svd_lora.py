"""LoRAs: each format is merged as its formula says, spatial and temporal layers alike, or refused with its reason."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from actors.checkpoints import lora_files
from actors.checkpoints.lora_files import Lora
from actors.errors import CheckpointError, StorageError
from actors.generators.checkpoints import LoraSettings
from actors.generators.svd.generator import SvdGenerator
from actors.generators.svd.settings import SvdModelSettings, SvdParameters
from actors.storage import Storage
from actors.svd.lora import layers_of, merge
from actors.svd.model import load
from actors.svd.original import Depths, unet_to_original
from benchmarks.make_checkpoints import (
    ONE_FILE_SIZES,
    SVD_XT_SIZES,
    TINY_SIZES,
    make_svd_checkpoint,
    new_unet,
)
from benchmarks.write_one_file import write_one_file

PICTURE_HWC = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
PARAMETERS = SvdParameters(num_frames=2, num_inference_steps=2, seed=7)
RANK, ALPHA, SCALE = 2, 3.0, 0.5
TRANSFORMER = "down_blocks.0.attentions.0"
ATTENTION = (
    f"{TRANSFORMER}.transformer_blocks.0.attn1.to_q",
    f"{TRANSFORMER}.temporal_transformer_blocks.0.attn2.to_v",
    f"{TRANSFORMER}.temporal_transformer_blocks.0.attn1.to_out.0",
)
LAYERS = (
    *ATTENTION,
    f"{TRANSFORMER}.proj_in",
    f"{TRANSFORMER}.temporal_transformer_blocks.0.ff_in.net.0.proj",
    "time_embedding.linear_1",
    "conv_in",  # 3 x 3
    "down_blocks.0.resnets.0.spatial_res_block.conv1",
    "down_blocks.1.resnets.0.spatial_res_block.conv_shortcut",  # 1 x 1
    "down_blocks.0.downsamplers.0.conv",
    "mid_block.resnets.1.temporal_res_block.conv2",  # 3 x 1 x 1, over frames
)
Matrices = dict[str, tuple[Tensor, Tensor]]


def unet_of(folder: Path) -> nn.Module:
    unet: nn.Module = UNetSpatioTemporalConditionModel.from_pretrained(folder, subfolder="unet")
    return unet.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def matrices(svd_checkpoint: Path) -> Matrices:
    """B and A of some layers."""
    generator = torch.Generator().manual_seed(0)
    made = {}
    for layer in LAYERS:
        weight = unet_of(svd_checkpoint).get_parameter(f"{layer}.weight")
        ones = (1,) * (weight.ndim - 2)
        up = torch.randn((weight.shape[0], RANK, *ones), generator=generator) / RANK
        made[layer] = up, torch.randn((RANK, *weight.shape[1:]), generator=generator) / weight[0].numel() ** 0.5
    return made


def original(layer: str) -> str:
    return unet_to_original(f"{layer}.weight", Depths(TINY_SIZES.layers_per_block)).removesuffix(".weight")


def write(path: Path, matrices: Matrices, name: Callable[[str], str], down: str, up: str, **more: Any) -> Path:
    tensors: dict[str, Tensor] = {}
    for layer, (b, a) in matrices.items():
        tensors |= {f"{name(layer)}{down}": a.clone(), f"{name(layer)}{up}": b.clone()}
        if alpha := more.get("alpha"):
            tensors[f"{name(layer)}.alpha"] = torch.tensor(alpha)
    path.parent.mkdir(exist_ok=True)
    save_file(tensors, path, more.get("metadata"))
    return path


def diffusers(folder: Path, matrices: Matrices) -> Path:
    return write(folder / "x.safetensors", matrices, "unet.{}".format, ".lora_A.weight", ".lora_B.weight")


def diffusers_with_alpha(folder: Path, matrices: Matrices) -> Path:
    config = {"unet.r": RANK, "unet.lora_alpha": ALPHA, "unet.use_dora": False}
    metadata = {"lora_adapter_metadata": json.dumps(config)}
    path = folder / "pytorch_lora_weights.safetensors"
    return write(path, matrices, "unet.{}".format, ".lora_A.weight", ".lora_B.weight", metadata=metadata)


def older(folder: Path, matrices: Matrices) -> Path:
    return write(folder / "x.safetensors", matrices, "unet.{}".format, ".lora.down.weight", ".lora.up.weight")


def oldest(folder: Path, matrices: Matrices) -> Path:
    def name(layer: str) -> str:
        block, _, projection = layer.removesuffix(".0").rpartition(".")
        return f"unet.{block}.processor.{projection}_lora"

    return write(folder / "x.safetensors", {n: matrices[n] for n in ATTENTION}, name, ".down.weight", ".up.weight")


def peft(folder: Path, matrices: Matrices) -> Path:
    name = "base_model.model.{}".format
    write(folder / "adapter_model.safetensors", matrices, name, ".lora_A.weight", ".lora_B.weight")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 1, "alpha_pattern": {r"\w+\..*|conv_in|time.*": ALPHA}}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def peft_with_name(folder: Path, matrices: Matrices) -> Path:
    name, down, up = "base_model.model.{}".format, ".lora_A.default.weight", ".lora_B.default.weight"
    (folder / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": ALPHA, "use_rslora": False}))
    return write(folder / "adapter_model.safetensors", matrices, name, down, up)


def kohya(folder: Path, matrices: Matrices) -> Path:
    def name(layer: str) -> str:
        return f"lora_unet_{original(layer).replace('.', '_')}"

    return write(folder / "x.safetensors", matrices, name, ".lora_down.weight", ".lora_up.weight", alpha=ALPHA)


def kohya_over_diffusers(folder: Path, matrices: Matrices) -> Path:
    def name(layer: str) -> str:
        return f"lora_unet_{layer.replace('.', '_')}"

    return write(folder / "x.safetensors", matrices, name, ".lora_down.weight", ".lora_up.weight", alpha=ALPHA)


def comfyui(folder: Path, matrices: Matrices) -> Path:
    def name(layer: str) -> str:
        return f"diffusion_model.{original(layer)}"

    return write(folder / "x.safetensors", matrices, name, ".lora_down.weight", ".lora_up.weight", alpha=ALPHA)


def bare(folder: Path, matrices: Matrices) -> Path:
    return write(folder / "x.safetensors", matrices, str, ".lora_A.weight", ".lora_B.weight")


# Each format, and its alpha / r.
FORMATS: dict[str, tuple[Callable[[Path, Matrices], Path], float]] = {
    "diffusers": (diffusers, 1.0),
    "diffusers with its metadata": (diffusers_with_alpha, ALPHA / RANK),
    "older diffusers": (older, 1.0),
    "oldest diffusers": (oldest, 1.0),
    "bare": (bare, 1.0),
    "PEFT": (peft, ALPHA / RANK),
    "PEFT with the adapter's name": (peft_with_name, ALPHA / RANK),
    "kohya": (kohya, ALPHA / RANK),
    "kohya over diffusers' names": (kohya_over_diffusers, ALPHA / RANK),
    "ComfyUI": (comfyui, ALPHA / RANK),
}


def local(source: Path | str, scale: float = SCALE, cache: Path = Path("/nowhere")) -> Lora:
    (found,) = lora_files.local_ones([LoraSettings(source=str(source), scale=scale)], cache, Storage())
    return found


def applied(layer: nn.Module, weight: Tensor, x: Tensor) -> Tensor:
    """The layer with another weight and no bias, its stride and padding kept unless the kernel is one pixel."""
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(x, weight)
    assert isinstance(layer, nn.Conv2d | nn.Conv3d)
    convolve: Any = nn.functional.conv2d if isinstance(layer, nn.Conv2d) else nn.functional.conv3d
    is_up = weight.shape[2:].numel() == 1 and weight.shape[1] == RANK
    found: Tensor = convolve(x, weight, stride=1 if is_up else layer.stride, padding=0 if is_up else layer.padding)
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_merged_is_the_unmerged_sum(
    name: str, svd_checkpoint: Path, matrices: Matrices, tmp_path: Path
) -> None:
    make, factor = FORMATS[name]
    before, merged = unet_of(svd_checkpoint), unet_of(svd_checkpoint)
    merge(merged, local(make(tmp_path, matrices)))
    used = ATTENTION if name == "oldest diffusers" else LAYERS
    for parameter, old in before.named_parameters():
        layer = parameter.removesuffix(".weight")
        if not parameter.endswith(".weight") or layer not in used:
            assert torch.equal(merged.get_parameter(parameter), old), parameter
            continue
        up, down = matrices[layer]
        delta = SCALE * factor * (up.double().flatten(1) @ down.double().flatten(1)).reshape(old.shape)
        assert delta.abs().max() > 0.01
        torch.testing.assert_close(merged.get_parameter(parameter).double(), old + delta, atol=1e-5, rtol=0)
        module = before.get_submodule(layer)
        x = torch.randn((2, old.shape[1], *(4,) * (old.ndim - 2)), generator=torch.Generator().manual_seed(1))
        unmerged = module(x) + SCALE * factor * applied(module, up, applied(module, down, x))
        torch.testing.assert_close(merged.get_submodule(layer)(x), unmerged, atol=1e-5, rtol=1e-5)


def settings_of(source: Path, *loras: tuple[Path | str, float], **more: Any) -> SvdModelSettings:
    named = [LoraSettings(source=str(path), scale=scale) for path, scale in loras]
    return SvdModelSettings(source=str(source), loras=named, **({"device": "cpu", "precision": "fp32"} | more))


def clip_of(model: SvdModelSettings) -> Any:
    return SvdGenerator(model, PARAMETERS, Storage()).animate(PICTURE_HWC, PARAMETERS).frames_FHWC.astype(int)


def test_a_clip_is_that_of_a_checkpoint_with_the_merged_weights(
    svd_checkpoint: Path, matrices: Matrices, tmp_path: Path
) -> None:
    first, second = kohya(tmp_path / "1", matrices), diffusers(tmp_path / "2", matrices)
    loras = ((first, 0.4), (second, -0.3))
    merged = tmp_path / "merged"
    shutil.copytree(svd_checkpoint, merged)
    unet: Any = unet_of(svd_checkpoint)
    for path, scale in loras:
        merge(unet, local(path, scale))
    unet.save_pretrained(merged / "unet")
    expected, plain = clip_of(settings_of(merged)), clip_of(settings_of(svd_checkpoint))
    assert np.abs(expected - plain).max() > 5
    cache = {"cache_dir": str(tmp_path / "cache")}
    for memory in ("resident", "sequential"):  # the latter sends weights to the device layer by layer
        made = clip_of(settings_of(svd_checkpoint, *loras, memory=memory, **cache))
        # The same numbers, at other places in memory: a CPU's sums may differ in their last bit.
        assert np.abs(made - expected).max() <= 1
    for precision in ("fp16", "bf16"):  # to which sums are rounded once, as if fp32 had been saved
        ours = load(svd_checkpoint, precision=precision, device="cpu", loras=[local(*one) for one in loras]).unet
        theirs = load(merged, precision=precision, device="cpu").unet
        for name, parameter in ours.named_parameters():
            assert torch.equal(parameter, theirs.get_parameter(name)), (precision, name)


def test_scale_zero_is_none(svd_checkpoint: Path, matrices: Matrices, tmp_path: Path) -> None:
    model = settings_of(svd_checkpoint, (diffusers(tmp_path, matrices), 0.0))
    assert np.array_equal(clip_of(model), clip_of(settings_of(svd_checkpoint)))
    assert revision(model) == revision(settings_of(svd_checkpoint))


def test_a_single_file_takes_loras(matrices: Matrices, tmp_path: Path) -> None:
    folder = make_svd_checkpoint(tmp_path / "folder", sizes=ONE_FILE_SIZES)
    weight = unet_of(folder).get_parameter("conv_in.weight")
    one = {"conv_in": (torch.ones(len(weight), 1, 1, 1), torch.ones(1, *weight.shape[1:]))}
    model = settings_of(
        write_one_file(folder, tmp_path / "svd.safetensors"), (kohya(tmp_path, one), 1.0), cache_dir=str(tmp_path)
    )
    assert "+" in revision(model)
    unet = load(folder, precision="fp32", device="cpu").unet
    changed = SvdGenerator(model, PARAMETERS, Storage())._animator._resident().unet
    torch.testing.assert_close(changed.conv_in.weight, unet.conv_in.weight + ALPHA)
    wrong = settings_of(tmp_path / "svd.safetensors", (diffusers(tmp_path / "w", matrices), 1.0))
    with pytest.raises(CheckpointError, match=r"does not fit SVD's UNet: tensors of another shape: \d+ \(unet\."):
        revision(wrong)


def revision(model: SvdModelSettings) -> str:
    return model.revision_of_content(Storage())


def test_a_revision_tells_content_and_scale(svd_checkpoint: Path, matrices: Matrices, tmp_path: Path) -> None:
    plain = revision(settings_of(svd_checkpoint))
    one, other = diffusers(tmp_path / "1", matrices), kohya(tmp_path / "2", matrices)
    made = {
        revision(settings_of(svd_checkpoint, *loras))
        for loras in ([(one, 1.0)], [(one, 0.5)], [(other, 1.0)], [(one, 1.0), (other, 1.0)])
    }
    assert len({plain, *made}) == 5
    assert all(found.startswith(f"{plain}+") for found in made)
    moved = Path(shutil.copy(one, tmp_path / "moved.safetensors"))
    assert revision(settings_of(svd_checkpoint, (moved, 1.0))) == revision(settings_of(svd_checkpoint, (one, 1.0)))
    folder = peft(tmp_path / "peft", matrices)
    before = revision(settings_of(svd_checkpoint, (folder, 1.0)))
    (folder / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 7}))
    assert revision(settings_of(svd_checkpoint, (folder, 1.0))) != before


def test_a_model_of_the_hub_is_pinned_to_its_commit() -> None:
    assert settings_of(Path("someone/svd")).pinned("abc+0123*0.5").revision == "abc"


def test_a_lora_on_a_store_is_fetched_once(
    svd_checkpoint: Path, matrices: Matrices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, uri = peft(tmp_path / "peft", matrices), f"memory://{tmp_path.name}/lora"
    fsspec.filesystem("memory").put(f"{folder}/", uri, recursive=True)
    for source in (uri, f"{uri}/adapter_model.safetensors"):
        fetched = local(source, cache=tmp_path / "cache")
        assert fetched.weights.read_bytes() == (folder / "adapter_model.safetensors").read_bytes()
        assert fetched.config is not None
    merged, expected = unet_of(svd_checkpoint), unet_of(svd_checkpoint)
    merge(merged, fetched)
    merge(expected, local(folder))
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in merged.state_dict().items())
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1
    assert revision(settings_of(svd_checkpoint, (uri, 1.0))) == revision(settings_of(svd_checkpoint, (folder, 1.0)))

    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", disk_full)
    with pytest.raises(StorageError, match=r"could not be copied to .* No space left on device; free space there"):
        local(uri, cache=tmp_path / "another")


def test_every_layer_of_the_full_size_has_one_name_in_each_spelling() -> None:
    with torch.device("meta"):
        unet = new_unet(SVD_XT_SIZES)
    shapes = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}
    layers = [name.removesuffix(".weight") for name, shape in shapes.items() if len(shape) > 1]
    depths = Depths.of_unet(shapes)
    found = layers_of(shapes)
    for layer in layers:
        theirs = unet_to_original(f"{layer}.weight", depths).removesuffix(".weight")
        for spelling in (layer, theirs, layer.replace(".", "_"), theirs.replace(".", "_")):
            assert found[spelling] == layer
    assert found["input_blocks_1_1_time_stack_0_attn1_to_q"] == (
        "down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_q"
    )


Tensors = dict[str, Tensor]


def renamed(start: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name.replace(start, new, 1): tensor for name, tensor in tensors.items()}


def changed(**tensors: Tensor) -> Callable[[Tensors], Tensors]:
    return lambda old: old | {f"unet.conv_in.lora_{name}.weight": tensor for name, tensor in tensors.items()}


REFUSED: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "a model": (
        lambda _: {f"{name}.weight": torch.zeros(2, 2) for name in "abcd"},
        r"is no LoRA: it holds a\.weight, b\.weight, c\.weight and 1 more$",
    ),
    "of another model": (
        renamed("unet.", "transformer."),
        r"does not fit SVD's UNet: tensors that fit nowhere: 22 \(transformer\..*, transformer\..* and 19 more\)$",
    ),
    "a text encoder's": (
        lambda old: old | {"text_encoder.x.lora_A.weight": torch.zeros(2, 2)},
        r"tensors that fit nowhere: 1 \(text_encoder\.x\.lora_A\.weight\)",
    ),
    "another kind of change": (
        lambda old: old | {"unet.conv_in.lora_magnitude_vector": torch.zeros(2)},
        r"tensors that fit nowhere: 1 \(unet\.conv_in\.lora_magnitude_vector\)",
    ),
    "half of it": (
        lambda old: {name: tensor for name, tensor in old.items() if name != "unet.conv_in.lora_B.weight"},
        r"is not whole: tensors without their counterpart: 1 \(unet\.conv_in\.lora_A\.weight\)",
    ),
    "twice": (
        lambda old: old | {"unet.conv_in.lora.down.weight": torch.zeros(2, 8, 3, 3)},
        r"tensors that fit nowhere: 1 \(unet\.conv_in\.lora",
    ),
    "another size": (
        changed(A=torch.zeros(2, 8, 1, 1)),
        r"tensors of another shape: 1 \(unet\.conv_in\.lora_A\.weight\)",
    ),
    "another rank": (
        changed(B=torch.zeros(32, 3, 1, 1)),
        r"tensors of another shape: 1 \(unet\.conv_in\.lora_B\.weight\)",
    ),
    "whole numbers": (
        changed(B=torch.zeros(32, 2, 1, 1).int()),
        r"tensors of another shape: 1 \(unet\.conv_in\.lora_B",
    ),
    "not a number": (changed(B=torch.full((32, 2, 1, 1), torch.nan)), r"holds what are no numbers \(unet\.conv_in\."),
    "PEFT's alone": (renamed("unet.", "base_model.model."), r"is PEFT's and has no adapter_config\.json beside it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_said(name: str, svd_checkpoint: Path, matrices: Matrices, tmp_path: Path) -> None:
    change, words = REFUSED[name]
    path = diffusers(tmp_path, matrices)
    save_file(change(load_file(path)), path)
    with pytest.raises(CheckpointError, match=words) as caught:
        merge(unet_of(svd_checkpoint), local(path))
    assert str(caught.value).startswith(f"model.loras: {path} ")
    if name != "not a number":  # no value is read when planning
        with pytest.raises(CheckpointError, match=words):
            revision(settings_of(svd_checkpoint, (path, 0.0)))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('{"use_dora": true}', r"was trained with use_dora, which is not merged here"),
        ('{"peft_type": "LOHA"}', r"was trained with peft_type=LOHA"),
        ('{"modules_to_save": ["conv_in"]}', r"was trained with modules_to_save"),
        ("{", r"has a damaged adapter_config\.json"),
        ("[]", r"has a damaged adapter_config\.json"),
    ],
)
def test_what_peft_cannot_have_merged(
    config: str, words: str, svd_checkpoint: Path, matrices: Matrices, tmp_path: Path
) -> None:
    folder = peft(tmp_path, matrices)
    (folder / "adapter_config.json").write_text(config)
    with pytest.raises(CheckpointError, match=words):
        revision(settings_of(svd_checkpoint, (folder, 1.0)))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "{here}/none.safetensors",
            r"does not exist \(/.*\): name a \.safetensors file, or the folder that PEFT wrote",
        ),
        ("{here}/x.bin", r"is a pickle file, which can run code, and is not read: take it as \.safetensors"),
        ("{here}/x.txt", r"is no \.safetensors file: LoRAs are read from those alone"),
        ("{here}/empty", r"is a folder with no \.safetensors file"),
        (
            "{here}/two",
            r"is a folder with several \.safetensors files \(1\.safetensors, 2\.safetensors\): name the one",
        ),
        ("https://example.com/lora", r"is no \.safetensors file: name the file itself"),
        ("{here}/x.safetensors", r"x\.safetensors is damaged: it is no safetensors file"),
    ],
)
def test_what_is_no_place_of_a_lora(source: str, words: str, svd_checkpoint: Path, tmp_path: Path) -> None:
    for name in ("x.bin", "x.txt", "x.safetensors", "two/1.safetensors", "two/2.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=words):
        revision(settings_of(svd_checkpoint, (source.format(here=tmp_path), 1.0)))
