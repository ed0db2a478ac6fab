"""Checkpoints of the Hugging Face Hub: asked no more than needed, tried again, and taken from the cache offline."""

import multiprocessing
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from actors.errors import CheckpointError, StorageError
from actors.svd.checkpoint import locate, revision_of
from tests.hub_models import COMMIT, MODEL, Hub

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def hub(svd_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub, an empty cache of it, and waits that take no time."""
    with Hub(svd_checkpoint).serving() as hub:
        hub.stand_in(tmp_path / "hub", monkeypatch)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield hub


def test_a_pinned_commit_is_fetched_once_and_then_not_asked_for(hub: Hub, svd_checkpoint: Path) -> None:
    assert revision_of(MODEL, revision=COMMIT) == COMMIT
    assert hub.asked == []
    folder = locate(MODEL, revision=COMMIT)
    assert (folder / UNET).read_bytes() == (svd_checkpoint / UNET).read_bytes()
    hub.asked.clear()
    assert locate(MODEL, revision=COMMIT) == folder
    assert hub.asked == []


def _locate_at(start: Any, made: Any) -> None:
    start.wait()
    made.put(str(locate(MODEL, revision=COMMIT)))


def test_the_processes_of_a_node_ask_once(hub: Hub) -> None:
    fork = multiprocessing.get_context("fork")
    start, made = fork.Barrier(3), fork.Queue()
    children = [fork.Process(target=_locate_at, args=(start, made)) for _ in range(3)]
    for child in children:
        child.start()
    assert len({made.get(timeout=60) for _ in children}) == 1
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert len([path for path in hub.asked if path.startswith("/api/models/") and "/tree/" not in path]) == 1


def test_what_broke_off_is_fetched_to_its_end(hub: Hub) -> None:
    folder = locate(MODEL, revision=COMMIT)
    (folder / UNET).unlink()
    assert (locate(MODEL, revision=COMMIT) / UNET).is_file()


@pytest.mark.parametrize("answers", [[429, 503, 504], [0, 0, 500]])
def test_faults_that_pass_are_tried_again(hub: Hub, answers: list[int]) -> None:
    hub.answers.extend(answers)
    assert revision_of(MODEL) == COMMIT
    hub.answers.extend(answers)
    assert (locate(MODEL, revision=COMMIT) / UNET).is_file()


def test_a_hub_that_goes_on_failing_is_no_mistake_of_the_configuration(hub: Hub) -> None:
    hub.refusal = 503, ""
    with pytest.raises(StorageError, match=r"model\.source=someone/svd \(revision main\): the .* cannot answer now"):
        revision_of(MODEL)
    assert len(hub.asked) == 5
    hub.refusal = None
    assert revision_of(MODEL) == COMMIT
    locate(MODEL, revision=COMMIT)
    hub.refusal = 429, ""
    assert revision_of(MODEL) == COMMIT  # which the cache knows


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((403, "GatedRepo"), "is gated: accept its licence at https://huggingface.co/someone/svd, and set HF_TOKEN"),
        ((401, "RepoNotFound"), "there is no such model on the Hugging Face Hub, or it is private; check the name"),
        ((404, "RepoNotFound"), "there is no such model on the Hugging Face Hub, or it is private; check the name"),
        ((404, "RevisionNotFound"), "has no revision v2: correct model.revision"),
        ((403, ""), "the Hugging Face Hub refuses it; check HF_TOKEN"),
    ],
)
def test_what_the_hub_refuses_is_said_at_once(hub: Hub, refusal: tuple[int, str], words: str) -> None:
    hub.refusal = refusal
    for ask in (lambda: revision_of(MODEL, revision="v2"), lambda: locate(MODEL, revision="v2")):
        hub.asked.clear()
        with pytest.raises(CheckpointError) as caught:
            ask()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(hub.asked) == 1


def test_without_a_network_the_cache_answers(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = str(tmp_path / "own")
    folder = locate(MODEL, revision=revision_of(MODEL, cache_dir=own), cache_dir=own)  # as a run does it
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert revision_of(MODEL, cache_dir=own) == COMMIT
    assert locate(MODEL, cache_dir=own) == folder
    with pytest.raises(CheckpointError, match="the Hugging Face Hub cannot be reached and its local cache does not"):
        revision_of(MODEL)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert locate(MODEL, cache_dir=own) == folder
    with pytest.raises(CheckpointError, match=r"the Hugging Face Hub is not asked \(HF_HUB_OFFLINE\)"):
        locate(MODEL)
    assert hub.asked


def test_a_snapshot_of_the_cache_is_a_folder_like_any_other(hub: Hub, svd_checkpoint: Path, tmp_path: Path) -> None:
    """Its files are links to blobs beside it."""
    folder = locate(MODEL)
    assert (folder / UNET).is_symlink()
    assert revision_of(str(folder)) == revision_of(str(svd_checkpoint))
    shutil.copytree(folder, tmp_path / "moved", symlinks=True)
    with pytest.raises(CheckpointError, match=r"is a link to .*blobs.*, where nothing is: copy the checkpoint"):
        revision_of(str(tmp_path / "moved"))
    with pytest.raises(CheckpointError, match=rf"there is one in .*/snapshots/{COMMIT}"):
        revision_of(str(folder.parents[1]))
    assert hub.asked


def test_an_index_of_shards_counts_when_all_of_them_are_there(hub: Hub, tmp_path: Path) -> None:
    sharded = Path(shutil.copytree(hub.folder, tmp_path / "sharded"))
    shard = "unet/diffusion_pytorch_model-00001-of-00001.safetensors"
    (sharded / UNET).rename(sharded / shard)
    (sharded / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(
        f'{{"weight_map": {{"a": "{Path(shard).name}"}}}}'
    )
    hub.folder = sharded
    folder = locate(MODEL, revision=COMMIT)
    hub.asked.clear()
    locate(MODEL, revision=COMMIT)
    assert hub.asked == []
    (folder / shard).unlink()
    assert (locate(MODEL, revision=COMMIT) / shard).is_file()
