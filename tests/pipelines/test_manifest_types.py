"""Every type of Arrow with its extremes, from a manifest into the dataset's metadata: unchanged, or refused by name."""

import datetime as dt
import uuid
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.contracts import Made, Row
from actors.errors import ManifestError
from actors.generators import GENERATORS
from actors.records import clip_schema
from actors.storage import Storage
from pipelines.config import load_config
from pipelines.dataset.commit import Committer
from pipelines.dataset.layout import Layout
from pipelines.manifest.files import Batch
from pipelines.manifest.pass_through import stored_type
from pipelines.manifest.reader import ManifestReader
from pipelines.planning.holdings import read_holdings
from pipelines.planning.planner import Plan, make_plan
from tests.pipelines.test_manifest import read, rows, write

LEAST, MOST = -(2**63), 2**63 - 1
DAY_1, LAST_DAY = dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59)  # noqa: DTZ001 - of no zone


def days(*dates: dt.datetime) -> list[int]:
    return [(date - dt.datetime(1970, 1, 1)).days for date in dates]  # noqa: DTZ001 - of no zone


def extremes() -> Iterator[pa.Array]:
    """Arrays of two values: the least and the greatest, or others that get lost easily."""
    for bits in (8, 16, 32, 64):
        yield pa.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1], getattr(pa, f"int{bits}")())
        yield pa.array([0, 2**bits - 1], getattr(pa, f"uint{bits}")())
    yield pa.array([np.float16(-65504), np.float16(6e-8)], pa.float16())
    for kind in (pa.float32(), pa.float64()):
        yield pa.array([float("-inf"), float("nan")], kind)
    for unit in ("ms", "us", "ns"):
        for zone in (None, "UTC", "Europe/Berlin", "+05:30"):
            yield pa.array([LEAST + 1, MOST], pa.int64()).cast(pa.timestamp(unit, zone))
        yield pa.array([LEAST, MOST], pa.int64()).cast(pa.duration(unit))
    yield pa.array([LEAST, MOST], pa.int64()).cast(pa.duration("s"))
    yield pa.array([-(2**31), 2**31 - 1], pa.int32()).cast(pa.date32())
    yield pa.array(days(DAY_1, LAST_DAY), pa.int32()).cast(pa.date32())
    yield pa.array([0, 86_399_999], pa.int32()).cast(pa.time32("ms"))
    yield pa.array([0, 86_399_999_999], pa.int64()).cast(pa.time64("us"))
    yield pa.array([0, 86_399_999_999_999], pa.int64()).cast(pa.time64("ns"))
    for digits, kind in ((9, pa.decimal32), (18, pa.decimal64), (38, pa.decimal128), (76, pa.decimal256)):
        yield pa.array([Decimal(f"-{'9' * (digits - 2)}.99"), Decimal("0.01")], kind(digits, 2))
    yield pa.array([True, None])
    yield pa.array(["", "e\u0301 \U0001f600 \x1b\0"])
    yield pa.array([b"", bytes(range(256))])
    yield pa.array([b"\0" * 16, b"\xff" * 16], pa.binary(16))
    yield pa.array([[], [None, "x"]], pa.list_(pa.string()))
    yield pa.array([[1, None], None], pa.list_(pa.int8(), 2))
    yield pa.array([[], [[b"x"], None]], pa.large_list(pa.list_(pa.binary())))
    yield pa.array([{"a": {"b": [2**63]}}, {"a": None}], pa.struct([("a", pa.struct([("b", pa.list_(pa.uint64()))]))]))
    yield pa.array([[("k", [1.5])], []], pa.map_(pa.string(), pa.list_(pa.float32())))
    yield pa.array([["x"], []], pa.large_list(pa.large_string()))  # as Polars writes
    yield pa.array([{"b": b"x"}, None], pa.struct([("b", pa.large_binary())]))
    yield pa.array([[None], []], pa.list_(pa.null()))
    yield pa.array([uuid.UUID(int=0).bytes, uuid.UUID(int=2**128 - 1).bytes], pa.uuid())
    yield pa.array(['{"a": 1e400}', None], pa.json_())
    yield pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8()))
    ids = pa.array([b"\1" * 16, b"\2" * 16], pa.uuid())
    yield pa.ListArray.from_arrays([0, 0, 2], ids)
    yield pa.StructArray.from_arrays([ids], ["id"])
    yield pa.array([[], [1]], pa.list_view(pa.int8()))
    tensor = pa.fixed_shape_tensor(pa.float32(), [2, 2])
    yield pa.ExtensionArray.from_storage(tensor, pa.array([[0.1] * 4, [1.0] * 4], tensor.storage_type))


