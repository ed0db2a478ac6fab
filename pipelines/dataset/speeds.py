"""How long clips took, as a dataset tells it: what is read of its rows and of what its runs say."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Seconds:
    """Of a clip in the stages that hold a model, on average over so many clips of one device."""

    generate_s: float
    finish_s: float
    clips: int
    device: str


class PastRun(BaseModel):
    """What a run's `summary.json` says of its speed.

    Attributes:
        settings: what runs have in common whose clips take as long (`pipelines.money.history.settings_of`).
        elapsed_s, making_s: of the whole run, and from its first clip to its last one.
        actors, gpu_types: that it had.
        mean_stage_s: seconds of a clip, by step.
    """

    model_config = ConfigDict(frozen=True)

    settings: str
    made: int = Field(ge=2)
    elapsed_s: _Seconds
    making_s: _Seconds = Field(gt=0)
    actors: dict[str, PositiveInt]
    gpu_types: dict[str, float]
    mean_stage_s: dict[str, _Seconds]

    @property
    def interval_s(self) -> float:
        """Between two clips."""
        return self.making_s / (self.made - 1)

    @property
    def seconds(self) -> Seconds:
        """Of a clip."""
        steps = self.mean_stage_s
        finish_s = sum(steps.get(name, 0.0) for name in ("interpolate_s", "encode_s", "upload_s"))
        return Seconds(steps.get("generate_s", 0.0), finish_s, self.made, ", ".join(self.gpu_types) or "cpu")


@dataclass(frozen=True, slots=True)
class History:
    """Clips of the same settings, by the device that made them, the most frequent first; and runs, the last first."""

    clips: list[Seconds] = field(default_factory=list)
    runs: list[PastRun] = field(default_factory=list)
