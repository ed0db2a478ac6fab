"""What each part holds is read once, and again where it has changed: by hand, by a run, within a second."""

import os
import random
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from actors import mounts, stamps
from pipelines.config import Config
from pipelines.dataset.layout import Layout
from pipelines.dataset.records import SomeRecords, read_columns
from pipelines.job import Job
from pipelines.planning import holdings, planner
from pipelines.planning.part_index import PartIndex, Place
from pipelines.planning.planner import Plan
from tests.pipelines.test_plan import REVISIONS, STORAGE, commit, config_for, write_manifest

FAILING = frozenset(f"/images/{row}.jpg" for row in (1, 6, 7))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What changed a moment ago counts as settled, and a part has 4 clips."""
    monkeypatch.setattr(stamps, "YOUNG_NS", 0)
    monkeypatch.setattr(planner, "PART_CLIPS", 4)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of records that were read for a plan."""
    found: list[str] = []

    def noting(uri: str, *asked: Any) -> SomeRecords | None:
        found.append(uri.partition("/out/")[2])
        return read_columns(uri, *asked)

    monkeypatch.setattr(holdings, "read_columns", noting)
    return found


def job_of(config: Config) -> Job:
    return Job(config, STORAGE, Layout(config.output), REVISIONS, "r")


def run_plan(config: Config) -> Plan:
    """As a run plans: what was found is kept."""
    return job_of(config).plan(None, with_work=True)


def told(plan: Plan) -> dict[str, Any]:
    """All that a plan says of the dataset."""
    names = ("wanted", "duplicates", "already_there", "failed_before", "lost", "to_do", "notes", "rows_per_part")
    return {name: getattr(plan, name) for name in names}


def without_index(config: Config) -> dict[str, Any]:
    """The same, read from the parts themselves."""
    found = holdings.read_holdings(Layout(config.output), STORAGE)
    return told(planner.make_plan(config, STORAGE, found, REVISIONS))


@pytest.fixture
def dataset(tmp_path: Path) -> Config:
    """Twelve clips in three parts, of which three have failed, and a plan that has looked at them."""
    config = config_for(write_manifest(tmp_path / "m.parquet", 12), tmp_path / "out")
    commit(config, run_plan(config), FAILING)
    run_plan(config)
    return config


def test_a_part_is_read_once(dataset: Config, read: list[str], tmp_path: Path) -> None:
    plan = run_plan(dataset)
    assert (plan.already_there, plan.failed_before, plan.to_do, read) == (9, 3, 0, [])
    write_manifest(tmp_path / "m.parquet", 14)
    commit(dataset, run_plan(dataset))
    assert read == []
    assert (run_plan(dataset).already_there, read) == (11, ["data/part-00003/metadata.parquet"])


