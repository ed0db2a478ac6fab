"""`stillreel status`: how the last run of a dataset is, asked of the dataset itself."""

import json
import sys
import time
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors.errors import StorageError
from actors.printable import printable
from actors.storage import Storage
from pipelines.dataset.beats import BEAT_S, State, read_state
from pipelines.dataset.layout import Layout
from pipelines.money.bill import shown

# By `State.word`. 2 stays usage, as everywhere.
EXIT_CODES = {"done": 0, "failed": 1, "running": 3, "stale": 4}

_SAID = {
    "done": "done",
    "running": "running",
    "stale": "stale: it gives no sign of life; the same command continues it",
}


def rows_of(state: State) -> dict[str, str]:
    """What is said of a run, by name."""
    holder, beat = state.holder, state.beat
    now = datetime.now(UTC)
    said = _SAID.get(state.word) or (beat.phase if beat else "failed")
    rows = {"run": holder.run_id, "state": said, "by": f"{holder.name} since {_clock(holder.since)}"}
    if beat is None:
        rows["found"] = "nothing to do" if state.word == "done" else "not known yet"
        return rows
    if state.word == "running":
        rows["phase"] = beat.phase
    rows["last sign of life"] = f"{_clock(beat.beaten_at)} ({_span(now - beat.beaten_at)} ago)"
    rows["clips"] = f"{beat.made:,} made, {beat.failed:,} failed, of {beat.to_do:,}; {beat.already_there:,} were there"
    if state.word == "running" and beat.rate:
        left = timedelta(seconds=(beat.to_do - beat.ended) / beat.rate)
        rows["rate"] = f"{beat.rate * 60:.1f} clips/min of late, ETA {_span(left)}"
    for kind in beat.failures:
        rows[f"failed at {kind.stage} ({kind.error_type})"] = f"{kind.count:,}"
    if beat.gpus:
        rows["GPUs now"] = f"{beat.gpus:g}"
    return rows | shown(beat.gpu_s, beat.cost, beat.currency, beat.made, beat.gpu_time)


def print_status(state: State, layout: Layout, console: Console) -> None:
    """As a table."""
    table = Table(show_header=False, box=None)
    for name, value in ({"dataset": layout.root} | rows_of(state)).items():
        table.add_row(printable(name), Text(printable(value)))
    console.print(table)


def next_state(layout: Layout, storage: Storage) -> State:
    """At the next beat, or at a later one where the store does not answer, which is said once. Raises RunError."""
    is_told = False
    while True:
        time.sleep(BEAT_S)
        try:
            return read_state(layout, storage)
        except StorageError as error:
            if not is_told:
                # Not among the answers on standard output, which programs may read.
                print(f"stillreel: {error}; asking again every {BEAT_S:g} s", file=sys.stderr)  # noqa: T201
                is_told = True


def to_json(state: State, layout: Layout) -> str:
    """All that is known, for programs."""
    holder, beat = state.holder, state.beat
    tree = {
        "dataset": layout.root,
        "state": state.word,
        "run_id": holder.run_id,
        "holder": holder.name,
        "since": holder.since.isoformat(),
        "lease_renewed_at": holder.renewed_at.isoformat(),
        "lease_released": holder.is_released,
        "run": None if beat is None else beat.model_dump(mode="json") | {"clips_per_s": beat.rate},
    }
    return json.dumps(tree, indent=2, ensure_ascii=False)


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _span(length: timedelta) -> str:
    seconds = max(0, round(length.total_seconds()))
    if seconds < 120:  # noqa: PLR2004 - up to two minutes
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
