"""Tells the dataset every few seconds how the run is (`pipelines.dataset.beats`)."""

import threading
import time
from collections import deque
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from actors.errors import StorageError
from actors.logs import logger
from pipelines.dataset.beats import BEAT_S, Beat, Failures, Phase
from pipelines.driver.report import Summary
from pipelines.job import Job

# Beats of which the rate is told: of five minutes.
_RECENT = 30


class Heartbeat:
    """Beats from a thread of its own within its block. A store that does not answer only makes it late."""

    def __init__(self, job: Job, started: datetime) -> None:
        self._job, self._started = job, started
        self._summary: Summary | None = None
        self._recent: deque[tuple[float, int]] = deque(maxlen=_RECENT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The last beat tells how the run has ended."""
        self.stop()
        if self._summary is not None:
            self._beat(self._summary.status)

    def follow(self, summary: Summary) -> None:
        """From here on the run does what this counts."""
        self._summary = summary

    def stop(self) -> None:
        """Beat no more, but for the last time."""
        self._stop.set()
        self._thread.join()

    def _keep_beating(self) -> None:
        while not self._stop.is_set():
            self._beat(_phase_of(self._summary))
            self._stop.wait(BEAT_S)

    def _beat(self, phase: Phase) -> None:
        try:
            beat = self._now(phase).model_dump_json(indent=2)
            self._job.storage.put_bytes(self._job.folder.heartbeat, beat.encode())
        except StorageError:
            return
        except Exception:  # noqa: BLE001 - a run does not end because nobody hears of it
            logger.exception("the sign of life could not be told")

    def _now(self, phase: Phase) -> Beat:
        beat = Beat(run_id=self._job.run_id, phase=phase, started_at=self._started, beaten_at=datetime.now(UTC))
        summary = self._summary
        if summary is None:
            return beat
        self._recent.append((time.monotonic(), summary.ended))
        (since, ended), (upto, now_ended) = self._recent[0], self._recent[-1]
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
                "recent_s": upto - since,
                "recent_ended": now_ended - ended,
                "gpus": gpus.held,
                "gpu_s": gpus.seconds(),
                "cost": gpus.cost(),
                "currency": gpus.currency,
                "gpu_time": gpus.shares(),
            }
        )


def _phase_of(summary: Summary | None) -> Phase:
    if summary is None:
        return "planning"
    return "running" if summary.gpus.is_on else "starting"
