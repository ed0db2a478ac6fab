"""Where images are loaded, and by how many tasks at a time.

Ray spreads tasks over all nodes, those with GPUs too (its `RAY_scheduler_avoid_gpu_nodes` does not hold for the
strategy SPREAD, which Ray Data asks for). There they would take CPUs that an actor needs which starts again.
"""

from collections.abc import Sequence
from math import ceil

from pipelines.config import Config
from pipelines.placement.fitting import ANYWHERE, Site, without_gpus
from pipelines.placement.rooms import Room
from pipelines.pools import Pools

# Images that are loaded at a time, for each generator. By its parts, a clip of 4 steps takes an H200 1.8 s, one of 25
# steps 9 s, and a 12-megapixel image 0.34 s of a CPU (benchmarks/RESULTS.md): so many feed a generator from a store
# that answers after seconds.
_LOADS_PER_GENERATOR = 4
# With fewer CPUs than one for so many generators, nodes without a GPU would keep these waiting.
_GENERATORS_PER_LOAD = 4


def divide(config: Config, pools: Pools, rooms: Sequence[Room]) -> tuple[Site, int | None, list[int]]:
    """Where tasks go; how many at a time (None: as Ray Data finds room); and how many of these each node has room for.

    Generators on CPUs are as fast as anything: then loading is not limited.
    """
    free = [room.tasks(config.workers.load.num_cpus) for room in rooms]
    grows, is_limited = config.ray.autoscaling, pools.generate_gpus > 0
    site = without_gpus(config, [room.node for room in rooms])
    slots = _within(site, rooms, free)
    if not grows and sum(slots) < (ceil(pools.generate_actors / _GENERATORS_PER_LOAD) if is_limited else 1):
        site, slots = ANYWHERE, free
    if not is_limited:
        return site, None, slots
    wanted = _LOADS_PER_GENERATOR * pools.generate_actors
    at_a_time = wanted if grows else min(wanted, sum(slots))
    return site, at_a_time, _dealt(at_a_time, slots)


def _within(site: Site, rooms: Sequence[Room], free: Sequence[int]) -> list[int]:
    return [tasks if site.holds(room.node) else 0 for tasks, room in zip(free, rooms, strict=True)]


def _dealt(tasks: int, slots: Sequence[int]) -> list[int]:
    """`tasks`, dealt out one by one to those that have a slot left."""
    dealt = [0] * len(slots)
    while tasks and (open_nodes := [index for index, slot in enumerate(slots) if dealt[index] < slot]):
        for index in open_nodes[:tasks]:
            dealt[index] += 1
        tasks -= len(open_nodes[:tasks])
    return dealt
