"""Whether a file or folder of this machine is what it was, by what the system tells of it alone."""

import os
import stat
import time

# What was changed so lately may be changed once more without a trace: clocks of file systems tick, some once a second.
# (git calls such entries of its index "racily clean".)
YOUNG_NS = 2 * 10**9


def stamp(path: str, *, of_place: bool = False) -> str | None:
    """What is another one as soon as the file's content is, or as files come to the folder or go; links are followed.

    None where it cannot be told: nothing is there, or it changed a moment ago. So ask before you read.

    Args:
        of_place: another one, too, where another file of the same times has taken its place. (Not everywhere has a
            file one number for as long as it lives.)
    """
    now = time.time_ns()
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)  # noqa: PTH116 - a string, as all paths here
        if kind not in (stat.S_IFREG, stat.S_IFDIR):  # a pipe's writer would take us for its reader
            return None
        # Opened, because network file systems ask the server then, and answer from memory otherwise.
        opened = os.open(path, os.O_RDONLY)
        try:
            found = os.fstat(opened)
        finally:
            os.close(opened)
    except (OSError, ValueError):  # a name with a NUL
        return None
    if now - max(found.st_mtime_ns, found.st_ctime_ns) < YOUNG_NS:
        return None
    times = f"{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_size}"
    return f"{found.st_dev}-{found.st_ino}-{times}" if of_place else times
