"""What a process has on its machine while it works: temporary folders, and the programs that it runs.

`os._exit` runs no `finally`: who ends the process so calls `clear` before. A process that is killed from outside cannot
clear up. Its ffmpeg then reads the end of its input and ends, and the folder of one clip stays until the system clears
its temporary files. Ray's session folder would be no better a place: Ray leaves that behind as well.
"""

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Where the disk hangs that holds temporary files, the process is to end all the same.
_CLEAR_S = 5.0

# Changed by single, atomic steps, so that `clear` may run in any thread and waits for nobody.
_folders: set[str] = set()
_programs: set[subprocess.Popen[bytes]] = set()


@contextmanager
def folder() -> Iterator[Path]:
    """A new folder, removed at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="stillreel-") as name:
        _folders.add(name)
        try:
            yield Path(name)
        finally:
            _folders.discard(name)


@contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Around the time in which a program of ours may run."""
    _programs.add(process)
    try:
        yield
    finally:
        _programs.discard(process)


def clear() -> None:
    """Kill the programs and remove the folders, of all threads; returns after a few seconds at most."""
    for process in list(_programs):
        process.kill()
    remover = threading.Thread(target=_remove_folders, daemon=True)
    remover.start()
    remover.join(_CLEAR_S)


def _remove_folders() -> None:
    for name in list(_folders):
        shutil.rmtree(name, ignore_errors=True)
