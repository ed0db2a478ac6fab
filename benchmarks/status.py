"""What it costs to ask a store how a run is: `python -m benchmarks.status [--rows N]`.

A run of 100,000 rows must be told in 3 requests and 1 s; the command ends non-zero where that is missed. The dataset
lies on an S3 server of this machine, with work files of all rows, a part's records for each 512 of them, and a lease.
Requests are counted at a proxy before the server.
"""

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from rich.console import Console
from rich.table import Table

from actors.generators import GENERATORS
from actors.records import clip_schema, work_schema
from actors.storage import Storage
from pipelines.dataset.beats import Beat
from pipelines.dataset.layout import PART_CLIPS, Layout
from pipelines.dataset.lease import held
from pipelines.dataset.states import read_states
from pipelines.dataset.work import WorkWriter
from pipelines.status import EXIT_CODES
from tests.faulty_proxy import faulty_proxy
from tests.servers import S3Server, swift

_MAX_REQUESTS = 3
_MAX_S = 1.0
_OUTPUT = "s3://scale/out"
_RUN_ID = "20260101T000000Z-abcdef"


def main() -> int:
    """Write the dataset, ask, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        swift(Path(name)) as server,
        _run_at_work(server, arguments.rows),
        faulty_proxy(server.endpoint) as proxy,
    ):
        options = server.options(client_kwargs={"endpoint_url": proxy.endpoint})
        asked = _times(lambda: _in_new_process(options), arguments.repeats)
        requests = proxy.counts.total() / arguments.repeats
        config = Path(name) / "store.yaml"
        config.write_text(yaml.safe_dump({"generator": "null", "storage": {"options": {"s3": options}}}))
        whole = _times(lambda: _command(config), arguments.repeats)
    table = Table("what", "figure", "limit")
    table.add_row("requests", f"{requests:g}", str(_MAX_REQUESTS))
    table.add_row("seconds to ask, the store's client included", _shown(asked), f"{_MAX_S:g}")
    table.add_row("seconds of the whole command", _shown(whole), "")
    Console().print(table)
    return int(requests > _MAX_REQUESTS or median(asked) > _MAX_S)


def _times(ask: Callable[[], float], repeats: int) -> list[float]:
    return [ask() for _ in range(repeats)]


def _shown(seconds: list[float]) -> str:
    return f"{median(seconds):.2f}  ({min(seconds):.2f} to {max(seconds):.2f})"


def _in_new_process(options: dict[str, Any]) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_ask, (options,))


def _ask(options: dict[str, Any]) -> float:
    """Seconds, in a process that has spoken to no store yet."""
    started = time.perf_counter()
    states = read_states(Layout(_OUTPUT), Storage({"s3": options}))
    seconds = time.perf_counter() - started
    assert states.word == "running", states
    return seconds


def _command(config: Path) -> float:
    started = time.perf_counter()
    command = [sys.executable, "-m", "pipelines", "status", _OUTPUT, "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    assert done.returncode == EXIT_CODES["running"], done.stderr
    return seconds


@contextmanager
def _run_at_work(server: S3Server, rows: int) -> Iterator[None]:
    """A dataset with a run of so many rows, half of them made."""
    storage = Storage({"s3": server.options()})
    storage.filesystem("s3://").mkdir("scale")
    layout = Layout(_OUTPUT)
    run = layout.run(_RUN_ID)
    with held(layout, storage, run_id=_RUN_ID, lease_s=600):
        work = WorkWriter(run, storage)
        for start in range(0, rows, PART_CLIPS):
            work.add(_rows(work_schema(GENERATORS["null"]), start, min(rows, start + PART_CLIPS)))
        work.flush()
        for part, start in enumerate(range(0, rows // 2, PART_CLIPS)):
            records = _rows(clip_schema(GENERATORS["null"]), start, min(rows // 2, start + PART_CLIPS))
            storage.put_bytes(layout.metadata(part), _parquet(records))
        now = datetime.now(UTC)
        beat = Beat(run_id=_RUN_ID, phase="running", started_at=now, beaten_at=now, to_do=rows, made=rows // 2)
        storage.put_bytes(run.heartbeat, beat.model_dump_json().encode())
        yield


def _rows(schema: pa.Schema, start: int, stop: int) -> pa.Table:
    """Rows of which only the clip_id and the image are known."""
    known = {
        "clip_id": [f"{number:064x}" for number in range(start, stop)],
        "image_uri": [f"s3://images/{number:08d}.jpg" for number in range(start, stop)],
        "part": [number // PART_CLIPS for number in range(start, stop)],
    }
    return pa.table(
        [pa.array(known.get(field.name, [None] * (stop - start)), field.type) for field in schema], schema=schema
    )


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


if __name__ == "__main__":
    sys.exit(main())
