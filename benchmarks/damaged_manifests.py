"""Manifests with faults, planned: `python -m benchmarks.damaged_manifests [--count 2000] [--seed 0]`.

Every format meets every fault, in turn, with the same bytes for the same seed. Each must end as rows, as rows of which
some have a problem, or as one ManifestError of one sentence. Anything else is printed, and the exit code is 1.
"""

import argparse
import bz2
import csv
import datetime as dt
import gzip
import io
import json
import random
import sys
import tarfile
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from rich.table import Table

from actors.errors import ManifestError
from actors.printable import printable
from actors.storage import Storage
from pipelines.config import load_config
from pipelines.dataset.layout import Layout
from pipelines.dataset.work import read_work
from pipelines.planning.holdings import Holdings
from pipelines.planning.planner import make_plan

_ROWS = 30
_SENTENCE_CHARACTERS = 1500  # with a path, a reason and a list of columns

# Names and values that were meant for something else.
_ODD = (
    *("", " ", "\0", "\x1b[2J\x1b]0;x\x07", "\x9b31m", "\u202egnp.exe", "\u2028", "\ufeff", "a\nb", "a\r\nb", '"', "'"),
    *("../../etc/passwd", "/", "//", ".", "..", "file://host/x", "file:///%ff", "file:/%00", "s3://", "s3://b", "://"),
    *("http://[", "https://169.254.169.254/", "data:image/png;base64,iVBOR", "{}", "[]", "null", "NaN", "-0", "1e999"),
    *("9" * 400, "0.02", "x" * 9000, "é" * 300, "😀", "e\u0301", "a::b", "a%2Fb", "#", "# x", "=1+1", "sep=;"),
)
_NAMES = (
    *(*_ODD, "url", "URL", "image", "seed", "fps", "image_uri", "problem", "image_file", "source_part", "x" * 2000),
    *("clip_id", "part", "Clip_ID", "source_clip_id", "image.bytes"),
)


def mutated(number: int, seed: int) -> tuple[str, str, bytes]:
    """One manifest: what was done to it, its file's name, its bytes."""
    rng = random.Random(f"{seed} {number}")  # noqa: S311 - the same files again
    turn, place = divmod(number, len(_FAULTS))
    fault = list(_FAULTS)[place]
    name = list(_FORMATS)[(turn + place) % len(_FORMATS)]
    extension = name.rpartition(" ")[2]
    return fault, f"m.{extension}", _FAULTS[fault](name, rng)


def ending(name: str, data: bytes, folder: Path) -> str:
    """How a manifest ends: `rows`, `rows with problems` or `refused`; anything else is raised."""
    manifest = folder / name
    manifest.write_bytes(data)
    config = load_config([], [f"manifest={manifest}", f"output={folder}/out", "model.source=none"])
    layout = Layout(config.output)
    try:
        plan = make_plan(config, Storage(), Holdings(), ("rev", ""), run=layout.run("r"))
    except ManifestError as error:
        said = str(error)
        assert said == printable(said), said
        assert len(said) < _SENTENCE_CHARACTERS, len(said)
        return "refused"
    assert plan.wanted == plan.to_do + plan.duplicates, plan
    assert sum(file.rows for file in plan.work) == plan.to_do, plan
    bad = 0
    for file in plan.work:
        table = read_work(file.uri, ["clip_id", "image_uri", "problem", *plan.extras.names], Storage())
        table.validate(full=True)
        assert table["image_uri"].null_count == 0, "a row without a name"
        bad += sum(text != "" for text in table["problem"].to_pylist())
    assert bad <= plan.problems.counts.total(), plan.problems
    return "rows with problems" if bad else "rows"


def count_endings(count: int, seed: int) -> tuple[Counter[tuple[str, str]], list[str]]:
    """How many manifests of each kind end how; and the tracebacks of those that end otherwise."""
    endings: Counter[tuple[str, str]] = Counter()
    faults: list[str] = []
    for number in range(count):
        kind, name, data = mutated(number, seed)
        with tempfile.TemporaryDirectory(prefix="stillreel-") as folder:
            try:
                endings[kind, ending(name, data, Path(folder))] += 1
            except Exception:  # noqa: BLE001 - what is looked for
                endings[kind, "a bug"] += 1
                said = printable(traceback.format_exc(), keep="\n")
                faults.append(f"number {number}, seed {seed}: {kind}, {name}\n{said}")
    return endings, faults


