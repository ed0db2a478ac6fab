"""SVD from one file: the same networks and clips as from its folder, and what is said of files that are none."""

import json
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from actors.checkpoints.sources import is_file
from actors.checkpoints.tensor_file import Entry, Header, Writer
from actors.errors import CheckpointError, ConfigError, StorageError
from actors.generators.svd.generator import SvdGenerator
from actors.generators.svd.settings import SvdModelSettings, SvdParameters
from actors.rife import weights as rife
from actors.rife.untrained import crossfade_net
from actors.storage import Storage
from actors.svd import layout, one_file
from actors.svd.checkpoint import locate, revision_of
from actors.svd.original import (
    FIRST_STAGE,
    IMAGE_VAE,
    OPEN_CLIP,
    UNET,
    VISUAL,
    Depths,
    Target,
    is_ballast,
    to_diffusers,
    to_original,
    unet_to_original,
)
from benchmarks.make_checkpoints import (
    ONE_FILE_SIZES,
    SVD_XT_SIZES,
    make_svd_checkpoint,
    new_image_encoder,
    new_unet,
    new_vae,
)
from benchmarks.write_one_file import original_tensors, write_one_file

PICTURE_HWC = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
PARAMETERS = SvdParameters(num_frames=3, num_inference_steps=2, seed=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with heads as wide as SVD's."""
    return make_svd_checkpoint(tmp_path_factory.mktemp("one-file") / "folder", sizes=ONE_FILE_SIZES)


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    """The same as one file."""
    return write_one_file(folder, folder.with_name("svd_xt.safetensors"))


def clip_of(source: Path | str, cache: Path, **settings: Any) -> Any:
    model = SvdModelSettings(source=str(source), cache_dir=str(cache), device="cpu", precision="fp32", **settings)
    return SvdGenerator(model, PARAMETERS, Storage()).animate(PICTURE_HWC, PARAMETERS).frames_FHWC


def test_the_file_makes_the_folders_clip_to_the_last_bit(folder: Path, file: Path, tmp_path: Path) -> None:
    expected = clip_of(folder, tmp_path)
    assert expected.std() > 1
    assert np.array_equal(clip_of(file, tmp_path), expected)


def test_what_is_converted_is_the_folder(folder: Path, file: Path, tmp_path: Path) -> None:
    made = locate(str(file), cache_dir=str(tmp_path))
    for component, stem in layout.WEIGHT_STEMS.items():
        ours, theirs = (load_file(where / component / f"{stem}.safetensors") for where in (made, folder))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
        weights = f"{component}/{stem}.safetensors"
        assert (made / weights).read_bytes() == (folder / weights).read_bytes()
        ours, theirs = (json.loads((where / component / "config.json").read_text()) for where in (made, folder))
        assert {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]} <= {
            *("num_frames", "sample_size", "torch_dtype", "dtype", "architectures")
        }


