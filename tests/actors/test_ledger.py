"""The ledger of tries: how they are counted, what is in flight, and how a run winds down."""

import itertools
import pickle
import threading
import time
from collections import deque
from typing import Any

import pytest

from actors.tries import nodes as nodes_module
from actors.tries.ledger import Answer, LocalLedger
from actors.tries.nodes import Nodes, RayNodes
from actors.tries.remote_ledger import RemoteLedger, _taken

CLIP = "ab" * 32
OTHER = "cd" * 32


@pytest.fixture
def ledger() -> LocalLedger:
    return LocalLedger(max_deaths=3)


def test_a_clip_is_given_up_after_so_many_beginnings_without_an_end(ledger: LocalLedger) -> None:
    assert [ledger.begin(CLIP, "load").verdict for _ in range(4)] == ["begin", "begin", "begin", "give up"]
    assert ledger.begin(CLIP, "generate").verdict == "begin"  # each stage counts for itself
    assert ledger.begin(OTHER, "load").verdict == "begin"


def test_an_end_starts_the_count_anew(ledger: LocalLedger) -> None:
    for _ in range(5):
        assert ledger.begin(CLIP, "load") == Answer("begin")
        ledger.end(CLIP, "load")


def test_of_clips_that_were_begun_together_only_the_one_that_ends_its_worker_is_given_up(ledger: LocalLedger) -> None:
    clips = ["first", "deadly", "last"]
    assert ledger.begin_together(clips, "load") == [Answer("begin")] * 3
    for _ in range(3):  # Ray runs the task again; each clip asks for itself
        assert ledger.begin_together(clips, "load") is None
        assert ledger.begin("first", "load").verdict == "begin"
        ledger.end("first", "load")
        assert ledger.begin("deadly", "load").verdict == "begin"
    assert [ledger.begin(clip, "load").verdict for clip in clips] == ["begin", "give up", "begin"]


def test_of_two_deadly_clips_begun_together_each_has_its_own_tries() -> None:
    ledger = LocalLedger(max_deaths=1)
    clips = ["deadly", "deadly too", "innocent"]
    assert ledger.begin_together(clips, "load") == [Answer("begin")] * 3
    for done in range(2):
        assert [ledger.begin(clip, "load").verdict for clip in clips[: done + 1]] == ["give up"] * done + ["begin"]
    assert [ledger.begin(clip, "load").verdict for clip in clips] == ["give up", "give up", "begin"]
    assert ledger.num_begun() == 3


def test_a_run_that_winds_down_begins_with_none_of_several_clips(ledger: LocalLedger) -> None:
    ledger.wind_down()
    assert ledger.begin_together([CLIP, OTHER], "load") == [Answer("unstarted")] * 2
    assert ledger._tries == {}


