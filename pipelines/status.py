"""`stillreel status`: how the last run of a dataset is, or those of its shards, asked of the dataset itself."""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors.errors import StorageError
from actors.printable import printable
from actors.storage import Storage
from pipelines.dataset.beats import BEAT_S, ENDED, Beat
from pipelines.dataset.generations import MAX_CLOCK_SKEW_S
from pipelines.dataset.layout import Layout
from pipelines.dataset.lease import Holder
from pipelines.dataset.states import State, States, read_states
from pipelines.money.bill import bill_lines
from pipelines.totals import Totals

# By `States.word`. 2 stays usage, as everywhere.
EXIT_CODES = {"done": 0, "failed": 1, "unreadable": 1, "running": 3, "stale": 4, "missing": 4}

_SAID = {
    "done": "done",
    "running": "running",
    "unreadable": "unreadable: of some shards it is not known how they are",
    "stale": "stale: it gives no sign of life; the same command continues it",
    "missing": "missing: of some shards no run has begun",
}


def rows_of(state: State) -> dict[str, str]:
    """What is said of a run, by name."""
    holder, beat = state.holder, state.beat
    now = datetime.now(UTC)
    if beat is None or not state.found_nothing:
        rows = {"run": holder.run_id, "state": _said(state), "by": f"{holder.name} since {_clock(holder.since)}"}
    else:
        ended = "" if beat.went_well or state.word == "failed" else f" ({beat.phase})"
        rows = {"run": beat.run_id + ended, "state": _said(state), "began": _clock(beat.started_at)}
    if beat is None:
        rows["found"] = "nothing to do" if state.found_nothing else "not known yet"
        return rows
    if state.word == "running":
        rows["phase"] = beat.phase
        rows |= {"waits": _waiting(beat)} if beat.waits_for else {}
    rows["last sign of life"] = _seen(state, beat, now)
    rows |= _counts(Totals.of([state]))
    return rows | ({"since then": _idle(holder)} if state.found_nothing else {})


def _seen(state: State, beat: Beat, now: datetime) -> str:
    """When it was last heard of, as far as the clocks tell."""
    ago = now - beat.beaten_at
    skew = timedelta(seconds=MAX_CLOCK_SKEW_S)
    if state.word == "running" and (ago < -skew or (state.holder.is_over and ago > skew)):
        apart = f"{_span(abs(ago))} {'behind' if ago > skew else 'ahead of'} this machine's"
        return f"a moment ago ({_clock(beat.beaten_at)} by its own clock, which is {apart})"
    return f"{_clock(beat.beaten_at)} ({_span(ago)} ago)"


def _waiting(beat: Beat) -> str:
    """For what a run waits that has not ended."""
    since = "" if beat.waits_since is None else f", since {_clock(beat.waits_since)}"
    return f"{beat.waits_for}: the run waits for one{since}"


def _said(state: State) -> str:
    """How a run is."""
    beat = state.beat
    if state.word != "failed" or beat is None:
        return _SAID.get(state.word, state.word)
    if beat.too_many_failed:
        return "failed: more rows than run.max_failed_share"
    return beat.phase if beat.phase in ENDED else f"failed while {beat.phase}"


def _idle(holder: Holder) -> str:
    return f"run {holder.run_id} of {holder.name} found nothing to do ({_clock(holder.since)})"


def rows_of_all(states: States) -> dict[str, str]:
    """What is said of all shards together, by name."""
    said = {"division": f"{len(states.by_shard)} shards", "state": _SAID.get(states.word, states.word)}
    said |= _counts(Totals.of(states.known))
    return said | ({"since then": _idle(states.since)} if states.since else {})


def _counts(one: Totals) -> dict[str, str]:
    """Of one run, or of several."""
    rows = {"clips": f"{one.made:,} made, {one.failed:,} failed, of {one.to_do:,}; {one.already_there:,} were there"}
    if one.clips_per_s:
        eta = "" if one.left_s is None else f", ETA {_span(timedelta(seconds=one.left_s))}"
        rows["rate"] = f"{one.clips_per_s * 60:.1f} clips/min of late{eta}"
    for (stage, error_type), count in one.failures.most_common():
        rows[f"failed at {stage} ({error_type})"] = f"{count:,}"
    if one.gpus:
        rows["GPUs now"] = f"{one.gpus:g}"
    return rows | bill_lines(one.gpu_s, one.cost, one.currency, one.made, one.gpu_time, one.unpriced)


