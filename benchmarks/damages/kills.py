"""`--repair` and `compact`, killed after each change that they make to the store, and called again."""

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from actors.storage import Storage
from benchmarks.damages.kinds import CASES
from benchmarks.damages.place import Place
from pipelines.dataset.layout import Layout
from pipelines.upkeep.whole import look_at

# A damage of each kind that a repair mends in a way of its own.
DAMAGES = (
    *("video renamed", "video moved to another part", "video cut", "rows removed", "clips copied to another part"),
    *("part named backup", "notes in a part", "columns missing", "made and failed", "work of a killed run"),
)
_CHANGES = ("written", "created", "copied", "moved", "removed")


class Killed(BaseException):
    """The process ends here."""


def kill_after_each_change(
    template: Path, folder: Path, damages: Sequence[str], action: Callable[[Layout, Storage], object], step: int = 1
) -> Iterator[tuple[int, list[str]]]:
    """Of each change (every `step`th one) its number, and what was wrong after a kill there and another call."""
    number = 0
    while True:
        root = folder / f"kill-{number}"
        shutil.copytree(template, root, symlinks=True)
        for turn, name in enumerate(damages):
            CASES[name].damage(root, random.Random(f"{turn}"))  # noqa: S311 - the same damage again
        place, layout = Place(root), Layout(str(root))
        whole, listed = place.contents(), place.listed()
        was_killed = False
        with _killed_after(number):
            try:
                action(layout, Storage())
            except Killed:
                was_killed = True
        faults = []
        if whole - place.contents():
            faults.append("a video is lost after the kill")
        if not damages and place.listed().keys() != listed.keys():
            faults.append("a clip is not listed after the kill")
        action(layout, Storage())
        found = look_at(layout, Storage(), deep=True)
        if not found.findings.is_clean:
            faults.append(f"after another call: {[kind.name for kind in found.findings.kinds]}")
        if whole - place.contents():
            faults.append("a video is lost after another call")
        if {clip for clip, content in listed.items() if content in whole} - place.listed().keys():
            faults.append("a clip is not listed after another call")
        shutil.rmtree(root)
        if not was_killed:
            assert number > 0, "nothing was changed"
            return
        yield number, faults
        number += step


@contextmanager
def _killed_after(number: int) -> Iterator[None]:
    """End after so many changes to the store; the lease's own do not count."""
    call, count = Storage._call, 0

    def counted(self: Storage, done: str, uri: str, operation: Any) -> Any:
        nonlocal count
        answer = call(self, done, uri, operation)
        if done in _CHANGES and "_lease" not in uri:
            count += 1
            if count == number + 1:
                raise Killed
        return answer

    with mock.patch.object(Storage, "_call", counted):
        yield
