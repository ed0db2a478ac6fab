"""One stage's try at one clip.

Ray runs a clip again whose worker died, and starts a worker again that died at its start, as often as they die. So
every try is written down in a ledger (`actors.tries.ledger`), and the last one that is allowed is followed by a
failure record. What leaves a worker unfit (a call that never returns, a broken GPU, a start that failed) ends its
process on purpose: that is the one thing for which Ray gives the clip a fresh worker.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

from actors import logs, scratch, secrets
from actors.contracts import Failed, Row, Unstarted
from actors.counting import times
from actors.errors import StillreelError, WorkerDiedError
from actors.gpu_errors import breaks_gpu
from actors.retries import Fault, fault_of
from actors.tries import watchdog
from actors.tries.ledger import Answer, Ledger
from actors.tries.orphans import end_with_parent
from actors.tries.remote_ledger import RemoteLedger
from actors.tries.spent import START_OF

# Before a worker starts anew whose store did not answer, which the store's own tries hide for seconds only: with the
# usual three tries a run outlives two minutes in which its weights cannot be had.
_STORE_RECOVERS_S = 60.0

# Before a worker ends because its node goes away: what it made last may be on its way to Ray's store.
_LAST_IS_GIVEN_OUT_S = 2.0

# For the ledger to take a reason, which mostly takes a millisecond: a process that has to end ends without it, too.
_LAST_WORDS_S = 30.0

# What takes so long is told of as ended at once: one call of the ledger more costs nothing beside it, and otherwise a
# worker that has nothing to do would seem to be at work, for those who look at GPUs.
_TOLD_AT_ONCE_S = 1.0

# How long the last call of each stage took in this process.
_took_s: dict[str, float] = {}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Guard:
    """The rules of a try, as each stage holds them."""

    ledger: Ledger
    clip_timeout_s: float | None = None
    run_id: str = "-"
    secrets: tuple[str, ...] = field(default=(), repr=False)  # that the driver knows

    def log_as(self, stage: str) -> None:
        """Have this process log as a worker of `stage`, without the secrets that the driver knows."""
        secrets.remember(*self.secrets)
        logs.start(self.run_id, stage, self.ledger.report)

    def begin_together(self, clip_ids: list[str], stage: str) -> dict[str, Answer]:
        """The answers for several clips in one call, for `call`; of those that it lacks, each asks for itself."""
        answers = self.ledger.begin_together(clip_ids, stage)
        return {} if answers is None else dict(zip(clip_ids, answers, strict=True))

    def call(
        self, row: Row, stage: str, make: Callable[[], T], answer: Answer | None = None, *, clips: int = 1
    ) -> T | Failed | Unstarted:
        """`make()`, which is `stage` at work on this row; or how the row ends instead.

        Args:
            row, stage: what is made, and where.
            make: makes it.
            answer: of the ledger, where it was asked before.
            clips: that have to be made before any of them is given out; 0 for one after the first of these, which
                stays although its node goes away: what was made before it would be lost.

        Whatever `make` raises for one clip must not end the job: it becomes the clip's failure. A call that takes
        longer than `clip_timeout_s`, and an error that breaks the GPU for all later calls, end the process.
        """
        clip_id = row.clip_id
        answer = answer or self.ledger.begin(clip_id, stage, clips * _took_s.get(stage, 0.0))
        if answer.verdict == "unstarted":
            return Unstarted(row)
        if answer.verdict == "give up":
            died = _death(answer, "the worker", f"it had this clip at stage {stage}")
            return Failed.by(WorkerDiedError(died), row, stage)
        if answer.verdict == "begin elsewhere":
            logs.logger.info("this node goes away sooner than a clip is made: this process ends, to begin elsewhere")
            time.sleep(_LAST_IS_GIVEN_OUT_S)
            self._end_process(clip_id, stage, None)
        done: T | Failed
        begun = time.perf_counter()
        with logs.about(clip_id), self._watch(clip_id, stage):
            try:
                done = make()
            except Exception as error:  # noqa: BLE001 - whatever it is, only this clip fails
                if breaks_gpu(error):
                    logs.logger.exception("the GPU is broken for all later calls, so this process ends")
                    self._end_process(clip_id, stage, _one_line(error))
                done = Failed.by(error, row, stage, time.perf_counter() - begun)
                _log_failure(error)
        _took_s[stage] = time.perf_counter() - begun
        self.ledger.end(clip_id, stage, _took_s[stage])
        if _took_s[stage] >= _TOLD_AT_ONCE_S:
            self.ledger.flush()
        return done

    @contextmanager
    def start(self, stage: str) -> Iterator[None]:
        """Around the start of a worker: a failure is tried again in a new process.

        Raises:
            StillreelError: as the start raises it, where no other try would go better.
            WorkerDiedError: the worker died at all its starts.
        """
        worker, step = self.ledger.worker_name(), START_OF + stage
        answer = self.ledger.begin(worker, step)
        if answer.verdict == "give up":
            died = _death(answer, f"a worker of stage {stage}", "it started")
            raise self._refused(WorkerDiedError(died))
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, this process ends
            does_pass = fault_of(error) is not Fault.LASTING
            if isinstance(error, StillreelError) and not does_pass:
                logs.logger.info("the worker cannot start", exc_info=True)
                raise self._refused(error) from None  # Ray would print the causes, whatever stands in them
            logs.logger.exception("the worker cannot start, and is started again")
            if does_pass:
                time.sleep(_STORE_RECOVERS_S)
            self._end_process(worker, step, _one_line(error))
        self.ledger.come_out(worker)
        self.ledger.flush()

    def _refused(self, error: StillreelError) -> StillreelError:
        """The error, which ends the run; told to the driver, because Ray hands over no more of it than text."""
        self.ledger.refuse(type(error).__name__, str(error))
        return error

    def end_with_node(self) -> None:
        """For a worker of Ray: end when the process of Ray ends that started this one."""
        if isinstance(self.ledger, RemoteLedger):
            end_with_parent()

    def _watch(self, clip_id: str, stage: str) -> AbstractContextManager[None]:
        limit_s = self.clip_timeout_s
        if limit_s is None:
            return nullcontext()
        reason = f"it took longer than run.clip_timeout_s ({limit_s:g} s)"

        def end() -> None:
            try:
                with logs.about(clip_id):
                    logs.logger.error("%s; this is where it is\n%s", reason, logs.stacks())
            finally:
                self._end_process(clip_id, stage, reason)

        return watchdog.limit(limit_s, end)

    def _end_process(self, key: str, stage: str, reason: str | None) -> NoReturn:
        """End this process, whatever state the ledger is in: another thread tells it why, for so long as that helps.

        `reason`: of a death; None where it is none.
        """

        def explain() -> None:
            with suppress(Exception):
                if reason is not None:
                    self.ledger.explain(key, stage, reason)
            with suppress(Exception):
                scratch.clear()

        try:
            telling = threading.Thread(target=explain, name="last words", daemon=True)
            telling.start()
            telling.join(_LAST_WORDS_S)
        finally:
            os._exit(1)  # a worker that ends itself in any other way is not replaced, or never ends


def _log_failure(error: Exception) -> None:
    """What is meant for the user is a failure record; anything else is a bug, and its traceback tells where."""
    if isinstance(error, StillreelError):
        logs.logger.info("%s: %s", type(error).__name__, error)
    else:
        logs.logger.exception("an error that nobody expected")


def _death(answer: Answer, worker: str, when: str) -> str:
    """Why something is given up."""
    if answer.lost_nodes:
        return (
            f"{worker} lost its node {times(answer.lost_nodes)} while {when}: that may be what brings the machine down"
        )
    return f"{worker} died {times(answer.deaths)} while {when}: {answer.reason}"


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
