"""Tells the dataset every few seconds how the run is (`pipelines.dataset.beats`)."""

import threading
import time
from collections import deque
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Self

from actors.errors import StorageError
from actors.storage import Storage
from pipelines.config.sections import CostSettings
from pipelines.dataset.beats import BEAT_S, Beat, Failures, Phase
from pipelines.dataset.layout import RunFolder
from pipelines.driver.cost import GpuClock
from pipelines.driver.report import Summary

# Beats of which the rate is told: of five minutes.
_RECENT = 30


class Heartbeat:
    """Beats from a thread of its own within its block. A store that does not answer only makes it late."""

    def __init__(self, folder: RunFolder, storage: Storage, run_id: str, started: datetime, cost: CostSettings) -> None:
        self._uri, self._storage, self._run_id, self._started = folder.heartbeat, storage, run_id, started
        self._phase: Phase = "planning"
        self._summary: Summary | None = None
        self._recent: deque[tuple[float, int]] = deque(maxlen=_RECENT)
        self.gpus = GpuClock(cost)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def enter(self, phase: Phase, summary: Summary | None = None) -> None:
        """From here on the run is in this phase, and does what `summary` counts."""
        self._phase, self._summary = phase, summary or self._summary
        self._beat()

    def end(self, summary: Summary) -> None:
        """The last beat: how the run has ended."""
        self._stop.set()
        self.enter(summary.status, summary)

    def _keep_beating(self) -> None:
        while True:
            if not self._stop.is_set():
                self._beat()
            if self._stop.wait(BEAT_S):
                return

    def _beat(self) -> None:
        with self._lock, suppress(StorageError):
            self._storage.put_bytes(self._uri, self._now().model_dump_json(indent=2).encode())

    def _now(self) -> Beat:
        summary = self._summary
        counts = {}
        if summary is not None:
            self._recent.append((time.monotonic(), summary.ended))
            plan = summary.plan
            counts = {"images": plan.images, "already_there": plan.already_there, "to_do": plan.to_do}
            counts |= {"made": summary.made, "failed": summary.failed}
        since, ended = self._recent[0] if self._recent else (0.0, 0)
        upto, now_ended = self._recent[-1] if self._recent else (0.0, 0)
        kinds = [] if summary is None else summary.failures.most_common()
        return Beat(
            run_id=self._run_id,
            phase=self._phase,
            started_at=self._started,
            beaten_at=datetime.now(self._started.tzinfo),
            failures=[Failures(stage=stage, error_type=kind, count=count) for (stage, kind), count in kinds],
            recent_s=upto - since,
            recent_ended=now_ended - ended,
            gpus=self.gpus.held,
            gpu_s=self.gpus.seconds(),
            cost=self.gpus.cost(),
            currency=self.gpus.currency,
            **counts,
        )
