"""Finding, identifying and loading checkpoints, and what is said when that fails."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import huggingface_hub
import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from huggingface_hub.errors import OfflineModeIsEnabled
from safetensors.torch import load_file, save_file

from actors import fingerprint as fingerprints
from actors import retries
from actors.checkpoints import checkpoint, hub
from actors.errors import CheckpointError, ConfigError, StorageError
from actors.fingerprint import fingerprint
from actors.generators.svd.settings import SvdModelSettings
from actors.storage import Storage
from actors.svd.checkpoint import locate, revision_of
from actors.svd.model import load
from benchmarks.make_checkpoints import FEW_STEP_SCHEDULER, TINY_SIZES, make_svd_checkpoint

UNET = "unet/diffusion_pytorch_model.safetensors"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(svd_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the shared checkpoint, to be spoiled."""
    return Path(shutil.copytree(svd_checkpoint, tmp_path / "svd"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def change_a_weight(path: Path) -> None:
    """Another last byte, in place: the size stays."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def add_fp16(folder: Path) -> None:
    """The same weights once more, rounded, as the variant fp16."""
    for path in list(folder.glob("*/*.safetensors")):
        halves = {name: tensor.half() for name, tensor in load_file(path).items()}
        save_file(halves, path.with_suffix(".fp16.safetensors"), {"format": "pt"})


def only_pickles(folder: Path) -> None:
    for path in folder.glob("*/*.safetensors"):
        path.rename(path.with_suffix(".bin"))


SPOILERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder missing": (shutil.rmtree, r"svd: there is no such folder"),
    "index missing": (lambda f: (f / "model_index.json").unlink(), r"no model_index\.json: model\.source must name"),
    "index damaged": (lambda f: (f / "model_index.json").write_text("{"), r"model_index\.json is damaged"),
    "component missing": (lambda f: shutil.rmtree(f / "image_encoder"), r"image_encoder/config\.json is missing"),
    "weights missing": (lambda f: (f / UNET).unlink(), r"unet has no \.safetensors file"),
    "pickles": (only_pickles, r"unet as pickle files only.*safe_serialization=True"),
    "other pipeline": (
        lambda f: edit(f / "model_index.json", "StableVideoDiffusionPipeline", "StableDiffusionPipeline"),
        r"is a StableDiffusionPipeline, not Stable Video Diffusion",
    ),
    "other scheduler": (
        lambda f: edit(f / "scheduler/scheduler_config.json", "v_prediction", "epsilon"),
        r"asks for EulerDiscreteScheduler on epsilon",
    ),
    "truncated": (lambda f: os.truncate(f / UNET, 100_000), r"safetensors is damaged: 100000 bytes instead of \d+"),
    "empty": (lambda f: os.truncate(f / UNET, 0), r"is no safetensors file"),
    "not safetensors": (lambda f: (f / UNET).write_text("<html>"), r"is no safetensors file"),
    "other network": (
        lambda f: shutil.copy(f / "vae/diffusion_pytorch_model.safetensors", f / UNET),
        r"unet does not fit its config\.json: \d+ tensors are missing",
    ),
    "other size": (
        lambda f: edit(f / "unet/config.json", '"num_frames"', '"layers_per_block": 2, "num_frames"'),
        "unet",
    ),
}


@pytest.mark.parametrize("name", SPOILERS)
def test_what_is_wrong_with_a_checkpoint_is_said(folder: Path, name: str) -> None:
    spoil, message = SPOILERS[name]
    spoil(folder)
    with pytest.raises(CheckpointError, match=message):
        load(folder, precision="fp32", device="cpu")


def make_distilled(folder: Path, **changes: Any) -> None:
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(FEW_STEP_SCHEDULER | changes))


def test_the_scheduler_must_be_that_of_the_tier(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"few_step needs .* but this one's is EulerDiscreteScheduler: give it"):
        load(folder, precision="fp32", device="cpu", is_distilled=True)
    make_distilled(folder)
    load(folder, precision="fp32", device="cpu", is_distilled=True)
    with pytest.raises(CheckpointError, match=r"is distilled for few steps: set model\.tier=few_step"):
        load(folder, precision="fp32", device="cpu")


def test_another_consistency_model_is_refused(folder: Path) -> None:
    make_distilled(folder, sigma_data=0.5, clip_denoised=True)
    expected = r"not the scheduler of AnimateLCM-SVD-xt: sigma_data is 0\.5 and not 1\.0, clip_denoised is True and not"
    with pytest.raises(CheckpointError, match=expected):
        load(folder, precision="fp32", device="cpu", is_distilled=True)


def test_a_missing_variant_names_those_that_exist(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no unet weights for model\.variant=fp16; it has model\.variant=null$"):
        load(folder, variant="fp16", precision="fp32", device="cpu")
    add_fp16(folder)
    assert load(folder, variant="fp16", precision="fp16", device="cpu").dtype == torch.float16
    with pytest.raises(CheckpointError, match=r"variant=ema; it has model\.variant=fp16 and model\.variant=null$"):
        revision_of(str(folder), variant="ema")


def test_weights_in_shards_are_found(folder: Path, svd_checkpoint: Path) -> None:
    whole = load(svd_checkpoint, precision="fp32", device="cpu")
    (folder / UNET).unlink()
    stock = UNetSpatioTemporalConditionModel.from_pretrained(svd_checkpoint, subfolder="unet")
    stock.save_pretrained(folder / "unet", max_shard_size="1MB")
    assert len(list((folder / "unet").glob("*-of-*.safetensors"))) > 1
    sharded = load(folder, precision="fp32", device="cpu")
    for name, parameter in sharded.unet.named_parameters():
        assert torch.equal(parameter, whole.unet.get_parameter(name))


def test_what_is_loaded(svd_checkpoint: Path) -> None:
    model = load(svd_checkpoint, precision="bf16", device="cpu")
    assert (model.pixel_multiple, model.latent_channels, model.clip_pixels) == (2, 4, 224)
    assert model.clip_mean_C11.flatten().tolist() == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert not any(parameter.requires_grad for parameter in model.unet.parameters())
    assert not model.unet.training


def test_the_same_seed_makes_the_same_bytes(svd_checkpoint: Path, tmp_path: Path) -> None:
    again, other = (make_svd_checkpoint(tmp_path / str(seed), seed=seed, sizes=TINY_SIZES) for seed in (0, 1))
    names = sorted(path.relative_to(svd_checkpoint) for path in svd_checkpoint.rglob("*") if path.is_file())
    assert len(names) == 9
    for name in names:
        assert (again / name).read_bytes() == (svd_checkpoint / name).read_bytes(), name
    assert (other / UNET).read_bytes() != (svd_checkpoint / UNET).read_bytes()


def test_a_local_folder_is_used_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate(str(folder)) == folder
    monkeypatch.chdir(folder.parent.parent)
    assert locate(f"{folder.parent.name}/svd").samefile(folder), "an existing folder goes before a Hub id"


def test_neither_folder_nor_uri_nor_id() -> None:
    with pytest.raises(CheckpointError, match=r"model\.source=/no/such/folder: there is no such folder"):
        locate("/no/such/folder")


@pytest.mark.parametrize("ask", [locate, revision_of])
def test_a_revision_of_a_folder_is_refused(folder: Path, ask: Callable[..., object]) -> None:
    with pytest.raises(ConfigError, match=r"model\.revision=v1 has no meaning for .*svd"):
        ask(str(folder), revision="v1")


@pytest.fixture
def uri(svd_checkpoint: Path, tmp_path: Path) -> str:
    """The checkpoint in fsspec's memory, with a file that nobody needs."""
    uri = f"memory://{tmp_path.name}/svd"
    memory = fsspec.filesystem("memory")
    memory.put(f"{svd_checkpoint}/", uri, recursive=True)
    memory.pipe(f"{uri}/README.md", b"large pictures")
    return uri


def test_a_uri_is_copied_once_and_again_after_training(uri: str, tmp_path: Path) -> None:
    first = locate(uri, cache_dir=str(tmp_path / "cache"))
    load(first, precision="fp32", device="cpu")
    assert not (first / "README.md").exists()
    created = (first / UNET).stat().st_ino
    assert locate(uri, cache_dir=str(tmp_path / "cache")) == first
    assert (first / UNET).stat().st_ino == created
    weights = fsspec.filesystem("memory").cat(f"{uri}/{UNET}")
    fsspec.filesystem("memory").pipe(f"{uri}/{UNET}", weights[:-1] + bytes([weights[-1] ^ 1]))
    retrained = locate(uri, cache_dir=str(tmp_path / "cache"))
    assert retrained != first
    assert (retrained / UNET).read_bytes() != weights


def test_a_copy_that_broke_off_is_no_copy(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", disk_full)
    with pytest.raises(StorageError, match=r"could not be copied .* No space left"):
        locate(uri, cache_dir=str(tmp_path / "cache"))
    monkeypatch.undo()
    (lock,) = (tmp_path / "cache").iterdir()  # a full disk is not kept full
    partial = lock.with_suffix(".partial")
    (partial / "unet").mkdir(parents=True)  # as of a process that was killed
    (partial / UNET).write_bytes(b"half of it")
    load(locate(uri, cache_dir=str(tmp_path / "cache")), precision="fp32", device="cpu")
    assert [path.suffix for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [""]


def _locate_together(start: Any, source: str, cache: Path, made: Any) -> None:
    copy = checkpoint._copy

    def told(places: dict[str, str], folder: Path, storage: Storage) -> None:
        made.put("copied")
        copy(places, folder, storage)

    checkpoint._copy = told
    start.wait()
    made.put(str(locate(source, cache_dir=str(cache))))


def test_two_processes_copy_once(folder: Path, tmp_path: Path) -> None:
    fork = multiprocessing.get_context(
        "fork"
    )  # the children copy files only; a fresh one would import torch for seconds
    start, made = fork.Barrier(2), fork.Queue()
    children = [
        fork.Process(target=_locate_together, args=(start, f"local://{folder}", tmp_path / "cache", made))
        for _ in range(2)
    ]
    for child in children:
        child.start()
    said = sorted(made.get(timeout=60) for _ in range(3))
    for child in children:
        child.join(timeout=60)
        assert child.exitcode == 0
    assert said[0] == said[1] != "copied"
    assert said[2] == "copied"
    assert made.empty()


def test_a_revision_follows_the_weights_and_not_the_place(folder: Path, uri: str, tmp_path: Path) -> None:
    before = revision_of(str(folder))
    assert len(before) == 64
    assert revision_of(uri) == before
    (folder / "README.md").write_text("changed")
    moved = folder.rename(tmp_path / "elsewhere")
    add_fp16(moved)
    assert revision_of(str(moved)) == before
    assert revision_of(str(moved), variant="fp16") != before
    change_a_weight(moved / UNET)
    assert revision_of(str(moved)) != before


def test_large_files_are_known_by_a_megabyte_of_them(folder: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "WHOLE_FILE_BYTES", 2**20)
    assert (folder / UNET).stat().st_size > 2**20
    ranges = fingerprints._ranges((folder / UNET).stat().st_size)
    assert sum(end - start for start, end in ranges) == 2**20
    assert ranges[0][0] == 0
    before = fingerprint(str(folder / UNET))
    assert fingerprint(f"{uri}/{UNET}") == before
    change_a_weight(folder / UNET)
    assert fingerprint(str(folder / UNET)) != before


def test_a_pair_of_ncnn_files_has_one_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "flownet.param").write_text("7767517")
    (tmp_path / "flownet.bin").write_bytes(b"weights")
    before = fingerprint(str(tmp_path / "flownet.param"))
    assert fingerprint(str(tmp_path / "flownet.bin")) == before
    (tmp_path / "flownet.bin").write_bytes(b"Weights")
    assert fingerprint(str(tmp_path / "flownet.param")) != before
    with pytest.raises(StorageError, match=r"other\.bin"):
        fingerprint(str(tmp_path / "other.bin"))


@pytest.fixture
def hub_cache(svd_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's local cache holding `someone/svd` at COMMIT, and no Hub to ask."""
    model = tmp_path / "hub" / "models--someone--svd"
    shutil.copytree(svd_checkpoint, model / "snapshots" / COMMIT)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def unreachable(*_: object, **__: object) -> None:
        raise OfflineModeIsEnabled("the network is down")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    return tmp_path / "hub"


def test_offline_the_hubs_cache_answers(hub_cache: Path) -> None:
    assert revision_of("someone/svd") == COMMIT
    assert revision_of("someone/svd", revision=COMMIT) == COMMIT
    load(locate("someone/svd", cache_dir=str(hub_cache)), precision="fp32", device="cpu")
    with pytest.raises(
        CheckpointError,
        match=r"someone/other .* there is no folder /.*/someone/other, .* is not asked \(HF_HUB_OFFLINE\) .* fetch the",
    ):
        revision_of("someone/other")


def test_only_the_files_of_the_variant_are_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = [f"{stem}{variant}.safetensors" for stem in _STEMS for variant in ("", ".fp16")]
    names += ["unet/diffusion_pytorch_model.bin", "svd.safetensors", "README.md", *_CONFIGS]
    siblings = [huggingface_hub.hf_api.RepoSibling(rfilename=name) for name in names]
    info = huggingface_hub.hf_api.ModelInfo(id="someone/svd", sha=COMMIT)
    info.siblings = siblings
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: info)
    asked: dict[str, Any] = {}
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **rest: asked.update(rest) or str(tmp_path))
    assert locate("someone/svd", variant="fp16") == tmp_path
    assert asked["revision"] == COMMIT
    assert asked["allow_patterns"] == sorted([*_CONFIGS, *(f"{stem}.fp16.safetensors" for stem in _STEMS)])
    with pytest.raises(CheckpointError, match=r"variant=bf16; it has model\.variant=fp16 and model\.variant=null"):
        locate("someone/svd", variant="bf16")


_STEMS = ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "image_encoder/model"]
_CONFIGS = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "feature_extractor/preprocessor_config.json",
    *(f"{component}/config.json" for component in ("unet", "vae", "image_encoder")),
]


