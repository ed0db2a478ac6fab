"""Seconds and memory of `verify` for many rows: `python -m benchmarks.verify_rows [--rows 1000000] [--folder DIR]`.

The dataset is made by this script: files of the recorded sizes that hold nothing, and records as SVD's clips have them.
"""

import argparse
import hashlib
import os
import resource
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from actors.generators.svd.generator import SvdGenerator
from actors.records import clip_schema
from actors.storage import Storage
from pipelines.dataset import card
from pipelines.dataset.layout import PART_CLIPS, Layout
from pipelines.dataset.records import to_parquet
from pipelines.upkeep.whole import look_at

_SCHEMA = clip_schema(SvdGenerator)
_TYPICAL = {pa.int32(): 25, pa.int64(): 25, pa.float64(): 3.25, pa.string(): "a text of some length"}


def make_part(root: str, part: int, rows: int) -> None:
    """A part with so many clips."""
    folder = Layout(root).part(part)
    os.makedirs(folder)  # noqa: PTH103 - strings: there are millions
    digests = [hashlib.sha256(f"{part} {row}".encode()).hexdigest() for row in range(rows)]
    sizes = [1_000_000 + int(digest[:5], 16) for digest in digests]
    names = [f"{digest}.mp4" for digest in digests]
    for name, size in zip(names, sizes, strict=True):
        file = os.open(f"{folder}/{name}", os.O_CREAT | os.O_WRONLY)
        os.truncate(file, size)
        os.close(file)
    columns: dict[str, list[Any]] = {
        "clip_id": digests,
        "file_name": names,
        "bytes": sizes,
        "generator": ["svd"] * rows,
    }
    columns["sha256"] = [digest[::-1] for digest in digests]
    columns["image_uri"] = [f"s3://bucket/images/{digest}.jpg" for digest in digests]
    columns["created_at"] = [datetime.now(UTC)] * rows
    arrays = [pa.array(columns.get(field.name) or [_TYPICAL[field.type]] * rows, field.type) for field in _SCHEMA]
    table = pa.table(arrays, schema=_SCHEMA)
    Storage().put_bytes(Layout(root).metadata(part), to_parquet(table, _SCHEMA.names))


def main() -> None:
    """Make the dataset, look at it, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", help="where the dataset is made, and removed again; it takes a file a row")
    arguments = parser.parse_args()
    rows, folder = arguments.rows, tempfile.mkdtemp(prefix="stillreel-", dir=arguments.folder)
    try:
        started = time.monotonic()
        counts = [min(PART_CLIPS, rows - first) for first in range(0, rows, PART_CLIPS)]
        with ProcessPoolExecutor() as makers:
            list(makers.map(make_part, [folder] * len(counts), range(len(counts)), counts))
        card.write(Layout(folder), Storage())
        print(f"made {rows:,} rows in {len(counts):,} parts in {time.monotonic() - started:.0f} s", flush=True)
        before = resource.getrusage(resource.RUSAGE_SELF)
        started = time.monotonic()
        whole = look_at(Layout(folder), Storage(), deep=False)
        elapsed_s, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(
            f"verify: {whole.num_rows:,} rows, {[kind.name for kind in whole.findings.kinds]}: {elapsed_s:.1f} s "
            f"({cpu_s:.1f} s of CPU), {after.ru_maxrss / 2**20:.2f} GiB at most"
        )
        sys.exit(0 if whole.findings.is_clean and whole.num_rows == rows else 1)
    finally:
        shutil.rmtree(Path(folder))


if __name__ == "__main__":
    main()
