"""How a process of ours ends: by its exit code, whatever the libraries do that it has loaded.

Some of them take their threads down by destructors in C++, when Python has ended already, while one of these threads
may still be ending: "terminate called without an active exception", and the exit code -6 of a run that has done all
that it was to do. Arrow's readers of Parquet do so, once in thousands of times.
"""

import atexit
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn


def exit_with(main: Callable[[], int | None]) -> NoReturn:
    """Do `main`, which is all that this process is for, and end it with the code that comes of it.

    All that Python does at its end is done: threads that are no daemons are waited for, exit handlers run, Ray's among
    them, and what was printed is written. An error that `main` does not catch, and an output that takes nothing more,
    end the process as they always do.
    """
    ending = _Ending()
    atexit.register(ending)  # before `main` registers any: the first comes last
    try:
        sys.exit(main())
    except SystemExit as asked:
        ending.code = _number(asked.code)
        raise


class _Ending:
    """The last exit handler."""

    def __init__(self) -> None:
        self.code: int | None = None  # while `main` has come to no end

    def __call__(self) -> None:
        if self.code is None:
            return
        logging.shutdown()  # an exit handler as well, and older than this one
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None and not stream.closed:
                    stream.flush()
        except (OSError, ValueError):  # a pipe that nobody reads: Python says so, and has a code of its own for it
            return
        os._exit(self.code)


def _number(code: object) -> int:
    """What `sys.exit` makes of it: anything but a number is a message."""
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) else 1
