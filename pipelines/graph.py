"""The Ray Data graph: the stages of one image, in order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Self

import ray
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy
from ray.exceptions import RayError

from actors import secrets
from actors.contracts import Ending
from actors.errors import RunError, StillreelError, error_named
from actors.generators import GENERATORS
from actors.gpu_share import Limited, Sharer
from actors.records import STAGES, work_schema
from actors.runner.actor import MakeStage, as_actor, as_task
from actors.runner.contract import ContractError
from actors.runner.feed import feed
from actors.runner.packing import ITEM_COLUMN, endings
from actors.stages.finish import Finish
from actors.stages.generate import Generate
from actors.stages.load import Load
from actors.tries.guard import Guard
from actors.tries.remote_ledger import RemoteLedger
from pipelines.dataset.work import WorkFile
from pipelines.driver import ray_private
from pipelines.driver.bundles import Bundles
from pipelines.job import Job
from pipelines.pools import Pools

# Two calls may be under way in an actor, one of them fetching its 44 MB of input while the other computes: the gap
# between clips falls from 22 ms to 0.1 ms. The stage's own code still runs one call at a time.
_CALLS_PER_ACTOR = 2


class Graph:
    """The stages for the length of one run, with the `ledger` of what they try; a context manager."""

    def __init__(
        self,
        job: Job,
        pools: Pools,
        stand_ins: Mapping[str, MakeStage],
    ) -> None:
        """`stand_ins`: what makes another stage in the place of the one of that name; for benchmarks and tests."""
        self._job, self._config, self._pools, self._stand_ins = job, job.config, pools, stand_ins
        run = job.config.run
        self.ledger = RemoteLedger(run.max_deaths, job.run_id)
        self._guard = Guard(self.ledger, run.clip_timeout_s, job.run_id, secrets.known())
        self._bundles = Bundles(pools, self._config.workers.finish.num_cpus)
        self._wired: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._bundles.remove()
        finally:
            self.ledger.stop()

    def endings(self, work: Sequence[WorkFile]) -> Iterator[Ending]:
        """Run the stages over the work files; every row ends exactly once, and is given as it ends, in any order.

        Only after `ledger.wind_down` rows stay away: those that no stage began with.

        Raises:
            StillreelError: a worker cannot start, or Ray broke off.
        """
        try:
            for block in ray_private.blocks_of(self._dataset(work)):
                for ending in endings(block[ITEM_COLUMN].to_pylist()):
                    # Not before: a node that is lost may take along what its last stage has made.
                    self.ledger.come_out(ending.row.clip_id)
                    yield ending
        except RayError as error:
            raise self._explained(error) from error

    def _dataset(self, work: Sequence[WorkFile]) -> Dataset:
        """The stages, from the work files to how each row ended."""
        ray_private.set_data_context()
        self._wired.clear()
        made = self._finish(self._generate(self._load(self._rows(work))))
        if self._wired != (names := [stage.name for stage in STAGES]):
            raise ContractError(f"the graph has the stages {self._wired}, and actors.records.STAGES has {names}")
        return made

    # 1. Read the plan's work files, one after the other and no faster than they are loaded (1 file: many groups), into
    # blocks of as many rows as one task loads. However many there are, the actors after them stay.
    def _rows(self, work: Sequence[WorkFile]) -> Dataset:
        files = ray.data.from_items([{"uri": file.uri} for file in work], override_num_blocks=len(work))
        columns = work_schema(GENERATORS[self._config.generator]).names
        return files.map_batches(
            feed,
            fn_kwargs={"columns": columns, "storage": self._job.storage},
            batch_size=1,
            num_cpus=0,  # it waits most of the time
            compute=TaskPoolStrategy(size=1),
        )

    # 2. Load (1 group: its rows), as CPU tasks: fetching and decoding keep no state. From here on one row per block: a
    # row is the unit of work, retry and failure. An image is given out as soon as it is loaded.
    def _load(self, rows: Dataset) -> Dataset:
        load = self._make("load", Load, self._config.image, self._job.image_storage)
        return rows.map_batches(
            as_task("load"),
            fn_kwargs={"make": load, "guard": self._guard},
            batch_size=1,
            num_cpus=self._config.workers.load.num_cpus,
            compute=TaskPoolStrategy(size=self._pools.load_tasks),
            **self._pools.where.get("load", {}),
        )

    # 3. Generate (1:1), in a pool of fixed size: an actor is minutes of loading and must not come and go.
    def _generate(self, images: Dataset) -> Dataset:
        config, storage, (revision, _) = self._config, self._job.storage, self._job.revisions
        generator = GENERATORS[config.generator]
        generate = self._make_within_share(
            "generate", Generate, generator, config.model, config.generation, revision, config.image, storage
        )
        return images.map_batches(
            as_actor("generate"),
            fn_constructor_args=(generate, self._guard, self._job.profiling),
            batch_size=config.workers.generate.batch_size,
            num_gpus=self._pools.generate_gpus,
            num_cpus=config.workers.generate.num_cpus,
            **_pool(self._pools.generate_actors),
            **self._pools.where.get("generate", {}),
        )

    # 4. Interpolate, encode and upload (1:1): together, so that 170 MB of frames a clip stay inside one process.
    def _finish(self, clips: Dataset) -> Dataset:
        config, place = self._config, self._job.layout.video
        cache_dir, credentials = config.model.node_cache, self._job.credentials
        storage, frames_between = self._job.storage, config.interpolation
        finish = self._make_within_share(
            "finish", Finish, frames_between, config.video, config.image, place, storage, cache_dir, credentials
        )
        return clips.map_batches(
            as_actor("finish"),
            fn_constructor_args=(finish, self._guard),
            batch_size=1,
            num_gpus=self._pools.finish_gpus,
            num_cpus=config.workers.finish.num_cpus,
            **_pool(self._pools.finish_actors),
            **self._bundles.options(),
        )

    def _explained(self, error: RayError) -> StillreelError:
        """What ended the graph: the error of ours that a worker raised at its start, or Ray's own in one line."""
        try:
            refusal = self.ledger.refusal()
        except RayError:  # nothing is left of Ray
            refusal = None
        if refusal is not None:
            return error_named(*refusal)
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        return RunError(
            f"the run broke off: {said[-1] if said else type(error).__name__}; the same command continues it, ray.log "
            "of this run says more"
        )

    def _make_within_share(self, name: Sharer, stage: Callable[..., Any], *args: Any) -> MakeStage:
        """The same, of a stage that may share its GPU."""
        make, shares = self._make(name, stage, *args), self._pools.shares
        return Limited(make, shares, name) if shares else make

    def _make(self, name: str, stage: Callable[..., Any], *args: Any) -> MakeStage:
        """What makes a stage in its worker."""
        self._wired.append(name)
        return self._stand_ins.get(name) or partial(stage, *args)


def _pool(actors: int) -> dict[str, Any]:
    """The arguments of a stage that runs in so many actors."""
    strategy = ActorPoolStrategy(size=actors, max_concurrent_calls_per_actor=_CALLS_PER_ACTOR)
    return {"compute": strategy, "batch_format": "numpy", "udf_modifying_row_count": False}
