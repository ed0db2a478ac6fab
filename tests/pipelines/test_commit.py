"""The committer: what it writes, and that an interrupted write can be repeated."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.contracts import Ending, Failed, Made, Row
from actors.errors import RunError, StorageError
from actors.generators.svd.generator import SvdGenerator
from actors.records import clip_schema, work_schema
from actors.storage import Storage
from pipelines.dataset.commit import Committer, _Stored
from pipelines.dataset.layout import Layout
from pipelines.dataset.records import read_records
from pipelines.dataset.work import WorkFile

STORAGE = Storage()
CLIP_SCHEMA, WORK_SCHEMA = clip_schema(SvdGenerator), work_schema(SvdGenerator)


def work_file(folder: Path, clips: list[str], part: int = 0) -> WorkFile:
    rows = [dict.fromkeys(WORK_SCHEMA.names) | {"clip_id": clip, "part": part, "image_uri": clip} for clip in clips]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "work.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=WORK_SCHEMA), path)
    return WorkFile(str(path), len(rows))


def ending(clip: str, *, failed: bool = False, part: int = 0) -> Ending:
    row = Row(clip, part, 0, clip, {})
    if failed:
        return Failed(row, "load", "ImageError", "broken")
    return Made(row.with_columns(**dict.fromkeys(set(CLIP_SCHEMA.names) - {"clip_id", "image_uri"})))


def committer(output: Path, clips: list[str]) -> Committer:
    made = Committer(Layout(str(output)), STORAGE, CLIP_SCHEMA, pa.schema([]), {0: len(clips)}, lambda: None)
    made.begin([work_file(output / "work", clips)])
    return made


def ids(path: Path) -> list[str]:
    return pq.read_table(path)["clip_id"].to_pylist() if path.exists() else []


def test_rows_are_added_to_those_of_earlier_runs(tmp_path: Path) -> None:
    for clips in (["b"], ["a", "c"]):
        writer = committer(tmp_path, clips)
        for clip in clips:
            writer.add(ending(clip))
        writer.flush()
    assert ids(tmp_path / "data/part-00000/metadata.parquet") == ["a", "b", "c"]


@pytest.mark.parametrize("broken_write", [1, 2])
def test_a_write_that_was_interrupted_is_repeated_without_doubles(
    broken_write: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = committer(tmp_path, ["a", "b"])
    writer.add(ending("a"))
    writer.add(ending("b", failed=True))
    put, calls = Committer._put, []

    def interrupted_once(self: Committer, stored: _Stored, table: pa.Table) -> None:
        put(self, stored, table)
        calls.append(stored.uri)
        if len(calls) == broken_write:
            raise KeyboardInterrupt

    monkeypatch.setattr(Committer, "_put", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        writer.flush()
    writer.flush()
    assert ids(tmp_path / "data/part-00000/metadata.parquet") == ["a"]
    assert ids(tmp_path / "failures/part-00000.parquet") == ["b"]


def test_a_clip_that_moves_between_the_two_files_is_never_in_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads in between, or after a crash there, finds it in one of them, or in both."""
    paths = tmp_path / "data/part-00000/metadata.parquet", tmp_path / "failures/part-00000.parquet"
    writer = committer(tmp_path, ["a", "b", "c", "d"])
    for clip, failed in (("a", False), ("b", False), ("c", True), ("d", True)):
        writer.add(ending(clip, failed=failed))
    writer.flush()
    put = Committer._put
    seen: list[set[str]] = []

    def look_after(self: Committer, stored: _Stored, table: pa.Table) -> None:
        put(self, stored, table)
        seen.append(set().union(*map(ids, paths)))

    monkeypatch.setattr(Committer, "_put", look_after)
    for moves in (["a", "c"], ["a"], ["c"], ["a", "b"], ["a", "b", "c", "d"]):
        is_clip = {clip: clip in ids(paths[0]) for clip in moves}
        mover = committer(tmp_path, moves)
        for clip in moves:
            mover.add(ending(clip, failed=is_clip[clip]))
        mover.flush()
        assert {clip: clip in ids(paths[1]) for clip in moves} == is_clip
        assert sorted([*ids(paths[0]), *ids(paths[1])]) == ["a", "b", "c", "d"]
    assert len(seen) > 10
    assert all(found == {"a", "b", "c", "d"} for found in seen)


def test_parts_are_let_go_when_their_rows_have_come(tmp_path: Path) -> None:
    writer = committer(tmp_path, ["a", "b"])
    writer.add(ending("a"))
    writer.flush()
    assert list(writer._parts) == [0]
    writer.add(ending("b"))
    writer.flush()
    assert list(writer._parts) == []


