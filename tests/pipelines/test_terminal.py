"""Names and values of manifests never reach a terminal or a log as what these obey."""

import io
import json
import logging
import pickle
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from actors import errors, logs
from actors.contracts import Failed, Row
from actors.printable import printable
from pipelines.dataset.layout import Layout
from pipelines.driver.report import Summary, print_plan, print_summary
from pipelines.driver.screen import Screen
from pipelines.planning.planner import Plan
from tests.pipelines.test_image_columns import JPEG, planned
from tests.pipelines.test_manifest import refusal, write

# Colours, a title, the cursor, C1's CSI, a bell, a line end, bidi overrides, a line of Unicode, half a character.
EVIL = "\x1b[31m\x1b]0;title\x07\x9b2J\r\n\x08\x7f\u202egpj\u2066\u2028\u200b\x00"
NAME = f"e{EVIL[:-1]}"  # a name holds no NUL


def obeyed(text: str) -> list[str]:
    """What a terminal would obey, but for line ends of our own."""
    return [one for one in text if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") and one != "\n"]


def fail(error: Exception) -> None:
    raise error


def run_plan(manifest: Path, *overrides: str) -> str:
    """All that `stillreel plan` says of a manifest."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
        json.dump(
            {"manifest": str(manifest), "output": f"{manifest.parent}/out"}, config
        )  # YAML takes no control character
        config.flush()
        command = [sys.executable, "-m", "pipelines", "plan", "--config", "conf/null.yaml", "--config", config.name]
        done = subprocess.run([*command, *overrides], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_printable() -> None:
    assert printable("Grüße 世界 😀 a b\\n") == "Grüße 世界 😀 a b\\n"
    assert printable("\x1b[2J\x9b\u202e\n\udcff\u3000") == "\\x1b[2J\\x9b\\u202e\\n\\udcff\\u3000"
    assert printable("a\nb\tc", keep="\n") == "a\nb\\tc"
    assert obeyed(printable(EVIL)) == []
    assert printable(printable(EVIL)) == printable(EVIL)


@pytest.mark.parametrize("where", ["column", "rival", "value", "URI", "override", "damaged"])
def test_what_plan_says(tmp_path: Path, where: str) -> None:
    tables: dict[str, dict[str, Any]] = {
        "column": {NAME: ["a"]},
        "rival": {"jpg": [JPEG], f"mask {NAME}": [JPEG], f"image_{EVIL[1]}uri": ["/a.jpg"], NAME: [[JPEG]]},
        "value": {"uri": ["/a.jpg"], "seed": [EVIL]},
        "URI": {"uri": [f"s3://{EVIL}", f"/{EVIL}"]},
        "override": {"uri": ["/a.jpg"], "seed": pa.array([{NAME: 1}])},
        "damaged": {NAME: ["/a.jpg"]},
    }
    folder = tmp_path / f"f{NAME}"
    manifest = write(folder / f"m{NAME}.parquet", tables[where])
    if where == "damaged":
        manifest.write_bytes(b"PAR1" + EVIL.encode())
    said = run_plan(manifest)
    assert obeyed(said) == []
    assert "\\x1b" in said


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", f'uri,"{EVIL[:-1]}"\n/a,b,c{EVIL[:8]}\n'),
        ("m.csv", f'x,"{NAME}"\n/a,b\n'),
        ("m.jsonl", f'{{"uri": {EVIL[:8]}}}\n'),
        ("m.jsonl", f"[{EVIL[:8]}]\n"),
        ("m.jsonl", '{"uri": "/a"}\n"' + "\\u001b[2J\x9b\u202e" + '"\n'),
        ("m.tsv", "uri\t\x1b[2J\t\x1b[2J\n"),
        ("m.csv", "uri,x\x1b\x00\n/a,b\n"),
    ],
)
def test_errors_of_manifests_are_one_line(tmp_path: Path, name: str, content: str) -> None:
    said = refusal(write(tmp_path / f"\x1b[2J{name}", content))
    assert obeyed(said) == []
    assert "\n" not in said


def test_every_error_of_ours_is_printable() -> None:
    for kind in (errors.StillreelError, errors.ManifestError, errors.StorageError, errors.RunError):
        error = kind(EVIL)
        assert str(error) == printable(EVIL)
        assert str(pickle.loads(pickle.dumps(error))) == printable(EVIL)
        assert str(errors.error_named(kind.__name__, EVIL)) == printable(EVIL)
    assert obeyed(str(errors.ConfigError(EVIL))) == []
    assert str(errors.ConfigError("a:\n  - b")) == "a:\n  - b"
    failed = Failed.by(RuntimeError(EVIL + "\udcff"), Row("id", 0, 0, "/a", {}), "load")
    assert obeyed(failed.error) == []


def test_lines_of_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[Any] = []
    monkeypatch.setattr(logging.getLogger("stillreel"), "handlers", [])
    logs.start("run", "load", lines.append)
    try:
        fail(ValueError(EVIL))
    except ValueError:
        logs.logger.exception("no luck with %s", EVIL)
    logs.degraded("store asked again", EVIL)
    texts = [line for _, _, line in lines] + [logs.line("run", "load", "-", f"{EVIL}\n2026-01-01T00:00:00Z forged")]
    assert len(texts) == 3
    for text in texts:
        assert obeyed(text) == []
        first, *others = text.split("\n")
        assert "run load - " in first
        assert all(line.startswith("    ") for line in others)
    assert "Traceback" in texts[0]


def test_plan_and_summary_on_a_screen(tmp_path: Path) -> None:
    out = io.StringIO()
    screen = Screen(file=out)
    plan = planned(write(tmp_path / "m.parquet", {"uri": [EVIL], NAME: [1]}))
    plan.notes.append(EVIL)
    plan.problems.add(EVIL, EVIL)
    print_plan(plan, screen)
    summary = Summary("run", Layout(f"/{NAME}"), Plan(to_do=1))
    summary.add(Failed(Row("id", 0, 0, EVIL, {}), "load", "ImageError", EVIL))
    print_summary(summary, screen)
    assert obeyed(out.getvalue()) == []
    assert obeyed(summary.to_json()) == []
    assert out.getvalue().count("\\x1b]0;title") >= 5
