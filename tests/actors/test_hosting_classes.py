"""Each class of diffusers that is hosted, with a tiny checkpoint: against the stock pipeline, and through a job."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.cosmos import pipeline_cosmos2_5_predict

from actors.contracts import Pixels
from actors.errors import CheckpointError, GenerationError
from actors.generators.diffusers.parameters import DiffusersParameters
from actors.generators.diffusers.settings import DiffusersModelSettings, HostedLoraSettings
from actors.hosting import loading
from actors.hosting.classes import KINDS
from actors.hosting.embeddings import KeptEmbeddings
from actors.hosting.host import Host
from actors.hosting.loading import transformers_of
from actors.settings import ImageSettings
from actors.storage import Storage
from pipelines.config import Config, load_config
from tests.pipelines.test_golden import described, made_without_ray, write_manifest
from tests.tiny_pipelines import TINY, Tiny
from tests.tiny_pipelines.cosmos import install_guardrail

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if those were installed that the real checkpoints of Cosmos ask for."""
    install_guardrail(monkeypatch)
    functional = SimpleNamespace(to_tensor=lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255)
    vision = SimpleNamespace(transforms=SimpleNamespace(functional=functional))
    monkeypatch.setattr(pipeline_cosmos2_5_predict, "torchvision", vision, raising=False)
    monkeypatch.setattr("actors.generators.diffusers.settings.find_spec", lambda _name: True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> "Folders":
    return Folders(tmp_path_factory.mktemp("tiny"))


class Folders:
    """Checkpoints, each made when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __getitem__(self, name: str) -> Path:
        folder = self._root / name
        if not folder.exists():
            TINY[name].save(folder)
        return folder


def picture(tiny: Tiny, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 255, (tiny.height, tiny.width, 3), dtype=np.uint8)


def host_of(folder: Path, tiny: Tiny, **model: Any) -> tuple[Host, DiffusersParameters]:
    settings = DiffusersModelSettings(source=str(folder), precision="fp32", device="cpu", **model)
    parameters, _ = settings.settled(clip_of(tiny, settings), image_of(tiny), Storage())
    return Host(folder, settings, parameters, device=CPU), parameters


def clip_of(tiny: Tiny, settings: DiffusersModelSettings) -> DiffusersParameters:
    free = settings.hosted(Storage()).call.free
    extra = {name: value for name, value in tiny.extra.items() if name in free}
    given = {"num_frames": tiny.num_frames, "num_inference_steps": 2, "seed": 5, "prompt": "a cat", "extra": extra}
    return DiffusersParameters(**given)


def image_of(tiny: Tiny) -> ImageSettings:
    return ImageSettings(
        width=max(tiny.width, tiny.height),
        height=min(tiny.width, tiny.height),
        orientation="landscape" if tiny.width >= tiny.height else "portrait",
    )


def test_every_class_of_the_table_has_a_tiny_checkpoint() -> None:
    assert {tiny.class_name for tiny in TINY.values()} == set(KINDS)


@pytest.mark.parametrize("name", TINY)
def test_the_frames_are_the_stock_pipelines_to_the_last_bit(name: str, folders: Folders) -> None:
    tiny, folder = TINY[name], folders[name]
    host, clip = host_of(folder, tiny)
    image = picture(tiny)
    frames = host.animate(image, clip)
    assert host.pipeline_name == tiny.class_name
    assert frames.dtype == np.uint8
    assert frames.shape == (tiny.num_frames, tiny.height, tiny.width, 3)
    assert frames.std() > 1
    stock = getattr(diffusers, tiny.class_name).from_pretrained(folder)
    stock.set_progress_bar_config(disable=True)
    arguments = host._arguments(image, clip) | {"output_type": "np"}
    arguments["generator"] = torch.Generator("cpu").manual_seed(5)
    torch.manual_seed(5)
    with torch.no_grad():
        expected = np.asarray(stock(**arguments).frames[0])
    np.testing.assert_array_equal(frames, (expected * 255).round().astype(np.uint8))
    # Alone, in whatever order, whatever came before, whatever the process has drawn.
    others = clip.model_copy(update={"prompt": "a dog", "seed": 6})
    torch.manual_seed(77)
    assert not np.array_equal(host.animate(image, others), frames)
    np.testing.assert_array_equal(host.animate(image, clip), frames)


@pytest.mark.parametrize("name", TINY)
def test_each_goes_through_a_job(name: str, folders: Folders, tmp_path: Path) -> None:
    """Loaded anew, it makes the same frames: that is shown above, against the stock pipeline."""
    records, _ = _made(tmp_path / "one", folders[name], TINY[name])
    record = records[0]
    assert record["pipeline"] == TINY[name].class_name
    assert record["generated_frames"] == TINY[name].num_frames
    assert {one["prompt"] for one in records} == {"a wide.bmp turns", "a tall.bmp turns"}


def test_a_second_job_gives_the_same_bytes(folders: Folders, tmp_path: Path) -> None:
    made = [_made(tmp_path / run, folders["wan21"], TINY["wan21"]) for run in ("one", "two")]
    first, second = ([clip["file"] for clip in clips] for _, clips in made)
    assert first == second


def _made(folder: Path, source: Path, tiny: Tiny) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    folder.mkdir()
    records = made_without_ray(job_of(folder, source, tiny))
    records.sort(key=lambda record: str(record["image_uri"]))
    return records, [described(record, folder / "out/data/part-00000") for record in records]


def job_of(folder: Path, source: Path, tiny: Tiny, *overrides: str) -> Config:
    (folder / "job.yaml").write_text(
        "generator: diffusers\n"
        "columns: {identity: content}\n"
        f"model: {{source: {source}, precision: fp32, device: cpu, cache_dir: {folder}/cache}}\n"
        f"generation: {{num_inference_steps: 2, seed: 5, prompt: 'a {{file_name}} turns', "
        f"num_frames: {tiny.num_frames}, extra: {_extra(source, tiny)}}}\n"
    )
    image = image_of(tiny)
    sizes = (f"image.width={image.width}", f"image.height={image.height}", f"image.orientation={image.orientation}")
    manifest = f"manifest={write_manifest(folder / 'manifest.parquet')}"
    return load_config([str(folder / "job.yaml")], [manifest, f"output={folder}/out", *sizes, *overrides])


def _extra(source: Path, tiny: Tiny) -> str:
    return clip_of(tiny, DiffusersModelSettings(source=str(source))).extra


def test_texts_are_encoded_once(folders: Folders) -> None:
    tiny = TINY["wan21"]
    host, clip = host_of(folders["wan21"], tiny)
    for row in range(9):
        host.animate(picture(tiny, row), clip.model_copy(update={"prompt": f"prompt {row % 3}", "seed": row}))
    assert host.encoder_calls == 3


def test_the_memory_of_texts_is_bounded_and_an_image_is_no_key() -> None:
    asked = []

    def encode(prompt: str, image: torch.Tensor | None = None, **_: Any) -> tuple[torch.Tensor, None]:
        asked.append(prompt)
        return torch.zeros(100), None

    kept = KeptEmbeddings(encode, max_bytes=900)  # room for two
    for prompt in ("a", "b", "a", "c", "a", "b"):
        kept(prompt=prompt, negative_prompt=["x"])
    assert asked == ["a", "b", "c", "b"]  # of three, the one that was asked for longest ago went
    for _ in range(2):
        kept(prompt="a", image=torch.zeros(1))
    assert asked[-2:] == ["a", "a"]
    assert kept(prompt="1", n=1) is not kept(prompt="1", n=True)


def test_a_network_that_is_not_whole_is_refused(folders: Folders, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    TINY["ltx"].save(tmp_path / "ltx")
    path = tmp_path / "ltx/transformer/diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    dropped = tensors.pop(sorted(tensors)[3])
    save_file(tensors, path, {"format": "pt"})
    assert dropped.numel()
    with pytest.raises(CheckpointError, match=r"does not fit its config\.json: 1 tensors are missing"):
        host_of(tmp_path / "ltx", TINY["ltx"])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="transformer could not be loaded"):
        host_of(tmp_path / "ltx", TINY["ltx"])


def test_frames_that_are_no_numbers_or_too_few_are_a_failure_of_the_clip(folders: Folders) -> None:
    tiny = TINY["ltx"]
    host, clip = host_of(folders["ltx"], tiny)
    with pytest.raises(GenerationError, match=r"the model made 9 frames of 64x32, and not 12 of 64x32"):
        host.animate(picture(tiny), clip.model_copy(update={"num_frames": 12}))  # what planning would refuse
    (network,) = transformers_of(host._ready())
    next(network.parameters()).fill_(float("nan"))
    with pytest.raises(GenerationError, match="not numbers"):
        host.animate(picture(tiny), clip)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("cache", ["first_block", "taylorseer"])
def test_the_table_of_caches_is_what_diffusers_does(name: str, cache: str, folders: Folders) -> None:
    from actors.hosting import faster, shortcuts

    tiny, folder = TINY[name], folders[name]
    settings = DiffusersModelSettings(
        source=str(folder), precision="fp32", device="cpu", tier="fast", fast={"cache": cache}
    )
    hosted = settings.hosted(Storage())
    host, clip = host_of(folder, tiny)
    pipeline = host._ready()
    try:
        faster.prepare(pipeline, settings, CPU)
        host.animate(picture(tiny), clip.model_copy(update={"num_inference_steps": 6}))
        (network, *_) = transformers_of(pipeline)
        can = any(name and hasattr(part, "_diffusers_hook") for name, part in network.named_modules())
    except (ValueError, AttributeError):
        can = False
    assert shortcuts.can_cache(hosted, cache) == can
    for network in transformers_of(pipeline):
        repeats = bool(getattr(network, "_repeated_blocks", None))
        assert shortcuts.can_compile(hosted) == (repeats and hosted.kind.compiles)


@pytest.mark.parametrize("fast", [{"cache": "first_block", "threshold": 0.9}, {"cache": "taylorseer", "interval": 3}])
def test_a_clip_with_reused_features_does_not_depend_on_those_before(fast: dict[str, Any], folders: Folders) -> None:
    tiny = TINY["wan21"]
    host, clip = host_of(folders["wan21"], tiny, tier="fast", fast=fast)
    clip = clip.model_copy(update={"num_inference_steps": 8})
    first = host.animate(picture(tiny), clip)
    host.animate(picture(tiny, 1), clip.model_copy(update={"seed": 9}))
    np.testing.assert_array_equal(host.animate(picture(tiny), clip), first)
    exact, _ = host_of(folders["wan21"], tiny)
    assert not np.array_equal(exact.animate(picture(tiny), clip), first)


@pytest.mark.parametrize("memory", ["resident", "offload"])
def test_where_all_stays_on_the_gpu_one_network_at_a_time_waits_on_the_cpu(
    memory: str, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU is the device without data."""
    host, _ = host_of(folders["wan22_a14b"], TINY["wan22_a14b"])
    host._memory, host._device = memory, torch.device("meta")  # type: ignore[assignment]
    load, loaded, waiting = loading._network, list[torch.nn.Module](), list[int]()

    def counted(*args: Any) -> torch.nn.Module:
        network = load(*args)
        loaded.append(network)
        waiting.append(sum(not next(one.parameters()).is_meta for one in loaded))
        return network

    monkeypatch.setattr(loading, "_network", counted)
    loading.load(host._folder, host._hosted, variant=None, precision="fp32", place=host._place)
    assert waiting == ([1, 1, 1, 1] if memory == "resident" else [1, 2, 3, 4])


def test_what_is_to_be_changed_waits_on_the_cpu(folders: Folders) -> None:
    host, _ = host_of(folders["wan22_a14b"], TINY["wan22_a14b"])
    lora = {"source": "steps.safetensors", "network": "transformer_2"}
    host._settings = host._settings.model_copy(update={"loras": [HostedLoraSettings.model_validate(lora)]})
    host._device = torch.device("meta")
    pipeline = loading.load(host._folder, host._hosted, variant=None, precision="fp32", place=host._place)
    on_cpu = {name for name, one in loading.networks_of(pipeline).items() if not next(one.parameters()).is_meta}
    assert on_cpu == {"transformer_2"}
