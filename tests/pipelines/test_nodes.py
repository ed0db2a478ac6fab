"""What the driver says of nodes that come and go."""

import io
import logging
import time
from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console

from pipelines.driver.nodes import NodeWatch
from pipelines.placement.fitting import Site
from pipelines.placement.nodes import TYPE_LABEL


class Tries:
    """What is told to the ledger."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def announce(self, goes_at: dict[str, float]) -> None:
        self.told.append(goes_at)

    def flush(self) -> None:
        self.told.append("flush")


class Gpus:
    """What is told of GPUs; and whether the run was told to end."""

    reserved = 2.0

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []
        self.ends = 0
        self.lacks: list[str] = []

    def lack(self, what: str) -> None:
        self.lacks.append(what)

    def see(self, types: Mapping[str, float]) -> None:
        self.seen.append(dict(types))

    def end(self) -> None:
        self.ends += 1


def node(name: str, *, alive: bool = True, reason: int = 0) -> dict[str, Any]:
    resources = {"GPU": 1.0, "CPU": 8.0, "memory": 1e9} if alive else {}
    return {
        "NodeID": name * 8,
        "Alive": alive,
        "NodeManagerAddress": "10.0.0.7",
        "Resources": resources,
        "DeathReason": reason,
    }


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def tries() -> Tries:
    return Tries()


@pytest.fixture
def gpus() -> Gpus:
    return Gpus()


@pytest.fixture
def watch(tries: Tries, gpus: "Gpus", screen: io.StringIO) -> NodeWatch:
    return NodeWatch(tries, gpus, gpus.end, Console(file=screen, width=200))


def test_gpus_are_counted_where_nodes_stay_and_it_is_said_when_none_is_left(
    watch: NodeWatch, gpus: Gpus, screen: io.StringIO
) -> None:
    watch.look([node("a"), node("b")], {})
    watch.look([node("a"), node("b")], {"a" * 8: time.time() + 100})
    watch.look([node("a", alive=False), node("b", alive=False)], {})
    unknown = "GPU of an unknown type"
    assert gpus.seen == [{unknown: 2}, {unknown: 2}, {}]  # one that goes away is paid for until then
    assert screen.getvalue().count("No node with a GPU is there: the run waits for one") == 1
    watch.look([node("c")], {})
    watch.look([node("c", alive=False)], {})
    assert screen.getvalue().count("No node with a GPU is there") == 2


@pytest.mark.parametrize(
    ("site", "is_said"),
    [
        (Site(("H100", "A100")), True),
        (Site(("L4", "T4"), is_without=True), True),
        (Site(("H100",), is_soft=True), False),
        (Site(("T4",), is_without=True), False),
        (Site(), False),
    ],
)
def test_it_is_said_when_no_gpu_of_the_generators_types_is_left(
    tries: Tries, gpus: Gpus, screen: io.StringIO, site: Site, *, is_said: bool
) -> None:
    watch = NodeWatch(tries, gpus, gpus.end, Console(file=screen, width=200), site.may_take)

    def of_type(name: str, accelerator: str, *, alive: bool = True) -> dict[str, Any]:
        return node(name, alive=alive) | {"Labels": {TYPE_LABEL: accelerator}}

    watch.look([of_type("a", "H100"), of_type("b", "L4")], {})
    assert screen.getvalue() == ""
    for _ in range(2):
        watch.look([of_type("a", "H100", alive=False), of_type("b", "L4")], {})
    said = "No GPU is there that the generator may be on: the run waits for one\n"
    assert screen.getvalue() == (said if is_said else "")


def test_a_run_whose_own_node_goes_away_ends_in_good_order(watch: NodeWatch, gpus: Gpus, screen: io.StringIO) -> None:
    watch._own = "a" * 8
    watch.look([node("a"), node("b")], {"b" * 8: time.time() + 100})
    assert gpus.ends == 0
    watch.look([node("a"), node("b")], {"a" * 8: time.time() + 100})
    assert gpus.ends == 1
    assert "The run itself is on that node" in screen.getvalue()


def test_a_node_that_joins_late_is_said(watch: NodeWatch, tries: Tries, screen: io.StringIO) -> None:
    watch.look([node("a")], {})
    assert screen.getvalue() == ""  # it was there
    watch.look([node("a"), node("b")], {})
    assert screen.getvalue() == "A node has joined: 10.0.0.7 (bbbbbbbb: 1 GPU, 8 CPU)\n"
    assert tries.told == []


def test_a_notice_is_said_once_with_its_time_and_told_to_the_ledger(
    watch: NodeWatch, tries: Tries, screen: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    watch.look([node("a"), node("b")], {})
    goes_at = {"b" * 8: time.time() + 120.2}
    for _ in range(2):
        watch.look([node("a"), node("b")], goes_at)
    said = (
        "ode 10.0.0.7 (bbbbbbbb: 1 GPU, 8 CPU) goes away in 120 s: clips under way there end before that, or are made "
    )
    assert screen.getvalue() == "N" + said + "again elsewhere\n"
    assert [said in message for message in caplog.messages] == [True]  # warnings.log has it, too
    assert tries.told == [goes_at, "flush"] * 2
    watch.look([node("a"), node("b", alive=False)], {})
    assert tries.told[4:] == [{}, "flush"]
    assert "has gone away, as was announced: what it had is made again elsewhere" in caplog.messages[-1]
    watch.look([node("a"), node("b", alive=False)], {})
    assert len(tries.told) == 6
    assert len(caplog.messages) == 2


def test_a_notice_without_a_time(watch: NodeWatch, screen: io.StringIO) -> None:
    watch.look([node("a")], {"a" * 8: float("inf")})
    assert "goes away soon: " in screen.getvalue()


def test_a_node_that_is_lost_without_notice_is_a_degradation(
    watch: NodeWatch, screen: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    watch.look([node("a"), node("b")], {})
    watch.look([node("a"), node("b", alive=False, reason=2)], {})
    (record,) = caplog.records
    assert (record.levelno, record.__dict__["kind"]) == (logging.WARNING, "node lost")
    assert "node 10.0.0.7 (bbbbbbbb: 1 GPU, 8 CPU) was lost without notice" in record.getMessage()
    assert screen.getvalue() == ""  # WorkerLog shows it


def test_a_node_that_was_idle_is_no_loss(
    watch: NodeWatch, screen: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    watch.look([node("a"), node("b")], {})
    watch.look([node("a"), node("b", alive=False, reason=4)], {})
    assert screen.getvalue() == "Node 10.0.0.7 (bbbbbbbb: 1 GPU, 8 CPU) was idle and was given back\n"
    assert caplog.messages == []


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_node_that_was_drained_and_had_nothing_to_do_is_no_loss(
    watch: NodeWatch, screen: io.StringIO, caplog: pytest.LogCaptureFixture, *, is_seen: bool
) -> None:
    watch.look([node("a"), node("b")], {"b" * 8: time.time() + 100} if is_seen else {})
    caplog.clear()
    watch.look([node("a"), node("b", alive=False, reason=3)], {})
    said = "Node 10.0.0.7 (bbbbbbbb: 1 GPU, 8 CPU) has gone away, as was announced: nothing was under way there"
    assert screen.getvalue().splitlines()[-1] == said
    assert caplog.messages == []


def test_a_node_that_was_drained_and_had_clips_when_its_time_was_up_is_a_degradation(
    watch: NodeWatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch.look([node("a"), node("b")], {"b" * 8: time.time() - 1})
    watch.look([node("a"), node("b", alive=False, reason=3)], {})
    assert "has gone away, as was announced: what it had is made again elsewhere" in caplog.messages[-1]


def test_a_run_that_waits_says_so_again_and_its_status_knows(
    watch: NodeWatch, gpus: Gpus, screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("pipelines.driver.nodes.time.monotonic", lambda: clock[-1])
    waits = "No node with a GPU is there: the run waits for one"
    watch.look([node("a")], {})
    for now in (1010.0, 1012.0, 1309.0):
        clock.append(now)
        watch.look([node("a", alive=False)], {})
    assert screen.getvalue().splitlines().count(waits) == 1
    for now in (1310.0, 1312.0, 1610.0):
        clock.append(now)
        watch.look([node("a", alive=False)], {})
    said = screen.getvalue().splitlines()
    assert said[-2:] == [f"{waits}, since 5 minutes", f"{waits}, since 10 minutes"]
    watch.look([node("b")], {})
    assert gpus.lacks == ["no node with a GPU is there", ""]


def test_a_run_without_gpus_waits_for_none(watch: NodeWatch, gpus: Gpus, screen: io.StringIO) -> None:
    gpus.reserved = 0.0
    watch.look([node("a", alive=False)], {})
    assert (gpus.lacks, screen.getvalue()) == ([], "")