def main() -> None:
    """Print how many manifests end how."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    endings, faults = count_endings(arguments.count, arguments.seed)
    columns = ("rows", "rows with problems", "refused", "a bug")
    table = Table("what was done", *columns)
    for kind in _FAULTS:
        table.add_row(kind, *(str(endings[kind, column]) for column in columns))
    totals = [sum(count for (_, how), count in endings.items() if how == column) for column in columns]
    table.add_row("all", *map(str, totals))
    Console(width=120).print(table)
    for fault in faults:
        sys.stdout.write(fault + "\n")
    sys.exit(1 if faults else 0)


# --- Whole manifests --------------------------------------------------------------------------------------------------

Columns = dict[str, list[Any]]


def _columns(rng: random.Random) -> Columns:
    return {
        "url": [f"/x/{row}.jpg" for row in range(_ROWS)],
        "caption": [rng.choice(["a cat", "é, ü", 'say "x"', "two\nlines", None]) for _ in range(_ROWS)],
        "seed": [rng.choice([row, None]) for row in range(_ROWS)],
        "noise_aug_strength": [rng.choice([0.02, 0.5, None]) for _ in range(_ROWS)],
        "score": [row / 3 for row in range(_ROWS)],
    }


def _as_csv(columns: Columns, delimiter: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode("utf-8", "surrogatepass")


def _as_json_lines(columns: Columns) -> bytes:
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return "".join(json.dumps(row, default=str) + "\n" for row in rows).encode()


def _as_text(columns: Columns) -> bytes:
    return "".join(f"{row}\n" for row in next(iter(columns.values()))).encode("utf-8", "surrogatepass")


def _parquet(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return bytes(sink.getvalue())


def _as_parquet(columns: Columns) -> bytes:
    return _parquet(_typed(columns), compression="none")


def _as_zstd(columns: Columns) -> bytes:
    return _parquet(_typed(columns), compression="zstd", row_group_size=7)


def _as_spark(columns: Columns) -> bytes:
    days = [dt.datetime(row * 300 + 1, 12, 31) for row in range(_ROWS)]  # noqa: DTZ001 - of no zone
    table = _typed(columns | {"day": days})
    return _parquet(table, use_deprecated_int96_timestamps=True, compression="snappy")


def _with_images(columns: Columns) -> bytes:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": _pictures()[row % 2], "path": f"{row}.jpg"} for row in range(_ROWS)], kind)
    features = {"info": {"features": {"image": {"_type": "Image"}, "mask": {"_type": "Image"}}}}
    table = _typed({"image": images, "mask": images} | columns)
    return _parquet(table.replace_schema_metadata({"huggingface": json.dumps(features)}), row_group_size=9)


def _downloaded(columns: Columns) -> bytes:
    pictures = [None if row % 3 else _pictures()[row % 2] for row in range(_ROWS)]
    return _parquet(_typed({"jpg": pa.array(pictures, pa.binary())} | columns))


def _as_json(columns: Columns) -> bytes:
    return b"[" + b",".join(_as_json_lines(columns).splitlines()) + b"]"


def _as_arrow(columns: Columns) -> bytes:
    table = _typed(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=11)
    return bytes(sink.getvalue())


def _as_stream(columns: Columns) -> bytes:
    """As `datasets.save_to_disk` writes it, with images."""
    table = _typed({"image": pa.array([{"bytes": _pictures()[0], "path": None}] * _ROWS)} | columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=11)
    return bytes(sink.getvalue())


def _as_tar(columns: Columns) -> bytes:
    """A shard of WebDataset, whose texts are the columns."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for row in range(_ROWS):
            texts = {name or "x": str(values[row]) for name, values in columns.items() if values[row] is not None}
            encoded = {name: text.encode("utf-8", "replace") for name, text in texts.items()}
            for name, data in {"jpg": _pictures()[0], **encoded}.items():
                member = tarfile.TarInfo(f"{row:05d}.{name}"[:90].replace("\0", ""))
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _typed(columns: Columns) -> pa.Table:
    """A table, each column of whatever type holds it."""
    return pa.table({name: _array(values) for name, values in columns.items()})