def test_what_a_process_has_to_tell_is_told_once_whatever_threads_take_it() -> None:
    waiting, told = deque(range(20_000)), list[list[int]]()
    threads = [threading.Thread(target=lambda: told.append(_taken(waiting))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(itertools.chain(*told)) == list(range(20_000))


def test_a_clip_stays_given_up_until_it_leaves(ledger: LocalLedger) -> None:
    """Ray may run a row again that was given up, because its neighbour in the batch ended the worker afterwards."""
    for _ in range(3):
        ledger.begin(CLIP, "generate")
    assert [ledger.begin(CLIP, "generate").verdict for _ in range(2)] == ["give up"] * 2
    ledger.come_out(CLIP)
    assert ledger.begin(CLIP, "generate").verdict == "begin"


def test_the_last_known_reason_is_told(ledger: LocalLedger) -> None:
    for _ in range(3):
        ledger.begin(CLIP, "load")
    assert "killed it for want of memory" in ledger.begin(CLIP, "load").reason
    ledger.explain(CLIP, "load", "it hung")
    assert ledger.begin(CLIP, "load") == Answer("give up", 3, "it hung")


def test_in_flight_is_from_generate_until_the_clip_has_come_out(ledger: LocalLedger) -> None:
    ledger.begin(CLIP, "load")
    assert ledger.in_flight() == []
    ledger.end(CLIP, "load")
    ledger.begin(CLIP, "generate")
    ledger.end(CLIP, "generate")
    assert ledger.in_flight() == [CLIP]
    ledger.come_out(CLIP)
    assert ledger.in_flight() == []


def test_a_clip_that_is_made_again_for_nobody_is_not_in_flight(ledger: LocalLedger) -> None:
    """Its worker died after it had given the clip out; what Ray makes again goes nowhere."""
    for stage in ("load", "generate"):
        ledger.begin(CLIP, stage)
    ledger.come_out(CLIP)
    for stage in ("load", "generate"):
        ledger.begin(CLIP, stage)
    assert ledger.in_flight() == []
    assert ledger.num_begun() == 1


def test_the_ledger_forgets_clips_that_have_left(ledger: LocalLedger) -> None:
    for stage in ("load", "generate", "finish"):
        ledger.begin(CLIP, stage)
        ledger.explain(CLIP, stage, "it hung")
    ledger.come_out(CLIP)
    assert (ledger._tries, ledger._in_flight) == ({}, {})


def test_a_run_that_winds_down_begins_with_nothing_new_and_ends_what_it_began(ledger: LocalLedger) -> None:
    ledger.begin(CLIP, "generate")
    ledger.begin("loading", "load")
    ledger.wind_down()
    assert ledger.begin(OTHER, "load").verdict == "unstarted"
    assert ledger.begin(OTHER, "generate").verdict == "unstarted"
    assert ledger.begin(CLIP, "generate").verdict == "begin"  # its worker died
    assert ledger.begin(CLIP, "load").verdict == "begin"  # its node was lost, with the image
    assert ledger.begin("loading", "load").verdict == "begin"
    assert ledger.begin(OTHER, "finish").verdict == "begin"  # frames that exist are not thrown away
    assert ledger.begin("a worker", "start of finish").verdict == "begin"


def test_a_clip_that_is_loaded_again_is_counted_once(ledger: LocalLedger) -> None:
    """Its neighbour in the batch ended the worker."""
    for _ in range(3):
        ledger.begin(CLIP, "load")
        ledger.end(CLIP, "load")
        ledger.begin(OTHER, "load")
    assert ledger.num_begun() == 2


class FewNodes(Nodes):
    """Nodes that are gone, by name."""

    def __init__(self, *gone: str) -> None:
        super().__init__()
        self.gone = set(gone)

    def _is_gone(self, node: str) -> bool:
        return node in self.gone


def test_a_try_that_ended_with_its_node_is_no_death() -> None:
    nodes = FewNodes()
    ledger = LocalLedger(max_deaths=1, nodes=nodes)
    for number in range(5):
        assert ledger.begin(CLIP, "generate", node=f"node {number}").verdict == "begin"
        nodes.gone.add(f"node {number}")
    reports = ledger.take_reports()
    assert [kind for kind, *_ in reports] == [""] * 4  # the driver counts nodes, not clips
    assert "its node was lost" in reports[0][2]
    assert ledger.begin(CLIP, "generate", node="here") == Answer("begin")
    given_up = ledger.begin(CLIP, "generate", node="here")  # where the last worker died, too
    assert (given_up.verdict, given_up.deaths, given_up.is_final) == ("give up", 1, True)


def test_a_death_elsewhere_is_not_final_before_ray_can_know_of_the_node() -> None:
    nodes = FewNodes()
    ledger = LocalLedger(max_deaths=1, nodes=nodes)
    ledger.begin(CLIP, "load", node="there")
    asked = ledger.begin(CLIP, "load", node="here")
    assert (asked.verdict, asked.is_final) == ("give up", False)
    nodes.gone.add("there")
    assert ledger.begin(CLIP, "load", node="here") == Answer("begin")


def test_of_a_node_that_goes_away_no_death_is_counted() -> None:
    ledger = LocalLedger(max_deaths=1)
    ledger.begin(CLIP, "generate", node="there")
    ledger.announce({"there": time.time() + 100})
    assert ledger.begin(CLIP, "generate", node="here") == Answer("begin")


def test_a_clip_that_takes_each_node_along_is_given_up() -> None:
    nodes = FewNodes(*map(str, range(100)))
    ledger = LocalLedger(max_deaths=1, nodes=nodes)
    answers = [ledger.begin(CLIP, "generate", node=str(number)) for number in range(21)]
    assert [answer.verdict for answer in answers] == ["begin"] * 20 + ["give up"]
    assert answers[-1].lost_nodes == 20
    ledger.come_out(CLIP)
    assert ledger.begin(CLIP, "generate", node="0").verdict == "begin"


def test_images_that_were_begun_together_on_a_lost_node_are_loaded_again_without_a_death() -> None:
    nodes = FewNodes()
    ledger = LocalLedger(max_deaths=1, nodes=nodes)
    ledger.begin_together([CLIP, OTHER], "load", "there")
    nodes.gone.add("there")
    assert ledger.begin_together([CLIP, OTHER], "load", "here") is None
    assert ledger.take_reports() == []
    assert ledger.begin(CLIP, "load", node="here") == Answer("begin")


def test_a_worker_that_moves_from_a_lost_node_did_not_die() -> None:
    nodes = FewNodes()
    ledger = LocalLedger(max_deaths=1, nodes=nodes)
    ledger.begin("worker", "start of generate", node="there")
    nodes.gone.add("there")
    assert ledger.begin("worker", "start of generate", node="here").verdict == "begin"  # it was still starting
    ledger.come_out("worker")
    nodes.gone.add("here")
    assert ledger.begin("worker", "start of generate", node="third").verdict == "begin"
    assert [kind for kind, *_ in ledger.take_reports()] == [""]
    ledger.come_out("worker")
    assert ledger.begin("worker", "start of generate", node="third").verdict == "begin"
    assert [kind for kind, *_ in ledger.take_reports()] == ["worker restarted"]


def test_nothing_begins_that_takes_longer_than_its_node_is_there() -> None:
    ledger = LocalLedger(max_deaths=1)
    ledger.announce({"there": time.time() + 10, "also": float("inf")})
    assert ledger.begin(CLIP, "generate", 60.0, "there").verdict == "begin elsewhere"
    assert ledger.begin(CLIP, "generate", 60.0, "also").verdict == "begin"
    assert ledger.begin(OTHER, "generate", 5.0, "there").verdict == "begin"
    ledger.announce({})
    assert ledger.begin("third", "generate", 60.0, "there").verdict == "begin"


def test_what_one_worker_alone_is_to_do_another_takes_over_where_its_node_is_lost() -> None:
    nodes = Nodes()
    ledger = LocalLedger(max_deaths=3, nodes=nodes)
    assert ledger.claim("profile", "first", "a")
    assert not ledger.claim("profile", "second", "b")
    assert ledger.claim("profile", "first", "a")  # it was started again
    nodes.announce({"a": time.time() + 30})
    assert ledger.claim("profile", "second", "b")
    assert not ledger.claim("profile", "first", "c")


def test_clips_are_under_way_at_a_node_until_somebody_else_has_their_frames(ledger: LocalLedger) -> None:
    ledger.begin_together([CLIP, OTHER], "load", "there")
    assert ledger.under_way("there") == 0
    ledger.begin(CLIP, "generate", node="there")
    ledger.begin(OTHER, "generate", node="there")
    ledger.end(CLIP, "generate")
    assert ledger.under_way("there") == 2  # the frames are still there
    ledger.begin(CLIP, "finish", node="here")
    assert (ledger.under_way("there"), ledger.under_way("here")) == (1, 1)
    ledger.come_out(OTHER)
    assert (ledger.under_way("there"), ledger.in_flight()) == (0, [CLIP])


def test_a_node_is_gone_when_ray_does_not_list_it_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: set[str] = {"here"}
    monkeypatch.setattr(nodes_module, "_alive_nodes", lambda: set(alive))
    nodes = RayNodes()
    assert [nodes.is_lost(node) for node in ("here", "there", "")] == [False, True, False]
    alive.add("new")
    assert not nodes.is_lost("new")  # which has joined since the last look
    alive.clear()
    monkeypatch.setattr(nodes_module, "_LOOK_INTERVAL_S", 0.0)
    assert not nodes.is_lost("here")  # Ray does not answer, which says nothing


class Actor:
    """What a `RemoteLedger` calls, without Ray."""

    def __init__(self) -> None:
        self.told: list[tuple[list[list[str]], list[str]]] = []
        self.tell = self

    def options(self, **_options: Any) -> "Actor":
        return self

    def remote(self, ended: list[list[str]], left: list[str]) -> None:
        self.told.append((ended, left))


@pytest.fixture
def remote() -> RemoteLedger:
    ledger = RemoteLedger.__new__(RemoteLedger)
    ledger.__setstate__({"_actor": Actor()})
    return ledger


def test_clips_that_left_are_told_some_at_a_time_and_before_what_is_in_flight(
    remote: RemoteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = remote._actor.told
    for number in range(40):
        remote.come_out(str(number))
    assert told == [([], [str(number) for number in range(32)])]
    monkeypatch.setattr(remote, "_wait_for", lambda method: [method, len(told)])
    assert remote.in_flight() == ["in_flight", 2]
    assert told[1] == ([], [str(number) for number in range(32, 40)])
    remote.flush()
    assert len(told) == 2  # nothing is left to tell


def test_a_worker_does_not_tell_what_the_driver_has_to(remote: RemoteLedger) -> None:
    remote.come_out(CLIP)
    remote.end(CLIP, "load")
    copy = pickle.loads(pickle.dumps(remote))
    copy.flush()
    assert copy._actor.told == []


def test_what_is_not_final_is_asked_again_when_ray_can_know(
    remote: RemoteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [["give up", 1, "it died", 0, False], ["begin", 0, "", 0, True]]
    asked: list[Any] = []
    waited: list[float] = []
    monkeypatch.setattr(remote, "_here", lambda: "here")

    def answer(*call: Any) -> list[Any]:
        asked.append(call)
        return answers.pop(0)

    monkeypatch.setattr(remote, "_wait_for", answer)
    monkeypatch.setattr(time, "sleep", waited.append)
    assert remote.begin(CLIP, "load") == Answer("begin")
    assert asked == [("begin_after", [], [], CLIP, "load", 0.0, "here")] * 2
    assert waited == [25.0]
