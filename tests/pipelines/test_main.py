"""The command line's surface, frozen, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from actors.errors import BusyError, ConfigError, RunError
from pipelines import __main__ as cli
from pipelines import run as runs
from tests.jobs import ROOT, in_process, write_null_config, write_pictures


def test_commands_and_options_are_frozen() -> None:
    command = typer.main.get_command(cli.app)
    assert isinstance(command, typer.core.TyperGroup)
    options = {
        name: sorted(option for parameter in sub.params for option in [*parameter.opts, *parameter.secondary_opts])
        for name, sub in command.commands.items()
    }
    both = ["--config", "--error-type", "--retry-failed", "--stage", "-c", "overrides"]
    of_status = ["--config", "--json", "--watch", "-c", "output"]
    of_board = ["--files", "--prometheus"]
    of_plan = ["--cluster", *both]
    assert options == {
        "run": ["--break-lease", *both],
        "plan": of_plan,
        "status": of_status,
        "verify": ["--config", "--deep", "--json", "--repair", "-c", "output"],
        "compact": ["--config", "--dry-run", "-c", "output"],
        "board": of_board,
        "drain": ["--address", "--deadline-s", "--node"],
    }


@pytest.mark.parametrize(
    ("module", "slow"),
    [
        ("pipelines.__main__", "torch diffusers ray"),
        ("pipelines.graph", "torch diffusers"),  # the driver of a run, and each worker while it starts
        ("actors.stages.load", "torch diffusers ray"),
    ],
)
def test_what_takes_seconds_to_import_waits_until_it_is_needed(module: str, slow: str) -> None:
    script = f"import sys, {module}; print([name for name in {slow.split()} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run"], "Missing option '--config'"),
        (["fly"], "No such command 'fly'"),
        (["run", "--config", "none.yaml"], "none.yaml: no such file"),
        (["plan", "--config", "conf/demo.yaml", "manifest=none.csv"], "none.csv does not exist"),
        (["plan", "--config", "conf/demo.yaml", "model.source=no/such/folder"], "no/such/folder"),
        (["plan", "--config", "conf/demo.yaml", "interpolation.weights=none.pkl"], "weights=none.pkl does not exist"),
        (["run", "--config", "conf/demo.yaml", "output=README.md"], "README.md cannot be a folder (File exists)"),
        (["run", "--config", "conf/demo.yaml", "--stage", "load"], "add --retry-failed"),
        (["run", "--config", "conf/demo.yaml", "--retry-failed", "--stage", "fly"], "'fly' is not one of"),
    ],
)
def test_mistakes_end_with_exit_code_2_and_no_traceback(arguments: list[str], expected: str) -> None:
    done = in_process(*arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "stillreel: interrupted; what is finished is kept, the same command continues.\n"),
        (ConfigError("all is wrong"), 2, "stillreel: all is wrong\n"),
        (RunError("it broke off"), 1, "stillreel: it broke off\n"),
        (BusyError("another run writes"), 75, "stillreel: another run writes\n"),
    ],
)
def test_what_ends_a_run_early_is_one_sentence(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ends(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(runs, "run", ends)
    monkeypatch.setattr(sys, "argv", ["stillreel", "run", "--config", str(ROOT / "conf/demo.yaml")])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (ConfigError("Ray cannot start"), 2, "broke off"),
        (RunError("the run broke off"), 1, "broke off"),
    ],
)
def test_how_a_run_ended_stands_in_its_summary(
    error: BaseException, code: int, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(*_: object) -> None:
        raise error

    write_pictures(tmp_path / "images", 1)
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "images", tmp_path / "out")
    monkeypatch.setattr(runs, "connected", ends)
    assert in_process("run", "--config", config).returncode == code
    (summary,) = (tmp_path / "out").rglob("summary.json")
    assert json.loads(summary.read_text())["status"] == status
