"""Nodes of Ray that are lost, or about to be: where a try ended with its node, no worker died of its clip."""

import time
from contextlib import suppress

# The clips of a node that is lost are begun with again all at once, and the ledger answers one call after the other.
_LOOK_INTERVAL_S = 1.0
# So long after a node's processes were killed Ray knows it (12 s, measured; 15 by its settings). What was loading there
# may be run again before that. Of a machine that falls silent Ray runs nothing again before it has declared it dead.
LOSS_IS_KNOWN_S = 25.0


class Nodes:
    """What is known of them. Without Ray (`RayNodes`) none is lost but those that are said to go away."""

    def __init__(self) -> None:
        self._goes_at: dict[str, float] = {}  # seconds as `time.time` has them

    def announce(self, goes_at: dict[str, float]) -> None:
        """These go away, and no others; each by its id, with the time at which it does: inf where nobody has said."""
        self._goes_at = goes_at

    def goes_away(self, node: str) -> bool:
        """Whether somebody has said that it goes away."""
        return node in self._goes_at

    def remaining_s(self, node: str) -> float:
        """How long it is still there: inf where nobody has said that it goes away."""
        return self._goes_at.get(node, float("inf")) - time.time()

    def is_lost(self, node: str) -> bool:
        """Whether it is gone, or goes away. Of "", a node that is not known, False."""
        return self.goes_away(node) or (bool(node) and self._is_gone(node))

    def _is_gone(self, _node: str) -> bool:
        return False


class RayNodes(Nodes):
    """The nodes of the cluster that this process is in."""

    def __init__(self) -> None:
        super().__init__()
        self._gone: set[str] = set()  # Ray forgets the first of them after a thousand; none comes back under its id
        self._alive: set[str] = set()
        self._looked = float("-inf")

    def _is_gone(self, node: str) -> bool:
        if node in self._gone:
            return True
        if node not in self._alive or time.monotonic() - self._looked > _LOOK_INTERVAL_S:
            alive = _alive_nodes()
            if alive and node not in alive:
                self._gone.add(node)
            self._alive, self._looked = alive, time.monotonic()
        return node in self._gone


def _alive_nodes() -> set[str]:
    """Ids; none where Ray does not answer, which says nothing of any node."""
    import ray

    with suppress(Exception):
        return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    return set()
