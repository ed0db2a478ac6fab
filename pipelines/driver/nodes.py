"""What becomes of the cluster's nodes while a run goes on: they go away with notice or without, and others come."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rich.console import Console

from actors import logs
from actors.repeating import Repeating
from pipelines.driver import ray_private
from pipelines.placement.nodes import Node, gpus_of, nodes_of

# A notice is of 30 s or more; a look is two calls of Ray's head.
_LOOK_INTERVAL_S = 2.0
# A run that waits says so again: who looks into the job's log hours later is to find it at its end.
_SAY_AGAIN_S = 300.0
_S_PER_MINUTE = 60.0


class Tries(Protocol):
    """What is told of nodes (`actors.tries.ledger`)."""

    def announce(self, goes_at: dict[str, float]) -> None:
        """These nodes go away, each at its time."""

    def flush(self) -> None:
        """Tell what is known of clips, on which somebody may wait who takes a node away."""


class Gpus(Protocol):
    """What is told of GPUs (`pipelines.money.cost`)."""

    reserved: float

    def see(self, types: Mapping[str, float]) -> None:
        """So many of each type are there."""

    def lack(self, what: str) -> None:
        """The run waits for this, as a clause, from now on; "": for nothing."""


class NodeWatch(Repeating):
    """A context manager: a thread tells the user and the ledger, in a line each, what becomes of nodes."""

    def __init__(
        self,
        tries: Tries,
        gpus: Gpus,
        end: Callable[[], None],
        console: Console,
        may_generate: Callable[[Node], bool] = lambda _: True,
    ) -> None:
        """A watch on all nodes.

        Args:
            tries: the ledger.
            gpus: the clock of GPUs.
            end: what ends the run in good order; called where the driver's own node is to go away.
            console: where people read.
            may_generate: whether generators may be on a node (`Site.may_take`).
        """
        super().__init__("nodes", self._look_at_ray, _LOOK_INTERVAL_S)
        self._tries, self._gpus, self._end_run, self._console = tries, gpus, end, console
        self._may_generate = may_generate
        self._own = ""  # the driver's node
        self._lacks = ""  # what the run waits for
        self._lacks_since = self._lacks_said = 0.0
        self._alive: dict[str, str] | None = None  # what each is called, by id; None before the first look
        self._goes_at: dict[str, float] = {}
        self._announced: set[str] = set()

    def _look_at_ray(self) -> None:
        import ray

        try:
            self._own = self._own or ray.get_runtime_context().get_node_id()
            nodes, goes_at = ray.nodes(), ray_private.nodes_going_away()
        except Exception:  # noqa: BLE001 - Ray is gone, or does not answer now: others say so
            return
        self.look(nodes, goes_at)

    def look(self, nodes: list[dict[str, Any]], goes_at: dict[str, float]) -> None:
        """Say what is new: `nodes` as `ray.nodes()` has them, and when those go away that do."""
        if goes_at or self._goes_at:
            self._tries.announce(goes_at)
            self._tries.flush()
        alive = {node["NodeID"]: _name(node) for node in nodes if node["Alive"]}
        before = alive if self._alive is None else self._alive
        for node, name in alive.items():
            if node not in before:
                self._say(f"a node has joined: {name}")
            if node in goes_at and node not in self._announced:
                self._announced.add(node)
                self._say_going(name, goes_at[node])
                if node == self._own:
                    self._say("the run itself is on that node: it ends in good order, the same command continues it")
                    self._end_run()
        reasons = {node["NodeID"]: node.get("DeathReason") for node in nodes}
        for node in before.keys() - alive.keys():
            self._is_gone(node, before[node], reasons.get(node))
        self._alive, self._goes_at = alive, goes_at
        self._gpus.see(gpus_of(nodes_of(nodes)))
        self._say_if_no_gpu([node for node in nodes if node["NodeID"] not in goes_at])

    def _say_if_no_gpu(self, staying: list[dict[str, Any]]) -> None:
        with_gpus = [node for node in nodes_of(staying) if node.gpus]
        lacks = "" if with_gpus else "no node with a GPU is there"
        if with_gpus and not any(map(self._may_generate, with_gpus)):
            lacks = "no GPU is there that the generator may be on"
        if not self._gpus.reserved:
            return
        now = time.monotonic()
        if lacks != self._lacks:
            self._lacks, self._lacks_since = lacks, now
            self._gpus.lack(lacks)
            if lacks:
                self._say_waiting(now, "")
        elif lacks and now - self._lacks_said >= _SAY_AGAIN_S:
            self._say_waiting(now, f", since {(now - self._lacks_since) / _S_PER_MINUTE:.0f} minutes")

    def _say_waiting(self, now: float, since: str) -> None:
        self._lacks_said = now
        self._say(f"{self._lacks}: the run waits for one{since}")

    def _say_going(self, name: str, at: float) -> None:
        when = "soon" if math.isinf(at) else f"in {max(0.0, at - time.time()):.0f} s"
        said = f"node {name} goes away {when}: clips under way there end before that, or are made again elsewhere"
        logs.logger.warning(said)
        self._say(said)

    def _is_gone(self, node: str, name: str, reason: int | None) -> None:
        if reason == ray_private.WAS_IDLE:
            self._say(f"node {name} was idle and was given back")
            return
        was_announced = node in self._announced or reason == ray_private.WAS_ANNOUNCED
        # Before its time Ray ends it only where it is idle. Where no look has found the notice, it ended at once.
        if reason == ray_private.WAS_ANNOUNCED and time.time() < self._goes_at.get(node, math.inf):
            self._say(f"node {name} has gone away, as was announced: nothing was under way there")
            return
        how = "has gone away, as was announced" if was_announced else "was lost without notice"
        logs.degraded("node lost", f"node {name} {how}: what it had is made again elsewhere, and counts as no death")

    def _say(self, text: str) -> None:
        self._console.print(text[0].upper() + text[1:], markup=False, highlight=False)


def _name(node: Mapping[str, Any]) -> str:
    """How it is called, and what it has to work with, such as `10.0.0.7 (3f2a91bc: 8 GPU, 96 CPU)`."""
    held = [f"{node['Resources'][kind]:g} {kind}" for kind in ("GPU", "CPU") if node["Resources"].get(kind)]
    return f"{node['NodeManagerAddress']} ({node['NodeID'][:8]}{': ' if held else ''}{', '.join(held)})"
