"""The terminal of whoever runs a command, or the job's log in its place."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from actors.printable import printable


class Screen(Console):
    """rich's console, which prints text of a manifest without what a terminal would obey; a call is one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(soft_wrap=True, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich does; text that is no renderable of its own is made printable."""
        super().print(*(printable(one) if isinstance(one, str) else one for one in objects), **options)


@contextmanager
def standard_error_into(log: Path) -> Iterator[None]:
    """Send file descriptor 2 into a file; Python's own `sys.stderr` keeps writing where it did."""
    sys.stderr.flush()
    terminal = os.dup(2)
    python_stderr = sys.stderr
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    sys.stderr = os.fdopen(terminal, "w", buffering=1, closefd=False)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        sys.stderr = python_stderr
