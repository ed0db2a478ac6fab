"""One copy of a dataset damaged, looked at, mended and looked at again."""

import random
import shutil
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from actors.errors import RunError
from actors.storage import Storage
from benchmarks.damages.kinds import CASES
from benchmarks.damages.place import Place
from pipelines.dataset.layout import Layout
from pipelines.upkeep.repairing import repair
from pipelines.upkeep.whole import Whole, look_at


@dataclass(slots=True)
class Outcome:
    """How a trial ended.

    Attributes:
        is_named: whether `verify` told of each damage.
        end: "mended", or "by hand" where a repair may not mend it; or "cannot be done together", of several damages.
        faults: what was not as it is to be, a line each.
    """

    damages: Sequence[str]
    seed: str
    is_named: bool = False
    end: str = "mended"
    faults: list[str] = field(default_factory=list)


def try_damages(template: Path, folder: Path, damages: Sequence[str], seed: str, storage: Storage | None) -> Outcome:
    """Damage a copy of `template` in `folder`, on this machine or in the bucket `damages` of `storage`."""
    outcome = Outcome(damages, seed)
    root = folder / "dataset"
    shutil.copytree(template, root)
    for number, name in enumerate(damages):
        try:
            CASES[name].damage(root, random.Random(f"{seed} {number}"))  # noqa: S311 - the same damage again
        except Exception:
            if not number:
                raise
            outcome.end = "cannot be done together"
            shutil.rmtree(folder)
            return outcome
    try:
        _look_and_mend(root, damages, outcome, storage)
    except Exception:  # noqa: BLE001 - what is looked for
        outcome.faults.append(traceback.format_exc())
    shutil.rmtree(folder)
    return outcome


def _look_and_mend(root: Path, damages: Sequence[str], outcome: Outcome, storage: Storage | None) -> None:
    place, store = Place(root, storage), storage or Storage()
    layout = Layout(place.uri)
    cases = [CASES[name] for name in damages]
    is_deep, is_by_hand = any(case.deep for case in cases), any(case.by_hand for case in cases)
    listed, whole = place.listed(), place.contents()
    found = look_at(layout, store, deep=is_deep)
    names = _names(found)
    missing = {name for case in cases for name in case.names} - names
    outcome.is_named = not missing
    if missing and len(damages) == 1:
        outcome.faults.append(f"named {sorted(names)} and not {sorted(missing)}")
    if len(damages) == 1 and not cases[0].names and names - {"foreign"}:
        outcome.faults.append(f"nothing is wrong, and it named {sorted(names)}")
    outcome.end = "by hand" if is_by_hand else "mended"
    try:
        after, _ = repair(layout, store, deep=is_deep)
    except RunError:
        if not is_by_hand:
            raise
        return
    again = look_at(layout, store, deep=True)
    if _names(after) != _names(again):
        outcome.faults.append(
            f"the repair left {sorted(_names(after))}, and another look finds {sorted(_names(again))}"
        )
    if not is_by_hand and not again.findings.is_clean:
        outcome.faults.append(f"after the repair: {_examples(again)}")
    if lost := whole - place.contents():
        outcome.faults.append(f"lost: {len(lost)} videos that were whole")
    if unlisted := {clip for clip, content in listed.items() if content in whole} - set(place.listed()):
        outcome.faults.append(f"{len(unlisted)} clips were listed with a whole video, and are not any more")


def _names(whole: Whole) -> set[str]:
    return {kind.name for kind in whole.findings.kinds}


def _examples(whole: Whole) -> str:
    return "; ".join(f"{kind.name}: {whole.findings.examples(kind)[0]}" for kind in whole.findings.kinds)
