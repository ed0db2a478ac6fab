"""Tells the dataset every few seconds how the run is (`pipelines.dataset.beats`)."""

from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from actors.errors import StorageError
from actors.repeating import Repeating
from pipelines.dataset.beats import BEAT_S, Beat, Failures, Phase
from pipelines.driver.rate import Rate
from pipelines.driver.report import Summary
from pipelines.job import Job


class Heartbeat:
    """Beats from a thread of its own within its block. A store that does not answer only makes it late."""

    def __init__(self, job: Job, started: datetime) -> None:
        self._job, self._started = job, started
        self._summary: Summary | None = None
        self._rate: Rate | None = None
        self._has_ended = False
        self._beating = Repeating("heartbeat", self._beat, BEAT_S, at_once=True)

    def __enter__(self) -> Self:
        self._beating.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The last beat tells how the run has ended."""
        self.stop()
        if self._summary is not None:
            self._has_ended = True
            self._beating.once()

    def follow(self, summary: Summary) -> None:
        """From here on the run does what this counts."""
        self._rate = Rate(summary)
        self._summary = summary

    def stop(self) -> None:
        """Beat no more, but for the last time."""
        self._beating.stop(patiently=True)  # a beat that comes late would undo the last one

    def _beat(self) -> None:
        beat = self._now().model_dump_json(indent=2)
        with suppress(StorageError):  # the next one may succeed
            self._job.storage.put_bytes(self._job.folder.heartbeat, beat.encode())

    @property
    def _phase(self) -> Phase:
        if self._summary is None:
            return "planning"
        if self._has_ended:
            return self._summary.status
        return "running" if self._summary.gpus.is_on else "starting"

    def _now(self) -> Beat:
        beat = Beat(run_id=self._job.run_id, phase=self._phase, started_at=self._started, beaten_at=datetime.now(UTC))
        summary, rate = self._summary, self._rate
        if summary is None or rate is None:
            return beat
        recent_s, recent_ended = rate.look()
        waiting = None if self._has_ended else summary.gpus.waiting
        plan, gpus, kinds = summary.plan, summary.gpus, summary.failures.most_common()
        return beat.model_copy(
            update={
                "images": plan.images,
                "already_there": plan.already_there,
                "to_do": plan.to_do,
                "made": summary.made,
                "failed": summary.failed,
                "too_many_failed": summary.is_failed,
                "failures": [Failures(stage=stage, error_type=kind, count=count) for (stage, kind), count in kinds],
                "recent_s": recent_s,
                "recent_ended": recent_ended,
                "gpus": gpus.held,
                "gpu_s": gpus.seconds(),
                "cost": gpus.cost(),
                "currency": gpus.currency,
                "unpriced": gpus.unpriced(),
                "gpu_time": gpus.shares(),
                "waits_for": None if waiting is None else waiting.what,
                "waits_since": None if waiting is None else waiting.since,
            }
        )
