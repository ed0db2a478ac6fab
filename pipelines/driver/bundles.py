"""Actors that share a GPU, held together: those that fill what one generator reserves are on one GPU, wherever that is.

Ray spreads actors. On four GPUs that are free it puts one with a quarter of a GPU on each, and a generator that needs a
whole one waits for ever. It does not at the start, when generators come first, but where nodes were lost and others had
joined before, and on a cluster that grows. So each such group is a placement group, with a bundle for each actor, which
Ray packs: onto one node, where one has the CPUs for all. When that node is lost, it packs them again elsewhere.
"""

from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

from pipelines.pools import Pools


class Bundles:
    """Of the actors of `finish`."""

    def __init__(self, pools: Pools, cpus: float) -> None:
        """`cpus`: that each actor reserves. Nothing where `pools.together` says that each goes by itself."""
        self._pools, self._cpus = pools, cpus
        self._groups: list[Any] = []

    def options(self) -> dict[str, Any]:
        """For the stage of Ray Data, in the place of where its workers may be; reserves the GPUs."""
        pools = self._pools
        if pools.together <= 1:
            return dict(pools.where.get("finish", {}))
        from ray.util.placement_group import placement_group

        self.remove()
        selector = pools.where.get("finish", {}).get("label_selector")
        for begin in range(0, pools.finish_actors, pools.together):
            actors = min(pools.together, pools.finish_actors - begin)
            bundles = [{"GPU": pools.finish_gpus} | ({"CPU": self._cpus} if self._cpus else {})] * actors
            selectors = [selector] * actors if selector else None
            self._groups.append(placement_group(bundles, "PACK", bundle_label_selector=selectors))
        return {"ray_remote_args_fn": _in_turn(self._groups, pools)}

    def remove(self) -> None:
        """Give the GPUs back."""
        from ray.exceptions import RayError
        from ray.util.placement_group import remove_placement_group

        for group in self._groups:
            with suppress(RayError):
                remove_placement_group(group)
        self._groups.clear()


def _in_turn(groups: list[Any], pools: Pools) -> Callable[[], dict[str, Any]]:
    """What Ray Data asks for each actor: all of one group, then all of the next."""
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    strategies, calls = [PlacementGroupSchedulingStrategy(group) for group in groups], count()

    def of_next() -> dict[str, Any]:
        actor = next(calls) % pools.finish_actors
        return {"scheduling_strategy": strategies[actor // pools.together]}

    return of_next
