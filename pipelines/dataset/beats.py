"""A run's sign of life in its dataset: what it does and how far it is, for whoever asks from another machine.

Each beat replaces the one before it in one request.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from actors.errors import RunError
from actors.storage import NotFound, Storage

VERSION = 1
# Seconds between two beats.
BEAT_S = 10.0

Phase = Literal["planning", "starting", "running", "done", "interrupted", "stopped", "broke off"]
# In which nothing more comes.
ENDED: Sequence[Phase] = ("done", "interrupted", "stopped", "broke off")


class Failures(BaseModel):
    """Rows that failed alike."""

    model_config = ConfigDict(frozen=True)

    stage: str
    error_type: str
    count: int


class Beat(BaseModel):
    """What a run says of itself.

    Attributes:
        version: of this record.
        too_many_failed: it came to its end, and more rows failed than run.max_failed_share: with exit code 1.
        recent_s, recent_ended: a span until now, of some minutes or a few clips, and the rows that ended within it.
        gpus: that the run has reserved and that are there now.
        gpu_s: GPU-seconds so far, from the moment at which they were reserved.
        cost: of these, in `currency`; None where no price is set.
        waits_for: what is not there, as a clause, without which no clip can be made now; None where none is lacking.
        waits_since: when that was seen first.
        unpriced: types of GPUs that were held and have no price, where others have one.
        gpu_time: what they went into (`pipelines.money.gpu_time`), each 0..1; none where no GPU was held.
    """

    model_config = ConfigDict(frozen=True)

    version: int = VERSION
    run_id: str
    phase: Phase
    started_at: AwareDatetime
    beaten_at: AwareDatetime
    images: int = 0
    already_there: int = 0
    to_do: int = 0
    made: int = 0
    failed: int = 0
    too_many_failed: bool = False
    failures: list[Failures] = Field(default=[])
    recent_s: float = 0.0
    recent_ended: int = 0
    gpus: float = 0.0
    gpu_s: float = 0.0
    cost: float | None = None
    currency: str = "USD"
    unpriced: list[str] = Field(default=[])
    gpu_time: dict[str, float] = Field(default={})
    waits_for: str | None = None
    waits_since: AwareDatetime | None = None

    @property
    def ended(self) -> int:
        """Rows that came to an end."""
        return self.made + self.failed

    @property
    def went_well(self) -> bool:
        """Whether the run came to its end, with exit code 0."""
        return self.phase == "done" and not self.too_many_failed

    @property
    def failed_too_often(self) -> bool:
        """Whether more rows failed than may: a run that finds nothing to do does not make that good."""
        return self.phase == "stopped" or self.too_many_failed

    @property
    def rate(self) -> float | None:
        """Rows a second of late; None where too little is known, or where it waits: then nobody knows when it ends."""
        is_known = self.recent_s > 0 and self.recent_ended and self.waits_for is None
        return self.recent_ended / self.recent_s if is_known else None


def read_beat(uri: str, storage: Storage) -> Beat | None:
    """The last one that a run wrote there; None where there is none.

    Raises:
        RunError: it is damaged, or of another version.
    """
    try:
        data = storage.read_bytes(uri)
    except NotFound:
        return None
    try:
        beat = Beat.model_validate_json(data)
    except ValidationError as error:
        if _version_in(data) > VERSION:
            raise RunError(_newer(uri)) from error
        raise RunError(f"{uri} is damaged: nothing can be said of its run until it writes the next one") from error
    if beat.version > VERSION:
        raise RunError(_newer(uri))
    return beat


class _Version(BaseModel):
    version: int = 0


def _version_in(data: bytes) -> int:
    """The version of a record that is otherwise unknown; 0 of one that names none."""
    try:
        return _Version.model_validate_json(data).version
    except ValidationError:
        return 0


def _newer(uri: str) -> str:
    return f"{uri} is of a newer version of stillreel: use that one to ask for its status"
