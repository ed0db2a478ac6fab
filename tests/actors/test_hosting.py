"""What is known of a checkpoint of diffusers before torch is imported: classes, files, sizes, shortcuts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from actors.checkpoints import checkpoint as checkpoints
from actors.checkpoints import files
from actors.checkpoints.checkpoint import small_file
from actors.errors import CheckpointError, ConfigError
from actors.generators.diffusers.parameters import DiffusersParameters
from actors.generators.diffusers.settings import DiffusersModelSettings
from actors.hosting import index, shortcuts, sizes
from actors.hosting.classes import KINDS
from actors.hosting.files import wanted_files
from actors.hosting.index import look
from actors.hosting.source_text import call_of
from actors.settings import ImageSettings
from actors.storage import Storage

# A file of safetensors with one number in it.
_HEADER = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
_WEIGHTS = len(_HEADER).to_bytes(8, "little") + _HEADER + b"x"
WAN_VAE = {"_class_name": "AutoencoderKLWan", "scale_factor_spatial": 8, "scale_factor_temporal": 4}
WAN = {"_class_name": "WanTransformer3DModel", "patch_size": [1, 2, 2]}


def checkpoint(folder: Path, pipeline: object, transformer: object = None, vae: object = None, **index: object) -> Path:
    """The small files of a checkpoint, which are all that planning reads."""
    for name, content in (("transformer", transformer or WAN), ("vae", vae or WAN_VAE)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "config.json").write_text(json.dumps(content))
        (folder / name / "diffusion_pytorch_model.safetensors").write_bytes(_WEIGHTS)
    parts = {"transformer": ["diffusers", "WanTransformer3DModel"], "vae": ["diffusers", "AutoencoderKLWan"]}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline, **parts, **index}))
    return folder


def settled(
    folder: Path, image: dict[str, Any] | None = None, model: dict[str, Any] | None = None, **generation: Any
) -> tuple[DiffusersParameters, ImageSettings]:
    settings = DiffusersModelSettings(source=str(folder), **(model or {}))
    return settings.settled(DiffusersParameters(**generation), ImageSettings(**(image or {})), Storage())


def test_an_opened_checkpoint_is_read_and_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint(tmp_path, "WanImageToVideoPipeline")
    read: list[str] = []
    listed: list[Path] = []

    def noted_read(source: str, name: str, **how: Any) -> bytes | None:
        read.append(name)
        return small_file(source, name, **how)

    def noted_list(place: Path) -> list[str]:
        listed.append(place)
        return files.local_names(place)

    monkeypatch.setattr(index, "small_file", noted_read)
    monkeypatch.setattr(checkpoints, "local_names", noted_list)
    settings = DiffusersModelSettings(source=str(folder))
    opened = settings.opened(Storage())
    clip, image = opened.settled(DiffusersParameters(), ImageSettings(), Storage())
    revision, notes = opened.revision_of_content(Storage()), opened.notes(Storage())
    assert sorted(read) == ["model_index.json", "transformer/config.json", "vae/config.json"]
    assert listed == [folder]
    assert (clip, image) == settings.settled(DiffusersParameters(), ImageSettings(), Storage())
    assert (revision, notes) == (settings.revision_of_content(Storage()), settings.notes(Storage()))
    assert len(read) == 12, "what is opened is known to nobody else"


def test_planning_imports_no_torch(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "WanImageToVideoPipeline")
    code = (
        "import sys\n"
        "from tests.actors.test_hosting import settled\n"
        "from pathlib import Path\n"
        f"settled(Path({str(folder)!r}), prompt='a cat')\n"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", KINDS)
def test_each_class_of_the_table_takes_an_image_and_makes_frames(name: str) -> None:
    call = call_of(name)
    assert call is not None
    assert call.makes_video
    assert KINDS[name].takes_size == ({"width", "height"} <= set(call.defaults))
    assert KINDS[name].always.keys() <= set(call.free)


def test_the_call_is_the_one_that_python_sees() -> None:
    import inspect

    import diffusers

    for name in KINDS:
        call, signature = call_of(name), inspect.signature(getattr(diffusers, name).__call__)
        assert call is not None
        assert list(call.defaults) == [parameter for parameter in signature.parameters if parameter != "self"]
        for parameter in ("height", "width", "num_frames", "num_inference_steps", "guidance_scale"):
            if parameter in call:
                assert call.default(parameter) == signature.parameters[parameter].default


def test_what_is_left_open_is_the_models_own(tmp_path: Path) -> None:
    parameters, image = settled(checkpoint(tmp_path / "wan", "WanImageToVideoPipeline"))
    assert (image.width, image.height) == (832, 480)
    assert (parameters.num_frames, parameters.fps, parameters.num_inference_steps) == (81, 16, 50)
    assert parameters.guidance_scale == 5.0
    large = WAN_VAE | {"scale_factor_spatial": 16}
    parameters, image = settled(checkpoint(tmp_path / "5b", "WanPipeline", vae=large, expand_timesteps=True), fps=12)
    assert (image.width, image.height, parameters.fps) == (1280, 704, 12)
    vae = {"_class_name": "AutoencoderKLLTXVideo", "spatio_temporal_scaling": [True, True, True, False]}
    ltx = checkpoint(tmp_path / "ltx", "LTXPipeline", {"patch_size": 1}, vae)
    parameters, image = settled(ltx)
    assert (image.width, image.height, parameters.num_frames, parameters.fps) == (704, 512, 161, 25)
    parameters, image = settled(ltx, {"width": 1024, "height": 576})  # what is given stays
    assert (image.width, image.height) == (1024, 576)


def test_the_sizes_of_a_model_that_has_some_of_its_own(tmp_path: Path) -> None:
    learned = {"patch_size": 2, "use_learned_positional_embeddings": True, "sample_width": 90, "sample_height": 60}
    vae = {"_class_name": "AutoencoderKLCogVideoX", "block_out_channels": [1, 2, 3, 4], "temporal_compression_ratio": 4}
    cogvideox = checkpoint(tmp_path / "cog", "CogVideoXImageToVideoPipeline", learned, vae)
    parameters, image = settled(cogvideox)
    assert (image.width, image.height, image.orientation, parameters.num_frames) == (720, 480, "landscape", 49)
    with pytest.raises(
        ConfigError, match=r"480x720 is no size of this .* nearest is image\.width=720 image\.height=480"
    ):
        settled(cogvideox, {"width": 720, "height": 480})
    vae = {"_class_name": "AutoencoderKLHunyuanVideo15", "spatial_compression_ratio": 16}
    hunyuan = checkpoint(tmp_path / "hun", "HunyuanVideo15ImageToVideoPipeline", {"target_size": 640}, vae)
    parameters, image = settled(hunyuan)
    assert (image.width, image.height, parameters.guidance_scale) == (848, 480, None)


def test_hunyuans_sizes_are_those_that_its_own_processor_chooses() -> None:
    from diffusers.pipelines.hunyuan_video1_5.image_processor import HunyuanVideo15ImageProcessor

    processor = HunyuanVideo15ImageProcessor(vae_scale_factor=16)
    own = KINDS["HunyuanVideo15ImageToVideoPipeline"].sizes({"target_size": 320}, {"spatial_compression_ratio": 16})
    assert len(own) > 20
    for width, height in own:
        assert tuple(processor.calculate_default_height_width(height, width, 320)) == (height, width)


@pytest.mark.parametrize(
    ("image", "generation", "words"),
    [
        (
            {"width": 840, "height": 480},
            {},
            r"image: 840x480: both sides are multiples of 16 .*image\.width=848 image\.h",
        ),
        ({}, {"num_frames": 80}, r"generation\.num_frames: 80 is not one more than a multiple of 4.*nearest is 81"),
        ({}, {"extra": {"guidance_scale2": 3}}, r"takes no guidance_scale2 .*did you mean 'guidance_scale_2'"),
        ({}, {"extra": {"guidance_scale_2": 3.0}}, r"guidance_scale_2 is for checkpoints with two transformers"),
        ({}, {"extra": {"image": 3}}, r"generation\.extra: image comes from the manifest"),
        ({}, {"extra": {"prompt_embeds": [1]}}, r"generation\.extra: .* takes no prompt_embeds beside"),
        ({}, {"extra": {"last_image": "a.png"}}, r"generation\.extra: .* takes no last_image"),
        ({}, {"extra": {"max_sequence_length": "abc"}}, r"max_sequence_length is to be a number, such as 512"),
        ({"width": 832}, {}, r"image\.width is set and the other side is not: set both"),
        ({}, {"extra": {"output_type": "pil"}}, r"generation\.extra: .* takes no output_type"),
    ],
)
def test_what_a_clip_cannot_be_is_one_sentence_with_the_nearest(
    image: dict[str, Any], generation: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        settled(checkpoint(tmp_path, "WanImageToVideoPipeline"), image, **generation)


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "WanImageToVideoPipeline")
    with pytest.raises(ConfigError) as raised:
        settled(folder, {"width": 840, "height": 488}, num_frames=80, extra={"nonsense": 1})
    assert len(str(raised.value).splitlines()) == 4


def test_kandinskys_clips_are_not_too_short_and_packages_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = {"_class_name": "AutoencoderKLHunyuanVideo", "spatial_compression_ratio": 8, "temporal_compression_ratio": 4}
    sparse = WAN | {"attention_type": "nabla"}
    folder = checkpoint(tmp_path, "Kandinsky5I2VPipeline", sparse, vae, tokenizer=["transformers", "Qwen2VLProcessor"])
    monkeypatch.setattr("actors.generators.diffusers.settings.find_spec", lambda name: name != "torchvision")
    with pytest.raises(ConfigError) as raised:
        settled(folder, {"width": 768, "height": 512}, num_frames=13)
    assert "13 is not one more than a multiple of 4, from 17 on" in str(raised.value)
    assert "it needs the package torchvision: pip install torchvision" in str(raised.value)
    monkeypatch.setattr("actors.generators.diffusers.settings.find_spec", lambda _name: True)
    with pytest.raises(ConfigError, match=r"multiples of 128"):
        settled(folder, {"width": 832, "height": 512})
    assert settled(folder)[1].width % 128 == 0


def test_framepacks_clips_are_whole_sections(tmp_path: Path) -> None:
    vae = {"_class_name": "AutoencoderKLHunyuanVideo", "spatial_compression_ratio": 8, "temporal_compression_ratio": 4}
    folder = checkpoint(tmp_path, "HunyuanVideoFramepackPipeline", {"patch_size": 2}, vae)
    parameters, _ = settled(folder)
    hosted = DiffusersModelSettings(source=str(folder)).hosted(Storage())
    assert parameters.num_frames == 145  # 4 sections of 36
    assert sizes.asked_frames(hosted, 145, {}) == 4 * 33
    assert sizes.asked_frames(hosted, 37, {}) == 33
    with pytest.raises(ConfigError, match=r"81 is not one more than a multiple of 36.* nearest is 73"):
        settled(folder, num_frames=81)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"pipeline": "StableVideoDiffusionPipeline"}, "is Stable Video Diffusion, .*: generator=svd"),
        ({"pipeline": "WanPipeline"}, "is a WanPipeline, which makes no video of an image. Classes that do are Wan"),
        ({"pipeline": "FluxPipeline"}, "is a FluxPipeline, which makes no video of an image"),
        ({"pipeline": "MyOwnPipeline"}, "is a MyOwnPipeline, which this version of diffusers does not have"),
        ({"pipeline": ["pipeline", "MyOwn"]}, "which this version of diffusers does not have"),
        (
            {"pipeline": "WanImageToVideoPipeline", "text_encoder": ["transformers", "AutoModel"]},
            "its text_encoder is an AutoModel, which may be anything",
        ),
        (
            {"pipeline": "WanImageToVideoPipeline", "text_encoder": ["my_encoder", "MyEncoder"]},
            r"its text_encoder is code of its own \(my_encoder\), which is never run here",
        ),
    ],
)
def test_what_is_no_image_to_video_checkpoint_is_refused_by_name(
    index: dict[str, Any], words: str, tmp_path: Path
) -> None:
    checkpoint(tmp_path, **index)
    with pytest.raises(CheckpointError, match=words):
        look(str(tmp_path), revision=None, cache_dir=None, storage=Storage())


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no model_index\.json: name an image-to-video checkpoint"):
        look(str(tmp_path), revision=None, cache_dir=None, storage=Storage())
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"model_index\.json is damaged"):
        look(str(tmp_path), revision=None, cache_dir=None, storage=Storage())
    (tmp_path / "wan.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"is a single file: generator=diffusers needs a folder, a URI"):
        look(str(tmp_path / "wan.safetensors"), revision=None, cache_dir=None, storage=Storage())
    with pytest.raises(CheckpointError, match="there is no such folder"):
        look(str(tmp_path / "x"), revision=None, cache_dir=None, storage=Storage())


def test_the_files_that_are_loaded() -> None:
    weights = ("model.safetensors", "model.fp16.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    names = [
        "model_index.json",
        "README.md",
        "ltxv-2b.safetensors",  # the same model in one file: not for us
        "assets/example.mp4",
        "scheduler/scheduler_config.json",
        "tokenizer/spiece.model",
        "tokenizer/merges.txt",
        "text_encoder/config.json",
        *(f"text_encoder/{name}" for name in weights),
        "transformer/config.json",
        "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
        "transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
    ]
    parts = ("scheduler", "tokenizer", "text_encoder", "transformer")

    def wanted(names: list[str], variant: str | None) -> list[str]:
        return wanted_files(names, variant, "here", components=parts)

    plain = wanted(names, None)
    assert "text_encoder/model.safetensors" in plain
    assert "tokenizer/spiece.model" in plain
    assert not {"README.md", "ltxv-2b.safetensors", "assets/example.mp4"} & set(plain)
    assert not [name for name in plain if "fp16" in name or name.endswith(".bin")]
    half = wanted(names, "fp16")
    assert "text_encoder/model.fp16.safetensors" in half
    assert "text_encoder/model.safetensors" not in half
    assert "transformer/diffusion_pytorch_model-00001-of-00002.safetensors" in half  # it has no such variant
    with pytest.raises(CheckpointError, match=r"no weights for model\.variant=bf16: set it to null"):
        wanted(names, "bf16")
    with pytest.raises(CheckpointError, match=r"there is one in here/inner"):
        wanted(["inner/model_index.json"], None)
    with pytest.raises(CheckpointError, match="weights of transformer as pickle files only"):
        wanted([*names[:-2], "transformer/diffusion_pytorch_model.bin"], None)
    with pytest.raises(CheckpointError, match="not complete: 1 of 2 files of transformer are there"):
        wanted(names[:-1], None)
    with pytest.raises(CheckpointError, match=r"not complete: transformer has no \.safetensors"):
        wanted(names[:-2], None)
    with pytest.raises(CheckpointError, match="not complete: there is no tokenizer"):
        wanted([name for name in names if not name.startswith("tokenizer")], None)


@pytest.mark.parametrize(
    ("pipeline", "transformer", "model", "words"),
    [
        ("SkyReelsV2ImageToVideoPipeline", "SkyReelsV2Transformer3DModel", "first_block", "set it to taylorseer"),
        ("SanaImageToVideoPipeline", "SanaVideoTransformer3DModel", "taylorseer", r"set model\.tier=exact, or fast"),
    ],
)
def test_a_shortcut_that_a_class_lacks_is_refused(
    pipeline: str, transformer: str, model: str, words: str, tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path, pipeline, WAN | {"_class_name": transformer})
    with pytest.raises(ConfigError, match=rf"model\.fast\.cache: .*no way to reuse features.*{words}"):
        settled(folder, {"width": 64, "height": 64}, {"tier": "fast", "fast": {"cache": model}})


@pytest.mark.parametrize(
    ("pipeline", "attention", "words"),
    [
        (
            "LTXImageToVideoPipeline",
            "sage",
            "always has a mask, which that backend does not take: set it to nat",
        ),
        ("CogVideoXImageToVideoPipeline", "_native_cudnn", "takes no backend: set it to null"),
        ("LTXImageToVideoPipeline", "_native_math", None),
        ("WanImageToVideoPipeline", "sage", None),
    ],
)
def test_an_attention_backend_that_would_fail_or_do_nothing_is_refused(
    pipeline: str, attention: str, words: str | None, tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path, pipeline)
    if words is None:
        settled(folder, {"width": 64, "height": 64}, {"attention": attention})
        return
    with pytest.raises(ConfigError, match=rf"model\.attention: the attention of {pipeline} {words}"):
        settled(folder, {"width": 64, "height": 64}, {"attention": attention})


def test_a_lora_for_what_is_not_there_is_refused(tmp_path: Path) -> None:
    one = {"loras": [{"source": "a.safetensors", "network": "transformer_2"}]}
    with pytest.raises(ConfigError, match=r"model\.loras\.0\.network: WanImageToVideoPipeline has one transformer"):
        settled(checkpoint(tmp_path / "wan", "WanImageToVideoPipeline"), model=one)
    vae = {"spatial_compression_ratio": 16}
    folder = checkpoint(tmp_path / "hunyuan", "HunyuanVideo15ImageToVideoPipeline", {"target_size": 640}, vae)
    with pytest.raises(ConfigError, match=r"model\.loras: HunyuanVideo15ImageToVideoPipeline .* takes no LoRAs"):
        settled(folder, model={"loras": [{"source": "a.safetensors"}]})


@pytest.mark.parametrize(("transformer", "vae"), [({"patch_size": [1, 0, 0]}, {}), ({}, {"scale_factor_temporal": 0})])
def test_numbers_that_no_network_has_are_a_damaged_file(
    transformer: dict[str, Any], vae: dict[str, Any], tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path, "WanImageToVideoPipeline", WAN | transformer, WAN_VAE | vae)
    with pytest.raises(CheckpointError, match="is damaged: copy it again"):
        settled(folder)


def test_what_cannot_be_compiled_or_tiled_is_refused(tmp_path: Path) -> None:
    cogvideox = {"_class_name": "CogVideoXTransformer3DModel", "patch_size": 2}
    vae = {"_class_name": "AutoencoderKLCogVideoX", "block_out_channels": [1, 2, 3, 4]}
    folder = checkpoint(tmp_path, "CogVideoXImageToVideoPipeline", cogvideox, vae)
    with pytest.raises(
        ConfigError, match=r"model\.compile: CogVideoXTransformer3DModel has no list of repeated blocks"
    ):
        settled(folder, model={"compile": True})
    settled(folder, model={"compile": "auto", "vae_tiling": True})


def test_the_settings_of_the_model_are_held_against_each_other() -> None:
    def mistakes(**settings: Any) -> dict[str, str]:
        found = DiffusersModelSettings(source="m", **settings).mistakes()
        return {".".join(path): said for path, said in found}

    assert not mistakes()
    assert not mistakes(tier="fast", fast={"cache": "first_block"}, memory="offload", attention="native")
    assert "no shortcut is switched on" in mistakes(tier="fast")["fast"]
    assert "would be ignored" in mistakes(fast={"cache": "taylorseer"})["fast"]
    assert "did you mean 'flash_hub'" in mistakes(attention="flash_hubb")["attention"]
    assert "would be ignored" in mistakes(memory="group", device="cpu")["memory"]
    assert "memory=resident" in mistakes(memory="group", compile=True)["compile"]
    assert "memory=resident" in mistakes(memory="offload", tier="fast", fast={"weights": "int8"})["fast.weights"]
    assert "precision=bf16" in mistakes(precision="fp16", tier="fast", fast={"weights": "int8"})["fast.weights"]
    for name in ("trust_remote_code", "torch_dtype"):
        assert name in DiffusersModelSettings.refused


def test_the_table_of_shortcuts_is_what_diffusers_does() -> None:
    from diffusers.hooks import FirstBlockCacheConfig, TaylorSeerCacheConfig

    assert FirstBlockCacheConfig().threshold == 0.05  # as the setting's
    assert TaylorSeerCacheConfig().cache_interval == 5
    assert {"native", "flash", "sage"} <= set(shortcuts.attention_backends())


def test_what_is_on_the_clip_says_how_it_was_made() -> None:
    fast = DiffusersModelSettings(source="m", tier="fast", fast={"cache": "first_block", "weights": "fp8"})
    assert fast.described_tier == "fast(cache=first_block, threshold=0.05, weights=fp8)"
    exact = DiffusersModelSettings(source="m")
    assert exact.described()["tier"] == "exact"
    assert exact.identifying() == exact.model_copy(update={"memory": "group", "compile": True}).identifying()
    assert exact.identifying() != fast.identifying()
    assert exact.identifying() == exact.model_copy(update={"attention": "native"}).identifying()
    assert exact.identifying() != exact.model_copy(update={"vae_tiling": True}).identifying()
