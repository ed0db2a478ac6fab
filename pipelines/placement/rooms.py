"""What is free on nodes while actors are put there, as Ray puts them there.

Ray goes round the nodes (its strategy SPREAD, which Ray Data asks for) and takes the next one that has room. On a node
a fraction goes to the GPU with the least room that holds it, whole numbers go to GPUs that are free.
"""

from collections.abc import Callable, Sequence
from math import floor

from actors.gpu_share import ROUNDING
from pipelines.placement.nodes import Node


class Room:
    """Of one node: `cpus` and, for each of its GPUs, the share of it that is free."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cpus = node.cpus
        self.gpus = [1.0] * node.gpus

    def take(self, gpus: float, cpus: float) -> bool:
        """Put an actor here that reserves so much; False where there is no room."""
        if cpus > self.cpus + ROUNDING:
            return False
        free = sorted(index for index, share in enumerate(self.gpus) if share >= min(gpus, 1.0) - ROUNDING)
        if gpus >= 1:
            if len(free) < round(gpus):
                return False
            for index in free[: round(gpus)]:
                self.gpus[index] = 0.0
        elif gpus > 0:
            if not free:
                return False
            self.gpus[min(free, key=lambda index: self.gpus[index])] -= gpus
        self.cpus -= cpus
        return True

    def tasks(self, cpus: float) -> int:
        """How many tasks that reserve so many CPUs have room."""
        return max(floor((self.cpus + ROUNDING) / cpus), 0)

    @property
    def idle_gpus(self) -> int:
        """GPUs that nobody has a share of."""
        return sum(share > 1 - ROUNDING for share in self.gpus)


def spread(
    rooms: Sequence[Room], actors: int, *, gpus: float, cpus: float, may_take: Callable[[Node], bool]
) -> list[int]:
    """Put `actors`, or as many as have room, on the nodes that may take them; how many each node got."""
    counts, left = [0] * len(rooms), actors
    going_round = [index for index, room in enumerate(rooms) if may_take(room.node)]
    while left and going_round:
        took = []
        for index in going_round:
            if left and rooms[index].take(gpus, cpus):
                counts[index] += 1
                left -= 1
                took.append(index)
        going_round = took
    return counts


def spread_together(
    rooms: Sequence[Room], actors: int, together: int, *, gpus: float, cpus: float, may_take: Callable[[Node], bool]
) -> list[int]:
    """The same of actors of which `together` are on one GPU each; those that are left over are together, too."""
    groups, over = divmod(actors, together)
    counts = spread(rooms, groups, gpus=together * gpus, cpus=together * cpus, may_take=may_take)
    rest = spread(rooms, min(over, 1), gpus=over * gpus, cpus=over * cpus, may_take=may_take)
    return [full * together + one * over for full, one in zip(counts, rest, strict=True)]


def held_together(generate_gpus: float, finish_gpus: float) -> int:
    """How many actors of `finish` are to be on one GPU, so that none takes what a generator needs whole; 1: any."""
    if not 0 < finish_gpus < min(generate_gpus, 1.0):
        return 1
    return floor(min(generate_gpus, 1.0) / finish_gpus + ROUNDING)
