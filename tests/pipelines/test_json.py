"""What `--json` prints is what docs/json.md says, key by key and type by type."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from actors.storage import Storage
from pipelines.dataset.beats import Beat
from pipelines.dataset.layout import Layout, run_name
from pipelines.dataset.lease import held
from pipelines.dataset.shard import WHOLE, Shard
from pipelines.upkeep.kinds import KINDS
from tests.jobs import ROOT, in_process

STORAGE = Storage()
Table = dict[str, str]
FAILURE = {"stage": "load", "error_type": "ImageError", "count": 2}


@pytest.fixture(scope="module")
def tables() -> dict[str, Table]:
    """Of each table its keys, by the line above it; without the last one, which is of kinds."""
    found = {}
    text = (ROOT / "docs/json.md").read_text()
    for title, rows in re.findall(
        r"^(.+)\n\n\| key \| type \| meaning \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", text, re.MULTILINE
    ):
        found[title] = dict(re.findall(r"^\| `([a-z_]+)` \| ([a-z ]+) \|", rows, re.MULTILINE))
        assert len(found[title]) == len(rows.splitlines()), rows
    return found


def is_a(value: object, kind: str) -> bool:
    """Whether a value is of the type that the docs name."""
    if value is None:
        return kind.endswith(" or null")
    match kind.removesuffix(" or null"):
        case "time":
            return isinstance(value, str) and datetime.fromisoformat(value).utcoffset() is not None
        case "count":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
    types = {"string": str, "boolean": bool, "list": list, "object": dict}
    return isinstance(value, types[kind.removesuffix(" or null")])


def check(told: dict[str, Any], table: Table, *, without: str = "") -> None:
    assert [*told] == [key for key in table if key != without]
    assert [key for key, value in told.items() if not is_a(value, table[key])] == []


def leave(layout: Layout, stamp: str, share: Shard = WHOLE, **fields: Any) -> None:
    """A run that has ended; with `fields`, one that had something to do."""
    run_id = run_name(f"{stamp}-aaaaaa", share)
    with held(layout, STORAGE, run_id=run_id, lease_s=60, shard=share):
        if fields:
            now = datetime.now(UTC)
            beat = Beat.model_validate({"run_id": run_id, "started_at": now, "beaten_at": now} | fields)
            STORAGE.put_bytes(layout.run(run_id).heartbeat, beat.model_dump_json().encode())


def status(root: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(in_process("status", root, "--json").stdout)
    return told


@pytest.mark.parametrize(
    "more", [{}, {"failed": 2, "failures": [FAILURE], "cost": 1.5, "gpu_time": {"making": 1.0}, "recent_s": 9.0}]
)
def test_status_of_a_whole_dataset(tmp_path: Path, tables: dict[str, Table], more: dict[str, Any]) -> None:
    leave(Layout(str(tmp_path)), "20260101T000000Z", phase="done", recent_ended=3, **more)
    told = status(tmp_path)
    check(told, tables["Of a dataset that one run writes as a whole:"])
    check(told["run"], tables["`run`, of one run:"])
    assert told["run"]["failures"] == more.get("failures", [])


def test_status_of_shards(tmp_path: Path, tables: dict[str, Table]) -> None:
    layout = Layout(str(tmp_path))
    leave(layout, "20260101T000000Z", Shard(1, 3), phase="done", made=2, failures=[FAILURE], cost=2.0)
    leave(layout, "20260102T000000Z", Shard(2, 3))
    told = status(tmp_path)
    check(told, tables["Of a dataset that shards write:"])
    check(told["run"], tables["`run`, the sums over shards:"])
    assert told["run"]["failures"] == [FAILURE]
    (title,) = (title for title in tables if title.startswith("Each of `shards`"))
    for shard in told["shards"][:2]:
        check(shard, tables[title])
    assert told["shards"][2] == {"shard": "3/3", "state": "missing", "run": None}
    leave(layout, "20260103T000000Z")
    assert [*status(tmp_path)["found_nothing_since"]] == ["run_id", "since"]


def test_verify(tmp_path: Path, tables: dict[str, Table]) -> None:
    leave(Layout(str(tmp_path)), "20260101T000000Z")
    (tmp_path / "data/part-00000").mkdir(parents=True)
    (tmp_path / "data/part-00000/notes.txt").write_text("mine")
    (tmp_path / "data/.DS_Store").write_text("")
    (title,) = (title for title in tables if title == "## verify")
    told = json.loads(in_process("verify", tmp_path, "--json").stdout)
    check(told, tables[title], without="mended")
    assert [*told["findings"], *told["notes"]] == ["foreign", "no_card", "hidden"]
    for kind in [*told["findings"].values(), *told["notes"].values()]:
        check(kind, tables["Each of `findings` and `notes`:"])
        for example in kind["examples"]:
            check(example, tables["Each of `examples`:"])
    mended = json.loads(in_process("verify", tmp_path, "--json", "--repair").stdout)
    check(mended, tables[title])
    assert set(mended["mended"].values()) == {1}


def test_kinds_of_findings() -> None:
    text = (ROOT / "docs/json.md").read_text()
    rows = re.findall(r"^\| `([a-z_0-9]+)` \| (.*) \| (repair|you|nothing) \|$", text, re.MULTILINE)
    assert rows == [(kind.name, kind.said, kind.by) for kind in KINDS]
