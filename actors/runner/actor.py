"""A stage as Ray calls it: in the actors of a pool, or in tasks."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from actors.contracts import Failed, Item, Planned, Stage, Unstarted
from actors.runner.feed import rows_of
from actors.runner.packing import pack, planned, unpack
from actors.runner.profiling import Profiling
from actors.runner.runner import Runner, started
from actors.tries.guard import Guard
from actors.tries.idle import IdleWatch
from actors.tries.orphans import end_with_parent
from actors.tries.remote_ledger import RemoteLedger

MakeStage = Callable[[], Stage[Any, Any]]
Batch = dict[str, Any]


class StageInActor:
    """What a pool's actor holds: the stage, made once, and called for each item of a batch."""

    def __init__(self, make: MakeStage, name: str, guard: Guard, profiling: Profiling | None = None) -> None:
        guard.log_as(name)
        self._runner: Runner[Any, Any] = started(make, name, guard, profiling)

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        """The batch's items, one after the other, each in a batch of its own."""
        # All before the first is given out: of generators Ray runs several at a time, and where one is run again after
        # its worker died, what it had given out is taken as given.
        items = list(unpack(batch, self._runner.takes))
        made, clips = [], len(items)
        for item in items:
            made.append(self._runner(item, clips=clips))
            clips = clips if isinstance(item, Failed | Unstarted) else 0
        return (pack(item, self._runner.gives) for item in made)


def as_actor(name: str) -> type:
    """`StageInActor`, made and called in one thread, in a process that ends with Ray's node.

    Ray Data makes an actor in one thread and calls it in another. What cuDNN chooses for each convolution and attention
    is kept by thread (`thread_local` in PyTorch's `Conv_v8.cpp` and `MHA.cpp`): what a warm-up has chosen in the one,
    the first clip would choose again in the other, in seconds, and differently where memory is short by then.
    """

    class Actor:
        def __init__(self, make: MakeStage, guard: Guard, profiling: Profiling | None = None) -> None:
            end_with_parent()  # here: the thread in which Ray makes an actor lives as long as the process
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
            self._stage = self._thread.submit(StageInActor, make, name, guard, profiling).result()
            self._idle = IdleWatch()
            if isinstance(guard.ledger, RemoteLedger):
                self._idle.watch(guard.ledger.goes_away_here)

        def __call__(self, batch: Batch) -> Iterator[Batch]:
            with self._idle.busy():
                yield from self._thread.submit(self._stage, batch).result()

    Actor.__name__ = Actor.__qualname__ = name.capitalize()  # under which Ray shows it
    return Actor


def as_task(name: str) -> Callable[..., Iterator[Batch]]:
    """`run_task`, under the name by which Ray shows it."""

    def task(batch: Mapping[str, Any], *, make: MakeStage, guard: Guard) -> Iterator[Batch]:
        return run_task(batch, make=make, guard=guard)

    task.__name__ = task.__qualname__ = name.capitalize()
    return task


def run_task(batch: Mapping[str, Any], *, make: MakeStage, guard: Guard) -> Iterator[Batch]:
    """A first stage without a model, over the work rows of a group (`feed`); its items are given out one by one.

    Where a row ends the process, Ray runs the group again: what was given out is taken as given, the rows come in the
    same order, and the ledger counts each row's tries for itself.
    """
    guard.end_with_node()
    runner: Runner[Any, Any] = Runner(make(), guard)
    guard.log_as(runner.name)
    try:
        for rows in rows_of(batch):
            items: list[Item] = [planned(work) for work in rows]
            begun = [item.row.clip_id for item in items if isinstance(item, Planned)]
            answers = guard.begin_together(begun, runner.name)
            for item in items:
                yield pack(runner(item, answers.get(item.row.clip_id)), runner.gives)
    finally:
        runner.close()
        guard.ledger.flush()  # a task's ledger ends with it
