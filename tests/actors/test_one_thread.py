"""A stage is made and called in one thread, whoever calls it."""

import threading

import pytest

from actors.stages.one_thread import in_one_thread


class Stage:
    def __init__(self, name: str) -> None:
        self._name, self._threads = name, {threading.get_ident()}

    def __call__(self, batch: list[int]) -> tuple[str, int, int]:
        if not batch:
            raise ValueError("nothing in it")
        self._threads.add(threading.get_ident())
        return self._name, sum(batch), len(self._threads)


def test_a_stage_is_made_and_called_in_one_thread() -> None:
    stage = in_one_thread(Stage)("a")
    answers = []
    callers = [threading.Thread(target=lambda: answers.append(stage([1, 2]))) for _ in range(3)]
    for caller in callers:
        caller.start()
        caller.join()
    assert answers == [("a", 3, 1)] * 3
    assert in_one_thread(Stage).__name__ == "Stage"


def test_what_a_stage_raises_reaches_the_caller() -> None:
    with pytest.raises(TypeError, match="name"):
        in_one_thread(Stage)()
    with pytest.raises(ValueError, match="nothing in it"):
        in_one_thread(Stage)("a")([])
