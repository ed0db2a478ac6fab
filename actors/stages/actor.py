"""A stage as an actor of Ray."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from actors.stages.orphans import end_with_parent


def as_actor(stage: type) -> type:
    """The stage's class, made and called in one thread, in a process that ends with Ray's node.

    Ray Data makes an actor in one thread and calls it in another. What cuDNN chooses for each convolution and attention
    is kept by thread (`thread_local` in PyTorch's `Conv_v8.cpp` and `MHA.cpp`): what a warm-up has chosen in the one,
    the first clip would choose again in the other, in seconds, and differently where memory is short by then.
    """

    class Actor:
        def __init__(self, *args: Any) -> None:
            end_with_parent()  # here: the thread in which Ray makes an actor lives as long as the process
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=stage.__name__)
            self._stage = self._thread.submit(stage, *args).result()

        def __call__(self, batch: Any) -> Any:
            return self._thread.submit(self._stage, batch).result()

    Actor.__name__ = Actor.__qualname__ = stage.__name__  # under which Ray shows it
    return Actor
