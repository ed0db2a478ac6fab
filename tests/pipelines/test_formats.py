"""Formats that people have, written by the tools that they are made with: packed lists, JSON, partitions, Arrow."""

import bz2
import gzip
import io
import json
import lzma
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pa_dataset
import pyarrow.feather as pa_feather
import pyarrow.parquet as pq
import pytest
from PIL import Image

from actors.contracts import Loaded
from actors.storage import Storage
from pipelines.manifest import json_files
from tests.pipelines.test_embedded_images import loaded, picture, plan_of, work_rows
from tests.pipelines.test_manifest import read, refusal, rows, write


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
}
NAMES = {"gz": "gzip", "bz2": "bzip2", "xz": "xz", "zst": "zstd"}

# --- Packed lists ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", PACKERS)
def test_packed_lists(tmp_path: Path, ending: str) -> None:
    pack = PACKERS[ending]
    for name, text in {
        "m.csv": "uri,n\n/a.jpg,1\n/b.jpg,2\n",
        "m.tsv": "uri\tn\n/a.jpg\t1\n/b.jpg\t2\n",
        "m.jsonl": '{"uri": "/a.jpg"}\n{"uri": "/b.jpg"}\n',
        "m.json": '[{"uri": "/a.jpg"}, {"uri": "/b.jpg"}]',
        "m.TXT": "/a.jpg\n/b.jpg\n",
    }.items():
        # Two members one after the other are what parallel packers write.
        half = len(text) // 2
        packed = pack(text[:half].encode()) + pack(text[half:].encode())
        manifest = write(tmp_path / name / f"{name}.{ending}", packed)
        assert rows(read(manifest))["image_uri"].to_pylist() == ["/a.jpg", "/b.jpg"], name
        if name != "m.json":  # beside others, JSON is what describes them
            sources = tmp_path / name if name != "m.TXT" else f"{tmp_path / name}/*.TXT.{ending}"
            assert len(rows(read(sources))) == 2


@pytest.mark.parametrize("ending", PACKERS)
def test_damaged_packed_lists(tmp_path: Path, ending: str) -> None:
    whole = PACKERS[ending](b"uri\n" + b"".join(os.urandom(20).hex().encode() + b".jpg\n" for _ in range(9999)))
    middle = len(whole) // 2
    for number, damaged in enumerate((b"uri\n/a.jpg\n", whole[:-20], whole[:middle], whole[:5])):
        manifest = write(tmp_path / f"{number}.csv.{ending}", damaged)
        assert refusal(manifest).startswith(f"{manifest} is not a whole {NAMES[ending]} file, though named so (")
    assert refusal(write(tmp_path / f"e.csv.{ending}", b"")) == f"{tmp_path}/e.csv.{ending} is empty: it has 0 bytes"


def test_lists_that_pandas_and_polars_pack(tmp_path: Path) -> None:
    frame = pd.DataFrame({"uri": [f"/{n}.jpg" for n in range(1000)], "n": range(1000)})
    for ending in ("gz", "bz2", "xz"):
        frame.to_csv(tmp_path / f"m.csv.{ending}", index=False)
        frame.to_json(tmp_path / f"m.jsonl.{ending}", orient="records", lines=True)
    frame.to_json(tmp_path / "m.json", orient="records", indent=2)
    pl.from_pandas(frame).write_ipc(tmp_path / "m.arrow")
    pl.from_pandas(frame).write_ipc_stream(tmp_path / "s.arrow")
    pl.from_pandas(frame).write_json(tmp_path / "n.json")
    for manifest in sorted(tmp_path.iterdir()):
        assert rows(read(manifest))["image_uri"].to_pylist() == frame["uri"].to_list(), manifest.name


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_json_in_every_dress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries: list[dict[str, Any]] = [
        {"url": "/a.jpg", "n": 1, "tags": ["x", "]"], "caption": 'é "quoted" \\ {[,'},
        {"url": "/b.jpg", "n": 2, "caption": "half \ud83d"},
        {"url": "/c.jpg", "n": None, "big": 2**70},
    ]
    expected = {
        "image_uri": ["/a.jpg", "/b.jpg", "/c.jpg"],
        "n": [1, 2, None],
        "tags": ['["x", "]"]', None, None],
        "caption": ['é "quoted" \\ {[,', "half ?", None],
        "big": [None, None, str(2**70)],
    }
    dresses = {
        "list": json.dumps(entries),
        "indented": json.dumps(entries, indent=4, ensure_ascii=True),
        "lines": "\n".join(map(json.dumps, entries)),
        "objects": "\n\n".join(json.dumps(entry, indent=1) for entry in entries),
        "close": "".join(map(json.dumps, entries)),
    }
    for characters in (1, 7, 2**20):  # an entry may be cut off anywhere
        monkeypatch.setattr(json_files, "_CHARACTERS", characters)
        for name, text in dresses.items():
            manifest = write(tmp_path / f"{name}.json", "\ufeff \n" + text + "\n\t")
            table = rows(read(manifest, schemes=["file"])).drop_columns(["problem"])
            assert table.to_pydict() == expected, (name, characters)
            assert table.schema.field("n").type == pa.int64()


