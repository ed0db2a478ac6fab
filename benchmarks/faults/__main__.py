"""Kill runs and shards, fail their store, feed them damaged images, lose their nodes, repeat them; print what was lost.

    python -m benchmarks.faults [--runs 100] [--store-clips 1000] [--damaged 1000] [--good 200] [--nodes 30]
        [--shard-kills 40] [--races 200] [--seed 0] [--keep DIR]
        [--only kills|store|damaged|nodes|repeats|shards|races]

It ends non-zero if anything was. The defaults are the full benchmark (about two hours of two cores). 0 leaves a trial
out, `--only` all others.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import transformers
from rich.console import Console
from rich.table import Table

from benchmarks.faults import damaged, jobs, kills, nodes, races, repeats, shards, store

_KINDS = ("kills", "store", "damaged", "nodes", "repeats", "shards", "races")
# Clips of the trials of shards.
_SHARD_CLIPS = 400


def main() -> int:
    """Read the command line, run the trials, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="to kill")
    parser.add_argument("--store-clips", type=int, default=1000)
    parser.add_argument("--damaged", type=int, default=1000, help="images")
    parser.add_argument("--good", type=int, default=200, help="images among the damaged ones")
    parser.add_argument("--nodes", type=int, default=30, help="to lose, one in a run")
    parser.add_argument(
        "--shard-kills", type=int, default=40, help=f"of four shards' runs on Ray, {_SHARD_CLIPS} clips"
    )
    parser.add_argument("--races", type=int, default=200, help="kills of shards' drivers without Ray")
    parser.add_argument("--only", choices=_KINDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()  # there is nothing to wait for
    with tempfile.TemporaryDirectory() as scratch:
        folder: Path = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        table, faults = _run(folder, arguments)
    Console(soft_wrap=True).print(table)
    return int(faults > 0)


def _run(folder: Path, arguments: argparse.Namespace) -> tuple[Table, int]:
    kinds = [arguments.only] if arguments.only else _KINDS
    models = jobs.make_models(folder)
    table = Table("trial", "seconds", "faults", "what came of it")
    total = 0
    started = time.monotonic()

    def row(name: str, faults: int, text: str) -> None:
        nonlocal started, total
        table.add_row(name, f"{time.monotonic() - started:.0f}", str(faults), text)
        started, total = time.monotonic(), total + faults

    if "kills" in kinds and arguments.runs:
        tally = kills.trial(folder / "kills", models, arguments.runs, arguments.seed)
        row(f"{tally.runs} killed runs of {kills.CLIPS} clips", tally.faults, _of_kills(tally))
    if "store" in kinds and arguments.store_clips:
        stored = store.trial(folder / "store", models, arguments.store_clips, arguments.seed)
        row(f"{stored.wanted} clips, faulty S3", stored.faults, _of_store(stored))
    if "damaged" in kinds and arguments.damaged:
        bad = damaged.trial(folder / "damaged", models, arguments.good, arguments.damaged, arguments.seed)
        row(f"{bad.damaged} damaged images among {bad.good}", bad.faults, _of_damaged(bad))
    if "nodes" in kinds and arguments.nodes:
        lost = nodes.trial(folder / "nodes", arguments.nodes, arguments.seed)
        name = f"{lost.lost_nodes} nodes lost while busy, {lost.clips} clips each ({lost.with_notice} with notice)"
        row(name, lost.faults, _of_nodes(lost))
    if "repeats" in kinds:
        again = repeats.trial(folder / "repeats", models)
        row("the same clips again", again.faults, f"{len(again.sha256)} ways: {', '.join(again.sha256)}")
    if "shards" in kinds and arguments.shard_kills:
        divided = shards.trial(folder / "shards", _SHARD_CLIPS, arguments.shard_kills, arguments.seed)
        name = f"{shards.SHARDS} shards at once, {divided.kills} kills, {divided.clips} clips"
        row(name, divided.faults, _of_shards(divided))
    if "races" in kinds and arguments.races:
        raced = races.trial(folder / "races", _SHARD_CLIPS, arguments.races, arguments.seed)
        row(f"{raced.kills} killed drivers that race, {raced.clips} clips", raced.faults, _of_races(raced))
    return table, total


def _of_kills(tally: kills.Tally) -> str:
    killed = ", ".join(f"{kind} {count}" for kind, count in tally.kills.items())
    return (
        f"lost {tally.lost}, duplicated {tally.duplicated}, not as described {tally.mismatched}, "
        f"failed {tally.failed}, stored and made again {tally.paid_twice}, not continued {tally.unfinished}, "
        f"hung {tally.hung}; "
        f"killed: {killed}; processes left behind {tally.orphans}"
    )


def _of_store(result: store.StoreResult) -> str:
    found = result.dataset
    requests = ", ".join(f"{kind} {count}" for kind, count in sorted(result.requests.items()))
    return (
        f"lost {found.lost(result.wanted)}, duplicated {found.duplicated}, not as described {found.mismatched}, "
        f"failed {len(found.failures)}; requests: {requests}"
    )


def _of_nodes(tally: nodes.Tally) -> str:
    made_again = ", ".join(f"{kind} {count}" for kind, count in tally.made_again.items())
    return (
        f"lost {tally.lost}, duplicated {tally.duplicated}, not as described {tally.mismatched}, counted as deaths "
        f"{tally.counted}, not ended well {tally.unfinished}, not said {tally.unsaid}, ended before {tally.not_busy}; "
        f"begun again, by notice: {made_again}"
    )


def _of_shards(tally: shards.Tally) -> str:
    return (
        f"lost {tally.lost}, duplicated {tally.duplicated}, not as described {tally.mismatched}, "
        f"failed {tally.failed}, in another's part {tally.misplaced}, not ended well {tally.unfinished}, "
        f"left to do {tally.left}; runs beside them refused {tally.refused}, not refused {tally.not_refused}; "
        f"status {tally.status}"
    )


def _of_races(tally: races.Tally) -> str:
    return (
        f"lost {tally.lost}, duplicated {tally.duplicated}, not as described {tally.mismatched}, "
        f"failed {tally.failed}, at work together {tally.together}, writes to another's part {tally.foreign_parts}, "
        f"broken {tally.broken}; files written {tally.moves}, drivers done {tally.done}, refused {tally.refused}"
    )


def _of_damaged(result: damaged.DamagedResult) -> str:
    found = result.dataset
    reasons = ", ".join(f"{kind} {count}" for kind, count in result.reasons.most_common())
    return f"{len(found.clips)} videos, {len(found.failures)} records ({reasons}), {result.crashes} crashed workers"


if __name__ == "__main__":
    sys.exit(main())
