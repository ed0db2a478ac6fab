"""A stage is made and called in one thread, whoever calls it."""

import threading
from functools import partial

import numpy as np
import pytest

from actors.contracts import Failed, Generated, Loaded, Row, Stage
from actors.runner import actor
from actors.runner.packing import pack, unpack
from actors.tries import guard
from actors.tries.guard import Guard
from actors.tries.ledger import Answer, LocalLedger

ATTEMPTS = Guard(LocalLedger(max_deaths=3))
IMAGE = Loaded(Row("a", 0, 0, "", {}), np.zeros((2, 2, 3), np.uint8))


class Threads(Stage[Loaded, Generated]):
    """Its frames are as many as the threads that made and called it."""

    name = "generate"

    def __init__(self, name: str) -> None:
        if not name:
            raise LookupError("no name")
        self._threads = {threading.get_ident()}

    def __call__(self, image: Loaded) -> Generated:
        self._threads.add(threading.get_ident())
        return Generated(image.row, np.stack([image.image_HWC] * len(self._threads)))


@pytest.fixture(autouse=True)
def bound_by(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads that asked for the process to end with its parent; it does not hold once they have ended."""
    threads: list[int] = []
    monkeypatch.setattr(actor, "end_with_parent", lambda: threads.append(threading.get_ident()))
    return threads


def test_a_stage_is_made_and_called_in_one_thread(bound_by: list[int]) -> None:
    stage = actor.as_actor("generate")(partial(Threads, "a"), ATTEMPTS)
    frames = []

    def call() -> None:
        ((made,),) = (unpack(batch, Generated) for batch in stage(pack(IMAGE, Loaded)))
        assert isinstance(made, Generated)
        frames.append(made.frames_FHWC.shape[0])

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
        caller.join()
    assert frames == [1, 1, 1]
    assert actor.as_actor("generate").__name__ == "Generate"
    assert bound_by == [threading.get_ident()]


def test_what_a_start_raises_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(BaseException):
        """Stands for the end of the process."""

    def end(_code: int) -> None:
        raise Ended

    monkeypatch.setattr("os._exit", end)
    with pytest.raises(Ended):
        actor.as_actor("generate")(partial(Threads, ""), ATTEMPTS, None)


def test_a_batch_is_begun_where_all_of_it_can_be_made_and_stays_after_that(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, asked = LocalLedger(max_deaths=3), list[float]()

    def begin(_clip: str, _stage: str, takes_s: float) -> Answer:
        asked.append(takes_s)
        return Answer("begin")

    monkeypatch.setattr(guard, "_took_s", {"generate": 10.0})
    stage = actor.StageInActor(partial(Threads, "a"), "generate", Guard(ledger))
    monkeypatch.setattr(ledger, "begin", begin)
    failed = Failed(IMAGE.row, "load", "ImageError", "no")
    one_by_one = [pack(item, Loaded) for item in (failed, failed, IMAGE, IMAGE, IMAGE)]
    names = one_by_one[0].keys()
    batch = {name: [value for one in one_by_one for value in one[name]] for name in names}
    assert len(list(stage(batch))) == 5
    assert asked == [50.0, 0.0, 0.0]