def test_a_json_list_of_uris(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.json", json.dumps(["a.jpg", "/b.jpg"]))
    assert rows(read(manifest))["image_uri"].to_pylist() == [f"{tmp_path}/a.jpg", "/b.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "the manifest has no rows: {}"),
        ('[{"uri": "/a"}, 7]', "{}, entry 2 is not a JSON object: 7"),
        ('[{"uri": "/a"} {"uri": "/b"}]', "{}, entry 1 is not JSON: a comma is missing after it"),
        ('[{"uri": "/a"}', "{}, entry 1 is not JSON: the list is not closed"),
        ('[{"uri": "/a"},', "{}, entry 2 is not JSON: Expecting value"),
        ('[{"uri": "/a"},]', "{}, entry 2 is not JSON: Expecting value"),
        ('[{"uri": "/a"}] x', "{}, entry 1 is not JSON: there is more after the list"),
        ('[{"uri": "/a', "{}, entry 1 is not JSON: Unterminated string"),
        ('[{"uri": x"/a"}]', "{}, entry 1 is not JSON: Expecting value"),
        ("[" * 100_000, "{}, entry 1 is not JSON: maximum recursion"),
        ('{"info": {}, "images": [{"file_name": "a.jpg"}]}', "{} is one JSON object and no list of images"),
        ("plain text", "{}, entry 1 is not JSON: Expecting value"),
        ("", "{} is empty: it has 0 bytes"),
    ],
)
def test_damaged_json(tmp_path: Path, text: str, message: str) -> None:
    manifest = write(tmp_path / "m.json", text)
    assert message.format(manifest) in refusal(manifest)


def test_one_object_is_a_list_of_one(tmp_path: Path) -> None:
    assert rows(read(write(tmp_path / "m.json", '{"uri": "/a.jpg", "n": 1}')))["n"].to_pylist() == [1]


def test_memory_of_a_long_json_list(tmp_path: Path) -> None:
    entry = json.dumps({"uri": "/a.jpg", "caption": "x" * 1000})
    with (tmp_path / "m.json").open("w") as file:
        file.write("[" + ",\n".join([entry] * 60_000) + "]")
    tracemalloc.start()
    try:
        assert sum(len(chunk) for chunk in read(tmp_path / "m.json", chunk_rows=1000).chunks()) == 60_000
        assert tracemalloc.get_traced_memory()[1] < 40e6  # of 62 MB
    finally:
        tracemalloc.stop()


# --- Folders that are columns ----------------------------------------------------------------------------------------


def test_partitions_of_pyarrow_and_pandas(tmp_path: Path) -> None:
    table = pa.table(
        {
            "url": [f"/{number}.jpg" for number in range(4)],
            "category": ["cat", "a/b c%é", None, "cat"],
            "year": [2024, 2024, 2025, 2025],
        }
    )
    partitioning = pa_dataset.partitioning(table.select(["year", "category"]).schema, flavor="hive")
    pa_dataset.write_dataset(table, tmp_path / "p", format="parquet", partitioning=partitioning)
    pa_dataset.write_dataset(table, tmp_path / "c", format="csv", partitioning=partitioning)
    table.to_pandas().to_parquet(tmp_path / "d", partition_cols=["category", "year"])
    expected = sorted(
        zip(table["url"].to_pylist(), table["category"].to_pylist(), map(str, table["year"]), strict=True)
    )
    for source in ("p", "c", "d", "p/**/*.parquet", "c/year=*/*/*.csv"):
        reader = read(f"{tmp_path}/{source}")
        found = rows(reader).select(["image_uri", "category", "year"]).to_pydict()
        assert sorted(zip(*found.values(), strict=True)) == expected, source
        assert any(
            note.endswith("the names of its folders give the columns " + names)
            for names in ("year, category", "category, year")
            for note in reader.closing_notes()
        )
    assert rows(read(tmp_path / "p", types={"year": "int64"}))["year"].type == pa.int64()
    # The folder that was named is where partitions begin.
    assert "year" not in rows(read(tmp_path / "p" / "year=2024")).column_names


def test_a_partition_may_be_a_parameter_an_identity_or_in_the_file(tmp_path: Path) -> None:
    for seed in (7, 8):
        write(tmp_path / f"seed={seed}" / "a.csv", "uri,kind\n/a.jpg,inner\n")
    reader = read(tmp_path)
    assert rows(reader)["seed"].to_pylist() == [7, 8]
    assert reader.overrides == ("seed",)
    assert rows(read(tmp_path, identity="seed"))["image_identity"].to_pylist() == ["id:7", "id:8"]
    for kind in ("x", "y"):
        write(tmp_path / "k" / f"kind={kind}" / "a.csv", "uri,kind\n/a.jpg,inner\n")
    assert rows(read(tmp_path / "k"))["kind"].to_pylist() == ["inner", "inner"]


