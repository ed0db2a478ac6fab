"""LoRAs of hosted pipelines: through diffusers' own loaders, merged, and strictly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from actors.checkpoints.lora_files import local_ones
from actors.errors import CheckpointError, ConfigError
from actors.generators.diffusers.parameters import DiffusersParameters
from actors.generators.diffusers.settings import DiffusersModelSettings
from actors.hosting.host import Host
from actors.hosting.loading import transformers_of
from actors.settings import ImageSettings
from actors.storage import Storage
from tests.tiny_pipelines import TINY

RANK = 2
# By diffusers' names, the original ones. Of kohya's files diffusers wants all layers of a block.
ATTENTIONS = {"attn1": "self_attn", "attn2": "cross_attn"}
PROJECTIONS = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o"}
OF_A_BLOCK = {f"{one}.{name}": f"{a}.{b}" for one, a in ATTENTIONS.items() for name, b in PROJECTIONS.items()}
OF_A_BLOCK |= {"ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2"}
OF_A_BLOCK |= {"attn2.add_k_proj": "cross_attn.k_img", "attn2.add_v_proj": "cross_attn.v_img"}
LAYERS = {f"blocks.{block}.{name}": f"blocks.{block}.{b}" for block in (0, 1) for name, b in OF_A_BLOCK.items()}
SIZES = {"width": 32, "height": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "wan21"
    TINY["wan21"].save(folder)
    return folder


def host_of(folder: Path, *loras: tuple[Path, float]) -> tuple[Host, DiffusersParameters]:
    named = [{"source": str(path), "scale": scale} for path, scale in loras]
    settings = DiffusersModelSettings(source=str(folder), precision="fp32", device="cpu", loras=named)
    clip = DiffusersParameters(num_frames=5, num_inference_steps=2, seed=1, prompt="a cat")
    clip, _ = settings.settled(clip, ImageSettings(**SIZES), Storage())
    merged = local_ones(settings.loras, folder.parent / "cache", Storage())
    return Host(folder, settings, clip, device=torch.device("cpu"), loras=merged), clip


def network_of(host: Host) -> nn.Module:
    return transformers_of(host._ready())[0]


def factors(network: nn.Module, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """Of each layer the two factors of its change."""
    draw = torch.Generator().manual_seed(seed)
    found = {}
    for layer in LAYERS:
        high, wide = network.get_parameter(f"{layer}.weight").shape
        found[layer] = torch.randn(RANK, wide, generator=draw), torch.randn(high, RANK, generator=draw)
    return found


def write(path: Path, form: str, changes: dict[str, tuple[Tensor, Tensor]], alpha: float) -> Path:
    tensors: dict[str, Tensor] = {}
    for layer, (down, up) in changes.items():
        if form == "diffusers":  # alpha is the rank
            tensors |= {f"transformer.{layer}.lora_A.weight": down, f"transformer.{layer}.lora_B.weight": up}
        elif form == "comfyui":
            name = f"diffusion_model.{LAYERS[layer]}"
            tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
        else:
            name = f"lora_unet_{LAYERS[layer].replace('.', '_')}"
            tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
            tensors[f"{name}.alpha"] = torch.tensor(alpha)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


@pytest.mark.parametrize("form", ["diffusers", "comfyui", "kohya"])
def test_what_is_merged_is_the_sum(form: str, folder: Path, tmp_path: Path) -> None:
    plain, _ = host_of(folder)
    changes, alpha = factors(network_of(plain)), 1.0
    path = write(tmp_path / f"{form}.safetensors", form, changes, alpha)
    merged = network_of(host_of(folder, (path, 0.5))[0])
    strength = 0.5 * (alpha / RANK if form == "kohya" else 1.0)
    for name, before in network_of(plain).named_parameters():
        after = merged.get_parameter(name)
        layer = name.removesuffix(".weight")
        expected = before + strength * changes[layer][1] @ changes[layer][0] if layer in changes else before
        torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-5)
    assert not [name for name, _ in merged.named_modules() if "lora" in name]


def test_several_are_added_up_and_change_the_clip(folder: Path, tmp_path: Path) -> None:
    plain, clip = host_of(folder)
    one = write(tmp_path / "one.safetensors", "diffusers", factors(network_of(plain), 1), 1.0)
    two = write(tmp_path / "two.safetensors", "comfyui", factors(network_of(plain), 2), 1.0)
    both, _ = host_of(folder, (one, 0.5), (two, -0.25))
    name = f"{next(iter(LAYERS))}.weight"
    single = [network_of(host_of(folder, lora)[0]).get_parameter(name) for lora in ((one, 0.5), (two, -0.25))]
    before = network_of(plain).get_parameter(name)
    expected = before + sum(changed - before for changed in single)
    torch.testing.assert_close(network_of(both).get_parameter(name), expected, rtol=1e-5, atol=1e-5)
    image = np.random.default_rng(0).integers(0, 255, (16, 32, 3), dtype=np.uint8)
    assert not np.array_equal(both.animate(image, clip), plain.animate(image, clip))


def test_a_tensor_that_fits_nowhere_is_named(folder: Path, tmp_path: Path) -> None:
    plain, _ = host_of(folder)
    changes = factors(network_of(plain))
    path = write(tmp_path / "good.safetensors", "diffusers", changes, 1.0)
    names = {f"transformer.blocks.{number}.attn1.to_q": changes[next(iter(LAYERS))] for number in (0, 7, 8)}
    foreign = {f"{name}.lora_A.weight": down for name, (down, _) in names.items()}
    foreign |= {f"{name}.lora_B.weight": up for name, (_, up) in names.items()}
    save_file({name: tensor.clone() for name, tensor in foreign.items()}, path)
    with pytest.raises(
        CheckpointError,
        match=r"good\.safetensors does not fit the transformer of Wan.*: 4 of 6 tensors .*blocks\.7",
    ):
        host_of(folder, (path, 1.0))
    save_file({"something": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"model\.loras: .*good\.safetensors"):
        host_of(folder, (path, 1.0))


def test_content_and_scale_are_part_of_the_revision(folder: Path, tmp_path: Path) -> None:
    plain, _ = host_of(folder)
    path = write(tmp_path / "a.safetensors", "diffusers", factors(network_of(plain)), 1.0)

    def revision(*loras: dict[str, object]) -> str:
        return DiffusersModelSettings(source=str(folder), loras=list(loras)).revision_of_content(Storage())

    base = revision()
    assert revision({"source": str(path), "scale": 0}) == base
    one = revision({"source": str(path)})
    assert one.startswith(f"{base}+")
    assert one != revision({"source": str(path), "scale": 0.5})
    write(path, "diffusers", factors(network_of(plain), 3), 1.0)
    assert one != revision({"source": str(path)})
    with pytest.raises(CheckpointError, match="does not exist"):
        revision({"source": str(tmp_path / "none.safetensors")})


def test_without_peft_planning_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.generators.diffusers.settings.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match="it needs the package peft: pip install peft"):
        host_of(folder, (tmp_path / "a.safetensors", 1.0))


def test_each_of_two_experts_gets_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "wan22_a14b"
    TINY["wan22_a14b"].save(folder)
    settings = DiffusersModelSettings(source=str(folder), precision="fp32", device="cpu")
    clip, _ = settings.settled(DiffusersParameters(num_frames=5), ImageSettings(**SIZES), Storage())
    plain = transformers_of(Host(folder, settings, clip, device=torch.device("cpu"))._ready())
    layer = "blocks.0.attn1.to_q"
    sources = []
    for number in (1, 2):
        high, wide = plain[0].get_parameter(f"{layer}.weight").shape
        changes = {layer: (torch.full((RANK, wide), float(number)), torch.ones(high, RANK))}
        sources.append(write(tmp_path / f"{number}.safetensors", "diffusers", changes, 1.0))
    named = [
        {"source": str(path), "network": network}
        for path, network in zip(sources, ("transformer", "transformer_2"), strict=True)
    ]
    both = settings.model_copy(update={"loras": DiffusersModelSettings(source="m", loras=named).loras})
    loras = local_ones(both.loras, tmp_path / "cache", Storage())
    merged = transformers_of(Host(folder, both, clip, device=torch.device("cpu"), loras=loras)._ready())
    for number, (before, after) in enumerate(zip(plain, merged, strict=True), start=1):
        difference = after.get_parameter(f"{layer}.weight") - before.get_parameter(f"{layer}.weight")
        torch.testing.assert_close(difference, torch.full_like(difference, float(RANK * number)))


def test_a_sum_is_rounded_once(folder: Path, tmp_path: Path) -> None:
    plain, _ = host_of(folder)
    small = {name: (down * 1e-3, up * 1e-3) for name, (down, up) in factors(network_of(plain)).items()}
    path = write(tmp_path / "small.safetensors", "diffusers", small, 1.0)
    again = write(tmp_path / "again.safetensors", "diffusers", small, 1.0)
    settings = DiffusersModelSettings(
        source=str(folder), precision="bf16", device="cpu", loras=[{"source": str(path)}, {"source": str(again)}]
    )
    clip, _ = settings.settled(DiffusersParameters(num_frames=5), ImageSettings(**SIZES), Storage())
    loras = local_ones(settings.loras, tmp_path / "cache", Storage())
    merged = network_of(Host(folder, settings, clip, device=torch.device("cpu"), loras=loras))
    bare = settings.model_copy(update={"loras": []})
    before = network_of(Host(folder, bare, clip, device=torch.device("cpu")))
    for layer, (down, up) in small.items():
        expected = (before.get_parameter(f"{layer}.weight").float() + 2 * up @ down).to(torch.bfloat16)
        torch.testing.assert_close(merged.get_parameter(f"{layer}.weight"), expected, rtol=0, atol=0)


def test_what_is_no_lora_or_has_an_alpha_elsewhere_is_refused_when_planning(folder: Path, tmp_path: Path) -> None:
    save_file({"blocks.0.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    settings = DiffusersModelSettings(source=str(folder), loras=[{"source": str(tmp_path / "model.safetensors")}])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is no LoRA: it holds no changes to weights"):
        settings.revision_of_content(Storage())
    save_file({"transformer.blocks.0.attn1.to_q.lora_A.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 8}')
    with pytest.raises(CheckpointError, match=r"has a lora_alpha in adapter_config\.json that is not its rank"):
        settings.revision_of_content(Storage())
