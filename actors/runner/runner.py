"""A stage with all that surrounds each of its calls."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Generic, cast

from actors import logs
from actors.contracts import Failed, In, Out, Stage, Unstarted
from actors.counting import times
from actors.retries import take_retries
from actors.runner.contract import check_kept, gives, seconds_column, takes
from actors.runner.profiling import Profiler, Profiling
from actors.tries.guard import Guard
from actors.tries.ledger import Answer


class Runner(Generic[In, Out]):
    """Calls a stage for one item after the other. What goes wrong is the clip's failure; nothing is raised for it."""

    def __init__(self, stage: Stage[In, Out], guard: Guard, profiling: Profiling | None = None) -> None:
        self._stage, self._guard = stage, guard
        self._recording: Callable[[], AbstractContextManager[None]]
        self._recording = Profiler(profiling, guard.ledger).recording if profiling else nullcontext
        self.name = stage.name
        self.takes: type[In] = takes(type(stage))
        self.gives: type[Out] = gives(type(stage))

    def __call__(
        self, item: In | Failed | Unstarted, answer: Answer | None = None, *, clips: int = 1
    ) -> Out | Failed | Unstarted:
        """The stage's item for this one; a row that came to its end before passes as it is.

        `answer` and `clips` as `Guard.call` has them.
        """
        if isinstance(item, Failed | Unstarted):
            return item
        return self._guard.call(item.row, self.name, lambda: self._call(item), answer, clips=clips)

    def close(self) -> None:
        """Have the stage let go of what it has open."""
        self._stage.close()

    def _call(self, item: In) -> Out:
        try:
            with self._recording():
                started = time.perf_counter()
                given = self._stage(item)
                seconds = time.perf_counter() - started
        finally:
            _tell_retries("for this clip")
        check_kept(self._stage, item.row, given)
        row = given.row.with_columns(**{seconds_column(self.name): seconds})
        return cast("Out", replace(cast("Any", given), row=row))


def started(
    make: Callable[[], Stage[In, Out]], name: str, guard: Guard, profiling: Profiling | None = None
) -> Runner[In, Out]:
    """The runner of a stage that keeps a model: a start that fails is tried again in a new process.

    Raises as `Guard.start` does.
    """
    with guard.start(name):
        try:
            stage = make()
        finally:
            _tell_retries(f"while {name} started")
    return Runner(stage, guard, profiling)


def _tell_retries(when: str) -> None:
    if again := take_retries():
        logs.degraded("store asked again", f"the store had to be asked again, {times(again)} {when}", again)
