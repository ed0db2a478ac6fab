"""A run's sign of life in its dataset: what it does and how far it is, for whoever asks from another machine.

Each beat replaces the one before it in one request. Who asks needs three: which lease is the highest, whose it is, and
what the run of that lease says of itself.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from actors.errors import RunError, StorageError
from actors.storage import NotFound, Storage
from pipelines.dataset.layout import Layout
from pipelines.dataset.lease import Holder, last_holder

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
        recent_s, recent_ended: a span until now, of some minutes, and the rows that ended within it.
        gpus: that the run has reserved and that are there now.
        gpu_s: GPU-seconds so far, from the moment at which they were reserved.
        cost: of these, in `currency`; None where no price is set.
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
    failures: list[Failures] = Field(default=[])
    recent_s: float = 0.0
    recent_ended: int = 0
    gpus: float = 0.0
    gpu_s: float = 0.0
    cost: float | None = None
    currency: str = "USD"
    gpu_time: dict[str, float] = Field(default={})

    @property
    def ended(self) -> int:
        """Rows that came to an end."""
        return self.made + self.failed

    @property
    def rate(self) -> float | None:
        """Rows a second of late; None where too little is known."""
        return self.recent_ended / self.recent_s if self.recent_s > 0 and self.recent_ended else None


@dataclass(frozen=True, slots=True)
class State:
    """What is known of the last run of a dataset.

    Attributes:
        word: running, done, failed (also stopped, interrupted, broken off) or stale (it should live, and does not).
        beat: None of a run that found nothing to do, or that has not beaten yet.
    """

    word: Literal["running", "done", "failed", "stale"]
    holder: Holder
    beat: Beat | None


def read_state(layout: Layout, storage: Storage) -> State:
    """Ask a dataset how its last run is.

    Raises:
        RunError: this is no dataset, or of a newer version, or its run's record is damaged.
        StorageError: the store does not answer.
    """
    try:
        holder = last_holder(layout, storage)
    except StorageError:
        _check_no_file(layout, storage)
        raise
    if holder is None:
        _check_no_file(layout, storage)
        raise RunError(f"{layout.root} is no dataset of stillreel: no run has ever written there")
    beat = _read(layout.run(holder.run_id).heartbeat, storage)
    if beat is not None and beat.phase in ENDED:
        return State("done" if beat.phase == "done" else "failed", holder, beat)
    if holder.is_released:  # it found nothing to do, and left no folder
        return State("done" if beat is None else "failed", holder, beat)
    silent = datetime.now(UTC) - (beat.beaten_at if beat else holder.renewed_at)
    is_stale = holder.is_over and silent > timedelta(seconds=2 * BEAT_S)
    return State("stale" if is_stale else "running", holder, beat)


def _check_no_file(layout: Layout, storage: Storage) -> None:
    """Raise RunError where the place of the dataset is a file's."""
    with suppress(StorageError):  # a folder, or nothing
        storage.size(layout.root)
        raise RunError(f"{layout.root} is a file and no dataset: give the folder that `output` names")


def _read(uri: str, storage: Storage) -> Beat | None:
    try:
        data = storage.read_bytes(uri)
    except NotFound:
        return None
    try:
        beat = Beat.model_validate_json(data)
    except ValidationError as error:
        raise RunError(
            f"{uri} is damaged, or of another version of stillreel: nothing can be said of its run"
        ) from error
    if beat.version > VERSION:
        raise RunError(f"{uri} is of a newer version of stillreel: use that one to ask for its status")
    return beat
