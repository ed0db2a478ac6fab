"""A run's logs are in its folder while it works, in few requests and without secrets."""

import time
from pathlib import Path

import pytest

from actors.errors import StorageError
from actors.secrets import MASK
from actors.storage import Storage
from pipelines.driver import kept_log
from pipelines.driver.kept_log import KeptLog

SIGNED = "https://host/a.png?sig=abc"


class Puts:
    """How often a store was asked to write, and whether it answers."""

    def __init__(self) -> None:
        self.count = 0
        self.is_down = False


@pytest.fixture(autouse=True)
def puts(monkeypatch: pytest.MonkeyPatch) -> Puts:
    counted, put_file = Puts(), Storage.put_file

    def put(storage: Storage, uri: str, source: Path) -> None:
        counted.count += 1
        if counted.is_down:
            raise StorageError("it does not answer")
        put_file(storage, uri, source)

    monkeypatch.setattr(Storage, "put_file", put)
    return counted


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    path = tmp_path / "here/warnings.log"
    path.touch()
    return path


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "out/warnings.log"


@pytest.fixture
def kept(path: Path, copy: Path) -> KeptLog:
    return KeptLog(path, str(copy), Storage({}))


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_the_first_line_comes_at_once_and_the_others_a_minute_apart(
    kept: KeptLog, path: Path, copy: Path, puts: Puts
) -> None:
    kept.look(1000.0)
    assert (puts.count, copy.exists()) == (0, False)
    add(path, "first\n")
    kept.look(1002.0)
    assert copy.read_text() == "first\n"
    for second in range(1003, 1061):
        add(path, f"{second}\n")
        kept.look(float(second))
    assert puts.count == 1
    kept.look(1062.0)
    assert puts.count == 2
    assert copy.read_text() == path.read_text()
    kept.look(2000.0)  # nothing new
    assert puts.count == 2


def test_a_large_file_is_copied_more_rarely(
    kept: KeptLog, path: Path, puts: Puts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_log, "_COPY_BYTES", 10)
    add(path, "0123456789012345678\n")
    kept.look(1000.0)
    add(path, "more\n")
    kept.look(1119.0)
    assert puts.count == 1
    kept.look(1120.0)
    assert puts.count == 2


def test_secrets_stay_here_also_where_a_line_is_half_written(kept: KeptLog, path: Path, copy: Path) -> None:
    add(path, f"read {SIGNED}\nread {SIGNED[:-2]}")
    kept.look(1000.0)
    assert copy.read_text() == f"read https://host/a.png?sig={MASK}\n"
    add(path, "bc")
    kept.look(2000.0)
    assert copy.read_text().count(MASK) == 1
    kept.finish()
    assert "abc" not in copy.read_text()
    assert copy.read_text().count(MASK) == 2


def test_a_store_that_does_not_answer_is_asked_again(kept: KeptLog, path: Path, copy: Path, puts: Puts) -> None:
    puts.is_down = True
    add(path, "first\n")
    kept.look(1000.0)
    kept.look(1002.0)
    assert puts.count == 1
    with pytest.raises(StorageError):
        kept.finish()
    puts.is_down = False
    kept.look(1060.0)
    assert copy.read_text() == "first\n"


def test_what_was_written_is_there_while_the_block_goes_on(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_log, "_LOOK_INTERVAL_S", 0.01)
    with kept_log.kept_log("warnings.log", str(copy), Storage({})) as path:
        add(path, "first\n")
        deadline = time.monotonic() + 60
        while not copy.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert copy.read_text() == "first\n"
        add(path, "last")
    assert copy.read_text() == "first\nlast"
    assert not path.exists()


def test_a_log_into_which_nothing_was_written_leaves_nothing(copy: Path, puts: Puts) -> None:
    with kept_log.kept_log("ray.log", str(copy), Storage({})):
        pass
    assert (puts.count, copy.exists()) == (0, False)


def test_a_store_that_fails_at_the_end_costs_a_run_nothing(
    tmp_path: Path, puts: Puts, caplog: pytest.LogCaptureFixture
) -> None:
    with kept_log.kept_log("warnings.log", str(tmp_path / "out.log"), Storage({})) as path:
        add(path, "a warning\n")
        puts.is_down = True
    assert "the end of warnings.log is not in the run's folder: it does not answer" in caplog.text