def test_a_store_that_fails_for_a_while_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A timed flush leaves its rows to the next one; the last one is tried again."""
    writer = committer(tmp_path, ["a", "b"])
    writer.add(ending("a"))
    put = Storage.replace_bytes
    failures: list[str] = []

    def fail_twice(self: Storage, uri: str, data: bytes, version: str | None) -> str | None:
        if len(failures) < 2:
            failures.append(uri)
            raise StorageError("the store is down")
        return put(self, uri, data, version)

    monkeypatch.setattr(Storage, "replace_bytes", fail_twice)
    monkeypatch.setattr("pipelines.dataset.commit.wait_s", lambda attempt: 0.0)
    writer.flush_if_older(0)
    assert ids(tmp_path / "data/part-00000/metadata.parquet") == []
    writer.add(ending("b"))
    writer.flush()
    assert ids(tmp_path / "data/part-00000/metadata.parquet") == ["a", "b"]
    assert len(failures) == 2


def test_nothing_is_written_without_the_lease(tmp_path: Path) -> None:
    def lost() -> None:
        raise RunError("another run has taken it over")

    writer = Committer(Layout(str(tmp_path)), STORAGE, CLIP_SCHEMA, pa.schema([]), {0: 1}, lost)
    writer.begin([work_file(tmp_path / "work", ["a"])])
    writer.add(ending("a"))
    for write in (writer.flush, lambda: writer.flush_if_older(0)):
        with pytest.raises(RunError):
            write()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("column", ["memory_mode", "tier"])
def test_a_part_of_an_earlier_version_gets_the_columns_that_it_lacks(tmp_path: Path, column: str) -> None:
    writer = committer(tmp_path, ["a"])
    writer.add(ending("a"))
    writer.flush()
    path = tmp_path / "data/part-00000/metadata.parquet"
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    later = committer(tmp_path, ["b"])
    later.add(ending("b"))
    later.flush()
    assert ids(path) == ["a", "b"]
    assert pq.read_schema(path).names == CLIP_SCHEMA.names


def test_a_work_file_that_could_not_be_read_is_read_at_the_next_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = work_file(tmp_path / "work", ["a"])
    pq.write_table(pq.read_table(work.uri).append_column("mood", pa.array(["calm"])), work.uri)
    extras = pa.schema([pa.field("mood", pa.string())])
    writer = Committer(Layout(str(tmp_path)), STORAGE, CLIP_SCHEMA, extras, {0: 1}, lambda: None)
    writer.begin([work])
    writer.add(ending("a"))
    with monkeypatch.context() as patch:

        def down(*_: object) -> None:
            raise StorageError("the store is down")

        patch.setattr("pipelines.dataset.pass_through.read_work", down)
        writer.flush_if_older(0)
    assert not (tmp_path / "data").exists()
    writer.flush()
    assert pq.read_table(tmp_path / "data/part-00000/metadata.parquet")["mood"].to_pylist() == ["calm"]


def test_a_holder_that_stood_still_undoes_nothing(tmp_path: Path) -> None:
    holder_that_stands_still(str(tmp_path / "out"), STORAGE, tmp_path)


def holder_that_stands_still(output: str, storage: Storage, folder: Path) -> None:
    """It looks at its lease, stands still while another run takes over and commits, and goes on."""
    layout = Layout(output)

    def ids_in(uri: str) -> list[str]:
        table = read_records(uri, storage)
        return [] if table is None else table["clip_id"].to_pylist()

    def writer(clips: list[str], stall: Callable[[], None]) -> Committer:
        made = Committer(layout, storage, CLIP_SCHEMA, pa.schema([]), {0: len(clips) + 1}, stall)
        made.begin([work_file(folder / clips[0], clips)])
        return made

    earlier = writer(["a"], lambda: None)
    earlier.add(ending("a"))
    earlier.flush()
    for number, (mine, its) in enumerate(((False, False), (False, True), (True, False), (True, True))):
        clip, other = f"m{number}", f"o{number}"
        looks: list[str] = []

        def stand_still(clip: str = clip, other: str = other, its: bool = its, looks: list[str] = looks) -> None:
            looks.append(clip)
            if len(looks) == 1:
                successor = writer([other], lambda: None)
                successor.add(ending(other, failed=its))
                successor.flush()
            else:  # it looks again before it writes again
                raise RunError("the lease is lost")

        dead = writer([clip], stand_still)
        dead.add(ending(clip, failed=mine))
        if mine == its:  # the same file
            with pytest.raises(RunError, match="the lease is lost"):
                dead.flush()
        else:
            dead.flush()
        kept = ids_in(layout.failures_of(0)) if its else ids_in(layout.metadata(0))
        assert other in kept
    assert "a" in ids_in(layout.metadata(0))


def test_a_successor_whose_file_was_changed_reads_it_again(tmp_path: Path) -> None:
    """A late write of a dead run came before ours: neither loses."""
    writer = committer(tmp_path, ["a", "b"])
    writer.add(ending("a"))
    writer.flush()
    late = committer(tmp_path, ["c"])
    late.add(ending("c"))
    late.flush()
    writer.add(ending("b"))
    writer.flush_if_older(0)  # here it learns of it
    writer.flush()
    assert ids(tmp_path / "data/part-00000/metadata.parquet") == ["a", "b", "c"]
    assert not list((tmp_path / "data/part-00000").glob(".*"))


def test_a_store_without_conditional_writes_is_written_to_all_the_same(s3_storage: Storage, s3_bucket: str) -> None:
    """Swift answers 501."""
    uri = f"{s3_bucket}/part.parquet"
    assert s3_storage.version(uri) == ""
    s3_storage.put_bytes(uri, b"first")
    assert s3_storage.replace_bytes(uri, b"second", s3_storage.version(uri)) is None
    assert s3_storage.read_bytes(uri) == b"second"
