"""The terminal of whoever runs a command, or the job's log in its place."""

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
