"""What keeps workers from outliving their node."""

import ctypes
import signal
import sys

# linux/prctl.h
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the system kill this process when the one that started it ends, while the calling thread lives.

    Ray asks a worker to end when its node does, and one in some hundred never comes to an end (Ray 2.60: a deadlock in
    the destructors of its C++ side), keeps its model in memory, and nobody is left to see it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
