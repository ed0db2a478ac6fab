"""The ledger of tries in a Ray actor, and how the driver and the workers reach it."""

import time
from collections import deque
from contextlib import suppress
from dataclasses import astuple
from typing import Any, TypeVar
from uuid import uuid4

from actors.logs import Report
from actors.tries.ledger import Answer, LocalLedger
from actors.tries.nodes import LOSS_IS_KNOWN_S, RayNodes
from actors.tries.orphans import end_with_parent
from actors.tries.spent import Spent

# So many does the driver keep until it tells the ledger of them, for which a call each would be a tenth of its work.
_OUT_TOLD_AT_ONCE = 32
# Of Ray's names of actors, under which others find the ledgers of a cluster's runs (`stillreel drain`).
NAMESPACE = "stillreel"

_T = TypeVar("_T")


class _LedgerActor(LocalLedger):
    """What `RemoteLedger` calls: several entries in one.

    With lists and strings, which Ray packs as they are; any other object is pickled.
    """

    def __init__(self, max_deaths: int, run_id: str) -> None:
        super().__init__(max_deaths, run_id, RayNodes())
        end_with_parent()

    def begin_after(self, ended: list[list[Any]], out: list[str], *asked: Any) -> list[Any]:
        """`begin`, after what the caller has ended since it called last; the fields of an `Answer`."""
        self.tell(ended, out)
        return list(astuple(self.begin(*asked)))

    def begin_together_after(
        self, ended: list[list[Any]], out: list[str], keys: list[str], stage: str, node: str
    ) -> list[list[Any]] | None:
        """`begin_together`, likewise."""
        self.tell(ended, out)
        answers = self.begin_together(keys, stage, node)
        return None if answers is None else [list(astuple(answer)) for answer in answers]

    def tell(self, ended: list[list[Any]], out: list[str]) -> None:
        """`end` and `come_out` for each."""
        for key, stage, seconds in ended:
            self.end(key, stage, seconds)
        for key in out:
            self.come_out(key)


class RemoteLedger:
    """An `LocalLedger` in a Ray actor, seen from the driver and the workers.

    What a process ended is told with its next call, or when its task is done. Where it dies in between, one more try is
    counted than there was, until the clip comes out: of consequence only where the data of one clip is lost many times.
    """

    def __init__(self, max_deaths: int, run_id: str = "-") -> None:
        """Start it where the driver runs: only what ends the driver takes the ledger along."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # Should its process be killed, it begins anew: some clips get more tries, none is lost. Ray's head would keep a
        # few kB for each call, which are most of a run's.
        options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
        options |= {"name": f"ledger {run_id} {uuid4().hex}", "namespace": NAMESPACE}
        self._actor = ray.remote(_LedgerActor).options(**options, enable_task_events=False).remote(max_deaths, run_id)
        self._forget()

    def _forget(self) -> None:
        # To be told with the next call. Of the driver, two threads call.
        self._ended: deque[list[Any]] = deque()
        self._out: deque[str] = deque()
        self._node = ""  # of this process

    def __getstate__(self) -> dict[str, Any]:
        """Another process has nothing to tell of what this one did."""
        return {"_actor": self._actor}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._actor = state["_actor"]
        self._forget()

    def begin(self, key: str, stage: str, takes_s: float = 0.0) -> Answer:
        """As in `Ledger`; nothing is given up for a node of which Ray is about to say that it was lost."""
        answer = self._begin(key, stage, takes_s)
        if not answer.is_final:
            time.sleep(LOSS_IS_KNOWN_S)
            answer = self._begin(key, stage, takes_s)
        return answer

    def _begin(self, *asked: Any) -> Answer:
        return Answer(*self._wait_for("begin_after", _taken(self._ended), _taken(self._out), *asked, self._here()))

    def _here(self) -> str:
        import ray

        self._node = self._node or ray.get_runtime_context().get_node_id()
        return self._node

    def begin_together(self, keys: list[str], stage: str) -> list[Answer] | None:
        """As in `Ledger`."""
        asked = (_taken(self._ended), _taken(self._out), keys, stage, self._here())
        answers = self._wait_for("begin_together_after", *asked)
        return None if answers is None else [Answer(*answer) for answer in answers]

    def end(self, key: str, stage: str, seconds: float = 0.0) -> None:
        """As in `Ledger`; it costs no call of its own, of which each row pays for several."""
        self._ended.append([key, stage, seconds])

    def come_out(self, key: str) -> None:
        """As in `Ledger`; the driver, which never begins, tells it when there are many."""
        self._out.append(key)
        if len(self._out) >= _OUT_TOLD_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """As in `Ledger`, without waiting."""
        if self._ended or self._out:
            self._actor.tell.options(num_returns=0).remote(_taken(self._ended), _taken(self._out))

    def explain(self, key: str, stage: str, reason: str) -> None:
        """As in `Ledger`."""
        self._wait_for("explain", key, stage, reason)

    def refuse(self, error_type: str, error: str) -> None:
        """As in `Ledger`."""
        self._wait_for("refuse", error_type, error)

    def report(self, report: Report) -> None:
        """As in `Ledger`, without waiting."""
        self._actor.report.options(num_returns=0).remote(report)

    def take_reports(self) -> list[Report]:
        """As in `LocalLedger`."""
        reports: list[Report] = self._wait_for("take_reports")
        return reports

    def take_spent(self) -> Spent:
        """As in `LocalLedger`."""
        self.flush()
        spent: Spent = self._wait_for("take_spent")
        return spent

    def refusal(self) -> tuple[str, str] | None:
        """As in `LocalLedger`."""
        refused: tuple[str, str] | None = self._wait_for("refusal")
        return refused

    def claim(self, what: str) -> bool:
        """As in `Ledger`."""
        is_ours: bool = self._wait_for("claim", what, self.worker_name(), self._here())
        return is_ours

    def worker_name(self) -> str:
        """As in `Ledger`: Ray starts an actor again under its old id."""
        import ray

        return str(ray.get_runtime_context().get_actor_id())

    def in_flight(self) -> list[str]:
        """As in `LocalLedger`."""
        self.flush()
        clip_ids: list[str] = self._wait_for("in_flight")
        return clip_ids

    def num_begun(self) -> int:
        """As in `LocalLedger`."""
        number: int = self._wait_for("num_begun")
        return number

    def counts(self) -> dict[str, int]:
        """As in `LocalLedger`."""
        self.flush()
        counted: dict[str, int] = self._wait_for("counts")
        return counted

    def wind_down(self) -> None:
        """As in `LocalLedger`; it holds when this returns."""
        self._wait_for("wind_down")

    def goes_away_here(self) -> bool:
        """Whether the node of this process goes away; tells what has ended, too."""
        self.flush()
        goes_away: bool = self._wait_for("goes_away", self._here())
        return goes_away

    def announce(self, goes_at: dict[str, float]) -> None:
        """As in `Nodes`, without waiting."""
        self._actor.announce.options(num_returns=0).remote(goes_at)

    def stop(self) -> None:
        """End the actor."""
        import ray

        ray.kill(self._actor)

    def _wait_for(self, method: str, *arguments: Any) -> Any:
        import ray

        return ray.get(getattr(self._actor, method).remote(*arguments))


def _taken(waiting: deque[_T]) -> list[_T]:
    """Empty it; what other threads add or take meanwhile is in one place all the same."""
    taken = []
    with suppress(IndexError):
        while True:
            taken.append(waiting.popleft())
    return taken