def _array(values: Any) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    try:
        return pa.array(values)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        texts = (None if value is None else str(value) for value in values)
        return pa.array([text and text.encode("utf-8", "replace").decode() for text in texts], pa.string())


@cache
def _pictures() -> tuple[bytes, bytes]:
    pictures = []
    for kind in ("JPEG", "PNG"):
        buffer = io.BytesIO()
        Image.new("RGB", (16, 12), (200, 5, 5)).save(buffer, kind)
        pictures.append(buffer.getvalue())
    return pictures[0], pictures[1]


# By what a file's name ends in.
_FORMATS: dict[str, Callable[[Columns], bytes]] = {
    "parquet": _as_parquet,
    "csv": _as_csv,
    "zstd parquet": _as_zstd,
    "jsonl": _as_json_lines,
    "images in parquet": _with_images,
    "tsv": lambda columns: _as_csv(columns, "\t"),
    "img2dataset's parquet": _downloaded,
    "csv.gz": lambda columns: gzip.compress(_as_csv(columns), mtime=0),
    "Spark's parquet": _as_spark,
    "txt": _as_text,
    "jsonl.gz": lambda columns: gzip.compress(_as_json_lines(columns), mtime=0),
    "json": _as_json,
    "arrow": _as_arrow,
    "tar": _as_tar,
    "Hugging Face's arrow": _as_stream,
    "csv.zst": lambda columns: bytes(pa.compress(_as_csv(columns), "zstd")),
    "tsv.bz2": lambda columns: bz2.compress(_as_csv(columns, "\t"), 1),
}


# --- Faults: (format, rng) -> bytes -----------------------------------------------------------------------------------


def _whole(name: str, rng: random.Random) -> bytes:
    return _FORMATS[name](_columns(rng))