def link_of(folder: Path, kind: str) -> Path:
    """A folder that leads to the checkpoint by links: as a whole, its folders, or its files."""
    made = folder.with_name(kind)
    if kind == "whole":
        made.symlink_to(folder)
    elif kind == "folders":
        made.mkdir()
        for child in folder.iterdir():
            (made / child.name).symlink_to(child)
    else:
        shutil.copytree(folder, made, copy_function=os.symlink)
    return made


@pytest.mark.parametrize("kind", ["whole", "folders", "files"])
def test_links_are_followed(kind: str, folder: Path) -> None:
    made = link_of(folder, kind)
    assert revision_of(str(made)) == revision_of(str(folder))
    load(locate(str(made)), precision="fp32", device="cpu")


def test_links_that_lead_nowhere_or_round_are_no_trouble_unless_they_are_needed(folder: Path) -> None:
    before = revision_of(str(folder))
    (folder / "itself").symlink_to(folder)
    (folder / "assets").symlink_to("/no/such/assets")
    assert revision_of(str(folder)) == before
    (folder / UNET).unlink()
    (folder / UNET).symlink_to("/no/such/weights")
    with pytest.raises(CheckpointError, match=rf"{UNET} is a link to /no/such/weights, where nothing is: copy the"):
        revision_of(str(folder))


