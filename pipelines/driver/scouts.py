"""Nodes without a GPU, asked for where a cluster grows.

An autoscaler starts nodes for what has no room. Images have room beside the generators, on nodes with GPUs, so for them
alone no other node would ever come. Scouts are tasks that do nothing and run on nodes without a GPU only: they have no
room until there is one, and from then on Ray prefers it for loading. Others ask for the generators' GPUs meanwhile, so
that all machines are asked for at once.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from actors.errors import RunError, first_line
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

    loading = ray.remote(scout).options(num_cpus=config.workers.load.num_cpus, label_selector=where)
    generating = ray.remote(scout).options(
        num_cpus=config.workers.generate.num_cpus, num_gpus=pools.generate_gpus, **pools.where.get("generate", {})
    )
    scouts: list[Any] = []
    for_gpus: list[Any] = []
    try:
        scouts += [loading.remote() for _ in range(pools.load_tasks)]
        for_gpus += [generating.remote() for _ in range(pools.generate_actors)]
        with interruption.drawing():
            _wait(scouts)
    except KeyboardInterrupt:
        if not interruption.is_over:
            raise
    except RayError as error:
        raise RunError(f"the run broke off: {first_line(error)}; the same command continues it") from error
    finally:
        _cancel(for_gpus)  # the generators ask for themselves from here on
    try:
        yield
    finally:
        _cancel(scouts)


def _cancel(scouts: list[Any]) -> None:
    import ray
    from ray.exceptions import RayError

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
