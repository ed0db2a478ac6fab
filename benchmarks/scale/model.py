"""What a run needs of each of its parts, for so many GPUs: fitted to what was measured, and extended beyond.

A part that is one process works one thing at a time (Python's lock, one loop for events), so it ends at one core:

    cores = row_s * rows/s + actor * actors + idle

`row_s` is CPU-seconds a row, `actor` what each actor costs however slowly clips come, `idle` what is there without any.
The driver is another matter (`Driver`). Commits, bytes and requests end by something else than CPU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from math import ceil, inf
from typing import NamedTuple

import numpy as np

# Above this share of a part's end a queue before it grows long: what one driver should be given.
COMFORTABLE = 0.7
# Of GPUs, as `pipelines.pools` divides them: one in nine carries RIFE.
_GPUS_PER_RIFE = 9
_GPUS_PER_NODE = 8
# Ray Data waits so long for tasks to end before it looks again (WAIT_FOR_TASK_COMPLETION_TIMEOUT_S), unless all do.
_RAY_WAITS_S = 0.1


@dataclass(frozen=True, slots=True)
class Load:
    """What runs at a time: rows a second, and actors of both stages."""

    rows_per_s: float
    actors: float


def load_of(gpus: float, clip_s: float) -> Load:
    """Of so many GPUs, of which some carry RIFE, where a clip takes `clip_s` seconds of one of the others."""
    finishing = gpus / _GPUS_PER_RIFE
    return Load((gpus - finishing) / clip_s, gpus)


class Part(NamedTuple):
    """A part of a run under some load: which share of its end it is at, 0..."""

    name: str
    share: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one process: CPU-seconds a row, cores an actor, cores without any."""

    row_s: float
    actor: float
    idle: float

    def cores(self, load: Load) -> float:
        """That it needs."""
        return self.row_s * load.rows_per_s + self.actor * load.actors + self.idle


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver's Python threads, of which one runs at a time. Most of it is Ray Data's loop.

    The loop comes round, looks at all tasks under way and at the state of each actor, hands on what has ended, and
    waits a tenth of a second. The longer that takes, the more rows it finds the next time, and the less often it comes
    round. So actors make it late (`turns_every_s`), and only rows fill it.

    Attributes:
        row_s: CPU-seconds a row.
        turn_s: CPU-seconds each time the loop comes round, without rows and actors.
        look_s: CPU-seconds of a look at one actor's tasks, each time.
        idle: cores of all else.
    """

    row_s: float
    turn_s: float
    look_s: float
    idle: float

    def share(self, rows_per_s: float, besides: float = 0.0) -> float:
        """Of the one core, that rows take; `besides`: cores that commits take of it."""
        return self.row_s * rows_per_s + self.idle + besides

    def turn_takes_s(self, actors: float) -> float:
        """Seconds, where no rows come."""
        return _RAY_WAITS_S + self.turn_s + self.look_s * actors

    def turns_every_s(self, load: Load) -> float:
        """Seconds from one turn to the next."""
        left = 1 - self.share(load.rows_per_s)
        return self.turn_takes_s(load.actors) / left if left > 0 else inf

    def cores(self, load: Load, turns_per_s: float) -> float:
        """All that it takes, which is less than one always."""
        return self.share(load.rows_per_s) + (self.turn_s + self.look_s * load.actors) * turns_per_s


def fitted(terms: Sequence[tuple[float, float]], cores: Sequence[float]) -> tuple[float, float, float]:
    """The two factors and the constant that explain `cores` best, by least squares; none is negative.

    All choices of them are tried: those left out are zero.
    """
    matrix = np.array([[*both, 1.0] for both in terms])
    measured = np.array(cores)
    best, least = np.zeros(3), inf
    for kept in chain.from_iterable(combinations(range(3), number) for number in (1, 2, 3)):
        columns = list(kept)
        solved, *_ = np.linalg.lstsq(matrix[:, columns], measured, rcond=None)
        missed = float(np.square(measured - matrix[:, columns] @ solved).sum())
        if (solved >= 0).all() and missed < least:
            best, least = np.zeros(3), missed
            best[columns] = solved
    first, second, constant = best.tolist()
    return first, second, constant


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
    """What is not CPU.

    Attributes:
        clip_bytes: that travel from the stage that generates to the last one, mostly to another node.
        node_bytes_per_s: of a node's network.
        puts_per_s: that a store takes under one prefix; a video is one.
    """

    clip_bytes: float
    node_bytes_per_s: float
    puts_per_s: float


@dataclass(frozen=True, slots=True)
class Model:
    """All parts of a run: the driver, what else there is once in a run, and what each node has."""

    driver: Driver
    once: Mapping[str, Cost]
    per_node: Mapping[str, Cost]
    commits: Commits
    limits: Limits

    def parts(self, gpus: float, clip_s: float) -> list[Part]:
        """Of a run over so many GPUs, the fullest first."""
        load, node = load_of(gpus, clip_s), load_of(_GPUS_PER_NODE, clip_s)
        besides = self.commits.cores(load.rows_per_s)
        shares = {
            "driver": self.driver.share(load.rows_per_s, besides),
            # An actor has its next clip when it ends one; the one after it has to come while that is made.
            "a turn of the driver's loop, of a clip's time": self.driver.turn_takes_s(load.actors) / clip_s,
            "commits": self.commits.share(load.rows_per_s),
            "uploads to one prefix": load.rows_per_s / self.limits.puts_per_s,
            "network of a node": node.rows_per_s * self.limits.clip_bytes / self.limits.node_bytes_per_s,
        }
        shares |= {name: cost.cores(load) for name, cost in self.once.items()}
        shares |= {f"{name} of a node": cost.cores(node) for name, cost in self.per_node.items()}
        return sorted((Part(*one) for one in shares.items()), key=lambda part: -part.share)

    def ends_at(self, clip_s: float, share: float = 1.0) -> tuple[str, int]:
        """What comes to this share of its end first, and with how many GPUs."""
        low, high = 0, 1
        while self.parts(high, clip_s)[0].share < share:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.parts(middle, clip_s)[0].share < share else (low, middle)
        return self.parts(high, clip_s)[0].name, high

    def shards(self, gpus: int, clip_s: float) -> int:
        """Drivers that a job needs, so that each has room."""
        _, too_many = self.ends_at(clip_s, COMFORTABLE)
        return ceil(gpus / max(1, too_many - 1))
