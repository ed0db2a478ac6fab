"""How many actors each stage gets: what `actors: auto` becomes on a cluster."""

from dataclasses import dataclass
from math import ceil

from actors.errors import ConfigError
from pipelines.config import ActorPool, Config

# What Ray Data reserves for a task that reads the work file.
_READ_CPUS = 1.0
# Clips are generated so much slower than they are encoded on the CPU: SVD actors per encoding actor without RIFE.
_SVD_ACTORS_PER_ENCODER = 4
# Clips that one GPU's SVD actor keeps a whole GPU of RIFE actors busy with: the two stages' pools are sized by it.
_SVD_GPUS_PER_RIFE_GPU = 8


@dataclass(frozen=True, slots=True)
class Pools:
    """How many actors each pool gets, and the GPUs that each actor reserves."""

    generate_actors: int
    generate_gpus: float
    interpolate_actors: int
    interpolate_gpus: float


def size_pools(config: Config, cluster_gpus: float, cluster_cpus: float) -> Pools:
    """Turn `actors: auto` into numbers that the cluster can hold.

    A single GPU is shared half and half. On more, one GPU in nine (rounded up) carries RIFE and the others SVD. Without
    RIFE weights the last stage only encodes, and takes no GPU.

    Raises:
        ConfigError: the pools need more GPUs or CPUs than there are; Ray would wait for them without a word.
    """
    pools = _divide(config, cluster_gpus)
    if not config.ray.autoscaling:
        _check_fit(config, pools, cluster_gpus, cluster_cpus)
    return pools


def _divide(config: Config, cluster_gpus: float) -> Pools:
    generate, interpolate = config.workers.generate, config.workers.interpolate
    if config.interpolation.weights is None:
        generate_actors = _actors(generate, cluster_gpus)
        encoders = (
            ceil(generate_actors / _SVD_ACTORS_PER_ENCODER) if interpolate.actors == "auto" else interpolate.actors
        )
        return Pools(generate_actors, generate.num_gpus, encoders, 0.0)
    automatic = generate.actors == "auto" and interpolate.actors == "auto"
    if automatic and cluster_gpus == 1 and generate.num_gpus == 1 and interpolate.num_gpus > 0:
        return Pools(1, 0.5, 1, 0.5)
    rife_gpus = ceil(cluster_gpus / (_SVD_GPUS_PER_RIFE_GPU + 1)) if interpolate.num_gpus else 0
    return Pools(
        _actors(generate, cluster_gpus - rife_gpus),
        generate.num_gpus,
        _actors(interpolate, rife_gpus),
        interpolate.num_gpus,
    )


def _check_fit(config: Config, pools: Pools, cluster_gpus: float, cluster_cpus: float) -> None:
    workers = config.workers
    gpus = pools.generate_actors * pools.generate_gpus + pools.interpolate_actors * pools.interpolate_gpus
    if gpus > cluster_gpus:
        raise ConfigError(
            f"the actor pools need {gpus:g} GPUs "
            f"({pools.generate_actors} x {pools.generate_gpus:g} for workers.generate, "
            f"{pools.interpolate_actors} x {pools.interpolate_gpus:g} for workers.interpolate) and the cluster has "
            f"{cluster_gpus:g}: lower workers.*.actors or num_gpus, or set them to auto"
        )
    actor_cpus = (
        pools.generate_actors * workers.generate.num_cpus + pools.interpolate_actors * workers.interpolate.num_cpus
    )
    task_cpus = max(workers.load.num_cpus, _READ_CPUS)
    if actor_cpus + task_cpus > cluster_cpus:
        raise ConfigError(
            f"the actors reserve {actor_cpus:g} CPUs ({pools.generate_actors} x {workers.generate.num_cpus:g} for "
            f"workers.generate, {pools.interpolate_actors} x {workers.interpolate.num_cpus:g} for "
            f"workers.interpolate), loading needs {task_cpus:g} more, and the cluster has {cluster_cpus:g}: "
            "lower workers.*.num_cpus (0 shares)"
        )


def _actors(pool: ActorPool, gpus: float) -> int:
    """Actors of a pool that `gpus` carry; one where the stage runs on the CPU."""
    if pool.actors != "auto":
        return pool.actors
    return max(1, int(gpus / pool.num_gpus)) if pool.num_gpus else 1
