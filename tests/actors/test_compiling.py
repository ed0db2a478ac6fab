"""When networks are compiled, and where that is kept."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from actors import compiling


@pytest.mark.parametrize(
    ("choice", "device", "gcc", "headers", "expected"),
    [
        (True, "cpu", False, False, True),
        (False, "cuda", True, True, False),
        ("auto", "cpu", True, True, False),
        ("auto", "cuda", True, True, True),
        ("auto", "cuda", False, True, False),
        ("auto", "cuda", True, False, False),
    ],
)
def test_auto_compiles_on_cuda_where_the_compilers_are(
    choice: Any,
    device: str,
    gcc: bool,
    headers: bool,
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if headers:
        (tmp_path / "Python.h").touch()
    monkeypatch.setattr("actors.compiling.sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("actors.compiling.shutil.which", lambda name: f"/usr/bin/{name}" if gcc else None)
    monkeypatch.setattr(compiling, "find_spec", lambda name: object())
    assert compiling.is_compiled(choice, torch.device(device)) == expected


def test_a_folder_that_the_environment_names_goes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # so that there is something to put back
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    for folder in ("first", "second"):
        compiling.keep_in(tmp_path / folder)
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "first")


def test_a_torch_whose_compile_knows_less_gets_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 2.13 the limit of recompilations was the process's."""
    from torch._dynamo import config

    assert compiling.__file__
    monkeypatch.setattr(config, "recompile_limit", 8)
    monkeypatch.setattr(torch, "compile", lambda model, *, fullgraph=False, dynamic=None, options=None: model)
    spec = importlib.util.spec_from_file_location("older", compiling.__file__)
    assert spec is not None
    assert spec.loader is not None
    older = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(older)
    assert older.compiled(len) is len
    assert config.recompile_limit >= 64
