from pathlib import Path

import pytest

from actors import mounts
from actors.mounts import Mounts


def believed(folder: Path, table: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    path = folder / "mountinfo"
    path.write_text(table)
    monkeypatch.setattr(mounts, "_TABLE", path)
    return Mounts().believed(str(folder))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *(("ext4", True), ("nfs4", True), ("overlay", True)),
        *(("fuse.s3fs", False), ("fuse", False), ("9p", False), ("cifs", False), ("fuse.juicefs", False)),
    ],
)
def test_the_kind_of_file_system_decides(
    kind: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = f"27 1 254:0 / / rw - ext4 /dev/vda rw\n36 27 0:35 / {tmp_path} rw,relatime shared:1 - {kind} {kind} rw\n"
    assert believed(tmp_path, table, monkeypatch) is expected


def test_the_nearest_mount_counts_and_of_two_at_a_place_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a bucket"
    folder.mkdir()
    escaped = str(folder).replace(" ", "\\040")
    root, bucket = "27 1 254:0 / / rw - fuse.s3fs x rw", f"36 27 0:35 / {escaped} rw - ext4 y rw"
    assert believed(folder, f"{bucket}\n{root}\n", monkeypatch)
    assert not believed(folder, f"{root}\n37 27 0:36 / {str(folder)[:-1]} rw - ext4 y rw\n", monkeypatch)
    covered = bucket.replace("ext4", "fuse.rclone")
    assert not believed(folder, f"{root}\n{bucket}\n{covered}\n", monkeypatch)
    assert believed(folder, f"{root}\n{covered}\n{bucket}\n", monkeypatch)


def test_a_link_is_of_the_file_system_that_it_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table").write_text(f"27 1 254:0 / / rw - ext4 x rw\n36 27 0:35 / {tmp_path}/far rw - fuse.x y rw\n")
    monkeypatch.setattr(mounts, "_TABLE", tmp_path / "table")
    (tmp_path / "far/part").mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/part")
    assert not Mounts().believed(str(tmp_path / "link"))


def test_a_machine_that_does_not_tell_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "_TABLE", tmp_path / "none")
    assert Mounts().believed(str(tmp_path))
    assert Mounts().believed(str(tmp_path / "none"))
    assert believed(tmp_path, "nonsense\n\n - \n", monkeypatch)


def test_this_machine_s_table_is_read() -> None:
    if mounts._TABLE.exists():
        assert Mounts()._kind_at("/proc") == "proc"