def test_partitions_that_not_all_files_have(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "uri\n/a.jpg\n")
    write(tmp_path / "kind=x" / "b.csv", "uri\n/b.jpg\n")
    assert f"column kind is in {tmp_path}/kind=x/b.csv and not in {tmp_path}/a.csv" in refusal(tmp_path)


# --- Arrow -----------------------------------------------------------------------------------------------------------


def pictures_of(items: list[Any]) -> list[str]:
    assert all(isinstance(item, Loaded) for item in items), items
    return [str(item.row.columns["image_sha256"]) for item in items]


def test_a_dataset_saved_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    from datasets import Dataset, DatasetDict, disable_progress_bars

    disable_progress_bars()
    images = [Image.open(io.BytesIO(picture(number))) for number in range(6)]
    dataset = Dataset.from_dict({"image": images, "caption": [f"c{number}" for number in range(6)]})
    dataset.save_to_disk(tmp_path / "set", num_shards=2)
    # What `map` keeps in the same folder, and an earlier save of more shards has left.
    write(tmp_path / "set" / "cache-0123456789abcdef.arrow", b"x")
    write(tmp_path / "set" / "data-00002-of-00003.arrow", b"x")
    reader = read(tmp_path / "set")
    assert rows(reader)["caption"].to_pylist() == [f"c{number}" for number in range(6)]
    assert any("2 files not named by the saved dataset beside them were left out" in n for n in reader.closing_notes())
    plan = plan_of(str(tmp_path / "set"), tmp_path)
    assert [(row["image_column"], row["image_group"], row["image_row"]) for row in work_rows(plan)] == [
        ("image.bytes", 0, row) for row in (0, 1, 2)
    ] * 2
    found = pictures_of(loaded(plan))
    assert len(set(found)) == 6
    hashed = rows(read(tmp_path / "set", identity="content"))["image_identity"].to_pylist()
    assert [f"sha256:{sha256}" for sha256 in found] == hashed

    DatasetDict({"train": dataset, "test": dataset.select(range(2))}).save_to_disk(tmp_path / "both")
    assert len(rows(read(tmp_path / "both"))) == 8


def test_feather_and_streams_of_images(tmp_path: Path, s3_storage: Storage, s3_bucket: str) -> None:
    data = [picture(number) for number in range(7)]
    table = pa.table({"n": range(7), "image": pa.array(data, pa.large_binary()), "kind": pa.array(["a"] * 7)})
    table = table.set_column(2, "kind", table["kind"].dictionary_encode())
    pa_feather.write_feather(table, str(tmp_path / "m.feather"), chunksize=3)
    with pa.ipc.new_stream(tmp_path / "s.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    places = {
        "m.feather": [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)],
        "s.arrow": [(0, n) for n in range(7)],
    }
    for name, expected in places.items():
        s3_storage.put_file(f"{s3_bucket}/{name}", tmp_path / name)
        for uri, storage in ((str(tmp_path / name), Storage()), (f"{s3_bucket}/{name}", s3_storage)):
            plan = plan_of(uri, tmp_path / name[0] / uri[:2].strip("/"), storage=storage)
            assert [(row["image_group"], row["image_row"]) for row in work_rows(plan)] == expected
            assert [row["kind"] for row in work_rows(plan)] == ["a"] * 7
            assert len(set(pictures_of(loaded(plan, storage)))) == 7


def test_damaged_arrow(tmp_path: Path) -> None:
    table = pa.table({"uri": [f"/{number}.jpg" for number in range(100)]})
    with pa.ipc.new_stream(tmp_path / "s.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    stream = (tmp_path / "s.arrow").read_bytes()
    pa_feather.write_feather(table, str(tmp_path / "f.feather"), compression="uncompressed")
    file = (tmp_path / "f.feather").read_bytes()
    damaged = {
        "a.arrow": stream[:-8],  # between two batches: all that is missing is the mark of the end
        "b.arrow": stream[:1000],
        "c.arrow": file[:-20],
        "d.arrow": b"uri\n/a.jpg\n",
        "e.feather": file[:8] + bytes(200) + file[208:],
    }
    for name, content in damaged.items():
        manifest = write(tmp_path / name, content)
        assert refusal(manifest).startswith(f"{manifest} is not a whole Arrow file, though named so ("), name
    assert "0 bytes" in refusal(write(tmp_path / "g.arrow", b""))
    assert "Feather of the first version" in refusal(write(tmp_path / "h.feather", b"FEA1\0\0\0\0"))


def test_planning_reads_little_of_an_indexed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"n": range(40), "image": [os.urandom(100_000) for _ in range(40)]})
    pa_feather.write_feather(table, str(tmp_path / "m.feather"), chunksize=4, compression="uncompressed")
    asked: list[int] = []
    from actors.transfers import Stream

    read_into = Stream.readinto

    def counted(stream: Stream, buffer: bytearray) -> int:
        asked.append(read := read_into(stream, buffer))
        return read

    monkeypatch.setattr(Stream, "readinto", counted)
    reader = read(tmp_path / "m.feather")
    asked.clear()
    assert len(rows(reader)) == 40
    assert sum(asked) < 100_000  # of 4 MB


