"""Values of manifests as they were meant: headers after blank lines, and numbers that are short of digits."""

import gzip
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from actors.storage import Storage
from pipelines.config import load_config
from pipelines.dataset.layout import Layout
from pipelines.planning.holdings import read_holdings
from pipelines.planning.planner import make_plan
from tests.pipelines.test_manifest import read, refusal, rows, write

ROWS = [{"image_uri": "/x/a.jpg", "caption": "b"}, {"image_uri": "/x/c.jpg", "caption": None}]

# --- CSV -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", b"\n\npath,caption\n/x/a.jpg,b\n/x/c.jpg,\n"),
        ("m.csv", b"\xef\xbb\xbf\r\n \r\npath,caption\r\n\r\n/x/a.jpg,b\r\n  \r\n\r\n/x/c.jpg,\r\n\r\n"),
        ("m.csv", b"\r\rpath,caption\r/x/a.jpg,b\r\r/x/c.jpg,"),
        ("m.csv", b",,,\n , \npath,caption\n/x/a.jpg,b\n/x/c.jpg,\n"),  # rows of a spreadsheet that are empty
        ("m.csv", b'\n"path","caption"\n/x/a.jpg,b\n/x/c.jpg,\n'),
        ("m.csv", b"\n" * (4 * 2**20 + 10) + b"path,caption\n/x/a.jpg,b\n/x/c.jpg,\n"),  # more than a block
        ("m.csv", b" " * (4 * 2**20 - 1) + b"\r\npath,caption\n/x/a.jpg,b\n/x/c.jpg,\n"),  # \r and \n in two blocks
        ("m.tsv", b"\n\t\npath\tcaption\n/x/a.jpg\tb\n/x/c.jpg\t\n"),
        ("m.csv.gz", gzip.compress(b"\n\r\npath,caption\n/x/a.jpg,b\n/x/c.jpg,\n", mtime=0)),
    ],
)
def test_blank_lines_before_and_between_rows_are_none(tmp_path: Path, name: str, content: bytes) -> None:
    table = rows(read(write(tmp_path / name, content)))
    assert table.drop_columns(["problem"]).to_pylist() == ROWS
    assert table["problem"].null_count == 2


def test_a_header_of_one_column_after_blank_lines(tmp_path: Path) -> None:
    for name, content in (("m.csv", "\n\npath\n/a.jpg\n\n/b.jpg"), ("m.tsv", "\n\tpath\n0\t/a.jpg\n1\t/b.jpg\n")):
        assert rows(read(write(tmp_path / name, content)))["image_uri"].to_pylist() == ["/a.jpg", "/b.jpg"]


def test_nothing_but_blank_lines_is_no_manifest(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.csv", "\n\n , \n\n")
    assert refusal(manifest) == f"{manifest} is empty: expected a header with the names of the columns"


def test_numbers_of_rows_leave_blank_lines_out_in_each_message(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.csv", "\n\npath,seed\n/a,1\n\n  \n/b,x\n")
    assert rows(read(manifest))["problem"][1].as_py().startswith(f"{manifest}, row 3: seed must be")
    manifest = write(tmp_path / "m.csv", "\n\npath,seed\n/a,1\n\n  \n/b,2\n/c\n")
    assert refusal(manifest) == f"{manifest}, row 4: 1 fields where the header has 2: /c"


# --- Overrides -------------------------------------------------------------------------------------------------------

NOISES: list[Any] = [
    pa.array([0.02], pa.float64()),
    pa.array([0.02], pa.float32()),
    pa.array([np.float16(0.02)], pa.float16()),
    pa.array([Decimal("0.02")], pa.decimal32(3, 2)),
    pa.array([Decimal("0.0200")], pa.decimal128(10, 4)),
    pa.array([Decimal("0.02")], pa.decimal256(60, 20)),
    pa.array(["0.02"]),
    pa.array([" +2e-2 "]),
    pa.array([0.02], pa.float32()).dictionary_encode(),
]


def clip_ids(manifest: Path, *overrides: str) -> list[str]:
    settings = [f"manifest={manifest}", f"output={manifest.parent}/out", "model.source=none", *overrides]
    config = load_config([], settings)
    layout = Layout(config.output)
    plan = make_plan(config, Storage(), read_holdings(layout, Storage()), ("rev", ""), run=layout.run("r"))
    return [clip_id for file in plan.work for clip_id in pa.parquet.read_table(file.uri)["clip_id"].to_pylist()]


@pytest.mark.parametrize("values", NOISES, ids=lambda values: str(values.type))
def test_a_number_is_the_same_whatever_its_column_is(tmp_path: Path, values: pa.Array) -> None:
    configured = clip_ids(write(tmp_path / "n.csv", "uri\n/a.jpg\n"), "generation.noise_aug_strength=0.02")
    assert clip_ids(write(tmp_path / "m.parquet", {"uri": ["/a.jpg"], "noise_aug_strength": values})) == configured


@pytest.mark.parametrize("zero", [pa.array([-0.0], pa.float32()), pa.array(["-0"]), pa.array([0])])
def test_there_is_one_zero(tmp_path: Path, zero: pa.Array) -> None:
    manifest = write(tmp_path / "m.parquet", {"uri": ["/a.jpg"], "noise_aug_strength": zero})
    assert str(rows(read(manifest))["noise_aug_strength"].to_pylist()) == "[0.0]"


def test_whole_numbers_in_floats_are_exact(tmp_path: Path) -> None:
    seeds = pa.array([123456792.0, 16777216.0], pa.float32())
    manifest = write(tmp_path / "m.parquet", {"uri": ["/a.jpg", "/b.jpg"], "seed": seeds})
    assert rows(read(manifest))["seed"].to_pylist() == [123456792, 16777216]
