"""How many actors each stage gets: what `actors: auto` becomes of so many GPUs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Any

from actors.gpu_share import ROUNDING, GpuShares
from pipelines.config import ActorPool, Config

# Clips are generated so much slower than they are encoded on the CPU: generators per encoding actor without RIFE.
_GENERATORS_PER_ENCODER = 4
# GPUs that generate for each GPU that interpolates: the two stages' pools are sized by it.
_GENERATOR_GPUS_PER_RIFE_GPU = 8


@dataclass(frozen=True, slots=True)
class Reserved:
    """The actors of a stage, and the GPUs that each holds."""

    actors: int
    gpus: float


@dataclass(frozen=True, slots=True)
class Pools:
    """How many actors each pool gets, and the GPUs that each actor reserves.

    Attributes:
        where: arguments of Ray Data's stages, by stage, that say which nodes their workers may be on.
        load_tasks: images are loaded by so many tasks at a time; None: by as many as Ray Data finds room for.
        shares: how actors share GPUs; None where none does, or they need no memory of it.
        together: so many actors of `finish` are held together on one GPU (`pipelines.driver.bundles`).
    """

    generate_actors: int
    generate_gpus: float
    finish_actors: int
    finish_gpus: float
    where: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    load_tasks: int | None = None
    shares: GpuShares | None = None
    together: int = 1

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


def divide(config: Config, gpus: float, *, for_generate: float = 0.0, for_finish: float = 0.0) -> Pools:
    """Turn `actors: auto` into numbers.

    A single GPU is shared half and half. On more, one GPU in nine (rounded up) carries RIFE and the others generate;
    RIFE goes to those first that cannot generate. Where one pool is a number, the other gets of what that leaves.
    Without RIFE weights the last stage only encodes, and takes no GPU.

    Args:
        gpus: that can do both.
        for_generate, for_finish: others that can do one.
    """
    generate, finish = config.workers.generate, config.workers.finish
    if config.interpolation.weights is None:
        generate_actors = _actors(generate, gpus + for_generate)
        encoders = ceil(generate_actors / _GENERATORS_PER_ENCODER) if finish.actors == "auto" else finish.actors
        return Pools(generate_actors, generate.num_gpus, encoders, 0.0)
    automatic = generate.actors == "auto" and finish.actors == "auto"
    alone = (gpus, for_generate, for_finish) == (1, 0, 0)
    if automatic and alone and generate.num_gpus == 1 and finish.num_gpus > 0:
        return Pools(1, 0.5, 1, 0.5)
    if generate.actors != "auto":
        generating = generate.actors * generate.num_gpus
        wanted = float(ceil(generating / _GENERATOR_GPUS_PER_RIFE_GPU))
        if not config.ray.autoscaling:  # else the GPUs of either may be still to come
            wanted = min(wanted, for_finish + gpus - max(generating - for_generate, 0.0))
        return Pools(generate.actors, generate.num_gpus, _actors(finish, wanted), finish.num_gpus)
    taken = _taken_by_rife(config, gpus, for_generate, for_finish)
    generating = gpus + for_generate - taken
    wanted = taken + min(for_finish, max(ceil(generating / _GENERATOR_GPUS_PER_RIFE_GPU) - taken, 0))
    return Pools(_actors(generate, generating), generate.num_gpus, _actors(finish, wanted), finish.num_gpus)


def _taken_by_rife(config: Config, gpus: float, for_generate: float, for_finish: float) -> float:
    """GPUs of those that could generate."""
    finish = config.workers.finish
    if not finish.num_gpus:
        return 0.0
    if finish.actors != "auto" and not config.ray.autoscaling:
        return min(max(finish.actors * finish.num_gpus - for_finish, 0.0), gpus)
    behind = gpus + for_generate - _GENERATOR_GPUS_PER_RIFE_GPU * for_finish
    return min(max(ceil(behind / (_GENERATOR_GPUS_PER_RIFE_GPU + 1)), 0), gpus)


def pools_without_cluster(config: Config) -> Pools:
    """For a machine with one GPU, or of a configuration that reserves none, with none."""
    return divide(config, float(config.needs_gpu))


def _actors(pool: ActorPool, gpus: float) -> int:
    """Actors of a pool that `gpus` carry; one where the stage runs on the CPU."""
    if pool.actors != "auto":
        return pool.actors
    return max(1, floor(gpus / pool.num_gpus + ROUNDING)) if pool.num_gpus else 1
