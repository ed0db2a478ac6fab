"""What a run works on: the configuration with all that is to be looked up first, and the dataset."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from actors.errors import ConfigError
from actors.generators import GENERATORS
from actors.licences.licence import Licence
from actors.marks.credentials import Credentials
from actors.records import clip_schema
from actors.rife.peek import refuse_unsupported
from actors.rife.place import weights_file
from actors.runner.profiling import Profiling
from actors.storage import Storage
from pipelines.config import Config, settled
from pipelines.dataset.card_licences import Licences
from pipelines.dataset.commit import Committer
from pipelines.dataset.layout import Layout, RunFolder, new_run_id
from pipelines.dataset.lease import Lease, held
from pipelines.dataset.shard import Shard
from pipelines.driver.kept_log import kept_log
from pipelines.manifest.image_uris import AllowedImages
from pipelines.money.history import read_history
from pipelines.planning.holdings import read_holdings
from pipelines.planning.identity import model_revisions
from pipelines.planning.known_files import KnownFiles
from pipelines.planning.part_index import PartIndex, Place
from pipelines.planning.planner import Plan, Retry, make_plan
from pipelines.signing import credentials_of


@dataclass(frozen=True, slots=True)
class Job:
    """A configuration and the dataset that it writes to.

    Attributes:
        revisions: of the model's content, and of the interpolation weights'.
        run_id: of a run; of none, "-".
        credentials: what clips are signed with; None: they are not.
        licence: of the model; None: there is no model.
        notes: what the plan says of the model.
    """

    config: Config
    storage: Storage
    layout: Layout
    revisions: tuple[str, str]
    run_id: str = "-"
    credentials: Credentials | None = None
    licence: Licence | None = None
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, config: Config) -> "Job":
        """Look up what the models are; paths are made absolute, and of a folder of RIFE weights its file is taken.

        Raises:
            StillreelError: there is no such model, or clips cannot be signed as they should.
        """
        storage = Storage(config.storage.options, tries=config.storage.tries)
        interpolation = config.interpolation
        if interpolation.weights is not None:
            weights = weights_file(interpolation.weights, storage)
            refuse_unsupported(weights, storage)
            interpolation = interpolation.model_copy(update={"weights": weights})
        model = config.model.with_absolute_paths()
        changes = {"output": Storage.absolute(config.output), "model": model.opened(storage)}
        config = settled(config.model_copy(update=changes | {"interpolation": interpolation}), storage)
        revisions, notes = model_revisions(config, storage), config.model.notes(storage)
        licence = model.pinned(revisions[0]).licence(storage)
        config = config.model_copy(update={"model": model.with_licence(licence)})
        credentials = credentials_of(config, storage)
        return cls(
            config, storage, Layout(config.output), revisions, credentials=credentials, licence=licence, notes=notes
        )

    @classmethod
    def to_run(cls, config: Config) -> "Job":
        """The same for a run: the model pinned, the output known to be possible.

        Raises:
            ConfigError: the output cannot be a folder.
        """
        job = cls.of(config)
        _check_output(job.layout.root, job.storage)
        pinned = job.config.model_copy(update={"model": job.config.model.pinned(job.revisions[0])})
        return replace(job, config=pinned, run_id=new_run_id(job.shard))

    @property
    def shard(self) -> Shard:
        """The share of the dataset that it makes."""
        return self.config.run.share

    @property
    def image_storage(self) -> Storage:
        """For what the manifest names: its URLs lead only where that is allowed."""
        config, settings = self.config, self.config.storage
        allowed = AllowedImages.beside(
            config.sources,
            config.output,
            settings.schemes,
            base=config.columns.base,
            prefixes=settings.prefixes,
            private_networks=settings.private_networks,
        )
        return self.storage.guarded(allowed.web)

    @property
    def folder(self) -> RunFolder:
        """What the run leaves in the dataset beside clips."""
        return self.layout.run(self.run_id)

    @property
    def profiling(self) -> Profiling | None:
        """Which clips leave a profile, and where; None where none is asked for."""
        clips = self.config.run.profile
        return Profiling(clips, self.folder.profile, self.storage) if clips else None

    def lease(self, tell: Callable[[str], None] | None, *, break_lease: bool) -> AbstractContextManager[Lease]:
        """The right to write, for the length of a block; `break_lease` takes it from whoever has it.

        `tell` is told where it waits for a run that may be dead; without, it is refused.
        """
        run_id, lease_s = self.run_id, self.config.run.lease_s
        return held(
            self.layout,
            self.storage,
            run_id=run_id,
            lease_s=lease_s,
            break_lease=break_lease,
            shard=self.shard,
            tell=tell,
        )

    def plan(self, retry: Retry | None, *, with_work: bool) -> Plan:
        """What is to be made; `with_work` writes work files into the run's folder."""
        index, files = PartIndex(Place(self.layout, self.storage)), KnownFiles(self.layout, self.storage)
        holdings = read_holdings(self.layout, self.storage, beside_others=not self.shard.is_whole, index=index)
        run = self.folder if with_work else None
        plan = make_plan(self.config, self.storage, holdings, self.revisions, run=run, retry=retry, files=files)
        plan.notes[:0] = [*self.notes, *([self.licence.note] if self.licence else [])]
        if with_work:
            index.save()
            files.save()
        if plan.to_do:
            plan.history = read_history(self.config, self.layout, self.storage, self.revisions, parts=holdings.parts)
        return plan

    def licences(self, plan: Plan) -> Licences:
        """What the dataset's card says of this run's."""
        model = str(self.config.model.described()["model"])
        return Licences(model, self.licence, plan.image_licences)

    def forget(self) -> None:
        """Remove the run's folder, in which there is no more than the configuration."""
        self.storage.remove(self.folder.config)
        self.storage.remove(self.folder.heartbeat)
        self.storage.prune(self.folder.uri)

    def extend_older(self, plan: Plan, lease: Lease) -> None:
        """Give parts of an older version of stillreel the columns that they lack. Raises RunError."""
        if plan.older:
            from pipelines.upkeep.extending import extend_before_run
            from pipelines.upkeep.moving import Mover
            from pipelines.upkeep.schemas import Columns

            columns = Columns.of(self.config.generator, plan.extras)
            mover = Mover(self.layout, self.storage, self.run_id, lease.check)
            extend_before_run(plan.older, columns, mover, is_shard=not self.shard.is_whole)

    def committer(self, plan: Plan, lease: Lease) -> Committer:
        """What writes the dataset."""
        schema = clip_schema(GENERATORS[self.config.generator])
        return Committer(self.layout, self.storage, schema, plan.extras, plan.rows_per_part, lease.check)

    def log(self, name: str) -> AbstractContextManager[Path]:
        """A local file to write into; the run's folder gets it meanwhile and at the end."""
        return kept_log(name, self.folder.log(name), self.storage)


def _check_output(output: str, storage: Storage) -> None:
    """Raise ConfigError for a local folder that cannot be one; what a store allows is known when it is written to."""
    if storage.is_local(output):
        folder = Path(storage.native_path(output))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"output={output} cannot be a folder ({error.strerror}): name one that can be written to"
            ) from error
