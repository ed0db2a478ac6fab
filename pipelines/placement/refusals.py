"""What a cluster has no room for: a sentence, before an actor starts. Ray would wait without a word."""

from collections.abc import Sequence
from dataclasses import replace

from actors.counting import counted
from actors.errors import ConfigError
from pipelines.config import Config
from pipelines.placement.nodes import Node, listed
from pipelines.pools import Pools


def check_sums(config: Config, pools: Pools, nodes: Sequence[Node]) -> None:
    """Raise ConfigError where the pools need more than all nodes have together."""
    workers, cluster_gpus, cluster_cpus = config.workers, sum(node.gpus for node in nodes), sum(n.cpus for n in nodes)
    if pools.gpus > cluster_gpus:
        raise ConfigError(
            f"the actor pools need {counted(pools.gpus, 'GPU')} "
            f"({pools.generate_actors} x {pools.generate_gpus:g} for workers.generate, "
            f"{pools.finish_actors} x {pools.finish_gpus:g} for workers.finish) and the cluster has "
            f"{cluster_gpus:g}: {_advice(config, pools)}"
        )
    actor_cpus = pools.generate_actors * workers.generate.num_cpus + pools.finish_actors * workers.finish.num_cpus
    task_cpus = workers.load.num_cpus
    if actor_cpus + task_cpus > cluster_cpus:
        raise ConfigError(
            f"the actors reserve {counted(actor_cpus, 'CPU')} ({pools.generate_actors} x {workers.generate.num_cpus:g} "
            f"for workers.generate, {pools.finish_actors} x {workers.finish.num_cpus:g} for "
            f"workers.finish), loading needs {task_cpus:g} more, and the cluster has {cluster_cpus:g}: "
            "lower workers.*.num_cpus (0 shares)"
        )


def _advice(config: Config, pools: Pools) -> str:
    """What to do about too few GPUs: numbers that are set can be lower, `auto` has come to the least already."""
    workers = {"generate": config.workers.generate, "finish": config.workers.finish}
    names = [f"workers.{stage}" for stage, one in pools.reserved.items() if one.gpus]
    set_ones = [name for name in names if workers[name.removeprefix("workers.")].actors != "auto"]
    shares = f"num_gpus of {' or '.join(names)}"
    if not set_ones:
        return f"lower {shares}"
    numbers = " or ".join(f"{name}.actors" for name in set_ones)
    lower = f"lower {numbers} or set {'it' if len(set_ones) == 1 else 'them'} to auto, or lower {shares}"
    left = [name for name in names if name not in set_ones]
    return f"{numbers} leaves {left[0]} too little for one actor; {lower}" if left else lower


def as_placed(
    config: Config, pools: Pools, nodes: Sequence[Node], generating: int, finishing: int
) -> tuple[Pools, list[str]]:
    """The pools with as many actors as have a node, where their number is `auto`; and what is to be said of the others.

    Raises:
        ConfigError: a number that is set has no room on single nodes, or none of a stage has.
    """
    notes = []
    asked = {
        "generate": (pools.generate_actors, pools.generate_gpus),
        "finish": (pools.finish_actors, pools.finish_gpus),
    }
    for stage, placed in (("generate", generating), ("finish", finishing)):
        actors, gpus = asked[stage]
        if placed == actors:
            continue
        pool = config.workers.generate if stage == "generate" else config.workers.finish
        types = f" of type {' or '.join(pool.accelerator_types)}" if pool.accelerator_types else ""
        cpus = counted(pool.num_cpus, "CPU")
        each = f"{counted(gpus, 'GPU')}{types} and {cpus}" if gpus else cpus
        if config.ray.autoscaling:
            notes.append(
                f"{actors - placed} of {counted(actors, 'actor')} of workers.{stage} wait for nodes"
                f"{' with GPUs' + types if types else ''} that are to come"
            )
        elif pool.actors == "auto" and placed:
            notes.append(
                f"workers.{stage} gets {counted(placed, 'actor')} and not {actors}: no node has {each} left for "
                "another one"
            )
            pools = (
                replace(pools, generate_actors=placed) if stage == "generate" else replace(pools, finish_actors=placed)
            )
        else:
            is_auto = pool.actors == "auto"
            advice = "num_gpus or num_cpus" if is_auto else "actors, num_gpus or num_cpus, or set actors to auto"
            other = config.workers.finish if stage == "generate" else config.workers.generate
            others = "generate" if stage == "finish" else "finish"
            also = f", or workers.{others}.actors" if is_auto and other.actors != "auto" else ""
            raise ConfigError(
                f"only {placed} of {counted(actors, 'actor')} of workers.{stage} have room: each needs {each} on one "
                f"node, and what is left on several ({counted(len(nodes), 'node')}, {listed(nodes)}) does not add up: "
                f"lower workers.{stage}.{advice}{also}"
            )
    return pools, notes


def check_loading(config: Config, loads: Sequence[int]) -> None:
    """Raise ConfigError where no image can be loaded."""
    if not sum(loads):
        raise ConfigError(
            f"no node has {counted(config.workers.load.num_cpus, 'CPU')} left for loading beside the actors: lower "
            "workers.*.num_cpus (0 shares)"
        )
