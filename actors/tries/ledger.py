"""The ledger of tries: what was begun with and not ended, written down where no worker's death reaches it.

A plain object; in a run it lives in a Ray actor of its own, and driver and workers hold a `RemoteLedger`.
"""

import os
import time
from dataclasses import dataclass, field
from typing import Literal, Protocol

from actors import logs
from actors.logs import Report
from actors.stages import NAMES
from actors.tries.nodes import LOSS_IS_KNOWN_S, Nodes
from actors.tries.spent import START_OF, Spent, SpentTime

_UNKNOWN_REASON = "a library crashed, or the system killed it for want of memory"
# A clip whose tries so often ended with their node is taken for one that brings its machine down. On machines of which
# every second one is lost within a clip, one clip in a million comes so far.
_MAX_LOST_NODES = 20

# Clips that have come out and are still known: a worker that dies right after it gave one makes it once more, for
# nobody. That is a matter of seconds; 500 GPUs make so many clips in 100.
_NUM_OUT = 10_000
# Where a run that is to end takes up nothing new; what has frames is finished.
_STAGES_THAT_WIND_DOWN = ("load", "generate")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a stage may do with a clip.

    "begin elsewhere": end the process, because its node goes away before the clip is made.
    """

    verdict: Literal["begin", "unstarted", "give up", "begin elsewhere"]
    deaths: int = 0  # of its workers, where the verdict is to give up
    reason: str = ""  # of the last death whose reason is known
    lost_nodes: int = 0  # where those are why it is given up
    is_final: bool = True  # False: the node of the last try may be lost, and Ray not know it yet


class Ledger(Protocol):
    """Where tries are written down. A `key` is a clip_id, or the name of a worker that starts."""

    def begin(self, key: str, stage: str, takes_s: float = 0.0) -> Answer:
        """Ask to begin what takes about so long, and write it down where the answer is yes."""

    def begin_together(self, keys: list[str], stage: str) -> list[Answer] | None:
        """`begin` for each, unless one was begun with before and not ended: then for none, and the answer is None.

        It is no try: where the process ends, nobody knows which of them it was. Each asks for itself from then on.
        """

    def end(self, key: str, stage: str, seconds: float = 0.0) -> None:
        """The stage is done with it, for better or worse, after so long; told with the next call, or by `flush`."""

    def come_out(self, key: str) -> None:
        """The clip has come out of the last stage, the worker has started: what was tried under this key is forgotten.

        Told like `end`.
        """

    def flush(self) -> None:
        """Tell what has ended and come out, where no other call of this process is near."""

    def explain(self, key: str, stage: str, reason: str) -> None:
        """Why the process that began is about to end; written down when this returns."""

    def refuse(self, error_type: str, error: str) -> None:
        """No worker can start, for a reason that ends the run; written down when this returns."""

    def report(self, report: Report) -> None:
        """A warning of this process, for the driver (`actors.logs`)."""

    def claim(self, what: str) -> bool:
        """Whether this worker is to do what one alone is to do: the first that claims it, until its node is lost."""

    def worker_name(self) -> str:
        """Of the worker that asks; the same after it was started again."""


@dataclass(slots=True)
class _Tries:
    """Tries of one stage that have begun and were not ended."""

    nodes: list[str] = field(default_factory=list)  # where each was; those of lost nodes are taken out
    lost: int = 0  # how many were
    last: str = ""  # where the last one was, also where it was no try (`begin_together`)
    reason: str = _UNKNOWN_REASON  # why the process of the last one ended


class LocalLedger:
    """The ledger itself; it holds a few strings for each clip that is on its way. A `node` is that of who asks."""

    def __init__(self, max_deaths: int, run_id: str = "-", nodes: Nodes | None = None) -> None:
        self._max_deaths, self._run_id = max_deaths, run_id
        self._nodes = nodes or Nodes()
        self._tries: dict[str, dict[str, _Tries]] = {}  # by key and stage
        self._in_flight: dict[str, str] = {}  # and the node that began with it last
        self._homes: dict[str, str] = {}  # the nodes of workers
        self._out: dict[str, None] = {}  # the last that came out, in order
        self._num_begun = 0
        self._is_winding_down = False
        self._refusal: tuple[str, str] | None = None
        self._reports: list[Report] = []
        # Deaths of which Ray may yet say that their node was lost: when each was noticed, the node, the report.
        self._doubtful: list[tuple[float, str, Report]] = []
        self._spent = SpentTime()
        self._claimed: dict[str, tuple[str, str]] = {}  # by which worker, and its node

    def begin(self, key: str, stage: str, takes_s: float = 0.0, node: str = "") -> Answer:
        """As in `Ledger`."""
        tries = self._tries.get(key, {}).get(stage, _Tries())
        self._take_back_lost(key, stage, tries)
        if tries.lost >= _MAX_LOST_NODES:
            self._spent.died(key, stage)
            return Answer("give up", lost_nodes=tries.lost)
        if (deaths := len(tries.nodes)) >= self._max_deaths:
            self._spent.died(key, stage)
            return Answer("give up", deaths, tries.reason, is_final=tries.last in ("", node))
        if self._is_winding_down and stage in _STAGES_THAT_WIND_DOWN and not tries.nodes and key not in self._in_flight:
            return Answer("unstarted")
        if takes_s and takes_s > self._nodes.remaining_s(node):
            self._move(key, "")
            return Answer("begin elsewhere")
        self._notice_death(key, stage, tries, node)
        # Not each load: those that a dead worker had loaded before the clip that it died of are loaded again.
        is_known = key in self._tries or key in self._out
        self._num_begun += stage == "load" and not is_known
        if stage.startswith(START_OF):
            self._homes[key] = node
        tries.nodes.append(node)
        tries.last = node
        self._tries.setdefault(key, {})[stage] = tries
        # `finish`, too, for a ledger that began anew when `generate` had begun.
        if stage in ("generate", "finish") and key not in self._out:
            self._in_flight[key] = node
        self._move(key, node)
        self._spent.begin(key, stage)
        return Answer("begin")

    def begin_together(self, keys: list[str], stage: str, node: str = "") -> list[Answer] | None:
        """As in `Ledger`."""
        before = [tries for key in keys if (tries := self._tries.get(key, {}).get(stage))]
        if before:
            if not any(self._nodes.is_lost(tries.last) for tries in before):
                said = f"a worker died with one of {len(keys)} images: {_UNKNOWN_REASON}; they are loaded again"
                self._report_death(before[0].last, node, logs.line(self._run_id, stage, "-", said))
            return None
        answers = [self.begin(key, stage, node=node) for key in keys]
        for key in keys:
            if tries := self._tries.get(key, {}).get(stage):
                tries.nodes.clear()
        return answers

    def _take_back_lost(self, key: str, stage: str, tries: _Tries) -> None:
        """What ended with its node is no death of a worker."""
        kept = [node for node in tries.nodes if not self._nodes.is_lost(node)]
        if lost := len(tries.nodes) - len(kept):
            tries.nodes, tries.lost = kept, tries.lost + lost
            said = "its node was lost, or goes away: it is tried again, and no death is counted"
            self.report(["", 1, logs.line(self._run_id, stage, key, said)])

    def _move(self, key: str, node: str) -> None:
        """A clip in flight is at this node now; "": at none."""
        if key in self._in_flight:
            self._in_flight[key] = node

    def end(self, key: str, stage: str, seconds: float = 0.0) -> None:
        """As in `Ledger`."""
        self._spent.end(key, stage, seconds, is_out=key in self._out)
        tries = self._tries.get(key, {})
        tries.pop(stage, None)
        if not tries and key in self._out:
            self._tries.pop(key, None)

    def flush(self) -> None:
        """As in `Ledger`: nothing waits to be told."""

    def explain(self, key: str, stage: str, reason: str) -> None:
        """As in `Ledger`."""
        self._spent.died(key, stage)
        if tries := self._tries.get(key, {}).get(stage):
            tries.reason = reason

    def come_out(self, key: str) -> None:
        """As in `Ledger`. Until here the ledger knows a clip that was given up: Ray may run its row once more."""
        self._tries.pop(key, None)
        self._spent.come_out(key)
        self._in_flight.pop(key, None)
        if key in self._homes:  # a worker, and no clip
            return
        self._out[key] = None
        if len(self._out) > _NUM_OUT:
            del self._out[next(iter(self._out))]

    def _notice_death(self, key: str, stage: str, tries: _Tries, node: str) -> None:
        """A worker begins again with what another one did not end."""
        if tries.nodes:
            said = f"a worker died: {tries.reason}; what it had is tried again"
            self._report_death(tries.last, node, logs.line(self._run_id, stage, key, said))
        elif stage.startswith(START_OF) and key in self._homes and not self._nodes.is_lost(self._homes[key]):
            said = "a worker was started again"
            self.report(["worker restarted", 1, logs.line(self._run_id, stage.removeprefix(START_OF), "-", said)])

    def _report_death(self, node: str, seen_from: str, line: str) -> None:
        """A worker died on a node: told at once where the one that noticed it is there, which the node has outlived."""
        report: Report = ["worker died", 1, line]
        if node in ("", seen_from):
            self.report(report)
        else:
            self._doubtful.append((time.monotonic(), node, report))

    def report(self, report: Report) -> None:
        """As in `Ledger`."""
        self._reports.append(report)

    def take_reports(self) -> list[Report]:
        """What was reported since the last time; what the ledger itself has noticed, too, when it is sure of it."""
        known_before = time.monotonic() - LOSS_IS_KNOWN_S
        sure = [one for one in self._doubtful if one[0] <= known_before]
        self._doubtful = self._doubtful[len(sure) :]
        self._reports += [report for _, node, report in sure if not self._nodes.is_lost(node)]
        reports, self._reports = self._reports, []
        return reports

    def take_spent(self) -> Spent:
        """Where workers' time went since the last time, as far as finished clips do not tell (`actors.tries.spent`)."""
        return self._spent.take()

    def refuse(self, error_type: str, error: str) -> None:
        """As in `Ledger`: the first reason counts."""
        self._refusal = self._refusal or (error_type, error)

    def refusal(self) -> tuple[str, str] | None:
        """Why no worker can start: the class of the error, by name, and its message."""
        return self._refusal

    def claim(self, what: str, worker: str = "", node: str = "") -> bool:
        """As in `Ledger`. A worker that was started again, under its name, has the claim of the one before it."""
        if what in self._claimed:
            holder, home = self._claimed[what]
            if (not worker or holder != worker) and not self._nodes.is_lost(home):
                return False
        self._claimed[what] = worker, node
        return True

    def worker_name(self) -> str:
        """As in `Ledger`: without Ray, this process is the one worker."""
        return str(os.getpid())

    def in_flight(self) -> list[str]:
        """The clips that `generate` has begun with and that the driver does not have yet."""
        return sorted(self._in_flight)

    def num_begun(self) -> int:
        """How many clips `load` has begun with; of those that one task loads, all count from its begin."""
        return self._num_begun

    def counts(self) -> dict[str, int]:
        """Clips that are on their way, by the stage that each is in; `begun` and `in_flight` as their methods have it.

        What a worker ended within a second it tells late: until then the clip is counted there, unless a later stage
        has it.
        """
        counts = dict.fromkeys(NAMES, 0) | {"begun": self._num_begun, "in_flight": len(self._in_flight)}
        for tries in self._tries.values():
            if stage := next((stage for stage in reversed(NAMES) if stage in tries), None):
                counts[stage] += 1
        return counts

    def wind_down(self) -> None:
        """From now on, `load` and `generate` begin with no clip that they have not begun with."""
        self._is_winding_down = True

    def announce(self, goes_at: dict[str, float]) -> None:
        """As in `Nodes`."""
        self._nodes.announce(goes_at)

    def goes_away(self, node: str) -> bool:
        """As in `Nodes`."""
        return self._nodes.goes_away(node)

    def under_way(self, node: str) -> int:
        """How many clips a node has: those whose frames nobody else has yet. To load a picture again costs little."""
        return sum(at == node for at in self._in_flight.values())