def test_the_second_start_converts_nothing(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = locate(str(file), cache_dir=str(tmp_path))
    for name in ("conversion_of", "convert"):
        monkeypatch.setattr(one_file, name, None)
    assert locate(str(file), cache_dir=str(tmp_path)) == first
    assert len(revision_of(str(file), cache_dir=str(tmp_path))) == 64


def test_conversion_holds_no_more_than_a_tensor(file: Path, tmp_path: Path) -> None:
    for name in ("imports", "measured"):
        (tmp_path / name).mkdir()
        tracemalloc.start()
        with file.open("rb") as opened:
            one_file.convert(opened, tmp_path / name, "svd.safetensors")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < file.stat().st_size / 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_files_in_half_precision_are_read(dtype: torch.dtype, folder: Path, tmp_path: Path) -> None:
    file = write_one_file(folder, tmp_path / "half.safetensors", dtype=dtype)
    made = load_file(locate(str(file), cache_dir=str(tmp_path)) / "unet/diffusion_pytorch_model.safetensors")
    whole = load_file(folder / "unet/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(tensor, whole[name].to(dtype)) for name, tensor in made.items())


def test_a_file_on_a_store_is_read_there(file: Path, tmp_path: Path) -> None:
    uri = f"memory://{tmp_path.name}/svd.safetensors"
    fsspec.filesystem("memory").pipe(uri, file.read_bytes())
    assert revision_of(uri, cache_dir=str(tmp_path)) == revision_of(str(file), cache_dir=str(tmp_path))
    made = locate(uri, cache_dir=str(tmp_path))
    assert (made / "model_index.json").is_file()
    assert locate(str(file), cache_dir=str(tmp_path)) == made


def test_a_revision_follows_the_weights_and_not_the_name(file: Path, tmp_path: Path) -> None:
    before = revision_of(str(file), cache_dir=str(tmp_path))
    moved = tmp_path / "other name.safetensors"
    content = bytearray(file.read_bytes())
    moved.write_bytes(content)
    assert revision_of(str(moved), cache_dir=str(tmp_path)) == before
    content[-1] ^= 1
    moved.write_bytes(content)
    assert revision_of(str(moved), cache_dir=str(tmp_path)) != before


# The names of the original at full size.


@pytest.fixture(scope="module")
def full_size() -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of SVD-XT in a folder, without their memory."""
    with torch.device("meta"):
        unet, vae, clip = new_unet(SVD_XT_SIZES), new_vae(SVD_XT_SIZES), new_image_encoder(SVD_XT_SIZES)
        return {"unet": unet.state_dict(), "vae": vae.state_dict(), "image_encoder": clip.state_dict()}


@pytest.fixture(scope="module")
def full_file(full_size: dict[str, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The same as in one file."""
    with torch.device("meta"):
        return original_tensors(full_size)


def header_of(tensors: dict[str, torch.Tensor], dtype: str = "F16") -> Header:
    return Header({name: Entry(dtype, tuple(tensor.shape), 0, 0) for name, tensor in tensors.items()}, {})


def test_at_full_size_nothing_is_left_over_or_missing(
    full_size: dict[str, dict[str, torch.Tensor]], full_file: dict[str, torch.Tensor]
) -> None:
    counts = {
        start: sum(name.startswith(start) for name in full_file) for start in (UNET, FIRST_STAGE, IMAGE_VAE, VISUAL)
    }
    assert counts == {UNET: 1428, FIRST_STAGE: 372, IMAGE_VAE: 248, VISUAL: 392}
    assert sum(name.startswith(f"{FIRST_STAGE}decoder.") for name in full_file) == 266
    assert sum(name.startswith(f"{IMAGE_VAE}decoder.") for name in full_file) == 138
    conversion = one_file.conversion_of(header_of(full_file), "svd_xt.safetensors")
    left_over = [name for name in full_file if name not in conversion.targets and not is_ballast(name)]
    made = {(target.component, target.name) for targets in conversion.targets.values() for target in targets}
    missing = {(component, name) for component, tensors in full_size.items() for name in tensors} - made
    assert (left_over, missing) == ([], set())
    assert conversion.configs["unet/config.json"]["num_attention_heads"] == [5, 10, 20, 20]
    assert conversion.configs["unet/config.json"]["block_out_channels"] == [320, 640, 1280, 1280]
    assert conversion.configs["image_encoder/config.json"]["num_attention_heads"] == 16


# Names as they stand in the makers' file, written down by hand.
LITERAL = {
    f"{UNET}input_blocks.0.0.weight": ("unet", "conv_in.weight"),
    f"{UNET}input_blocks.3.0.op.bias": ("unet", "down_blocks.0.downsamplers.0.conv.bias"),
    f"{UNET}input_blocks.4.0.skip_connection.weight": (
        "unet",
        "down_blocks.1.resnets.0.spatial_res_block.conv_shortcut.weight",
    ),
    f"{UNET}input_blocks.8.0.time_stack.out_layers.3.weight": (
        "unet",
        "down_blocks.2.resnets.1.temporal_res_block.conv2.weight",
    ),
    f"{UNET}input_blocks.1.1.time_stack.0.ff_in.net.0.proj.weight": (
        "unet",
        "down_blocks.0.attentions.0.temporal_transformer_blocks.0.ff_in.net.0.proj.weight",
    ),
    f"{UNET}input_blocks.1.1.time_pos_embed.2.bias": (
        "unet",
        "down_blocks.0.attentions.0.time_pos_embed.linear_2.bias",
    ),
    f"{UNET}middle_block.1.time_mixer.mix_factor": ("unet", "mid_block.attentions.0.time_mixer.mix_factor"),
    f"{UNET}middle_block.2.emb_layers.1.weight": ("unet", "mid_block.resnets.1.spatial_res_block.time_emb_proj.weight"),
    f"{UNET}output_blocks.2.1.conv.weight": ("unet", "up_blocks.0.upsamplers.0.conv.weight"),
    f"{UNET}output_blocks.5.2.conv.weight": ("unet", "up_blocks.1.upsamplers.0.conv.weight"),
    f"{UNET}output_blocks.11.1.transformer_blocks.0.attn2.to_k.weight": (
        "unet",
        "up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_k.weight",
    ),
    f"{UNET}time_embed.2.weight": ("unet", "time_embedding.linear_2.weight"),
    f"{UNET}label_emb.0.0.weight": ("unet", "add_embedding.linear_1.weight"),
    f"{UNET}out.2.bias": ("unet", "conv_out.bias"),
    f"{FIRST_STAGE}decoder.conv_out.time_mix_conv.weight": ("vae", "decoder.time_conv_out.weight"),
    f"{FIRST_STAGE}decoder.up.3.block.0.mix_factor": ("vae", "decoder.up_blocks.0.resnets.0.time_mixer.mix_factor"),
    f"{FIRST_STAGE}decoder.up.1.block.0.nin_shortcut.weight": (
        "vae",
        "decoder.up_blocks.2.resnets.0.spatial_res_block.conv_shortcut.weight",
    ),
    f"{FIRST_STAGE}decoder.mid.block_2.time_stack.in_layers.0.weight": (
        "vae",
        "decoder.mid_block.resnets.1.temporal_res_block.norm1.weight",
    ),
    f"{IMAGE_VAE}encoder.mid.attn_1.proj_out.bias": ("vae", "encoder.mid_block.attentions.0.to_out.0.bias"),
    f"{IMAGE_VAE}encoder.down.2.downsample.conv.weight": ("vae", "encoder.down_blocks.2.downsamplers.0.conv.weight"),
    f"{IMAGE_VAE}quant_conv.weight": ("vae", "quant_conv.weight"),
    f"{VISUAL}positional_embedding": ("image_encoder", "vision_model.embeddings.position_embedding.weight"),
    f"{VISUAL}transformer.resblocks.31.mlp.c_proj.weight": (
        "image_encoder",
        "vision_model.encoder.layers.31.mlp.fc2.weight",
    ),
}


@pytest.mark.parametrize("name", LITERAL)
def test_names_of_the_original(name: str, full_file: dict[str, torch.Tensor]) -> None:
    component, ours = LITERAL[name]
    assert name in full_file
    assert to_diffusers(name, Depths()) == [Target(component, ours)]
    assert to_original(component, ours, Depths()) == (name, "same")


def test_every_name_goes_there_and_back(full_size: dict[str, dict[str, torch.Tensor]]) -> None:
    for component, tensors in full_size.items():
        for name in tensors:
            theirs, cut = to_original(component, name, Depths())
            assert Target(component, name, cut) in to_diffusers(theirs, Depths())
    with pytest.raises(KeyError):
        unet_to_original("down_blocks.0.resnets.0.made_up.weight", Depths())


def test_the_projections_of_clip_are_cut() -> None:
    layer = "vision_model.encoder.layers.3.self_attn"
    assert to_diffusers(f"{VISUAL}transformer.resblocks.3.attn.in_proj_bias", Depths()) == [
        Target("image_encoder", f"{layer}.q_proj.bias", "first"),
        Target("image_encoder", f"{layer}.k_proj.bias", "second"),
        Target("image_encoder", f"{layer}.v_proj.bias", "third"),
    ]
    assert to_diffusers(f"{VISUAL}proj", Depths()) == [
        Target("image_encoder", "visual_projection.weight", "transposed")
    ]


# What is refused.

Tensors = dict[str, torch.Tensor]


def without(*starts: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if not name.startswith(starts)}


def only(start: str, *, bare: bool = False) -> Callable[[Tensors], Tensors]:
    cut = len(start) if bare else 0
    return lambda tensors: {name[cut:]: tensor for name, tensor in tensors.items() if name.startswith(start)}


def plus(**more: torch.Tensor) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name.replace("__", "."): tensor for name, tensor in more.items()}


def named(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda _: {name: torch.zeros(2, 2) for name in names}


def reshaped(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: torch.zeros(3, 3)}


X = torch.zeros(2, 2)
REFUSED: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "UNet alone": (only(UNET), r"is a UNet alone, and a model is UNet, VAE and image encoder: take the whole"),
    "UNet alone, bare": (only(UNET, bare=True), r"is a UNet alone"),
    "diffusers UNet": (
        named("conv_in.weight", "down_blocks.0.resnets.0.temporal_res_block.norm1.weight"),
        "UNet alone",
    ),
    "VAE alone": (named("decoder.conv_in.weight", "encoder.conv_in.weight"), r"is a VAE alone"),
    "CLIP alone": (named("vision_model.embeddings.class_embedding"), r"is an image encoder alone"),
    "SD 1.5": (
        named(f"{UNET}input_blocks.0.0.weight", "cond_stage_model.transformer.text_model.x"),
        r"is a Stable Diffusion 1\.x checkpoint, which makes pictures and no video",
    ),
    "SDXL": (named(f"{UNET}out.2.bias", "conditioner.embedders.1.model.ln_final.bias"), r"is an SDXL checkpoint"),
    "LoRA": (named("unet.conv_in.lora_A.weight"), r"is a LoRA, .* this file in model\.loras"),
    "kohya": (named("lora_unet_out_2.lora_down.weight", "lora_unet_out_2.alpha"), r"is a LoRA"),
    "image decoder": (plus(first_stage_model__post_quant_conv__weight=X), r"has the image decoder, .*svd_xt_image_dec"),
    "no CLIP": (
        without(VISUAL),
        r"lacks the image encoder CLIP \(conditioner\.embedders\.0\.open_clip\.model\.visual\)",
    ),
    "as ComfyUI saves it": (
        without(IMAGE_VAE),
        r"lacks the encoder of the image \(conditioner\.embedders\.3\.encoder\.",
    ),
    "one missing": (
        without(f"{UNET}middle_block.1.norm.weight"),
        r"no whole SVD .*: tensors that are missing: 1 \(model\.diffusion_model\.middle_block\.1\.norm\.weight\);",
    ),
    "many missing": (
        without(f"{UNET}middle_block.2."),
        r"that are missing: 21 \(.*\.middle_block\.2\.emb_layers\.1\.bias, .*\.2\.emb.*, .* and 18 more\)",
    ),
    "unknown": (
        plus(model_ema__a=X, model_ema__b=X, other__c=X, other__d=X),
        r"tensors that are none of SVD's: 4 \(model_ema\.a, model_ema\.b, other\.c and 1 more\)",
    ),
    "a block too many": (
        plus(model__diffusion_model__input_blocks__9__0__in_layers__0__weight=X),
        r"that are none of SVD's: 1 \(model\.diffusion_model\.input_blocks\.9",
    ),
    "another shape": (
        reshaped(f"{VISUAL}ln_post.weight"),
        r"tensors of another shape than SVD's: 1 \(conditioner\..*ln_post\.weight\)",
    ),
    "8 bits": (
        lambda tensors: (
            tensors | {f"{UNET}time_embed.0.bias": tensors[f"{UNET}time_embed.0.bias"].to(torch.float8_e4m3fn)}
        ),
        r"holds weights as F8_E4M3: take it in fp32, fp16 or bf16",
    ),
    "nothing": (lambda _: {}, r"holds no tensors"),
    "something else": (
        named("model.embed_tokens.weight"),
        r"is no Stable Video Diffusion: it holds model\.emb",
    ),
}


@pytest.fixture(scope="module")
def tensors(file: Path) -> Tensors:
    """Those of the file."""
    found: Tensors = load_file(file)
    return found


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_file_is_that_is_no_svd(name: str, tensors: Tensors) -> None:
    change, words = REFUSED[name]
    names = {torch.float32: "F32", torch.float8_e4m3fn: "F8_E4M3"}
    entries = {name: Entry(names[found.dtype], tuple(found.shape), 0, 0) for name, found in change(tensors).items()}
    with pytest.raises(CheckpointError, match=words) as caught:
        one_file.conversion_of(Header(entries, {}), "x.safetensors")
    assert str(caught.value).startswith("model.source=x.safetensors ")
    assert "\n" not in str(caught.value)


def test_what_is_refused_leaves_nothing(tensors: Tensors, tmp_path: Path) -> None:
    path = tmp_path / "unet.safetensors"
    save_file({name: tensor for name, tensor in tensors.items() if name.startswith(UNET)}, path)
    for ask in (revision_of, locate):
        with pytest.raises(CheckpointError, match=r"model\.source=/.*/unet\.safetensors is a UNet alone"):
            ask(str(path), cache_dir=str(tmp_path / "cache"))
    assert not [path for path in (tmp_path / "cache").glob("*") if path.is_dir()]


def test_rifes_file_is_named(tmp_path: Path) -> None:
    rife.save(crossfade_net(), tmp_path / "rife.safetensors")
    with pytest.raises(CheckpointError, match=r"is RIFE's, .* set interpolation\.weights to it"):
        revision_of(str(tmp_path / "rife.safetensors"), cache_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: os.truncate(path, 100_000), r"is damaged: 100000 bytes instead of \d+; copy it again"),
        (lambda path: os.truncate(path, 0), r"is damaged: it is no safetensors file"),
        (lambda path: path.write_bytes(b"0" * 100), r"is damaged: it is no safetensors file"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)), r"is a pickle file, .* whatever its name says"),
        (lambda path: path.write_bytes((8).to_bytes(8, "little") + b"[1,2,3] "), r"it is no safetensors file"),
    ],
)
def test_a_damaged_file(spoil: Callable[[Path], object], words: str, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(file.read_bytes())
    spoil(path)
    with pytest.raises(CheckpointError, match=words):
        revision_of(str(path), cache_dir=str(tmp_path))


def test_what_has_no_meaning_beside_a_file(file: Path, tmp_path: Path) -> None:
    expected = (
        r"model\.revision and model\.variant have no meaning for a single file .*: set model.revision=null model\.v"
    )
    with pytest.raises(ConfigError, match=expected):
        revision_of(str(file), revision="main", variant="fp16", cache_dir=str(tmp_path))
    with pytest.raises(ConfigError, match=r"model\.variant has no meaning .*: set model\.variant=null$"):
        locate(str(file), variant="fp16", cache_dir=str(tmp_path))


def test_a_full_disk_is_said_and_leaves_nothing(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Writer, "write", disk_full)
    with pytest.raises(StorageError, match=r"could not be converted to .* No space left on device; free"):
        locate(str(file), cache_dir=str(tmp_path))
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    monkeypatch.undo()
    assert locate(str(file), cache_dir=str(tmp_path)).is_dir()


def test_deeper_networks_go_through_as_well(tmp_path: Path) -> None:
    sizes = replace(ONE_FILE_SIZES, layers_per_block=2, vae_channels=(32, 32, 64))
    folder = make_svd_checkpoint(tmp_path / "folder", sizes=sizes)
    made = locate(str(write_one_file(folder, tmp_path / "x.safetensors")), cache_dir=str(tmp_path / "cache"))
    for component, stem in layout.WEIGHT_STEMS.items():
        ours, theirs = (load_file(where / component / f"{stem}.safetensors") for where in (made, folder))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_the_text_side_of_clip_is_known() -> None:
    assert is_ballast(f"{OPEN_CLIP}token_embedding.weight")
    assert not is_ballast(f"{OPEN_CLIP}transformer.resblocks.0.ln_1.weight")
    assert not is_file("someone/svd")
