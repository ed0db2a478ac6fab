"""What a run needs of each of its parts, for so many GPUs: fitted to what was measured, and extended beyond.

A part that is one process with one lock ends at one core. It needs

    cores = row_s * rows/s + actor * actors + idle

`row_s` is CPU-seconds a row. `actor` is what each actor costs however slowly clips come: Ray Data's loop looks at all
tasks under way and at the state of each actor ten times a second. `idle` is what is there without any.

Parts that end by something else than CPU (commits, bytes, requests) have a demand of their own, with its reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from math import ceil

import numpy as np

# Above this share of a part's end a queue before it grows long: what one driver should be given.
COMFORTABLE = 0.7
# Of GPUs, as `pipelines.pools` divides them: one in nine carries RIFE.
_GPUS_PER_RIFE = 9
_GPUS_PER_NODE = 8


@dataclass(frozen=True, slots=True)
class Load:
    """What runs at a time: rows a second, and actors of both stages."""

    rows_per_s: float
    actors: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one part: CPU-seconds a row, cores an actor, cores without any."""

    row_s: float
    actor: float
    idle: float

    def cores(self, load: Load) -> float:
        """That it needs."""
        return self.row_s * load.rows_per_s + self.actor * load.actors + self.idle


def fitted(loads: Sequence[Load], cores: Sequence[float]) -> Cost:
    """The cost that explains what was measured best, by least squares; no term is negative.

    Of three terms all choices are tried: those left out are zero.
    """
    terms = np.array([[load.rows_per_s, load.actors, 1.0] for load in loads])
    measured = np.array(cores)
    best, least = np.zeros(3), float(measured @ measured)
    for kept in chain.from_iterable(combinations(range(3), number) for number in (1, 2, 3)):
        columns = list(kept)
        solved, *_ = np.linalg.lstsq(terms[:, columns], measured, rcond=None)
        missed = measured - terms[:, columns] @ solved
        if (solved >= 0).all() and float(missed @ missed) < least - 1e-15:
            best, least = np.zeros(3), float(missed @ missed)
            best[columns] = solved
    row_s, actor, idle = (float(value) for value in best)
    return Cost(row_s, actor, idle)


@dataclass(frozen=True, slots=True)
class Commits:
    """Metadata is written part by part, whole, by the thread that draws rows; meanwhile it draws none.

    Attributes:
        part_s: seconds for a full part without the store's answer, of which `part_cpu_s` are the driver's CPU.
        answer_s: until a store has answered the requests for a part; of a local disk none.
    """

    part_s: float
    part_cpu_s: float
    answer_s: float
    rows_per_part: int
    flush_s: float

    def parts_per_s(self, rows_per_s: float) -> float:
        """Written: those that filled up since the last flush, and one that is begun."""
        return rows_per_s / self.rows_per_part + 1 / self.flush_s

    def share(self, rows_per_s: float) -> float:
        """Of the time that nothing is drawn."""
        return self.parts_per_s(rows_per_s) * (self.part_s + self.answer_s)

    def cores(self, rows_per_s: float) -> float:
        """Of the driver, which it lacks for all else."""
        return self.parts_per_s(rows_per_s) * self.part_cpu_s


@dataclass(frozen=True, slots=True)
class Limits:
    """What is not CPU, each with its source in docs/cluster.md.

    Attributes:
        clip_bytes: that travel from the stage that generates to the last one, mostly to another node.
        node_bytes_per_s: of a node's network.
        puts_per_s: that a store takes under one prefix; a video is one.
    """

    clip_bytes: float
    node_bytes_per_s: float
    puts_per_s: float


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a run under some load: which share of its end it is at, 0..."""

    name: str
    share: float


@dataclass(frozen=True, slots=True)
class Model:
    """All parts of a run.

    Attributes:
        whole: what there is once in a run, by name, each with one core.
        per_node: what each node has, likewise.
    """

    whole: Mapping[str, Cost]
    per_node: Mapping[str, Cost]
    driver: str
    commits: Commits
    limits: Limits

    def parts(self, gpus: int, clip_s: float, shards: int = 1) -> list[Part]:
        """Of a run over a shard of so many GPUs, the fullest first."""
        load, node = load_of(gpus / shards, clip_s), load_of(_GPUS_PER_NODE, clip_s)
        found = {name: cost.cores(load) for name, cost in self.whole.items()}
        found[self.driver] += self.commits.cores(load.rows_per_s)
        found |= {f"{name} of a node": cost.cores(node) for name, cost in self.per_node.items()}
        found["commits"] = self.commits.share(load.rows_per_s)
        found["network of a node"] = node.rows_per_s * self.limits.clip_bytes / self.limits.node_bytes_per_s
        found["uploads to the store"] = load.rows_per_s / self.limits.puts_per_s
        return sorted((Part(*one) for one in found.items()), key=lambda part: -part.share)

    def ends_at(self, clip_s: float, share: float = 1.0) -> tuple[str, int]:
        """What ends first, and with how many GPUs; of parts that more GPUs do not fill none."""
        low, high = 1, 1
        while self.parts(high, clip_s)[0].share < share:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.parts(middle, clip_s)[0].share < share else (low, middle)
        return self.parts(high, clip_s)[0].name, high

    def shards(self, gpus: int, clip_s: float) -> int:
        """Drivers that a job needs, so that each has room."""
        _, fits = self.ends_at(clip_s, COMFORTABLE)
        return ceil(gpus / fits)


def load_of(gpus: float, clip_s: float) -> Load:
    """Of so many GPUs, of which some carry RIFE, where a clip takes `clip_s` seconds of one of the others."""
    finishing = gpus / _GPUS_PER_RIFE
    return Load((gpus - finishing) / clip_s, gpus)
