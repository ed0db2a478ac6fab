"""The Ray Data graph: the stages of one image, in order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import ray
from ray.data import ActorPoolStrategy, DataContext

from actors.errors import ConfigError
from actors.records import WORK_SCHEMA, Outcome, Provenance
from actors.stages import Finish, Generate, load_image
from actors.storage import Storage
from pipelines.config import ActorPool, Config
from pipelines.plan import WorkFile

# Two calls may be under way in an actor, one of them fetching its 44 MB of input while the other computes: the gap
# between clips falls from 22 ms to 0.1 ms. The stage's own code still runs one call at a time.
_CALLS_PER_ACTOR = 2
# Clips that one GPU's SVD actor keeps a whole GPU of RIFE actors busy with: the two stages' pools are sized by it.
_SVD_GPUS_PER_RIFE_GPU = 8


@dataclass(frozen=True, slots=True)
class Pools:
    """How many actors each pool gets, and the GPUs that each actor reserves."""

    generate_actors: int
    generate_gpus: float
    interpolate_actors: int
    interpolate_gpus: float


def size_pools(config: Config, cluster_gpus: float) -> Pools:
    """Turn `actors: auto` into numbers that the cluster can hold.

    A single GPU is shared half and half. On more, one GPU in nine (rounded up) carries RIFE and the others SVD.

    Raises:
        ConfigError: the pools need more GPUs than there are.
    """
    generate, interpolate = config.workers.generate, config.workers.interpolate
    if cluster_gpus == 1 and generate.num_gpus == 1 and interpolate.num_gpus > 0 and generate.actors == "auto":
        return Pools(1, 0.5, 1, 0.5)
    rife_gpus = ceil(cluster_gpus / (_SVD_GPUS_PER_RIFE_GPU + 1)) if interpolate.num_gpus else 0
    pools = Pools(
        _actors(generate, cluster_gpus - rife_gpus),
        generate.num_gpus,
        _actors(interpolate, rife_gpus),
        interpolate.num_gpus,
    )
    needed = pools.generate_actors * generate.num_gpus + pools.interpolate_actors * interpolate.num_gpus
    if needed > cluster_gpus and not config.ray.autoscaling:
        raise ConfigError(
            f"the actor pools need {needed:g} GPUs "
            f"({pools.generate_actors} x {generate.num_gpus:g} for workers.generate, "
            f"{pools.interpolate_actors} x {interpolate.num_gpus:g} for workers.interpolate) and the cluster has "
            f"{cluster_gpus:g}: lower workers.*.actors or num_gpus, or set them to auto"
        )
    return pools


def _actors(pool: ActorPool, gpus: float) -> int:
    """Actors of a pool that `gpus` carry; one where the stage runs on the CPU."""
    if pool.actors != "auto":
        return pool.actors
    return max(1, int(gpus / pool.num_gpus)) if pool.num_gpus else 1


def outcomes(
    work: Sequence[WorkFile], config: Config, provenance: Provenance, storage: Storage, pools: Pools
) -> Iterator[Outcome]:
    """Run the stages over the work files; every row comes back exactly once, as soon as it is done, in any order."""
    context = DataContext.get_current()
    context.enable_progress_bars = False  # progress is ours to print
    context.execution_options.preserve_order = False

    # 1. Read the plan's work rows, one per block (1:1): a row is the unit of work, retry and failure.
    rows = ray.data.read_parquet(
        [storage.native_path(file.uri) for file in work],
        filesystem=storage.filesystem(work[0].uri),
        columns=WORK_SCHEMA.names,
    ).repartition(target_num_rows_per_block=1, strict=True)

    # 2. Load (1:1), as CPU tasks: fetching and decoding keep no state.
    images = rows.map(
        load_image,
        fn_kwargs={"storage": storage, "settings": config.image},
        num_cpus=config.workers.load.num_cpus,
    )

    # 3. Generate (1:1), in a pool of fixed size: an actor is minutes of loading and must not come and go.
    clips = images.map_batches(
        Generate,
        fn_constructor_args=(config.model, config.generation, storage),
        batch_size=config.workers.generate.batch_size,
        batch_format="numpy",
        compute=ActorPoolStrategy(size=pools.generate_actors, max_concurrent_calls_per_actor=_CALLS_PER_ACTOR),
        num_gpus=pools.generate_gpus,
        num_cpus=config.workers.generate.num_cpus,
        udf_modifying_row_count=False,
    )

    # 4. Interpolate, encode and upload (1:1): together, so that 170 MB of frames a clip stay inside one process.
    finished = clips.map(
        Finish,
        fn_constructor_args=(config.interpolation, config.video, provenance, config.output, storage),
        compute=ActorPoolStrategy(size=pools.interpolate_actors, max_concurrent_calls_per_actor=_CALLS_PER_ACTOR),
        num_gpus=pools.interpolate_gpus,
        num_cpus=config.workers.interpolate.num_cpus,
    )

    for batch in finished.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        yield from map(Outcome.from_json, batch["outcome"].to_pylist())
