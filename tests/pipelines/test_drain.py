"""`stillreel drain`: what it refuses, in one sentence each. What it does: `test_spot.py`."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import GetTimeoutError
from rich.console import Console

from actors.errors import ConfigError, RunError
from pipelines.driver import drain as drain_module
from pipelines.driver import ray_private
from pipelines.driver.drain import drain
from tests.clusters import Head
from tests.jobs import in_process

HERE, THERE = "aa" * 28, "ab" * 28


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Those of a pretended cluster; this process is on the first."""
    found: dict[str, dict[str, Any]] = {
        HERE: {"NodeManagerHostname": "one", "Resources": {"GPU": 1.0}},
        THERE: {"NodeManagerHostname": "two", "Resources": {"GPU": 1.0}},
    }
    told: dict[str, float] = {}

    class Here:
        gcs_address = "10.0.0.1:6379"

        def get_node_id(self) -> str:
            return HERE

    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "get_runtime_context", Here)
    monkeypatch.setattr(drain_module, "_alive", lambda: found)
    monkeypatch.setattr(drain_module, "_under_way", lambda _: None)
    monkeypatch.setattr(ray_private, "nodes_going_away", lambda: told)
    monkeypatch.setattr(ray_private, "give_notice", lambda node, at: told.update({node: at}) or "")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return found


def said(node: str | None = None, seconds: float = 30.0) -> str:
    screen = io.StringIO()
    drain(None, node, seconds, Console(file=screen, width=200))
    return screen.getvalue()


def test_where_no_run_is_it_is_done_at_once(nodes: dict[str, dict[str, Any]]) -> None:
    done = "no clips are under way there\nNothing is under way there any more\n"
    assert said() == f"Node {HERE[:8]} goes away in 30 s; {done}"
    again = said()
    assert again.startswith(
        f"Node {HERE[:8]} goes away already: somebody has said so before\nNode {HERE[:8]} goes away in "
    )
    assert again.endswith(done)
    assert said("ab") == f"Node {THERE[:8]} goes away in 30 s; {done}"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain_module, "_LOOK_INTERVAL_S", 0.01)


def test_it_waits_until_nothing_is_under_way(
    nodes: dict[str, dict[str, Any]], quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = [2, 2, 0, 1, 0, 0, 0, 0]
    monkeypatch.setattr(drain_module, "_under_way", lambda _: counts.pop(0))
    assert said() == (
        f"Node {HERE[:8]} goes away in 30 s; 2 clips are under way there\nNothing is under way there any more\n"
    )
    assert counts == []


def test_it_waits_no_longer_than_the_time_or_the_node(
    nodes: dict[str, dict[str, Any]], quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_module, "_under_way", lambda _: 3)
    assert said(seconds=0.1).endswith("\nThe time is up: 3 clips are under way, and made again elsewhere\n")
    monkeypatch.setattr(drain_module, "_alive", lambda there=[nodes, nodes, {}]: there.pop(0))
    assert said("ab").endswith("\nThe node has ended\n")


def test_a_ledger_that_does_not_answer_may_have_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ledger:
        under_way = SimpleNamespace(remote=lambda node: node)

    def late(*_: object, **__: object) -> int:
        raise GetTimeoutError

    monkeypatch.setattr(ray.util, "list_named_actors", lambda: ["ledger"])
    monkeypatch.setattr(ray, "get_actor", lambda _: Ledger)
    monkeypatch.setattr(ray, "get", late)
    assert drain_module._under_way(HERE) == 1
    monkeypatch.setattr(ray.util, "list_named_actors", list)
    assert drain_module._under_way(HERE) is None


def test_once_ray_knows_of_it_nothing_is_an_error(
    nodes: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: str) -> int:
        raise ConnectionError("the head is gone")

    monkeypatch.setattr(drain_module, "_under_way", gone)
    assert said() == "The cluster does not answer any more (the head is gone): what is finished is kept\n"


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-5", "90000"])
def test_a_deadline_is_a_number_of_seconds(seconds: str) -> None:
    done = in_process("drain", "--deadline-s", seconds)
    assert done.returncode == 2
    assert "--deadline-s" in done.stderr


def test_which_node_has_to_be_clear(nodes: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(
        ConfigError, match=rf"--node=a means 2 nodes of Ray in the cluster at 10.0.0.1:6379 \({HERE[:8]}, "
    ):
        said("a")
    with pytest.raises(ConfigError, match=r"--node=ff is no node that lives in the cluster at 10.0.0.1:6379: it has"):
        said("ff")
    nodes[THERE]["NodeManagerHostname"] = "one"
    with pytest.raises(ConfigError, match=r"this machine \(one\) has 2 nodes of Ray in the cluster at 10.0.0.1"):
        said()


def test_a_ray_that_does_not_let_a_node_go(nodes: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_private, "give_notice", lambda *_: "the node is at work")
    with pytest.raises(RunError, match="Ray does not let node aaaaaaaa go: the node is at work"):
        said()
    monkeypatch.setattr(ray_private, "give_notice", lambda *_: None)
    with pytest.raises(RunError, match="this version of Ray cannot be told"):
        said()


def test_a_machine_without_ray(nodes: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ConfigError, match="no Ray runs on this machine: call this on a node of the cluster, or name"):
        said()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.1", "--address=10.0.0.1 is no address of a Ray cluster"),
        ("127.0.0.1:1", "no Ray cluster at --address=127.0.0.1:1: Connection refused"),
    ],
)
def test_no_such_cluster(address: str, expected: str) -> None:
    done = in_process("drain", "--address", address)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr


@pytest.mark.slow
def test_the_head_stays(head: Head) -> None:
    done = in_process("drain", "--address", head.address)
    assert done.returncode == 2
    assert "is the cluster's head, and all that runs on it ends with that: stop the run instead" in done.stderr
