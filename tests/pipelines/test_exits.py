"""How a process of ours ends, as its caller sees it, when a library that it has loaded would break off at the end."""

import os
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from benchmarks.damages.dataset import make_dataset
from tests.clusters import environment
from tests.jobs import ROOT, write_null_config, write_pictures

# What Arrow does at times: the process aborts when Python has ended and destructors run.
BREAKS_OFF = "import ctypes; libc = ctypes.CDLL(None); libc.on_exit(libc.abort, None)"
MODULE = "import runpy; runpy.run_module('pipelines', run_name='__main__', alter_sys=True)"
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def installed() -> str:
    """What pip writes for `stillreel`."""
    module, _, function = SCRIPTS["stillreel"].partition(":")
    return f"import sys; from {module} import {function}; sys.exit({function}())"


def python(script: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """A script in a process that would abort at its end."""
    command = [sys.executable, "-c", f"{BREAKS_OFF}\n{script}", *map(str, arguments)]
    around = environment() | variables
    return subprocess.run(command, cwd=ROOT, env=around, capture_output=True, text=True, timeout=240, check=False)


def ends(main: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """A process whose `main` has these lines."""
    body = "".join(f"    {line}\n" for line in main.splitlines())
    imports = "import atexit, logging, os, sys, threading, time\nfrom pipelines.exits import exit_with\n"
    return python(f"{imports}{before}\ndef main():\n{body}exit_with(main)")


def test_such_a_process_does_break_off() -> None:
    assert python("print('done')").returncode == -6


@pytest.mark.parametrize("way", [MODULE, installed()])
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "Turn an image dataset into a video dataset"),
        (["fly"], 2, "No such command"),
        (["plan", "--config", "none.yaml"], 2, "none.yaml: no such file"),
    ],
)
def test_a_command_ends_with_its_code(way: str, arguments: list[str], code: int, said: str) -> None:
    done = python(way, *arguments)
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done


def test_findings_are_told_and_exit_with_1(tmp_path: Path) -> None:
    make_dataset(tmp_path, (2,))
    assert python(MODULE, "verify", tmp_path).returncode == 0
    (tmp_path / "data/part-00000/notes.txt").touch()
    done = python(MODULE, "verify", tmp_path)
    assert (done.returncode, "notes.txt" in done.stdout) == (1, True), done


@pytest.mark.parametrize(
    ("main", "code"),
    [
        ("pass", 0),
        ("return 3", 3),
        ("sys.exit(True)", 1),
        ("sys.exit(-1)", 255),
        ("sys.exit(None)", 0),
        ("raise SystemExit(130)", 130),
    ],
)
def test_every_way_to_name_a_code_counts(main: str, code: int) -> None:
    assert ends(main).returncode == code


def test_a_message_is_printed_and_is_code_1() -> None:
    done = ends("sys.exit('all is lost')")
    assert (done.returncode, done.stderr) == (1, "all is lost\n")


def test_all_that_was_printed_arrives() -> None:
    done = ends("print('x' * 300_000, end='')\nsys.stderr.write('y' * 300_000)")
    assert (done.returncode, len(done.stdout), len(done.stderr)) == (0, 300_000, 300_000)


def test_python_does_all_that_it_does_at_its_end() -> None:
    main = (
        "atexit.register(print, 'handler')\n"
        "threading.Thread(target=lambda: (time.sleep(0.3), print('thread'))).start()\n"
        "logging.getLogger().addHandler(late)\n"
        "logging.warning('log')"
    )
    # A handler of logs that writes when it is full, or at the end.
    before = (
        "from logging.handlers import MemoryHandler\nlate = MemoryHandler(9, 50, logging.StreamHandler(sys.stdout))"
    )
    done = ends(main, before)
    assert (done.returncode, done.stdout) == (0, "thread\nhandler\nlog\n")


def test_an_error_that_nobody_catches_ends_as_ever() -> None:
    done = ends("raise ValueError('a bug')", before="libc.on_exit(libc._exit, None)")
    assert done.returncode != 0
    assert "ValueError: a bug" in done.stderr


def test_a_pipe_that_nobody_reads_ends_as_ever() -> None:
    def without_reader(script: str) -> tuple[int, str]:
        reads, writes = os.pipe()
        os.close(reads)
        command = [sys.executable, "-c", script]
        around = environment() | {"PYTHONUNBUFFERED": ""}  # so that Python writes at the end
        done = subprocess.run(
            command, cwd=ROOT, env=around, stdout=writes, stderr=subprocess.PIPE, text=True, check=False
        )
        os.close(writes)
        return done.returncode, done.stderr

    plain = without_reader("print('much')")
    assert plain[0] == 120
    assert "BrokenPipeError" in plain[1]
    assert without_reader("from pipelines.exits import exit_with; exit_with(lambda: print('much'))") == plain


def test_an_output_that_is_closed_is_none() -> None:
    assert ends("sys.stdout.close()\nsys.stderr = None").returncode == 0


@pytest.mark.slow
def test_ray_ends_with_the_run_that_started_it(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 1)
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "images", tmp_path / "out")
    done = python(MODULE, "run", "--config", config, OF_THIS_TEST=str(tmp_path))
    assert done.returncode == 0, done
    assert len(list((tmp_path / "out").glob("data/*/*.mp4"))) == 1
    until = time.monotonic() + 30
    while (left := _heirs_of(str(tmp_path))) and time.monotonic() < until:
        time.sleep(0.2)
    assert left == []


def _heirs_of(value: str) -> list[psutil.Process]:
    """Processes with this variable in their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("OF_THIS_TEST") == value:
                found.append(process)
    return found
