"""Nodes without a GPU, asked for where a cluster grows.

An autoscaler starts nodes for what has no room. Images have room beside the generators, on nodes with GPUs, so for them
alone no other node would ever come. Scouts are tasks that do nothing and run on nodes without a GPU only: they have no
room until there is one, and from then on Ray prefers it for loading.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pipelines.config import Config
from pipelines.driver.interruption import Interruption
from pipelines.placement.nodes import nodes_of
from pipelines.pools import Pools

# So long a run waits for the first of them once there is a GPU: nodes that are asked for together come together. A
# cluster may have none.
_PATIENCE_S = 30.0


@contextmanager
def sent_out(config: Config, pools: Pools, interruption: Interruption) -> Iterator[None]:
    """For the length of the block, have the cluster know that loading wants nodes without a GPU; waits for the first.

    Nothing on a cluster that does not grow, nor where GPUs do not limit loading. The wait, which may be long, ends with
    the run.
    """
    where = pools.where.get("load", {}).get("label_selector")
    if not config.ray.autoscaling or not where or pools.load_tasks is None:
        yield
        return
    import ray
    from ray.exceptions import RayError

    def scout() -> None:
        """By value: a worker needs nothing of this module."""

    asked = ray.remote(scout).options(num_cpus=config.workers.load.num_cpus, label_selector=where)
    scouts = [asked.remote() for _ in range(pools.load_tasks)]
    try:
        try:
            with interruption.drawing():
                _wait(scouts)
        except KeyboardInterrupt:
            if not interruption.is_over:
                raise
        yield
    finally:
        for one in scouts:
            with suppress(RayError):
                ray.cancel(one)


def _wait(scouts: list[Any]) -> None:
    """For one of them, or for a GPU that is alone for long."""
    import ray

    since: float | None = None
    while not ray.wait(scouts, timeout=1)[0]:
        if since is None and any(node.gpus for node in nodes_of(ray.nodes())):
            since = time.monotonic()
        if since is not None and time.monotonic() - since > _PATIENCE_S:
            return
