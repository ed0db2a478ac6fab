"""How many actors each stage gets: what `actors: auto` becomes on a cluster."""

from dataclasses import dataclass
from math import ceil

from actors.errors import ConfigError
from pipelines.config import ActorPool, Config
from pipelines.driver.gpu_time import Reserved

# Clips are generated so much slower than they are encoded on the CPU: generators per encoding actor without RIFE.
_GENERATORS_PER_ENCODER = 4
# GPUs that generate for each GPU that interpolates: the two stages' pools are sized by it.
_GENERATOR_GPUS_PER_RIFE_GPU = 8


@dataclass(frozen=True, slots=True)
class Pools:
    """How many actors each pool gets, and the GPUs that each actor reserves."""

    generate_actors: int
    generate_gpus: float
    finish_actors: int
    finish_gpus: float

    @property
    def gpus(self) -> float:
        """That all actors reserve together."""
        return sum(one.actors * one.gpus for one in self.reserved.values())

    @property
    def reserved(self) -> dict[str, Reserved]:
        """By stage."""
        return {
            "generate": Reserved(self.generate_actors, self.generate_gpus),
            "finish": Reserved(self.finish_actors, self.finish_gpus),
        }


def size_pools(config: Config, cluster_gpus: float, cluster_cpus: float) -> Pools:
    """Turn `actors: auto` into numbers that the cluster can hold.

    A single GPU is shared half and half. On more, one GPU in nine (rounded up) carries RIFE and the others generate.
    Without RIFE weights the last stage only encodes, and takes no GPU.

    Raises:
        ConfigError: the pools need more GPUs or CPUs than there are; Ray would wait for them without a word.
    """
    pools = _divide(config, cluster_gpus)
    if not config.ray.autoscaling:
        _check_fit(config, pools, cluster_gpus, cluster_cpus)
    return pools


def pools_without_cluster(config: Config) -> Pools:
    """For a machine with one GPU, or of a configuration that reserves none, with none."""
    return _divide(config, float(config.needs_gpu))


def _divide(config: Config, cluster_gpus: float) -> Pools:
    generate, finish = config.workers.generate, config.workers.finish
    if config.interpolation.weights is None:
        generate_actors = _actors(generate, cluster_gpus)
        encoders = ceil(generate_actors / _GENERATORS_PER_ENCODER) if finish.actors == "auto" else finish.actors
        return Pools(generate_actors, generate.num_gpus, encoders, 0.0)
    automatic = generate.actors == "auto" and finish.actors == "auto"
    if automatic and cluster_gpus == 1 and generate.num_gpus == 1 and finish.num_gpus > 0:
        return Pools(1, 0.5, 1, 0.5)
    rife_gpus = ceil(cluster_gpus / (_GENERATOR_GPUS_PER_RIFE_GPU + 1)) if finish.num_gpus else 0
    return Pools(
        _actors(generate, cluster_gpus - rife_gpus),
        generate.num_gpus,
        _actors(finish, rife_gpus),
        finish.num_gpus,
    )


def _check_fit(config: Config, pools: Pools, cluster_gpus: float, cluster_cpus: float) -> None:
    workers = config.workers
    if pools.gpus > cluster_gpus:
        raise ConfigError(
            f"the actor pools need {pools.gpus:g} GPUs "
            f"({pools.generate_actors} x {pools.generate_gpus:g} for workers.generate, "
            f"{pools.finish_actors} x {pools.finish_gpus:g} for workers.finish) and the cluster has "
            f"{cluster_gpus:g}: lower workers.*.actors or num_gpus, or set them to auto"
        )
    actor_cpus = pools.generate_actors * workers.generate.num_cpus + pools.finish_actors * workers.finish.num_cpus
    task_cpus = workers.load.num_cpus
    if actor_cpus + task_cpus > cluster_cpus:
        raise ConfigError(
            f"the actors reserve {actor_cpus:g} CPUs ({pools.generate_actors} x {workers.generate.num_cpus:g} for "
            f"workers.generate, {pools.finish_actors} x {workers.finish.num_cpus:g} for "
            f"workers.finish), loading needs {task_cpus:g} more, and the cluster has {cluster_cpus:g}: "
            "lower workers.*.num_cpus (0 shares)"
        )


def _actors(pool: ActorPool, gpus: float) -> int:
    """Actors of a pool that `gpus` carry; one where the stage runs on the CPU."""
    if pool.actors != "auto":
        return pool.actors
    return max(1, int(gpus / pool.num_gpus)) if pool.num_gpus else 1
