"""The committer: what it writes, and that an interrupted write can be repeated."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.contracts import Ending, Failed, Made, Row
from actors.errors import RunError, StorageError
from actors.generators.svd.generator import SvdGenerator
from actors.records import clip_schema, work_schema
from actors.storage import Storage
from pipelines.dataset.commit import Committer
from pipelines.dataset.layout import Layout
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

    def interrupted_once(self: Committer, uri: str, table: pa.Table) -> None:
        put(self, uri, table)
        calls.append(uri)
        if len(calls) == broken_write:
            raise KeyboardInterrupt

    monkeypatch.setattr(Committer, "_put", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        writer.flush()
    writer.flush()
    assert ids(tmp_path / "data/part-00000/metadata.parquet") == ["a"]
    assert ids(tmp_path / "failures/part-00000.parquet") == ["b"]


def test_a_crash_between_the_two_files_leaves_a_clip_in_neither_and_never_in_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = committer(tmp_path, ["a", "b"])
    writer.add(ending("a", failed=True))
    writer.add(ending("b", failed=True))
    writer.flush()
    retry = committer(tmp_path, ["a"])
    retry.add(ending("a"))

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    put = Committer._put
    monkeypatch.setattr(Committer, "_put", lambda self, uri, t: put(self, uri, t) if "failures" in uri else crash())
    with pytest.raises(KeyboardInterrupt):
        retry.flush()
    assert ids(tmp_path / "failures/part-00000.parquet") == ["b"]
    assert ids(tmp_path / "data/part-00000/metadata.parquet") == []


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
    put = Storage.put_bytes
    failures: list[str] = []

    def fail_twice(self: Storage, uri: str, data: bytes) -> None:
        if len(failures) < 2:
            failures.append(uri)
            raise StorageError("the store is down")
        put(self, uri, data)

    monkeypatch.setattr(Storage, "put_bytes", fail_twice)
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