def print_status(states: States, layout: Layout, console: Console) -> None:
    """As a table; of shards, with a row for each, and their runs in lines, which no terminal is too narrow for."""
    whole = states.of_whole
    rows = rows_of_all(states) if whole is None else rows_of(whole)
    table = Table(show_header=False, box=None)
    for name, value in ({"dataset": layout.root} | rows).items():
        table.add_row(printable(name), Text(printable(value)))
    console.print(table)
    if whole is None:
        console.print(_table_of_shards(states))
        for shard, state in states.by_shard.items():
            if state is not None:
                console.print(f"{shard}: {_run_of(state)}", highlight=False, markup=False)
                if state.word == "running" and state.beat is not None and state.beat.waits_for:
                    console.print(f"{shard}: {_waiting(state.beat)}", highlight=False, markup=False)
                if state.problem:
                    console.print(f"{shard}: {state.problem}", highlight=False, markup=False)


def _table_of_shards(states: States) -> Table:
    table = Table("shard", "state", "made", "failed", "of", "clips/min", "ETA", "last sign of life", box=None)
    for shard, state in states.by_shard.items():
        if state is None:
            table.add_row(str(shard), "missing")
            continue
        one, beat = Totals.of([state]), state.beat
        seen = beat.beaten_at if beat and not state.found_nothing else state.holder.renewed_at
        is_told = beat is not None and beat.phase in ENDED and beat.phase != "done" and state.word == "failed"
        cells = [
            beat.phase if beat and (is_told or state.word == "running") else state.word,
            f"{one.made:,}",
            f"{one.failed:,}",
            f"{one.to_do:,}",
            f"{one.clips_per_s * 60:.1f}" if one.clips_per_s else "",
            "" if one.left_s is None else _span(timedelta(seconds=one.left_s)),
            f"{_span(datetime.now(UTC) - seen)} ago",
        ]
        table.add_row(str(shard), *(Text(printable(cell)) for cell in cells))
    return table


def _run_of(state: State) -> str:
    """Which run that is."""
    last = f"{state.holder.run_id} of {state.holder.name}"
    if not state.found_nothing:
        return last
    return f"{last} found nothing to do" + ("" if state.beat is None else f", after {state.beat.run_id}")


def next_states(layout: Layout, storage: Storage) -> States:
    """At the next beat, or at a later one where the store does not answer, which is said once. Raises RunError."""
    is_told = False
    while True:
        time.sleep(BEAT_S)
        try:
            return read_states(layout, storage)
        except StorageError as error:
            if not is_told:
                # Not among the answers on standard output, which programs may read.
                print(f"stillreel: {error}; asking again every {BEAT_S:g} s", file=sys.stderr)  # noqa: T201
                is_told = True


def to_json(states: States, layout: Layout) -> str:
    """All that is known, for programs."""
    tree: dict[str, Any] = {"dataset": layout.root, "state": states.word}
    if (whole := states.of_whole) is not None:
        return _json(tree | _tree_of(whole) | {"shards": []})
    sums = Totals.of(states.known).described()
    shards = [
        {"shard": str(shard)} | ({"state": "missing", "run": None} if state is None else _tree_of(state))
        for shard, state in states.by_shard.items()
    ]
    since = None if states.since is None else {"run_id": states.since.run_id, "since": states.since.since.isoformat()}
    return _json(tree | {"run": sums, "found_nothing_since": since, "shards": shards})


def _tree_of(state: State) -> dict[str, Any]:
    holder, beat = state.holder, state.beat
    return {
        "state": state.word,
        "run_id": holder.run_id,
        "holder": holder.name,
        "since": holder.since.isoformat(),
        "lease_renewed_at": holder.renewed_at.isoformat(),
        "lease_released": holder.is_released,
        "found_nothing": state.found_nothing,
        "problem": state.problem or None,
        "run": None if beat is None else beat.model_dump(mode="json") | {"clips_per_s": beat.rate},
    }


def _json(tree: dict[str, Any]) -> str:
    return json.dumps(tree, indent=2, ensure_ascii=False)


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _span(length: timedelta) -> str:
    seconds = max(0, round(length.total_seconds()))
    if seconds < 120:  # noqa: PLR2004 - up to two minutes
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
