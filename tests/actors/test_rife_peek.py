"""What the driver sees of RIFE weights: as much as a worker, without PyTorch, from a few kilobytes, running nothing."""

import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from actors.errors import CheckpointError
from actors.rife import weights
from actors.rife.memory import COUNTED_BYTES_PER_PIXEL, needed_bytes
from actors.rife.peek import counted_bytes_per_pixel, knows_the_middle_alone, refuse_unsupported
from actors.rife.shapes import shapes_in
from actors.storage import Storage
from tests.actors.rife_reference import SPECS, random_hdv3_state, random_state

STORAGE = Storage()


def saved(state: dict[str, Any], path: Path, kind: str) -> str:
    """In one of the kinds of files that people have."""
    if kind == "safetensors":
        save_file(state, path.with_suffix(".safetensors"))
        return str(path.with_suffix(".safetensors"))
    if kind == "parameters":
        state = {name: torch.nn.Parameter(tensor) for name, tensor in state.items()}
    torch.save(state, path.with_suffix(".pkl"), _use_new_zipfile_serialization=kind != "older")
    return str(path.with_suffix(".pkl"))


@pytest.mark.parametrize("kind", ["newer", "older", "parameters", "safetensors"])
@pytest.mark.parametrize("version", ["4.0", "4.25.lite", "HDv3"])
def test_names_and_shapes_are_those_of_the_file(version: str, kind: str, tmp_path: Path) -> None:
    state = random_hdv3_state(8) if version == "HDv3" else random_state(version)
    uri = saved(state, tmp_path / "flownet", kind)
    assert shapes_in(uri, STORAGE) == {name: tuple(tensor.shape) for name, tensor in state.items()}
    refuse_unsupported(uri, STORAGE)
    assert knows_the_middle_alone(uri, STORAGE) == (version == "HDv3")


def test_what_no_worker_can_use_is_refused_in_its_words(tmp_path: Path) -> None:
    paper = {name: tensor for name, tensor in random_state("4.0").items() if not name.startswith("block3")}
    uri = saved({f"module.{name}": tensor for name, tensor in paper.items()}, tmp_path / "flownet", "newer")
    with pytest.raises(CheckpointError, match="this is RIFE of the paper, or RIFEm, which is not supported") as driver:
        refuse_unsupported(uri, STORAGE)
    with pytest.raises(CheckpointError) as worker:
        weights.load(uri)
    assert str(driver.value) == str(worker.value)


class Evil:
    """A pickle that would write a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self._path, "was here")


def test_code_is_not_run_and_damage_is_left_to_others(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    contents = [
        pickle.dumps({"a": Evil(ran)}),
        b"",
        b"PK\x03\x04",
        b"\x80\x02",
        b"\x80\x02]q\x00.",
        pickle.dumps([1] * 9),
    ]
    for number, content in enumerate(contents):
        path = tmp_path / f"{number}.pkl"
        path.write_bytes(content)
        assert shapes_in(str(path), STORAGE) is None
        refuse_unsupported(str(path), STORAGE)
    torch.save({"a": Evil(ran)}, tmp_path / "evil.pth")
    assert shapes_in(str(tmp_path / "evil.pth"), STORAGE) is None
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 8 + b"{")
    assert shapes_in(str(tmp_path / "cut.safetensors"), STORAGE) is None
    assert shapes_in(str(tmp_path / "none.pkl"), STORAGE) is None
    assert not ran.exists()


@pytest.mark.parametrize("version", [*SPECS, "HDv3"])
def test_what_a_call_takes_goes_by_the_version(version: str, tmp_path: Path) -> None:
    state = random_hdv3_state(8) if version == "HDv3" else random_state(version)
    counted = counted_bytes_per_pixel(saved(state, tmp_path / "flownet", "newer"), STORAGE)
    assert counted == (1304 if version == "4.26.heavy" else COUNTED_BYTES_PER_PIXEL)


def test_memory_of_what_tells_no_version(tmp_path: Path) -> None:
    for uri in (None, str(tmp_path / "none.pkl"), str(tmp_path / "flownet.param")):
        assert counted_bytes_per_pixel(uri, STORAGE) == COUNTED_BYTES_PER_PIXEL
    assert needed_bytes(64, 64, 2, 1304) - needed_bytes(64, 64, 0, 1304) == pytest.approx(
        64 * 64 * 2 * 1304 * 1.3, abs=1
    )


def test_pytorch_is_not_imported_and_little_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = saved(random_state("4.25.heavy"), tmp_path / "flownet", "newer")
    script = "import sys; from actors.rife import peek; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout
    started = time.process_time()
    refuse_unsupported(uri, STORAGE)
    assert time.process_time() - started < 1
    read = 0
    opened = Storage.open

    def counting(storage: Storage, path: str) -> Any:
        file = opened(storage, path)
        raw: Any = file.raw
        take = raw.readinto

        def readinto(buffer: Any) -> Any:
            nonlocal read
            read += (count := take(buffer)) or 0
            return count

        monkeypatch.setattr(raw, "readinto", readinto)
        return file

    monkeypatch.setattr(Storage, "open", counting)
    assert shapes_in(uri, STORAGE)
    assert 0 < read < Path(uri).stat().st_size / 4
