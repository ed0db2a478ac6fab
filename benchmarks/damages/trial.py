"""One copy of a dataset damaged, looked at, mended and looked at again."""

import hashlib
import random
import shutil
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from actors.errors import RunError
from actors.storage import Storage
from benchmarks.damages.kinds import CASES
from pipelines.dataset.layout import Layout
from pipelines.upkeep.looking import is_clip_id
from pipelines.upkeep.repairing import repair
from pipelines.upkeep.whole import Whole, look_at


@dataclass(slots=True)
class Outcome:
    """How a trial ended.

    Attributes:
        is_named: whether `verify` told of each damage.
        end: "mended", or "by hand" where a repair may not mend it.
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
    try:
        for number, name in enumerate(damages):
            CASES[name].damage(root, random.Random(f"{seed} {number}"))  # noqa: S311 - the same damage again
        _look_and_mend(root, damages, outcome, storage)
    except Exception:  # noqa: BLE001 - what is looked for
        outcome.faults.append(traceback.format_exc())
    shutil.rmtree(folder)
    return outcome


def _look_and_mend(root: Path, damages: Sequence[str], outcome: Outcome, storage: Storage | None) -> None:
    place, store = _Place(root, storage), storage or Storage()
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


class _Place:
    """Where the damaged dataset lies: on this machine, or uploaded to a store."""

    def __init__(self, root: Path, storage: Storage | None) -> None:
        self._root, self._storage = root, storage
        self.uri = str(root)
        if storage is not None:
            self.uri = f"s3://damages/{root.parent.name}"
            for path in root.rglob("*"):
                if path.is_file():
                    storage.put_bytes(f"{self.uri}/{path.relative_to(root)}", path.read_bytes())

    def _files(self) -> dict[str, bytes]:
        if self._storage is None:
            links = (path for path in self._root.parent.rglob("*") if path.is_file() and not path.is_symlink())
            return {str(path.relative_to(self._root.parent)): path.read_bytes() for path in links}
        return {uri: self._storage.read_bytes(uri) for uri in self._storage.walk(self.uri)}

    def contents(self) -> set[str]:
        """Hashes of all files that are called as videos and not cut or empty, wherever they lie."""
        return {hashlib.sha256(data).hexdigest() for data in self._files().values() if b"ftyp" in data[:12]}

    def listed(self) -> dict[str, str]:
        """The sha256 of each clip that is listed in a part, and whose file is there as recorded."""
        found = {}
        for part in sorted(self._root.glob("data/part-?????")) if self._storage is None else ():
            try:
                rows = pq.read_table(part / "metadata.parquet", columns=["clip_id", "file_name", "sha256"]).to_pylist()
            except Exception:  # noqa: BLE001, S112 - of a damage
                continue
            for row in rows:
                path = part / str(row["file_name"])
                if is_clip_id(row["clip_id"]) and path.is_file():
                    content = hashlib.sha256(path.read_bytes()).hexdigest()
                    if content == row["sha256"]:
                        found[row["clip_id"]] = content
        return found
