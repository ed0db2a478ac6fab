"""The manifest's own columns wait for their clips: a few work files of them at a time."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.storage import Storage
from pipelines.dataset.pass_through import PassThrough
from pipelines.dataset.work import WorkFile

SCHEMA = pa.schema([("caption", pa.string()), ("n", pa.int64())])


def work_files(folder: Path, count: int, rows: int) -> list[WorkFile]:
    files = []
    for number in range(count):
        ids = [f"clip-{number}-{row}" for row in range(rows)]
        table = pa.table({"clip_id": ids, "caption": [f"of {name}" for name in ids], "n": range(rows)})
        pq.write_table(table, folder / f"{number}.parquet")
        files.append(WorkFile(str(folder / f"{number}.parquet"), rows))
    return files


def test_files_are_read_when_their_rows_come_and_let_go_when_these_have_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    open_file = Storage.open

    def noting(self: Storage, uri: str) -> io.BufferedReader:
        opened.append(Path(uri).stem)
        return open_file(self, uri)

    monkeypatch.setattr(Storage, "open", noting)
    waiting = PassThrough(work_files(tmp_path, 4, 2), SCHEMA, Storage())
    assert opened == []
    found = waiting.of(["clip-1-0", "clip-0-1"])  # not in the order of the plan
    assert found.to_pylist() == [{"caption": "of clip-1-0", "n": 0}, {"caption": "of clip-0-1", "n": 1}]
    assert opened == ["0", "1"]
    waiting.let_go(["clip-1-0", "clip-0-1"])
    waiting.of(["clip-1-1"])
    waiting.let_go(["clip-1-1"])
    assert waiting.num_open == 1  # file 1 is let go; file 0 waits for its first row
    waiting.of(["clip-2-0"])
    waiting.let_go(["clip-0-0", "clip-2-0"])
    assert waiting.num_open == 1
    assert opened == ["0", "1", "2"]  # each once, and the last one not yet


def test_a_write_that_is_repeated_finds_its_columns_again(tmp_path: Path) -> None:
    waiting = PassThrough(work_files(tmp_path, 1, 1), SCHEMA, Storage())
    assert waiting.of(["clip-0-0"]) == waiting.of(["clip-0-0"])


def test_without_such_columns_no_file_is_read() -> None:
    nothing = PassThrough([WorkFile("/none.parquet", 1)], pa.schema([]), Storage())
    assert nothing.of(["clip"]).num_columns == 0
    nothing.let_go(["clip"])
