"""The Ray Data graph: the stages of one image, in order."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import ray
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy
from ray.exceptions import RayError

from actors.errors import ConfigError, RunError, StillreelError
from actors.records import Outcome, Provenance
from actors.settings import shortcuts_of
from actors.stages.actor import as_actor
from actors.stages.attempts import Attempts
from actors.stages.feed import feed
from actors.stages.finish import Finish
from actors.stages.generate import Generate
from actors.stages.ledger import RemoteLedger
from actors.stages.load import load_image, load_images
from actors.stages.row import Row
from actors.storage import Storage
from pipelines.config import ActorPool, Config
from pipelines.plan import WorkFile
from pipelines.ray_statistics import KeepNoStatistics

# Two calls may be under way in an actor, one of them fetching its 44 MB of input while the other computes: the gap
# between clips falls from 22 ms to 0.1 ms. The stage's own code still runs one call at a time.
_CALLS_PER_ACTOR = 2
# What waits for a stage, as a multiple of what is under way in it, in bytes. Meant for work rows, which would all be
# read at once; what waits for the other stages is less, for want of memory.
_WAITING_PER_LOADING = 100.0
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
    task_cpus = workers.load.num_cpus
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


@dataclass(frozen=True, slots=True)
class Stages:
    """The code of each stage; benchmarks put in a model that costs nothing, tests one that fails."""

    load: Callable[..., Row] = load_image
    generate: type = Generate
    finish: type = Finish


class Graph:
    """The stages for the length of one run, with the ledger of what they try; a context manager."""

    def __init__(
        self,
        config: Config,
        provenance: Provenance,
        storage: Storage,
        pools: Pools,
        stages: Stages = Stages(),
    ) -> None:
        self._config = config
        self._provenance = provenance
        self._storage = storage
        self._pools = pools
        self._stages = stages
        self._ledger = RemoteLedger(config.run.max_attempts)
        self._attempts = Attempts(self._ledger, config.run.clip_timeout_s)

    def __enter__(self) -> "Graph":
        return self

    def __exit__(self, *error: object) -> None:
        self._ledger.stop()

    def drain(self) -> None:
        """Generate no other clip; `outcomes` goes on to give those that `generate` has begun with, and ends."""
        self._ledger.drain()

    def in_flight(self) -> list[str]:
        """The ids of the clips that `generate` has begun with and whose outcome has not come out of `outcomes` yet."""
        return self._ledger.in_flight()

    def num_begun(self) -> int:
        """How many clips were begun with so far; those whose row of the manifest has a problem are not among them."""
        return self._ledger.num_begun()

    def outcomes(self, work: Sequence[WorkFile]) -> Iterator[Outcome]:
        """Run the stages over the work files; every row comes back exactly once, as soon as it is done, in any order.

        Only after `drain` rows stay away: those that no stage began with.

        Raises:
            StillreelError: a worker cannot start, or Ray broke off.
        """
        config = self._config
        context = DataContext.get_current()
        context.enable_progress_bars = False  # progress is ours to print
        context.execution_options.preserve_order = False
        context.memory_usage_poll_interval_s = None  # else a thread is started and ended for each row and stage

        if KeepNoStatistics not in context.custom_execution_callback_classes:
            context.custom_execution_callback_classes.append(KeepNoStatistics)
        context.downstream_capacity_backpressure_ratio = _WAITING_PER_LOADING
        context.target_max_block_size = 1  # byte: each row is a block of its own, and given out when it is made

        # 1. Read the plan's work files, one after the other and no faster than they are loaded (1 file: many groups),
        # into blocks of as many rows as one task loads.
        files = ray.data.from_items([{"uri": file.uri} for file in work], override_num_blocks=len(work))
        rows = files.map_batches(
            feed,
            fn_kwargs={"storage": self._storage},
            batch_size=1,
            num_cpus=0,  # it waits most of the time
            compute=TaskPoolStrategy(size=1),
        )

        # 2. Load (1 group: its rows), as CPU tasks: fetching and decoding keep no state. From here on one row a block,
        # packed into two columns (`actors.stages.row`): a row is the unit of work, retry and failure. With num_cpus=1,
        # the default, that is one task, which gives out an image as soon as the next one is loaded; with other numbers
        # Ray makes two of it, one after the other.
        images = rows.map_batches(
            load_images,
            fn_kwargs={
                "load": self._stages.load,
                "storage": self._storage,
                "settings": config.image,
                "attempts": self._attempts,
            },
            batch_size=1,
            num_cpus=config.workers.load.num_cpus,
        )

        # 3. Generate (1:1), in a pool of fixed size: an actor is minutes of loading and must not come and go.
        clips = images.map_batches(
            as_actor(self._stages.generate),
            fn_constructor_args=(
                config.model,
                config.generation,
                config.image,
                self._storage,
                self._attempts,
                shortcuts_of(config.model.tier, config.fast),
            ),
            batch_size=config.workers.generate.batch_size,
            batch_format="numpy",
            compute=_pool(self._pools.generate_actors),
            num_gpus=self._pools.generate_gpus,
            num_cpus=config.workers.generate.num_cpus,
            udf_modifying_row_count=False,
        )

        # 4. Interpolate, encode and upload (1:1): together, so that 170 MB of frames a clip stay inside one process.
        finished = clips.map_batches(
            as_actor(self._stages.finish),
            fn_constructor_args=(
                config.interpolation,
                config.video,
                config.image,
                self._provenance,
                config.output,
                self._storage,
                self._attempts,
            ),
            batch_size=1,
            batch_format="numpy",
            compute=_pool(self._pools.interpolate_actors),
            num_gpus=self._pools.interpolate_gpus,
            num_cpus=config.workers.interpolate.num_cpus,
            udf_modifying_row_count=False,
        )

        try:
            # Blocks as they are; `iter_batches` would cost the driver, which is the one process that cannot be
            # multiplied, a quarter more a row.
            for bundle in finished.iter_internal_ref_bundles():
                for block in ray.get(list(bundle.block_refs)):
                    for outcome in map(Outcome.from_json, filter(None, block["outcome"].to_pylist())):
                        # Not before: a node that is lost may take along what its last stage has made.
                        self._ledger.leave(outcome.clip_id)
                        yield outcome
        except RayError as error:
            raise _explained(error) from error


def _pool(actors: int) -> ActorPoolStrategy:
    return ActorPoolStrategy(size=actors, max_concurrent_calls_per_actor=_CALLS_PER_ACTOR)


def _explained(error: RayError) -> StillreelError:
    """What ended the graph: the error of ours that a worker raised at its start, or Ray's own in one line.

    Ray hands an actor's error over as text, with the traceback of each process that it passed; ours is the last line
    that begins with the name of one of our errors.
    """
    names = {kind.__name__: kind for kind in _own_errors(StillreelError)}
    for line in reversed(str(error).splitlines()):
        name, colon, message = line.strip().partition(": ")
        if colon and (kind := names.get(name.rpartition(".")[2])):
            return kind(message)
    last = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
    return RunError(f"the run broke off: {last.strip()}; the same command continues it, ray.log of this run says more")


def _own_errors(kind: type[StillreelError]) -> list[type[StillreelError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _own_errors(child))]
