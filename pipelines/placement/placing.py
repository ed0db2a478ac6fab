"""Who goes where: the one decision, which `run` follows and `plan --cluster` shows.

    types  ->  numbers  ->  actors on nodes, as Ray spreads them  ->  loading where CPUs are left

GPUs that hold the generator generate; RIFE goes to the others first. What reserves no GPU goes to nodes without one.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from actors.generators.base import MemoryWay
from actors.gpu_share import GpuShares
from actors.rife.memory import needed_bytes
from actors.rife.peek import counted_bytes_per_pixel
from actors.storage import Storage
from pipelines.config import Config
from pipelines.placement import fitting, loading, memory, refusals
from pipelines.placement.fitting import Site
from pipelines.placement.nodes import Node, listed
from pipelines.placement.rooms import Room, held_together, spread, spread_together
from pipelines.placement.shares import Share
from pipelines.pools import Pools, divide

_GB = 10**9


@dataclass(frozen=True, slots=True)
class Placement:
    """The decision: `pools` for Ray, the `shares` of the nodes, `notes` for people, and where generators may be."""

    pools: Pools
    shares: list[Share]
    notes: list[str]
    generate: Site

    @property
    def generating_on(self) -> dict[str, float]:
        """GPUs that the actors of `generate` reserve, by accelerator type (`Node.name`)."""
        return self._by_type(lambda share: share.generate * self.pools.generate_gpus)

    @property
    def held(self) -> dict[str, float]:
        """The same of all actors."""
        finish_gpus = self.pools.finish_gpus
        return self._by_type(lambda share: share.generate * self.pools.generate_gpus + share.finish * finish_gpus)

    def _by_type(self, gpus_of: Callable[[Share], float]) -> dict[str, float]:
        types: dict[str, float] = {}
        for share in self.shares:
            if gpus := gpus_of(share):
                types[share.node.name] = types.get(share.node.name, 0.0) + gpus
        return types


def place(config: Config, nodes: Sequence[Node]) -> Placement:
    """Divide a run among the nodes of its cluster.

    Raises:
        ConfigError: it does not fit, or what it asks for is not there: Ray would wait for it without a word. Not on a
            cluster that grows on demand (`ray.autoscaling`).
    """
    generate, finish = config.workers.generate, config.workers.finish
    ways, unknown = memory.needed(config)
    for_generate, notes = fitting.for_generator(config, nodes, ways)
    for_finish = fitting.for_finish(config, nodes)
    pools = _numbers(config, nodes, for_generate, for_finish)
    if not config.ray.autoscaling:
        refusals.check_sums(config, pools, nodes)
    rooms = [Room(node) for node in nodes]
    generating = _put(rooms, pools.generate_actors, pools.generate_gpus, generate.num_cpus, for_generate)
    apart = fitting.apart_from(for_generate, for_finish, nodes) if pools.finish_gpus else None
    for_finish, finishing, together = _finishing(
        rooms, pools, finish.num_cpus, apart, for_finish, grows=config.ray.autoscaling
    )
    pools = replace(pools, together=together)
    placed, short = refusals.as_placed(config, pools, nodes, sum(generating), sum(finishing))
    for_load, load_tasks, loads = loading.divide(config, placed, rooms)
    if not config.ray.autoscaling:
        refusals.check_loading(config, loads)
    gpu_shares = _gpu_shares(config, placed, needs_memory=bool(ways))
    placed = replace(
        placed,
        where={"load": for_load.options(), "generate": for_generate.options(), "finish": for_finish.options()},
        load_tasks=load_tasks,
        shares=gpu_shares,
    )
    each = [
        Share(room.node, generating[index], finishing[index], loads[index], room.idle_gpus)
        for index, room in enumerate(rooms)
    ]
    each = [replace(one, way=fitting.way_name(one.node, ways, gpu_shares)) if one.generate else one for one in each]
    said = [*unknown, *notes, *short, *_tighter(config, each, ways, gpu_shares), *memory.too_little(each, ways)]
    return Placement(placed, each, [*said, *_idle(each)], for_generate)


def _numbers(config: Config, nodes: Sequence[Node], for_generate: Site, for_finish: Site) -> Pools:
    """`auto` as numbers, by the GPUs that can do both, and either."""

    def gpus(*, generates: bool, finishes: bool) -> float:
        return float(
            sum(
                node.gpus
                for node in nodes
                if (for_generate.holds(node), for_finish.holds(node)) == (generates, finishes)
            )
        )

    if config.interpolation.weights is None or not config.workers.finish.num_gpus:  # that stage is on no GPU
        return divide(config, gpus(generates=True, finishes=True) + gpus(generates=True, finishes=False))
    return divide(
        config,
        gpus(generates=True, finishes=True),
        for_generate=gpus(generates=True, finishes=False),
        for_finish=gpus(generates=False, finishes=True),
    )


def _put(rooms: Sequence[Room], actors: int, gpus: float, cpus: float, site: Site) -> list[int]:
    """How many of the actors each node gets; where a soft site has no room, others do."""
    counts = spread(rooms, actors, gpus=gpus, cpus=cpus, may_take=site.holds)
    if site.is_soft and (left := actors - sum(counts)):
        others = spread(rooms, left, gpus=gpus, cpus=cpus, may_take=lambda node: not site.holds(node))
        counts = [sum(both) for both in zip(counts, others, strict=True)]
    return counts


def _finishing(
    rooms: list[Room], pools: Pools, cpus: float, apart: Site | None, site: Site, *, grows: bool
) -> tuple[Site, list[int], int]:
    """Where the actors of `finish` go, how many each node gets, and how many are held together on a GPU.

    The first way in which all have room: apart from the generators, together, anyhow. On a cluster that grows they are
    held together wherever they come to be.
    """
    actors, gpus = pools.finish_actors, pools.finish_gpus
    together = held_together(pools.generate_gpus, gpus)
    ways = [(apart, 1)] if apart is not None else []
    ways += [(site, together)] if together > 1 and actors > 1 else []
    for where, each in ways:
        trial = copy.deepcopy(rooms)
        counts = spread_together(trial, actors, each, gpus=gpus, cpus=cpus, may_take=where.holds)
        if sum(counts) == actors:
            rooms[:] = trial
            return where, counts, each
    is_together = grows and together > 1 and actors > 1
    return site, _put(rooms, actors, gpus, cpus, site), together if is_together else 1


def _gpu_shares(config: Config, pools: Pools, *, needs_memory: bool) -> GpuShares | None:
    """How actors share GPUs; None where each has its own."""
    if not (0 < pools.generate_gpus < 1 or 0 < pools.finish_gpus < 1):
        return None
    return GpuShares(
        pools.generate_gpus if needs_memory else 0.0,
        pools.generate_actors,
        pools.finish_gpus,
        pools.finish_actors,
        _rife_bytes(config, config.interpolation.pairs_per_batch) if pools.finish_gpus else 0,
    )


def _rife_bytes(config: Config, pairs: int) -> int:
    """What RIFE needs of a GPU for so many pairs in a call: the version of the weights says it."""
    storage = Storage(config.storage.options, tries=config.storage.tries)
    counted = counted_bytes_per_pixel(config.interpolation.weights, storage)
    return needed_bytes(config.image.width, config.image.height, pairs, counted)


def _tighter(
    config: Config, shares: Sequence[Share], ways: Sequence[MemoryWay], gpu_shares: GpuShares | None
) -> list[str]:
    """Where clips are made in another way than the settings ask for."""
    making = {share.node: share.way for share in shares if share.way}
    is_mixed = len(set(making.values())) > 1
    notes = []
    for node, way in making.items():
        if way == ways[0].name or node.gpu_bytes is None:
            continue
        what = "may fit in no way there" if way == fitting.IN_NO_WAY else f"are expected to be made {way} there"
        advice = "; to leave those to RIFE, name the others in workers.generate.accelerator_types" if is_mixed else ""
        if way == fitting.IN_NO_WAY and _fits_beside_less(config, node, ways, gpu_shares):
            advice = f"; interpolation.pairs_per_batch=1 leaves enough of a GPU that is shared with RIFE{advice}"
        needs = f"{ways[0].name} needs {ways[0].needed_bytes / _GB:.1f} GB"
        notes.append(f"{node.name} ({node.gpu_bytes / _GB:.0f} GB): clips {what} ({needs}){advice}")
    return list(dict.fromkeys(notes))


def _fits_beside_less(config: Config, node: Node, ways: Sequence[MemoryWay], shares: GpuShares | None) -> bool:
    """Whether the generator would fit where RIFE takes one pair of frames at a time."""
    if shares is None or not shares.finish_bytes:
        return False
    less = replace(shares, finish_bytes=_rife_bytes(config, 1))
    return fitting.way_name(node, ways, less) != fitting.IN_NO_WAY


def _idle(shares: Sequence[Share]) -> list[str]:
    """GPUs that nobody has a share of."""
    idle = [replace(share.node, gpus=share.idle_gpus) for share in shares if share.idle_gpus]
    return [f"GPUs left idle: {listed(idle)}"] if idle else []
