"""Simulated GPUs on Ray's real head, what they cost each part of a run, and what more of them would.

    python -m benchmarks.scale [--gpus 8,64] [--clip-s 9.5] [--for 8,64,500,1000,5000]

A GPU is an actor that sleeps. Ray's head is told that it has them, so one machine has as many as its memory holds
(0.15 GB each). Time is compressed: 8 actors of 0.32 s a clip give the driver the 25 rows/s of 267 GPUs at 9.5 s. One
job runs uncompressed, with the 44 MB of frames of SVD-XT's clips. A model (`benchmarks.scale.model`) is fitted to the
CPU time of each process, for that is the same on a machine that has too few cores for all of them. About ten minutes.
"""

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.scale import commits, cpu, looks
from benchmarks.scale.jobs import Job, Pace, Sample, watched
from benchmarks.scale.model import COMFORTABLE, Commits, Cost, Driver, Limits, Load, Model, fitted, load_of

# Of an SVD-XT clip in stillreel's exact way on an H100: benchmarks/RESULTS.md.
_CLIP_S = 9.5
_CLIP_BYTES = 25 * 576 * 1024 * 3
# Rates at which a job is watched, unless its clips would be longer than real ones.
_ROWS_PER_S = (2.0, 10.0, 25.0)
_WATCHED_S, _WATCHED_FULL_SIZE_S = 25.0, 40.0
_PARTS = 20
_WIDTH = 170
# The default of `run.flush_s`.
_FLUSH_S = 30.0
# Assumed, not measured here: two requests to a store in the same region; a network of 25 Gbit/s a node; and what Amazon
# promises for one prefix ("Best practices design patterns: optimizing Amazon S3 performance").
_ANSWER_S, _NODE_BYTES_PER_S, _PUTS_PER_S = 0.1, 25e9 / 8, 3500.0
_ONCE = (cpu.LEDGER, cpu.FEED, cpu.GCS)
_SHOWN = (*_ONCE, cpu.RAYLET)