def _flipped(name: str, rng: random.Random) -> bytes:
    """Single bits; of half of the files near the end, where Parquet has its directory."""
    data = bytearray(_whole(name, rng))
    low = rng.choice([0, max(0, len(data) - 1500)])
    for _ in range(rng.choice([1, 2, 5, 20])):
        data[rng.randrange(low, len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _cut_off(name: str, rng: random.Random) -> bytes:
    data = _whole(name, rng)
    return data[: rng.randrange(len(data))]


def _gap(name: str, rng: random.Random) -> bytes:
    data = _whole(name, rng)
    start, length = rng.randrange(len(data)), rng.randrange(1, 200)
    return data[:start] + rng.choice([b"", bytes(length), rng.randbytes(length)]) + data[start + length :]


def _doubled(name: str, rng: random.Random) -> bytes:
    """Written twice into one file, or from another place on."""
    data = _whole(name, rng)
    return data + data[rng.choice([0, rng.randrange(len(data))]) :]


def _other_format(name: str, rng: random.Random) -> bytes:
    other = rng.choice([one for one in _FORMATS if one != name])
    return rng.choice([_whole(other, rng), _pictures()[0], b"PK\3\4" + rng.randbytes(300), bytes(rng.randrange(500))])


def _odd_values(name: str, rng: random.Random) -> bytes:
    columns = _columns(rng)
    for _ in range(rng.randrange(1, 30)):
        rng.choice(list(columns.values()))[rng.randrange(_ROWS)] = rng.choice(_ODD)
    return _FORMATS[name](columns)


def _odd_names(name: str, rng: random.Random) -> bytes:
    columns = list(_columns(rng).items())
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(columns))
        columns[place] = (rng.choice(_NAMES), columns[place][1])
    rng.shuffle(columns)
    return _FORMATS[name](dict(columns))


def _odd_types(name: str, rng: random.Random) -> bytes:
    """Values of a type that the column's name does not lead to expect."""
    columns = _columns(rng)
    for _ in range(rng.randrange(1, 4)):
        column = rng.choice([*columns, "image", "data", "extra", "fps"])
        values = rng.choice(_odd_columns())
        columns[column] = values if name.endswith(("parquet", "arrow")) else values.to_pylist()
    return _FORMATS[name](columns)


@cache
def _odd_columns() -> list[pa.Array]:
    rows = range(_ROWS)
    values: list[tuple[list[Any], pa.DataType]] = [
        ([bytes([row]) * 40 for row in rows], pa.binary()),
        ([bytes([row]) * 16 for row in rows], pa.binary(16)),
        ([_pictures()[row % 2] for row in rows], pa.binary_view()),
        ([[_pictures()[0]] * (row % 3) for row in rows], pa.list_(pa.binary())),
        ([{"bytes": _pictures()[1], "n": 1} for _ in rows], pa.struct([("bytes", pa.binary()), ("n", pa.int8())])),
        ([{"bytes": None} for _ in rows], pa.struct([("bytes", pa.null())])),
        ([{"a": [{"b": row}]} for row in rows], pa.struct([("a", pa.list_(pa.struct([("b", pa.int8())])))])),
        ([[(str(row), row)] for row in rows], pa.map_(pa.string(), pa.int32())),
        ([dt.timedelta(row) for row in rows], pa.duration("ns")),
        ([row * 10**15 for row in rows], pa.timestamp("us", "UTC")),
        ([row * 1000 for row in rows], pa.time64("us")),
        ([Decimal(row) / 7 for row in rows], pa.decimal256(60, 20)),
        ([2**64 - 1 - row for row in rows], pa.uint64()),
        ([row / 50 for row in rows], pa.float32()),
        ([float("nan"), float("inf"), -0.0] * 10, pa.float64()),
        ([row % 2 == 0 for row in rows], pa.bool_()),
        ([None for _ in rows], pa.null()),
        ([None for _ in rows], pa.binary()),
        (list(_ODD[:_ROWS]), pa.large_string()),
        ([[str(row)] for row in rows], pa.list_(pa.string_view())),
        ([bytes([row]) * 16 for row in rows], pa.uuid()),
    ]
    arrays = []
    for array, kind in values:
        if isinstance(kind, pa.Decimal256Type):
            array = [one.quantize(Decimal("1e-20")) for one in array]  # noqa: PLW2901 - of the column's own digits
        arrays.append(pa.array(array, kind))
    return [*arrays, pa.array([str(row % 3) for row in rows]).dictionary_encode()]


def _huge_cells(name: str, rng: random.Random) -> bytes:
    columns = _columns(rng)
    size = rng.choice([10**5, 10**6, 5 * 10**6])
    rng.choice(list(columns.values()))[rng.randrange(_ROWS)] = rng.choice(["x", '"', "\n", "é", "/", "\\"]) * size
    return _FORMATS[name](columns)


def _ragged(name: str, rng: random.Random) -> bytes:
    """Lines lost, doubled, joined or strange, with other line ends; of Parquet, pages."""
    lines = _whole(name, rng).split(b"\n")
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(lines))
        strange = [b"", b"  ", b",,", b'"', b"\xff\xfe", b"{", b"[1]", b"#", b"\xef\xbb\xbf", b"1", lines[place] * 2]
        lines[place : place + rng.randrange(2)] = [rng.choice(strange)] * rng.randrange(1, 3)
    return rng.choice([b"\n", b"\r\n", b"\r"]).join(lines)


def _other_text(name: str, rng: random.Random) -> bytes:
    """Text in another encoding, or before something that belongs to another format."""
    data = _whole(name, rng)
    start = rng.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\n\n\n", b"sep=;\n", b"#!x\n", b"\0", b"\x1f\x8b", b"PAR1"])
    return rng.choice([start + data, data.decode("latin-1").encode("utf-16"), data.replace(b"e", b"\xe9")])


_FAULTS: dict[str, Callable[[str, random.Random], bytes]] = {
    "nothing": _whole,
    "bits flipped": _flipped,
    "cut off": _cut_off,
    "bytes lost or overwritten": _gap,
    "written twice": _doubled,
    "another format": _other_format,
    "odd values": _odd_values,
    "odd names": _odd_names,
    "odd types": _odd_types,
    "huge cells": _huge_cells,
    "odd lines": _ragged,
    "odd text": _other_text,
}


if __name__ == "__main__":
    main()