# Encodings: the values are the same, in the plain type.
ENCODED = [
    pa.array(["x", None]).dictionary_encode(),
    pa.array([b"x", None]).dictionary_encode(),
    pa.array(["x", None], pa.large_string()),
    pa.array(["x", None], pa.string_view()),
    pa.array([b"x", None], pa.large_binary()),
    pa.array([b"x", None], pa.binary_view()),
    pa.array([["x" * 20], None], pa.list_(pa.string_view())),
    pa.array([["x"], ["y", "x"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    pa.array([{"d": "x"}, {"d": None}], pa.struct([("d", pa.dictionary(pa.int32(), pa.string()))])),
    pa.array([[("k", "v")], []], pa.map_(pa.large_string(), pa.string_view())),
]


def planned(manifest: Path) -> tuple[Plan, Layout]:
    config = load_config([], [f"manifest={manifest}", f"output={manifest.parent}/out", "model.source=none"])
    layout = Layout(config.output)
    return make_plan(config, Storage(), read_holdings(layout, Storage()), ("rev", ""), run=layout.run("r")), layout


def committed(manifest: Path) -> pa.Table:
    """The metadata after a run whose clips came one by one, each in a commit of its own."""
    plan, layout = planned(manifest)
    schema = clip_schema(GENERATORS["svd"])
    committer = Committer(layout, Storage(), schema, plan.extras, plan.rows_per_part, lambda: None)
    committer.begin(plan.work)
    for clip_id in pa.concat_tables(pq.read_table(file.uri) for file in plan.work)["clip_id"].to_pylist():
        committer.add(ending(clip_id))
        committer.flush()
    return pq.read_table(layout.metadata(0))


def ending(clip_id: str) -> Made:
    values: dict[str, Any] = dict.fromkeys(clip_schema(GENERATORS["svd"]).names)
    del values["created_at"]
    return Made(
        Row(clip_id, 0, 0, "/a.jpg", {}, {name: None for name in values if name not in ("clip_id", "image_uri")})
    )


def same(found: pa.ChunkedArray, expected: pa.Array) -> bool:
    """Whether both hold the same, NaN for NaN."""
    if pa.types.is_floating(expected.type):
        return str(found.to_pylist()) == str(expected.to_pylist())
    return bool(found.combine_chunks().equals(expected))


def test_every_type_reaches_the_metadata_unchanged(tmp_path: Path) -> None:
    columns = {f"x{number}": values for number, values in enumerate(extremes())}
    manifest = write(tmp_path / "m.parquet", {"uri": ["/0.jpg", "/1.jpg"], "number": [0, 1], **columns})
    metadata = committed(manifest).sort_by("number")
    assert metadata.num_rows == 2
    for name, values in columns.items():
        assert metadata.schema.field(name).type == values.type
        assert same(metadata[name], values), values.type
    again, layout = planned(manifest)
    assert again.extras == read_holdings(layout, Storage()).extras  # else it would be refused


def test_encodings_are_undone_and_values_stay(tmp_path: Path) -> None:
    columns = {f"x{number}": values for number, values in enumerate(ENCODED)}
    manifest = write(tmp_path / "m.parquet", {"uri": ["/0.jpg", "/1.jpg"], "number": [0, 1], **columns})
    metadata = committed(manifest).sort_by("number")
    for name, values in columns.items():
        assert metadata[name].to_pylist() == values.to_pylist()
    again, layout = planned(manifest)
    assert again.extras == read_holdings(layout, Storage()).extras


@pytest.mark.parametrize("date", [DAY_1, LAST_DAY, dt.datetime(1582, 10, 4), dt.datetime(2262, 4, 12)])  # noqa: DTZ001
def test_dates_of_spark(tmp_path: Path, date: dt.datetime) -> None:
    kind = pa.timestamp("us")
    nested = pa.array([[{"t": date}]], pa.list_(pa.struct([("t", kind)])))
    table = pa.table({"path": ["/x/a.jpg"], "valid_to": pa.array([date], kind), "nested": nested})
    for flavour in (None, "spark"):
        pq.write_table(table, tmp_path / "m.parquet", use_deprecated_int96_timestamps=True, flavor=flavour)
        found = rows(read(tmp_path / "m.parquet"))
        assert found["valid_to"].to_pylist() == [date]
        assert found["nested"].to_pylist() == [[{"t": date}]]


# Types that no Parquet file can have, but other kinds of files.
CHANGED = [
    (pa.array([-62135596800, 253402300799], pa.timestamp("s")), pa.timestamp("ms")),
    (pa.array([0, 253402300799], pa.timestamp("s", "UTC")), pa.timestamp("ms", "UTC")),
    (pa.array([0, 86_399], pa.time32("s")), pa.time32("ms")),
    (pa.array([dt.date(1, 1, 1), dt.date(9999, 12, 31)], pa.date64()), pa.date32()),
    (pa.array([{"t": DAY_1}, None], pa.struct([("t", pa.timestamp("s"))])), pa.struct([("t", pa.timestamp("ms"))])),
]
REFUSED = [
    pa.month_day_nano_interval(),
    pa.struct([]),
    pa.run_end_encoded(pa.int32(), pa.string()),
    pa.dense_union([pa.field("a", pa.int8())]),
    pa.binary(0),
]


class InMemory:
    """A manifest of one table."""

    uri = "/m.arrow"

    def __init__(self, table: pa.Table) -> None:
        self._table, self.schema = table, table.schema

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        yield Batch(self._table.select(list(names)), pa.array(range(1, len(self._table) + 1)))


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    def opened(table: pa.Table) -> ManifestReader:
        monkeypatch.setattr("pipelines.manifest.formats.Opener._opened", lambda *_: InMemory(table))
        return read(write(tmp_path / "m.jsonl", "{}"))

    return opened


@pytest.mark.parametrize(("values", "stored"), CHANGED, ids=lambda one: str(getattr(one, "type", "")))
def test_a_type_that_parquet_widens_has_the_wider_one_from_the_start(
    in_memory: Any, values: pa.Array, stored: pa.DataType
) -> None:
    assert stored_type(stored) == stored_type(values.type) == stored
    found = rows(in_memory(pa.table({"uri": ["/a.jpg", "/b.jpg"], "x": values})))
    assert found["problem"].null_count == 2
    assert found["x"].type == stored
    assert found["x"].to_pylist() == values.to_pylist()


def test_a_value_that_the_wider_type_cannot_hold_spoils_its_row_alone(in_memory: Any) -> None:
    seconds = pa.array([0, 2**62, None], pa.int64()).cast(pa.timestamp("s"))
    found = rows(in_memory(pa.table({"uri": ["/a.jpg", "/b.jpg", "/c.jpg"], "x": seconds})))
    assert [bool(problem) for problem in found["problem"].to_pylist()] == [False, True, False]
    assert found["x"].null_count == 2


@pytest.mark.parametrize("kind", REFUSED, ids=str)
def test_a_type_that_no_parquet_file_holds_is_refused_by_name(in_memory: Any, kind: pa.DataType) -> None:
    with pytest.raises(ManifestError) as refused:
        in_memory(pa.table({"uri": ["/a.jpg"], "odd": pa.nulls(1, kind)}))
    assert str(refused.value) == (
        f"/m.arrow: column odd is {kind}, which the dataset cannot hold: write it as another type, or leave it out of "
        "columns.passthrough"
    )
