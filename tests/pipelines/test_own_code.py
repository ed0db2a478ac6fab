"""A user's folders may hold packages of the same names: the command runs its own, from wherever it is called."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines import own_code
from tests.clusters import Head, environment
from tests.jobs import ROOT, write_null_config, write_pictures

# What pip installs as `stillreel`.
COMMAND = "import sys\nfrom pipelines.__main__ import entry\nsys.exit(entry())\n"
WHERE = "import pipelines, actors.errors; print(pipelines.__file__, actors.errors.__file__)"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A folder with packages and modules that would break whoever imported them."""
    folder = tmp_path / "mine"
    for name in ("actors", "tests"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise SystemExit('this is the {name} of the user')\n")
    for name in ("logs", "torch", "PIL", "numpy", "ray"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('this is the {name} of the user')\n")
    return folder


def ours() -> str:
    return f"{ROOT / 'pipelines/__init__.py'} {ROOT / 'actors/errors.py'}"


def test_the_driver_imports_its_own(users: Path, tmp_path: Path) -> None:
    def where(cwd: Path, path: str) -> str:
        command = [sys.executable, "-c", WHERE]
        variables = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": ""}
        return subprocess.run(
            command, cwd=cwd, env=variables, capture_output=True, text=True, check=True
        ).stdout.strip()

    only_actors = tmp_path / "only"
    (only_actors / "actors").mkdir(parents=True)
    (only_actors / "actors/__init__.py").write_text("MINE = 1\n")
    assert where(only_actors, str(ROOT)) == ours()  # `-c` searches the current folder first
    assert where(tmp_path, f"{only_actors}:{ROOT}") == ours()
    assert where(users, f":{ROOT}") == ours()  # nothing before a colon is the current folder


@pytest.mark.slow
def test_workers_import_their_own(users: Path, tmp_path: Path, head: Head) -> None:
    """Called from the user's folder, as the installed command does, with another such folder on the path."""
    for folder in (users / "pipelines", tmp_path / "other/actors", tmp_path / "other/pipelines"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("MINE = 1\n")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin/stillreel"
    command.write_text(COMMAND)
    pictures = write_pictures(tmp_path / "images", 2)
    config = write_null_config(tmp_path / "job.yaml", pictures, tmp_path / "out")
    done = subprocess.run(
        [sys.executable, command, "run", "--config", config, f"ray.address={head.address}"],
        cwd=users,
        env=environment() | {"PYTHONPATH": f"{ROOT}:{tmp_path}/other"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert pq.read_table(tmp_path / "out/data/part-00000/metadata.parquet").num_rows == 2


def test_packages_that_are_installed_beside_others_are_found_by_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "links").mkdir()
    assert own_code.search_path(tmp_path / "links") == str(ROOT)
    assert list((tmp_path / "links").iterdir()) == []
    monkeypatch.setattr("site.getsitepackages", lambda: [str(ROOT)])
    assert own_code.search_path(tmp_path / "links") == str(tmp_path / "links")
    assert sorted(path.name for path in (tmp_path / "links").iterdir()) == ["actors", "pipelines"]
    command = [sys.executable, "-P", "-c", WHERE]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(tmp_path / "links")}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [f"{tmp_path}/links/pipelines/__init__.py", f"{tmp_path}/links/actors/errors.py"]
