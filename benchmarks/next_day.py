"""What the next day's plan costs: `python -m benchmarks.next_day [--rows N] [--new N] [--s3]`.

A dataset of `--rows` clips is made by script: full records, and videos that are names of one empty file. Its manifest
is a folder of Parquet files with 100,000 rows each. Then `--new` rows come in a file more, and that is planned, work
files included, each time in a process of its own:

- without an index: as a first plan with this version, or after `_index/` was removed;
- with an index of the parts alone: as where the one file of a manifest was written anew;
- with all that a run has kept.

`--s3`: the same tree through the S3 protocol, from a server that lists and gives files and does nothing else
(`benchmarks.tree_server`); requests are counted there.

The last plan must take at most 60 s and 2 GB, and on S3 no plan may ask more than twice a part; the command ends
non-zero where that is missed. Seconds of CPU, of all threads, tell a slow plan from a busy machine.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from actors.generators.svd.generator import SvdGenerator
from actors.records import clip_schema
from actors.storage import Storage
from benchmarks.tree_server import serving_tree
from pipelines.config import Config, load_config
from pipelines.dataset.layout import PART_CLIPS, Layout
from pipelines.job import Job
from pipelines.planning.clips import open_manifest, wanted_clips
from pipelines.planning.identity import Identity

_FILE_ROWS = 100_000
_LIMIT_S, _LIMIT_MB, _LIMIT_REQUESTS = 60.0, 2000.0, 2.0
_REVISIONS = ("revision", "")
# ext4 takes 65,000 names of one file.
_NAMES_OF_A_FILE = 50_000
# Racily clean: what is younger is not kept (`actors.stamps`).
_SETTLED_S = 2.5


def main() -> int:
    """Make the dataset, plan thrice, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=10_000)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the dataset is made; a temporary one otherwise")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        root = Path(name)
        started = time.perf_counter()
        _make(root, asked.rows)
        _write_manifest(root / "manifest", asked.rows, asked.rows + asked.new)
        time.sleep(_SETTLED_S)
        print(f"made {asked.rows:,} clips in {time.perf_counter() - started:.0f} s", flush=True)
        with _served(root, is_s3=asked.s3) as (base, options):
            return _measure(base, options, asked.rows, asked.new)


