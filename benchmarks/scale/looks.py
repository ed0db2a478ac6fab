"""What it costs the driver to look at the tasks of one more actor: the one term that a few actors do not show."""

import time
from collections.abc import Sequence
from typing import Any

from tests.clusters import ray_connected, simulated_head

# Two run in an actor and two wait for it (`pipelines.graph`, and Ray Data's own factor).
_TASKS_PER_ACTOR = 4
_FEW, _MANY, _LOOKS = 50, 500, 20


def measured() -> float:
    """CPU-seconds a look and an actor, of tasks that never begin: they ask for a GPU that is not there."""
    with simulated_head(cpus=1, gpus=0, store_bytes=100_000_000) as head, ray_connected(head):
        import ray

        @ray.remote(num_gpus=1, num_returns="streaming", max_retries=0)  # type: ignore[untyped-decorator]
        def never() -> Any:
            yield None

        tasks = [never.remote() for _ in range(_MANY * _TASKS_PER_ACTOR)]
        few, many = _look_s(tasks[: _FEW * _TASKS_PER_ACTOR]), _look_s(tasks)
    return max(0.0, many - few) / (_MANY - _FEW)


def _look_s(tasks: Sequence[Any]) -> float:
    """CPU-seconds of this thread for one look, as Ray Data's loop does it."""
    import ray

    begun = time.thread_time()
    for _ in range(_LOOKS):
        ray.wait(list(tasks), num_returns=len(tasks), timeout=0.1, fetch_local=False)
    return (time.thread_time() - begun) / _LOOKS
