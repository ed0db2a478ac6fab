"""CPU time of all processes of a run, by what they are to it.

Everything shares this machine's few cores, so a rate says little about any one process. CPU time does: it is the same
however long a process had to wait for a core.
"""

import threading
from collections.abc import Iterator
from contextlib import suppress

import psutil

from benchmarks.overhead import stage_of

# Threads of the driver, by how Python calls them, and what they do there.
_THREADS = {
    "MainThread": "driver: draws, counts, commits",
    "StreamingExecutor": "driver: Ray Data's loop",
    "ray-data-metadata-prefetch": "driver: Ray Data fetches metadata",
}
OTHER_PYTHON, NO_PYTHON = "driver: other Python threads", "driver: Ray's C++ threads"
# Only one of these runs at a time: Python's lock.
DRIVER_PYTHON = (*_THREADS.values(), OTHER_PYTHON)
LEDGER, FEED, LOAD, GENERATE, FINISH = "ledger", "feed", "load", "generate", "finish"
RAYLET, GCS, RAY_OTHER = "raylet", "gcs_server", "Ray's other processes"
_WORKERS = {"_LedgerActor": LEDGER, "feed": FEED, "Load": LOAD, "Generate": GENERATE, "Finish": FINISH}
ROLES = (*DRIVER_PYTHON, NO_PYTHON, LEDGER, FEED, LOAD, GENERATE, FINISH, RAYLET, GCS, RAY_OTHER)


class CpuTimes:
    """Of this process, which is the driver, and of all below the process of a head."""

    def __init__(self, head_pid: int) -> None:
        self._head_pid = head_pid
        self._roles: dict[int, str] = {}  # of workers: between two tasks they say nothing of themselves

    def look(self) -> dict[str, float]:
        """Seconds by role, of those that live."""
        seconds = dict.fromkeys(ROLES, 0.0)
        for role, of_thread in _of_this_process():
            seconds[role] += of_thread
        for process in psutil.Process(self._head_pid).children(recursive=True):
            with suppress(psutil.Error):
                times = process.cpu_times()
                seconds[self._role(process)] += times.user + times.system
        return seconds

    def _role(self, process: psutil.Process) -> str:
        name = process.name()
        if name in (RAYLET, GCS):
            return name
        title = " ".join(process.cmdline()[:1])
        if title.startswith("ray::") and (role := role_of(title)) is not None:
            self._roles[process.pid] = role
        return self._roles.get(process.pid, RAY_OTHER)


def role_of(title: str) -> str | None:
    """What a worker is, from its process's title; None where it is at nothing of ours."""
    if title.startswith("ray::ledger "):  # an actor with a name is called by it
        return LEDGER
    return _WORKERS.get(stage_of(title))


def _of_this_process() -> Iterator[tuple[str, float]]:
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    for thread in psutil.Process().threads():
        name = names.get(thread.id)
        role = NO_PYTHON if name is None else _THREADS.get(name.partition("-")[0], _THREADS.get(name, OTHER_PYTHON))
        yield role, thread.user_time + thread.system_time
