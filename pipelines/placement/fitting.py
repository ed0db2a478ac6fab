"""Which GPUs a stage can use: those of the types that it is told, else those whose memory holds it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actors import accelerators
from actors.errors import ConfigError
from actors.generators.base import MemoryWay
from actors.gpu_share import CONTEXT_BYTES, GpuShares
from pipelines.config import ActorPool, Config
from pipelines.config.mistakes import nearest
from pipelines.placement.nodes import TYPE_LABEL, Node, listed

_GB = 10**9
IN_NO_WAY = "in no way"


@dataclass(frozen=True, slots=True)
class Site:
    """Where a stage's workers may be.

    Attributes:
        types: accelerator types; empty: anywhere.
        is_without: not on GPUs of these types, but on all other nodes.
        is_soft: elsewhere, too, where there is no room.
    """

    types: tuple[str, ...] = ()
    is_without: bool = False
    is_soft: bool = False

    def holds(self, node: Node) -> bool:
        """Whether a node belongs to it."""
        if not self.types:
            return True
        is_of_types = node.gpus > 0 and node.is_labelled and node.accelerator in self.types
        return is_of_types != self.is_without

    def may_take(self, node: Node) -> bool:
        """Whether Ray may put there what belongs here."""
        return self.is_soft or self.holds(node)

    def options(self) -> dict[str, Any]:
        """For a stage of Ray Data."""
        if not self.types:
            return {}
        rule = f"{'!' if self.is_without else ''}in({','.join(self.types)})"
        given: dict[str, Any] = {"label_selector": {TYPE_LABEL: rule}}
        return given | {"fallback_strategy": [{"label_selector": {}}]} if self.is_soft else given


ANYWHERE = Site()


def without_gpus(config: Config, nodes: Sequence[Node]) -> Site:
    """Nodes without a GPU first; anywhere, where there are none or Ray cannot tell them.

    Of nodes that are still to come nothing is known but that those with a GPU have the label of their type.
    """
    with_gpus = [node for node in nodes if node.gpus]
    if config.ray.autoscaling:
        told = (*config.workers.generate.accelerator_types, *config.workers.finish.accelerator_types)
        types = sorted({*accelerators.names(), *told, *_types(with_gpus)})
        return Site(tuple(types), is_without=True, is_soft=True)
    has_others = any(not node.gpus and node.cpus for node in nodes)
    if not with_gpus or not has_others or not all(node.is_labelled for node in with_gpus):
        return ANYWHERE
    return Site(_types(with_gpus), is_without=True, is_soft=True)


def for_generator(config: Config, nodes: Sequence[Node], ways: Sequence[MemoryWay]) -> tuple[Site, list[str]]:
    """Where the generator can be, and what is to be said of that.

    Raises:
        ConfigError: there is no GPU of the types that it asks for, or none holds it.
    """
    pool = config.workers.generate
    if not pool.num_gpus:
        return without_gpus(config, nodes), []
    unknown = [node for node in nodes if node.gpus and node.gpu_bytes is None]
    notes = [f"{listed(unknown)}: their memory is not known here, and taken to be enough"] if unknown and ways else []
    if pool.accelerator_types:
        return _told(config, "generate", pool, nodes), notes
    share = min(pool.num_gpus, 1.0)
    with_gpus = [node for node in nodes if node.gpus]
    small = [node for node in with_gpus if ways and not _holds(node, ways, share)]
    if not small:
        return ANYWHERE, notes
    needs = f"{config.generator} needs {ways[-1].needed_bytes / _GB:.1f} GB at least (model.memory={ways[-1].name})"
    if len(small) == len(with_gpus) and not config.ray.autoscaling:
        fits_alone = any(_holds(node, ways, 1.0) for node in small)
        more = "raise workers.generate.num_gpus, " if fits_alone else ""
        raise ConfigError(
            f"no GPU of the cluster ({listed(nodes)}) holds the generator: {needs}; {more}lower image.width and "
            "height or generation.num_frames, or name the type in workers.generate.accelerator_types to try it "
            "all the same"
        )
    avoidable = [node for node in small if node.is_labelled]
    return Site(_types(avoidable), is_without=bool(avoidable)), [*notes, f"{listed(small)}: too small, {needs}"]


def for_finish(config: Config, nodes: Sequence[Node]) -> Site:
    """Where RIFE can be, which a GPU of any size holds; or, without a GPU, the encoder. Raises as `for_generator`."""
    pool = config.workers.finish
    if config.interpolation.weights is None or not pool.num_gpus:
        return without_gpus(config, nodes)
    return _told(config, "finish", pool, nodes) if pool.accelerator_types else ANYWHERE


def apart_from(generate: Site, finish: Site, nodes: Sequence[Node]) -> Site | None:
    """Those GPUs that only RIFE can be on; None where there are none."""
    others = [node for node in nodes if node.gpus and node.is_labelled and finish.holds(node)]
    types = _types([node for node in others if not generate.holds(node)])
    return Site(types) if types else None


def way_name(node: Node, ways: Sequence[MemoryWay], shares: GpuShares | None) -> str:
    """How clips are expected to be made on a node's GPUs; "" where memory does not matter."""
    if not ways:
        return ""
    if node.gpu_bytes is None:
        return ways[0].name
    room = shares.limit("generate", node.gpu_bytes) if shares else None
    way = _first_way(ways, node.gpu_bytes - CONTEXT_BYTES if room is None else room)
    return way.name if way else IN_NO_WAY


def _told(config: Config, stage: str, pool: ActorPool, nodes: Sequence[Node]) -> Site:
    """The types that a stage is told."""
    site = Site(tuple(pool.accelerator_types))
    if config.ray.autoscaling or any(node.gpus and site.holds(node) for node in nodes):
        return site
    names = " or ".join(pool.accelerator_types)
    there = sorted({node.accelerator for node in nodes if node.gpus and node.accelerator})
    is_unlabelled = any(node.gpus and node.accelerator in site.types for node in nodes)
    why = f", without Ray's label {TYPE_LABEL}" if is_unlabelled else ""
    raise ConfigError(
        f"workers.{stage}.accelerator_types asks for {names}, and the cluster has {listed(nodes)}{why}; where it grows "
        f"on demand, set ray.autoscaling=true{'' if is_unlabelled else nearest(pool.accelerator_types[0], there)}"
    )


def _holds(node: Node, ways: Sequence[MemoryWay], share: float) -> bool:
    return node.gpu_bytes is None or _first_way(ways, int(node.gpu_bytes * share) - CONTEXT_BYTES) is not None


def _first_way(ways: Sequence[MemoryWay], room: int) -> MemoryWay | None:
    return next((way for way in ways if way.needed_bytes <= room), None)


def _types(nodes: Sequence[Node]) -> tuple[str, ...]:
    return tuple(sorted({node.accelerator for node in nodes if node.accelerator is not None}))
