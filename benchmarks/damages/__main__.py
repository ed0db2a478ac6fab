"""Hand-made damages to a dataset: `python -m benchmarks.damages [--count 200] [--together 1] [--store s3] [--kills]`.

Each is done to a fresh copy of a small dataset. `verify` is to name it, `--repair` to mend it where it may, a second
`verify` to be clean. Every clip that was whole before the repair is to be somewhere after it: in the dataset, or, where
it was there twice, in `_orphans/`. What is not so is printed, and the exit code is 1.

`--kills` ends a repair, and a compact, after each change that it makes, and calls it again.
"""

import argparse
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from actors.storage import Storage
from benchmarks.damages.dataset import make_dataset
from benchmarks.damages.kills import DAMAGES, kill_after_each_change
from benchmarks.damages.kinds import CASES
from benchmarks.damages.trial import Outcome, try_damages
from pipelines.upkeep.compacting import compact
from pipelines.upkeep.repairing import repair


def run_all(count: int, seed: int, together: int, storage: Storage | None = None) -> list[Outcome]:
    """Damage so many copies, `together` kinds at once; with a `storage` on its bucket `damages`."""
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="stillreel-") as folder:
        template = Path(folder) / "template"
        make_dataset(template)
        names = [name for name, case in CASES.items() if storage is None or not case.local]
        for number in range(count):
            chosen = [names[(number + 17 * turn) % len(names)] for turn in range(together)]
            outcomes.append(
                try_damages(template, Path(folder) / f"trial-{number}", chosen, f"{seed} {number}", storage)
            )
    return outcomes


def main() -> None:
    """Print how each kind of damage ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--together", type=int, default=1)
    parser.add_argument("--store", choices=("local", "s3"), default="local")
    parser.add_argument("--kills", action="store_true", help="kill a repair and a compact after each change instead")
    arguments = parser.parse_args()
    if arguments.kills:
        sys.exit(_kill_all())
    with ExitStack() as stack:
        storage = None
        if arguments.store == "s3":
            from tests.servers import swift

            server = stack.enter_context(swift(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
            storage = Storage({"s3": server.options()})
            storage.filesystem("s3://").mkdir("damages")
        outcomes = run_all(arguments.count, arguments.seed, arguments.together, storage)
    table = Table("damage", "times", "named", "mended", "by hand", "faults")
    for name in dict.fromkeys(" + ".join(outcome.damages) for outcome in outcomes):
        of_kind = [outcome for outcome in outcomes if " + ".join(outcome.damages) == name]
        table.add_row(name, *map(str, _counts(of_kind)))
    table.add_row("all", *map(str, _counts(outcomes)))
    Console(width=140).print(table)
    for outcome in outcomes:
        for fault in outcome.faults:
            sys.stdout.write(f"{' + '.join(outcome.damages)}, seed {outcome.seed!r}: {fault}\n")
    sys.exit(1 if any(outcome.faults for outcome in outcomes) else 0)


def _kill_all() -> int:
    """Print how many kills there were, and what was wrong after which."""
    code = 0
    actions = {
        "repair": ((6, 6, 6, 6), DAMAGES, lambda layout, storage: repair(layout, storage, deep=True)),
        "compact": ((3, 1, 2, 4), (), lambda layout, storage: compact(layout, storage, dry_run=False)),
    }
    with tempfile.TemporaryDirectory(prefix="stillreel-") as folder:
        for name, (parts, damages, action) in actions.items():
            template = Path(folder) / name
            make_dataset(template, parts)
            ends = list(kill_after_each_change(template, Path(folder), damages, action))
            wrong = [(number, faults) for number, faults in ends if faults]
            sys.stdout.write(
                f"{name}: killed after each of {len(ends)} changes, {len(wrong)} times something is wrong\n"
            )
            for number, faults in wrong:
                code = 1
                sys.stdout.write(f"  after change {number}: {'; '.join(faults)}\n")
    return code


def _counts(outcomes: list[Outcome]) -> tuple[int, ...]:
    ends = Counter(outcome.end for outcome in outcomes)
    faults = sum(bool(outcome.faults) for outcome in outcomes)
    return len(outcomes), sum(outcome.is_named for outcome in outcomes), ends["mended"], ends["by hand"], faults


if __name__ == "__main__":
    main()