def _measure(base: str, options: dict[str, Any], rows: int, new: int) -> int:
    parts = -(-rows // PART_CLIPS)
    columns = ["plan of the next day", "already there", "to do", "seconds", "of CPU", "peak MB"]
    columns += ["requests", "a part"] if options else []
    table = Table(*columns, title=f"{rows:,} old rows in {parts:,} parts, {new:,} new; {base.partition(':')[0]}")
    storage, missed = Storage(options), False
    for what in ("no index", "parts known", "all known"):
        if what == "parts known":
            for uri in storage.list_files(Layout(f"{base}/out").known_files):
                storage.remove(uri)
        before = _requests(base, options)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            there, to_do, seconds, cpu_s, peak_mb = pool.apply(_plan, (base, options))
        assert (there, to_do) == (rows, new), (there, to_do)
        cells = [what, f"{there:,}", f"{to_do:,}", f"{seconds:.1f}", f"{cpu_s:.1f}", f"{peak_mb:.0f}"]
        if options:
            asked = _requests(base, options) - before
            cells += [f"{asked:,}", f"{asked / parts:.2f}"]
            missed |= asked > _LIMIT_REQUESTS * parts
        table.add_row(*cells)
    Console().print(table)
    return int(missed or seconds > _LIMIT_S or peak_mb > _LIMIT_MB)


def _plan(base: str, options: dict[str, Any]) -> tuple[int, int, float, float, float]:
    job = Job(_config(base), Storage(options), Layout(f"{base}/out"), _REVISIONS, "benchmark")
    started, cpu = time.perf_counter(), time.process_time()
    plan = job.plan(None, with_work=True)
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return plan.already_there, plan.to_do, seconds, cpu_s, peak_mb


def _config(base: str) -> Config:
    settings = [f"manifest={base}/manifest", f"output={base}/out", "model.source=unused", "storage.schemes=[s3]"]
    return load_config([], settings)


@contextmanager
def _served(root: Path, *, is_s3: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where the tree is, and what a storage needs to get there."""
    if not is_s3:
        yield str(root), {}
        return
    with serving_tree(root) as endpoint:
        yield "s3://tree", {"s3": {"key": "k", "secret": "s", "client_kwargs": {"endpoint_url": endpoint}}}


def _requests(base: str, options: dict[str, Any]) -> int:
    """So far."""
    return int(Storage(options).read_bytes(f"{base}/requests")) if options else 0


def _make(root: Path, rows: int) -> None:
    """The manifest and the dataset, on all cores."""
    _write_manifest(root / "manifest", 0, rows)
    config = _config(str(root))
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as workers:
        waiting: list[Future[None]] = []
        part = 0
        rest: list[tuple[str, str]] = []
        for clips in wanted_clips(open_manifest(config, Storage()), config, Identity(config, *_REVISIONS)):
            found, _ = clips.rows(np.arange(len(clips.hashes)))
            rest += zip(found["clip_id"].to_pylist(), found["image_uri"].to_pylist(), strict=True)
            for one in waiting:  # a chunk is ahead of the workers, and no more
                one.result()
            waiting = []
            while len(rest) >= PART_CLIPS:
                waiting.append(workers.submit(_write_part, str(root), part, rest[:PART_CLIPS]))
                rest, part = rest[PART_CLIPS:], part + 1
        if rest:
            waiting.append(workers.submit(_write_part, str(root), part, rest))
        for one in waiting:
            one.result()


def _write_part(root: str, part: int, clips: list[tuple[str, str]]) -> None:
    layout, schema = Layout(f"{root}/out"), clip_schema(SvdGenerator)
    clips = sorted(clips)
    ids, uris = map(list, zip(*clips, strict=True))
    digits = np.random.default_rng(part).bytes(32 * (len(ids) + 1)).hex()
    hashes = [digits[64 * row : 64 * row + 64] for row in range(len(ids) + 1)]
    own = {"clip_id": ids, "file_name": [f"{one}.mp4" for one in ids], "image_uri": uris}
    own |= {"image_sha256": hashes[1:], "sha256": hashes[:-1], "generator": ["svd"] * len(ids)}
    columns = {
        field.name: pa.array(own[field.name], field.type) if field.name in own else _filled(field.type, len(ids))
        for field in schema
    }
    table = pa.table(columns).append_column("caption", pa.array([f"picture of {uri}" for uri in uris]))
    folder = Path(layout.part(part))
    folder.mkdir(parents=True)
    source = Path(root) / f"empty-{part * PART_CLIPS // _NAMES_OF_A_FILE}-{os.getpid()}.mp4"
    source.touch()
    for one in own["file_name"]:
        os.link(source, f"{folder}/{one}")
    pq.write_table(table, layout.metadata(part), compression="zstd")


@cache
def _filled(kind: pa.DataType, count: int) -> pa.Array:
    """Values of no meaning: floats that differ, as seconds do, and all else alike."""
    chance = np.random.default_rng(0)
    if pa.types.is_floating(kind):
        return pa.array(chance.random(count), kind)
    if pa.types.is_timestamp(kind):
        return pa.array(chance.integers(10**15, 2 * 10**15, count), pa.int64()).cast(kind)
    return pa.array(["some words"] * count, kind) if pa.types.is_string(kind) else pa.array([7] * count, kind)


def _write_manifest(folder: Path, start: int, stop: int) -> None:
    folder.mkdir(exist_ok=True)
    for first in range(start, stop, _FILE_ROWS):
        rows = range(first, min(first + _FILE_ROWS, stop))
        uris = [f"s3://tree/images/{row % 997:03d}/{row:08d}.jpg" for row in rows]
        table = pa.table({"image_uri": uris, "caption": [f"picture of {uri}" for uri in uris]})
        pq.write_table(table, folder / f"rows-{first:08d}.parquet")


if __name__ == "__main__":
    sys.exit(main())