def test_a_folder_may_be_written_in_several_ways(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.chdir(folder.parent)
    wanted = revision_of(str(folder))
    for source in (f"{folder}/", f"file://{folder}", f"file://{folder}/", "~/svd", "~/svd/", "svd", "./svd/", " svd "):
        assert revision_of(source) == wanted
        assert locate(source).samefile(folder)
        model = SvdModelSettings(source=source).with_absolute_paths()
        assert (model.source, model.pinned("x").revision) == (str(folder), None)
    assert SvdModelSettings(source="someone/svd/").with_absolute_paths().source == "someone/svd"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("models/svd_xt.safetensors", "models/svd_xt.safetensors: there is no such file (/"),
        ("{here}/svd_xt", "is a single file of a kind that is not read: needed is one that ends in .safetensors"),
        ("s3://bucket/models/svd.gguf", "is a single file of a kind that is not read"),
        ("s3://bucket/models/svd.ckpt", "is a pickle file, which can run code, and is not read: take the same"),
        ("https://example.com/svd.PTH?download=true", "is a pickle file, which can run code"),
        ("https://huggingface.co/someone/svd/resolve/main/svd.safetensors", "by its id, model.source=someone/svd"),
        ("https://huggingface.co/someone/svd", "by its id, model.source=someone/svd"),
        ("~/no/such/folder", "there is no such folder (/"),
        ("./no_such_folder", "there is no such folder (/"),
        ("", "neither a URI (s3://...) nor a Hugging Face id"),
        ("svd", "neither a URI (s3://...) nor a Hugging Face id"),
    ],
)
@pytest.mark.parametrize("ask", [locate, revision_of])
def test_what_is_no_folder_is_said_and_not_looked_up_on_the_hub(
    source: str, words: str, ask: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "snapshot", None)
    monkeypatch.setattr(hub, "commit_of", None)
    (tmp_path / "svd_xt").write_bytes(b"0" * 100)
    for revision in (None, COMMIT):  # conf/svd_xt.yaml sets one
        with pytest.raises(CheckpointError) as caught:
            ask(source.format(here=tmp_path), revision=revision)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_models_are_read_with_the_tries_of_the_store(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.001)
    memory = fsspec.get_filesystem_class("memory")
    faults = {"left": 0}

    def failing(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if faults["left"]:
                faults["left"] -= 1
                raise ConnectionResetError("reset by peer")
            return method(*args, **options)

        return call

    for name in ("cat_ranges", "info", "find", "open"):
        monkeypatch.setattr(memory, name, failing(getattr(memory, name)))
    for ask in (
        lambda storage: revision_of(uri, storage=storage),
        lambda storage: locate(uri, cache_dir=str(tmp_path / "cache"), storage=storage),
        lambda storage: fingerprint(f"{uri}/{UNET}", storage),
    ):
        faults["left"] = 2
        ask(Storage(tries=3))
        faults["left"] = 2
        with pytest.raises(StorageError, match=r"\(tried 2 times\)"):
            ask(Storage(tries=2))
        assert faults["left"] == 0