def test_arrow_beside_parquet_is_refused(tmp_path: Path) -> None:
    table = pa.table({"uri": ["/a.jpg"]})
    pa_feather.write_feather(table, str(tmp_path / "a.arrow"))
    pq.write_table(table, tmp_path / "b.parquet")
    assert f"holds arrow and also {tmp_path}/b.parquet: set columns.format=arrow" in refusal(tmp_path)
    assert len(rows(read(tmp_path, format="arrow"))) == 1


@pytest.mark.parametrize("line", ["sep=,", "SEP=,", "\n \nsep=,"])
def test_the_line_that_tells_excel_the_separator_is_no_header(tmp_path: Path, line: str) -> None:
    table = rows(read(write(tmp_path / "m.csv", f"{line}\r\nuri,n\r\n/a.jpg,1\r\n")))
    assert table["image_uri"].to_pylist() == ["/a.jpg"]
    assert table["n"].to_pylist() == ["1"]


@pytest.mark.parametrize("text", ["/x/a.jpg\n/x/b.jpg\n", "a.jpg\nb.jpg\n", "https://e.com/a.png,cat\nb.png,dog\n"])
def test_a_first_line_that_is_a_row_is_not_taken_for_the_header(tmp_path: Path, text: str) -> None:
    assert "m.csv does not begin with a header: its first line names the image" in refusal(
        write(tmp_path / "m.csv", text)
    )
    # A column may be called as it likes, where others are there.
    table = rows(read(write(tmp_path / "n.csv", "mask.png,uri\nx,/a.jpg\n")))
    assert table["image_uri"].to_pylist() == ["/a.jpg"]


@pytest.mark.parametrize("separator", [";", "|", "\t"])
def test_other_separators_are_named(tmp_path: Path, separator: str) -> None:
    said = refusal(write(tmp_path / "m.csv", f"caption{separator}path\na{separator}/x/a.jpg\n"))
    assert "its fields must be separated by commas (.csv) or tabs (.tsv)" in said
    assert "fields must be separated" in refusal(write(tmp_path / "m.tsv", "path,caption\n/x/a.jpg,b\n"))


def test_partitions_of_odd_values_and_of_columns_that_the_file_has(tmp_path: Path) -> None:
    for value in ("=", "a=b", ""):
        write(tmp_path / "m" / f"k={value}" / "a.csv", f"uri\n/{len(value)}.jpg\n")
    table = rows(read(tmp_path / "m"))
    assert sorted(zip(table["image_uri"].to_pylist(), table["k"].to_pylist(), strict=True)) == [
        ("/0.jpg", ""),
        ("/1.jpg", "="),
        ("/3.jpg", "a=b"),
    ]
    write(tmp_path / "n" / "n=7" / "a.csv", "uri,n\n/a.jpg,1\n")
    reader = read(tmp_path / "n")
    assert rows(reader)["n"].to_pylist() == ["1"]
    assert reader.closing_notes() == []


def test_partitions_of_images(tmp_path: Path) -> None:
    for place in ("label=a%2Fb/seed=3/1.png", "label=a%2Fb/seed=x/2.png", "label=z/3.png", "label=z/odd=1/4.png"):
        write(tmp_path / "pics" / place, picture(1))
    write(tmp_path / "5.png", picture(2))
    reader = read(tmp_path / "pics", tmp_path / "5.png")
    table = rows(reader)
    assert [Path(uri).name for uri in table["image_uri"].to_pylist()] == [f"{number}.png" for number in range(1, 6)]
    assert table["label"].to_pylist() == ["a/b", "a/b", "z", "z", None]
    assert table["seed"].to_pylist() == [3, None, None, None, None]
    assert "seed must be a whole number" in table["problem"].to_pylist()[1]
    assert reader.closing_notes() == [
        "the names of the images' folders give the columns label, seed",
        (
            "the names of the images' folders give also odd, which the first image's folders do not: these columns "
            "were left out"
        ),
    ]
    assert read(tmp_path / "pics", passthrough=[]).extras.names == []
    assert read(f"{tmp_path}/pics/label=z/*.png").extras.names == []
