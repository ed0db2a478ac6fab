"""The sections that are the driver's own: workers, run and ray. Those that workers need, too, are `actors.settings`."""

from math import inf
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from actors import accelerators
from actors.gpu_share import ROUNDING
from actors.settings import Section
from pipelines.dataset.shard import WHOLE, Shard


class TaskPool(Section):
    """Resources of one task of a stage that keeps no model."""

    num_cpus: float = Field(1.0, gt=0, description="CPUs reserved per task")


class ActorPool(Section):
    """An actor pool: how many actors, and what each reserves."""

    actors: int | Literal["auto"] = Field("auto", description="a number, or auto: as many as the cluster's GPUs carry")
    num_gpus: float = Field(1.0, ge=0, description="GPUs reserved per actor, whole or exactly 1/n; 0 runs on the CPU")
    num_cpus: float = Field(1.0, ge=0, description="CPUs reserved per actor")
    accelerator_types: list[str] = Field(
        [], description="GPUs of these types alone, as Ray calls them, e.g. [H100, A100]; empty: any that fits"
    )

    @field_validator("accelerator_types", mode="before")
    @classmethod
    def _is_a_list(cls, names: object) -> object:
        if isinstance(names, str):
            raise ValueError("should be a list, such as [H100]")  # noqa: TRY004 - pydantic explains a ValueError
        return names

    @field_validator("accelerator_types")
    @classmethod
    def _are_rays_names(cls, names: list[str]) -> list[str]:
        if mistake := accelerators.mistake_in(names):
            raise ValueError(mistake)
        return names

    @model_validator(mode="after")
    def _is_schedulable(self) -> "ActorPool":
        if isinstance(self.actors, int) and self.actors < 1:
            raise ValueError("actors must be 1 or more")
        # Ray cannot place fractions such as 0.3 on several nodes without stranding the rest (ray-project/ray#52133).
        share = self.num_gpus if self.num_gpus >= 1 or self.num_gpus == 0 else 1 / self.num_gpus
        if abs(share - round(share)) > ROUNDING:
            raise ValueError("num_gpus must be a whole number or exactly 1/n (0.5, 0.25, ...)")
        if self.accelerator_types and not self.num_gpus:
            raise ValueError("accelerator_types would be ignored, because num_gpus is 0: remove it")
        return self


class GenerationPool(ActorPool):
    """The actors that keep the generator resident."""

    batch_size: int = Field(
        1, ge=1, description="clips per call of an actor, made one after the other: the files are the same"
    )


class FinishPool(ActorPool):
    """The actors that keep RIFE resident."""

    num_gpus: float = Field(0.25, ge=0, description="GPUs reserved per actor, whole or exactly 1/n; 0 runs on the CPU")


class WorkerSettings(Section):
    """The stages' share of the cluster."""

    load: TaskPool = Field(TaskPool(), description="fetch and decode images")
    generate: GenerationPool = Field(GenerationPool(), description="the generator")
    finish: FinishPool = Field(FinishPool(), description="RIFE, encode, upload")


def _is_a_shard(text: object) -> object:
    if text is None:
        return None
    return str(Shard.parse(text if isinstance(text, str) else ""))


class RunSettings(Section):
    """How a run behaves."""

    shard: Annotated[str | None, BeforeValidator(_is_a_shard)] = Field(
        None, description="K/N, e.g. 3/16: the third of 16 runs that make one dataset at once; null: all of it"
    )
    flush_s: float = Field(30.0, gt=0, description="seconds between two commits of metadata")
    log_interval_s: float = Field(10.0, gt=0, description="seconds between two progress lines where no terminal is")
    lease_s: float = Field(
        120.0,
        ge=1,
        le=86_400,
        description="seconds without a sign of life after which another run may write to the output",
    )
    max_deaths: int = Field(
        3, ge=1, description="a clip fails after so many deaths of its worker; those with its node do not count"
    )
    clip_timeout_s: float | None = Field(
        3600.0, gt=0, description="a worker that takes longer over one stage of a clip is ended; null: never"
    )
    grace_s: float = Field(120.0, ge=0, description="seconds that clips under way get when the run is told to end")
    profile: int = Field(
        0,
        ge=0,
        le=100,
        description="so many clips of one actor leave a profile of PyTorch's time; 0: none",
    )
    max_failed_share: float = Field(0.05, ge=0, le=1, description="a larger share of failed rows ends with exit code 1")
    metrics: bool = Field(True, description="publish metrics through Ray, for Prometheus")

    @property
    def share(self) -> Shard:
        """The rows and parts that are this run's."""
        return Shard.parse(self.shard) if self.shard else WHOLE


def _is_price(price: float) -> float:
    if not 0 <= price < inf:
        raise ValueError(f"a price is a number from 0 on, and not {price:g}: give what an hour of one GPU costs")
    return price


Price = Annotated[float, AfterValidator(_is_price)]


class CostSettings(Section):
    """What GPUs cost, for estimates and for what a run came to."""

    gpu_hour: Price | None = Field(None, description="price of a GPU for an hour; null: unknown")
    gpu_hours: dict[str, Price] = Field(
        {}, description="the same by accelerator type, as Ray calls it, e.g. {H100: 2.5, L4: 0.7}"
    )
    currency: str = Field("USD", min_length=1, max_length=8, description="of the prices")

    @field_validator("gpu_hours")
    @classmethod
    def _are_types(cls, prices: dict[str, float]) -> dict[str, float]:
        if mistake := accelerators.mistake_in(prices):
            raise ValueError(mistake)
        return prices


class RaySettings(Section):
    """Which Ray cluster."""

    address: str | None = Field(
        None, description="null: the job's own cluster under `ray job submit`, else a local one"
    )
    num_cpus: int | None = Field(None, ge=1, description="of a local cluster; null: all cores")
    object_store_mb: int | None = Field(None, ge=80, description="of a local cluster; null: Ray's default")
    autoscaling: bool = Field(False, description="true: do not refuse to start when the GPUs are not there yet")
