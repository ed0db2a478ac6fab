"""What is said where Ray does not start: one sentence that names what can be set. The errors are Ray's own words."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray
from ray._private import utils

from actors.errors import ConfigError
from pipelines.driver.address import Address
from pipelines.driver.refusals import check_temporary_folder, not_connected, not_started
from tests.jobs import stillreel, write_null_config, write_pictures

LONG = f"/tmp/{'a' * 100}"  # noqa: S108 - it is not there
ADDRESS = Address("10.0.0.1:6379", "RAY_ADDRESS=10.0.0.1:6379")


@contextmanager
def raised() -> Iterator[list[Exception]]:
    errors: list[Exception] = []
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever Ray raises
        yield errors
    errors.append(caught.value)


def test_another_version_names_both() -> None:
    with raised() as errors:
        utils.check_version_info({"ray_version": "2.9.0", "python_version": "3.10.1"}, "node 10.0.0.2")
    said = str(not_connected(errors[0], ADDRESS))
    assert said.startswith("the cluster at RAY_ADDRESS=10.0.0.1:6379 has Ray 2.9.0 on Python 3.10.1, and this is Ray ")
    assert f"Ray {ray.__version__} on Python " in said


def test_sockets_need_a_short_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", LONG)
    with raised() as errors:
        utils.validate_socket_filepath(f"{LONG}/ray/session/sockets/plasma_store")
    said = str(not_started(errors[0]))
    assert f"(RAY_TMPDIR={LONG}) is too long for the sockets in it; set RAY_TMPDIR to a shorter one" in said


def test_no_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    said = str(not_started(RuntimeError("Could not determine home directory.")))
    assert said.endswith("this user has no home folder; set HOME to a folder that can be written to")
    monkeypatch.setenv("HOME", "/")
    denied = PermissionError(errno.EACCES, "Permission denied", "/.ray")
    assert str(not_started(denied)).endswith(
        "/.ray: Permission denied; set HOME to a folder that can be written to (HOME=/)"
    )


def test_a_home_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    denied = PermissionError(errno.EACCES, "Permission denied", "/nonexistent")
    assert str(not_started(denied)).endswith("set HOME to a folder that can be written to (HOME=/nonexistent)")
    # Both lie there: the folder that the user has named is the more likely one.
    monkeypatch.setenv("RAY_TMPDIR", "/nonexistent/ray")
    assert "set RAY_TMPDIR to a folder that can be written to" in str(not_started(denied))


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_temporary_folder_needs_an_absolute_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, "scratch")
    with pytest.raises(ConfigError, match=f"{name}=scratch is no absolute path; set {name} to one"):
        check_temporary_folder()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "/scratch/ray: Permission denied; set RAY_TMPDIR to a folder that can be written to"),
        (errno.EROFS, "/scratch/ray: Read-only file system; set RAY_TMPDIR to a folder that can be written to"),
        (errno.ENOSPC, "/scratch/ray: No space left on device; free some space, or set RAY_TMPDIR to a folder of"),
    ],
)
def test_disks_that_cannot_be_written_to(number: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/scratch")
    said = str(not_started(OSError(number, os.strerror(number), "/scratch/ray")))
    assert words in said
    assert said.endswith("(TMPDIR=/scratch)")


def test_whatever_else_is_one_line_too() -> None:
    assert "\n" not in str(not_started(RuntimeError("The node failed.\nSee the log\nof the raylet.")))
    assert str(not_started(RuntimeError())).startswith("Ray cannot start on this machine: RuntimeError; ")
    assert str(not_connected(ValueError("a\nb"), ADDRESS)) == "no Ray cluster at RAY_ADDRESS=10.0.0.1:6379: a b"


def test_a_run_that_cannot_start_ray_says_so(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 1)
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "images", tmp_path / "out")
    (tmp_path / "file").touch()
    for variables, words in (
        ({"RAY_TMPDIR": LONG}, "is too long for the sockets in it; set RAY_TMPDIR to a shorter one"),
        ({"RAY_TMPDIR": f"{tmp_path}/file", "RAY_ADDRESS": ""}, "set RAY_TMPDIR to a folder that can be written to"),
    ):
        done = stillreel("run", "--config", config, **variables)
        assert done.returncode == 2, done.stdout + done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert words in done.stderr
