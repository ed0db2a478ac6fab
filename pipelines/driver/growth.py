"""What a run waits for and no node can bring, on a cluster that grows: Ray waits for it without a word."""

from collections.abc import Callable, Sequence

from rich.console import Console

from actors import logs
from actors.repeating import Repeating
from pipelines.config import Config
from pipelines.driver import ray_private

# The autoscaler looks every few seconds, and waits for minutes for what it can bring.
_LOOK_INTERVAL_S = 20.0

Lacks = Callable[[], list[tuple[str, ...]]]


class Growth(Repeating):
    """A context manager: a thread that says once of each what no node will come for, of that which this run asks for.

    The run goes on waiting: somebody may add such a group of nodes, or let one grow further.
    """

    def __init__(self, config: Config, console: Console, lacks: Lacks = ray_private.gpus_not_to_be_had) -> None:
        """`lacks`: the types of each GPU that the cluster's autoscaler has no node for, sorted; empty: of any type."""
        # Where both ask for the same, it is the generator's.
        pools = {"finish": config.workers.finish, "generate": config.workers.generate}
        self._settings = {tuple(sorted(pool.accelerator_types)): name for name, pool in pools.items() if pool.num_gpus}
        self._is_growing, self._console, self._lacks = config.ray.autoscaling, console, lacks
        self._said: set[tuple[str, ...]] = set()
        super().__init__("growth", self.look, _LOOK_INTERVAL_S)

    def start(self) -> None:
        """Begin, on a cluster that grows."""
        if self._is_growing:
            super().start()

    def look(self) -> None:
        """Say what is new."""
        for types in self._lacks():
            if types in self._settings and types not in self._said:
                self._said.add(types)
                said = _sentence(types, self._settings[types])
                logs.logger.warning(said)
                self._console.print(said, markup=False, highlight=False)


def _sentence(types: Sequence[str], stage: str) -> str:
    of_type = f" of type {' or '.join(types)}" if types else ""
    says = " and the label ray.io/accelerator-type" if types else ""
    other = f", or name another in workers.{stage}.accelerator_types" if types else ""
    return (
        f"No node with a GPU{of_type} can come, for which workers.{stage} waits: no group of the cluster has it{says}, "
        f"or all that have are as large as they may be. The run goes on waiting: add a group, or let one grow{other}"
    )
