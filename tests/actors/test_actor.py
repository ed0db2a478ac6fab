"""A stage is made and called in one thread, whoever calls it."""

import threading

import pytest

from actors.stages import actor


class Stage:
    def __init__(self, name: str) -> None:
        self._name, self._threads = name, {threading.get_ident()}

    def __call__(self, batch: list[int]) -> tuple[str, int, int]:
        if not batch:
            raise ValueError("nothing in it")
        self._threads.add(threading.get_ident())
        return self._name, sum(batch), len(self._threads)


@pytest.fixture(autouse=True)
def bound_by(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads that asked for the process to end with its parent; it does not hold once they have ended."""
    threads: list[int] = []
    monkeypatch.setattr(actor, "end_with_parent", lambda: threads.append(threading.get_ident()))
    return threads


def test_a_stage_is_made_and_called_in_one_thread(bound_by: list[int]) -> None:
    stage = actor.as_actor(Stage)("a")
    answers = []
    callers = [threading.Thread(target=lambda: answers.append(stage([1, 2]))) for _ in range(3)]
    for caller in callers:
        caller.start()
        caller.join()
    assert answers == [("a", 3, 1)] * 3
    assert actor.as_actor(Stage).__name__ == "Stage"
    assert bound_by == [threading.get_ident()]


def test_what_a_stage_raises_reaches_the_caller() -> None:
    with pytest.raises(TypeError, match="name"):
        actor.as_actor(Stage)()
    with pytest.raises(ValueError, match="nothing in it"):
        actor.as_actor(Stage)("a")([])
