"""How long a large manifest takes to plan, and how much memory: `python -m benchmarks.plan_rows [--rows N]`.

A million rows must be planned in 60 s and 1 GB; the command ends non-zero where that is missed. Every format is planned
in a process of its own, work files included, so that its peak memory is its own.
"""

import argparse
import csv
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from actors.storage import Storage
from pipelines.config import load_config
from pipelines.dataset.layout import Layout
from pipelines.planning.holdings import read_holdings
from pipelines.planning.planner import make_plan

_ROWS_AT_ONCE = 50_000
_LIMIT_S_PER_MILLION = 60.0
_LIMIT_MB = 1000.0


def main() -> int:
    """Write the manifests, plan each, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    missed = False
    table = Table("manifest", "rows", "seconds", "rows/s", "peak MB")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for manifest in _manifests(folder, rows):
            # `spawn`: a forked child would begin with this process's memory as its peak.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                planned, seconds, peak_mb = pool.apply(
                    _plan, (str(manifest), str(folder / f"out-{manifest.suffix[1:]}"))
                )
            assert planned == rows, (planned, rows)
            table.add_row(
                manifest.suffix[1:], f"{rows:,}", f"{seconds:.1f}", f"{rows / seconds:,.0f}", f"{peak_mb:.0f}"
            )
            missed |= seconds > _LIMIT_S_PER_MILLION * rows / 1e6 or peak_mb > _LIMIT_MB
    Console().print(table)
    return int(missed)


def _plan(manifest: str, output: str) -> tuple[int, float, float]:
    config = load_config([], [f"manifest={manifest}", f"output={output}", "model.source=unused"])
    storage = Storage()
    started = time.perf_counter()
    layout = Layout(output)
    holdings = read_holdings(layout, storage)
    plan = make_plan(config, storage, holdings, ("revision", ""), run=layout.run("benchmark"))
    seconds = time.perf_counter() - started
    return plan.to_do, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _manifests(folder: Path, rows: int) -> Iterator[Path]:
    """The same rows as Parquet, CSV, JSONL and text, with a caption that travels through (but for text)."""
    parquet, comma, lines, text = (folder / f"images.{kind}" for kind in ("parquet", "csv", "jsonl", "txt"))
    schema = pa.schema({"image_uri": pa.string(), "caption": pa.string()})
    with pq.ParquetWriter(parquet, schema) as writer:
        for start in range(0, rows, _ROWS_AT_ONCE):
            some = list(_rows(start, min(start + _ROWS_AT_ONCE, rows)))
            writer.write_table(pa.Table.from_pylist(some, schema=schema))
    yield parquet
    with comma.open("w", newline="") as file:
        table = csv.DictWriter(file, schema.names)
        table.writeheader()
        table.writerows(_rows(0, rows))
    yield comma
    with lines.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in _rows(0, rows))
    yield lines
    with text.open("w") as file:
        file.writelines(row["image_uri"] + "\n" for row in _rows(0, rows))
    yield text


def _rows(start: int, stop: int) -> Iterator[dict[str, str]]:
    for row in range(start, stop):
        yield {"image_uri": f"s3://bucket/images/{row % 997:03d}/{row:08d}.jpg", "caption": f"picture number {row}"}


if __name__ == "__main__":
    sys.exit(main())