def main() -> None:
    """Run the jobs, fit, print what was measured, the model and what it says of more GPUs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=_numbers, default=[8, 64], help="simulated, a job each")
    parser.add_argument("--clip-s", type=float, default=_CLIP_S, help="seconds of a GPU for a clip")
    parser.add_argument("--for", dest="asked", type=_numbers, default=[8, 64, 500, 1000, 5000], help="GPUs")
    arguments = parser.parse_args()
    clip_s: float = arguments.clip_s
    samples = watched(Job(min(arguments.gpus), [Pace(clip_s, _WATCHED_FULL_SIZE_S)], is_full_size=True))
    for gpus in arguments.gpus:
        paces = [Pace(gpus / rate, _WATCHED_S) for rate in _ROWS_PER_S if gpus / rate <= clip_s]
        samples += watched(Job(gpus, paces))
    committing = commits.measured(_PARTS, flush_s=_FLUSH_S, answer_s=_ANSWER_S)
    model = model_of([one for one in samples if not one.is_full_size], looks.measured(), committing)
    show(samples, model, clip_s, arguments.asked)


def show(samples: Sequence[Sample], model: Model, clip_s: float, asked: Sequence[int]) -> None:
    """Print all that there is to say, of runs with `asked` GPUs, too."""
    console = Console(width=_WIDTH)
    console.print(_by_role(samples), _against(samples, model, clip_s), _terms(model), _told(model, clip_s, asked))
    name, end = model.ends_at(clip_s)
    _, too_many = model.ends_at(clip_s, COMFORTABLE)
    console.print(f"{name} ends first: at {end:,} GPUs, {load_of(end, clip_s).rows_per_s:.0f} rows/s", highlight=False)
    console.print(f"{COMFORTABLE:.0%} of that, which leaves room: {too_many - 1:,} GPUs a driver", highlight=False)


def model_of(samples: Sequence[Sample], look_s: float, committing: Commits) -> Model:
    """Fitted to samples without bytes; `look_s` is known (`benchmarks.scale.looks`)."""
    pythons = [one.cores(*cpu.DRIVER_PYTHON) - look_s * one.actors * one.turns_per_s for one in samples]
    row_s, turn_s, idle = fitted([(one.rows_per_s, one.turns_per_s) for one in samples], pythons)

    def cost(role: str) -> Cost:
        return Cost(*fitted([(one.rows_per_s, one.actors) for one in samples], [one.cores(role) for one in samples]))

    return Model(
        Driver(row_s, turn_s, look_s, idle),
        {role: cost(role) for role in _ONCE},
        {cpu.RAYLET: cost(cpu.RAYLET)},
        committing,
        Limits(_CLIP_BYTES, _NODE_BYTES_PER_S, _PUTS_PER_S),
    )


def _by_role(samples: Sequence[Sample]) -> Table:
    table = Table("CPU ms a row, of", *(_name(one) for one in samples))
    for role in cpu.ROLES:
        table.add_row(role, *(f"{one.cpu_s[role] / max(one.rows, 1) * 1000:.1f}" for one in samples))
    table.add_row("all", *(f"{sum(one.cpu_s.values()) / max(one.rows, 1) * 1000:.1f}" for one in samples))
    return table


def _against(samples: Sequence[Sample], model: Model, clip_s: float) -> Table:
    """What was measured, and in brackets the model."""
    table = Table("job", "rows/s", f"as of GPUs at {clip_s:g} s", "turns/s", "driver's Python, cores", *_SHOWN)
    for one in samples:
        load = Load(one.rows_per_s, one.actors)
        costs = {**model.once, **model.per_node}
        shown = [(one.cores(*cpu.DRIVER_PYTHON), model.driver.cores(load, one.turns_per_s))]
        shown += [(one.cores(role), costs[role].cores(load)) for role in _SHOWN]
        as_of = one.rows_per_s / load_of(1, clip_s).rows_per_s
        told = [f"{seen:.3f} ({said:.3f})" for seen, said in shown]
        table.add_row(_name(one), f"{one.rows_per_s:.1f}", f"{as_of:.0f}", f"{one.turns_per_s:.1f}", *told)
    return table


def _terms(model: Model) -> Table:
    table = Table("model", "ms a row", "an actor", "cores without any")
    driver = model.driver
    turns = f"{driver.turn_s * 1000:.1f} ms a turn, and {driver.look_s * 1e6:.0f} us for each actor"
    table.add_row("driver's Python", f"{driver.row_s * 1000:.2f}", turns, f"{driver.idle:.3f}")
    for name, cost in {**model.once, **model.per_node}.items():
        table.add_row(name, f"{cost.row_s * 1000:.2f}", f"{cost.actor * 1e6:.0f} us/s", f"{cost.idle:.3f}")
    committing = model.commits
    of_part = f"{committing.part_s * 1000:.0f} ms a part on a local disk, {committing.part_cpu_s * 1000:.0f} ms of CPU"
    table.add_row("commits", of_part, "", "")
    return table


def _told(model: Model, clip_s: float, asked: Sequence[int]) -> Table:
    """Shares of each part's end, for more GPUs than there are."""
    table = Table("one driver: shares of their ends", *(f"{gpus:,} GPUs" for gpus in asked))
    parts = {gpus: dict(model.parts(gpus, clip_s)) for gpus in asked}
    table.add_row("rows/s", *(f"{load_of(gpus, clip_s).rows_per_s:.1f}" for gpus in asked))
    for name in parts[max(asked)]:
        table.add_row(name, *(_share(parts[gpus][name]) for gpus in asked))
    table.add_row("drivers (run.shard) needed", *(str(model.shards(gpus, clip_s)) for gpus in asked))
    return table


def _share(share: float) -> str:
    return f"{share:.1%}" if share < 10 else f"{share:.0f} times"


def _name(sample: Sample) -> str:
    return f"{sample.actors} actors, {sample.clip_s:.3g} s" + (", 44 MB" if sample.is_full_size else "")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    main()
