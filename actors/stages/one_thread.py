"""A stage in one thread, from its start on.

Ray Data makes an actor in one thread and calls it in another. What cuDNN chooses for each convolution and attention is
kept by thread (`thread_local` in PyTorch's `Conv_v8.cpp` and `MHA.cpp`): what a warm-up has chosen in the one, the
first clip would choose again in the other, in seconds, and otherwise where memory is short by then.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any


def in_one_thread(stage: type) -> type:
    """The stage's class with a thread of its own, in which its instance is made and called."""

    class InOneThread:
        def __init__(self, *args: Any) -> None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=stage.__name__)
            self._stage = self._thread.submit(stage, *args).result()

        def __call__(self, batch: Any) -> Any:
            return self._thread.submit(self._stage, batch).result()

    InOneThread.__name__ = InOneThread.__qualname__ = stage.__name__  # under which Ray shows the actor
    return InOneThread