@pytest.fixture
def frozen_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders keep one time for ever, as on many a mount that makes folders of a bucket."""
    fstat = os.fstat

    def frozen(opened: int) -> Any:
        found = fstat(opened)
        if not stat.S_ISDIR(found.st_mode):
            return found
        return SimpleNamespace(st_mtime_ns=0, st_ctime_ns=0, st_size=0, st_dev=found.st_dev, st_ino=found.st_ino)

    monkeypatch.setattr(os, "fstat", frozen)


@pytest.mark.usefixtures("frozen_folders")
def test_where_folders_do_not_tell_of_changes_their_names_do(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"27 1 254:0 / / rw - ext4 x rw\n36 27 0:35 / {tmp_path}/out rw - fuse.s3fs s3fs rw\n")
    monkeypatch.setattr(mounts, "_TABLE", table)
    config = config_for(write_manifest(tmp_path / "m.parquet", 12), tmp_path / "out")
    commit(config, run_plan(config))
    run_plan(config)
    del read[:]
    assert (run_plan(config).already_there, read) == (12, [])
    video = next((tmp_path / "out/data/part-00001").glob("*.mp4"))
    video.rename(tmp_path / "kept.mp4")
    assert (run_plan(config).lost, read) == (1, ["data/part-00001/metadata.parquet"])
    assert told(run_plan(config)) == without_index(config)
    (tmp_path / "kept.mp4").rename(video)
    del read[:]
    assert (run_plan(config).lost, read) == (0, ["data/part-00001/metadata.parquet"])


def _edit(out: Path) -> None:
    path = out / "data/part-00001/metadata.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)


def _edit_unseen(out: Path) -> None:
    """Another row of the same length, in the same file, with the times that it had."""
    path = out / "data/part-00001/metadata.parquet"
    table, before = pq.read_table(path), path.stat()
    ids = pc.replace_substring_regex(table["clip_id"], "^.{16}", "0123456789abcdef")
    column = table.schema.get_field_index("clip_id")
    with path.open("r+b") as file:
        sink = pa.BufferOutputStream()
        pq.write_table(table.set_column(column, "clip_id", ids), sink)
        data = sink.getvalue().to_pybytes()
        file.write(data)
        file.truncate()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _remove_video(out: Path) -> None:
    next((out / "data/part-00001").glob("*.mp4")).unlink()


def _remove_part(out: Path) -> None:
    shutil.rmtree(out / "data/part-00001")


def _add_part(out: Path) -> None:
    shutil.copytree(out / "data/part-00001", out / "data/part-00007")


def _move_part(out: Path) -> None:
    shutil.move(out / "data/part-00001", out.parent / "disk")
    (out / "data/part-00001").symlink_to(out.parent / "disk")


def _swap_parts(out: Path) -> None:
    (out / "data/part-00001").rename(out / "data/part-00009")
    (out / "data/part-00000").rename(out / "data/part-00001")
    (out / "data/part-00009").rename(out / "data/part-00000")
    _remove_video(out)


def _edit_failures(out: Path) -> None:
    path = out / "failures/part-00001.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)


def _remove_failures(out: Path) -> None:
    (out / "failures/part-00001.parquet").unlink()


CHANGES = [
    (_edit, ["data/part-00001/metadata.parquet"]),
    (_edit_unseen, ["data/part-00001/metadata.parquet"]),
    (_remove_video, ["data/part-00001/metadata.parquet"]),
    (_remove_part, []),
    (_add_part, ["data/part-00007/metadata.parquet"]),
    (_move_part, ["data/part-00001/metadata.parquet"]),
    (_swap_parts, ["data/part-00000/metadata.parquet", "data/part-00001/metadata.parquet"]),
    (_edit_failures, ["failures/part-00001.parquet"]),
    (_remove_failures, []),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_what_has_changed_is_read_and_nothing_else(
    change: Callable[[Path], None], expected: list[str], dataset: Config, read: list[str], tmp_path: Path
) -> None:
    change(tmp_path / "out")
    expected_plan = without_index(dataset)
    read.clear()
    plan = run_plan(dataset)
    assert (told(plan), sorted(read)) == (expected_plan, expected)
    read.clear()
    assert (told(run_plan(dataset)), read) == (expected_plan, [])


def test_a_video_behind_a_link_is_looked_for_each_time(dataset: Config, tmp_path: Path) -> None:
    video = next((tmp_path / "out/data/part-00001").glob("*.mp4"))
    shutil.move(video, tmp_path / "kept.mp4")
    video.symlink_to(tmp_path / "kept.mp4")
    assert run_plan(dataset).lost == 0
    (tmp_path / "kept.mp4").unlink()
    assert run_plan(dataset).lost == 1


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _flip(path: Path) -> None:
    """One bit of the hashes."""
    data = bytearray(path.read_bytes())
    hashes = pq.read_table(path)["hashes"][0].as_py()
    data[data.index(hashes) + 3] ^= 1
    path.write_bytes(data)


def _of_newer_version(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 0).replace_schema_metadata({"stillreel.index": "999"}), path)


def _of_other_columns(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.drop_columns("hashes"), path)


def _nonsense(path: Path) -> None:
    path.write_bytes(b"not Parquet")


def _positions_of_no_clip(path: Path) -> None:
    table = pq.read_table(path)
    names = [name for name in ("lost", "reason_of") if name in table.column_names]
    wrong = pa.array([(99).to_bytes(4, "little") * 3] * table.num_rows)
    pq.write_table(table.set_column(table.schema.get_field_index(names[0]), names[0], wrong), path)


@pytest.mark.parametrize(
    "damage", [Path.unlink, _cut, _flip, _of_newer_version, _of_other_columns, _nonsense, _positions_of_no_clip]
)
@pytest.mark.parametrize("kind", ["clips", "failures"])
def test_an_index_that_is_of_no_use_is_made_anew(
    damage: Callable[[Path], None], kind: str, dataset: Config, read: list[str], tmp_path: Path
) -> None:
    path = tmp_path / f"out/_index/{kind}-00000.parquet"
    damage(path)
    plan = run_plan(dataset)
    assert (plan.already_there, plan.failed_before, plan.to_do) == (9, 3, 0)
    assert read
    assert all(name.startswith("data/" if kind == "clips" else "failures/") for name in read)
    read.clear()
    assert (told(run_plan(dataset)), read) == (told(plan), [])


def test_what_changed_a_moment_ago_is_not_trusted(
    dataset: Config, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "YOUNG_NS", 10**12)
    shutil.rmtree(tmp_path / "out/_index")
    run_plan(dataset)
    assert not (tmp_path / "out/_index/clips-00000.parquet").exists()
    read.clear()
    assert run_plan(dataset).already_there == 9
    assert len(read) == 5


def test_a_stamp_changes_with_what_it_is_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    assert stamps.stamp(str(path)) is None
    path.write_bytes(b"old")
    known, times = stamps.stamp(str(path)), path.stat()
    assert known is not None
    path.write_bytes(b"new")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert stamps.stamp(str(path)) != known
    monkeypatch.setattr(stamps, "YOUNG_NS", 10**10)
    assert stamps.stamp(str(path)) is None
    assert stamps.stamp("a\0b") is None


def test_planning_alone_writes_no_index(tmp_path: Path) -> None:
    config = config_for(write_manifest(tmp_path / "m.parquet", 6), tmp_path / "out")
    commit(config, planner.make_plan(config, STORAGE, holdings.Holdings(), REVISIONS, run=job_of(config).folder))
    before = sorted(tmp_path.rglob("*"))
    assert job_of(config).plan(None, with_work=False).already_there == 6
    assert sorted(tmp_path.rglob("*")) == before


def test_a_plan_does_without_an_index_that_cannot_be_written(tmp_path: Path) -> None:
    config = config_for(write_manifest(tmp_path / "m.parquet", 6), tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/_index").write_text("a file")
    commit(config, run_plan(config))
    assert run_plan(config).already_there == 6
    assert (tmp_path / "out/_index").read_text() == "a file"


def test_parts_are_kept_in_files_of_a_thousand(tmp_path: Path, read: list[str]) -> None:
    config = config_for(write_manifest(tmp_path / "m.parquet", 8), tmp_path / "out")
    commit(config, run_plan(config))
    (tmp_path / "out/data/part-00001").rename(tmp_path / "out/data/part-05000")
    run_plan(config)
    files = [tmp_path / f"out/_index/clips-0000{number}.parquet" for number in (0, 4)]
    assert [pq.read_table(file)["part"].to_pylist() for file in files] == [[0], [5000]]
    first = files[0].stat().st_mtime_ns
    shutil.rmtree(tmp_path / "out/data/part-05000")
    read.clear()
    assert (run_plan(config).already_there, read) == (4, [])
    assert (files[0].stat().st_mtime_ns, files[1].exists()) == (first, False)


def test_index_and_parts_say_the_same_whatever_happens_between(tmp_path: Path) -> None:
    chance = random.Random(7)
    config = config_for(write_manifest(tmp_path / "m.parquet", 6), tmp_path / "out")
    out, rows = tmp_path / "out", 6
    for number in range(36):
        expected = without_index(config)
        plan = run_plan(config)
        assert told(plan) == expected, number
        if chance.random() < 0.5 and plan.to_do:
            failing = frozenset(f"/images/{row}.jpg" for row in range(rows) if chance.random() < 0.3)
            commit(config, plan, failing)
        if chance.random() < 0.5:
            rows += chance.randrange(5)
            write_manifest(tmp_path / "m.parquet", rows)
        if chance.random() < 0.7 and (files := sorted(out.glob("[df]*/*"))):
            _change(chance.choice(files), chance)


def _change(path: Path, chance: random.Random) -> None:
    """Something to a part's folder or its file of failures."""
    if path.is_file():
        table = pq.read_table(path)
        path.unlink() if chance.random() < 0.3 else pq.write_table(table.slice(chance.randrange(2)), path)
        return
    videos, metadata = sorted(path.glob("*.mp4")), path / "metadata.parquet"
    match chance.randrange(4):
        case 0 if videos:
            chance.choice(videos).unlink()
        case 1:
            shutil.rmtree(path)
        case 2:
            pq.write_table(pq.read_table(metadata).slice(chance.randrange(2)), metadata)
        case 3 if not (other := path.with_name(f"part-{chance.randrange(3, 9):05d}")).exists():
            path.rename(other)


def test_an_index_of_no_place_keeps_nothing() -> None:
    index = PartIndex()
    index.save()
    assert index.clips.find(0, "stamp") is None


def test_two_writers_leave_a_whole_index(dataset: Config, read: list[str], tmp_path: Path) -> None:
    """As shards do: each writes what it has seen, and the last one stays."""
    layout = Layout(dataset.output)
    one, other = (PartIndex(Place(layout, STORAGE)) for _ in range(2))
    holdings.read_holdings(layout, STORAGE, index=one)
    _remove_video(tmp_path / "out")
    holdings.read_holdings(layout, STORAGE, index=other)
    other.save()
    one.clips.put(2, "another", next(iter([one.clips.find(2, _stamp_in(tmp_path, 2))])))  # type: ignore[arg-type]
    one.save()
    read.clear()
    assert run_plan(dataset).lost == 1
    assert sorted(read) == ["data/part-00001/metadata.parquet", "data/part-00002/metadata.parquet"]


def _stamp_in(tmp_path: Path, part: int) -> str:
    table = pq.read_table(tmp_path / "out/_index/clips-00000.parquet")
    return str(table["stamp"][table["part"].to_pylist().index(part)].as_py())
