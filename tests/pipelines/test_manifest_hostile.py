"""Manifests that are damaged, or made to do harm: a row with a problem or one sentence, never a traceback."""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import ConfigError, ManifestError, StorageError
from actors.generators.svd.generator import SvdGenerator
from actors.records import reserved_names
from actors.storage import Storage
from pipelines.config import load_config
from pipelines.dataset.layout import Layout
from pipelines.planning.holdings import read_holdings
from pipelines.planning.planner import make_plan
from tests.pipelines.test_manifest import read, refusal, rows, write

OFFSETS, BYTES = pa.py_buffer(bytes([0, 0, 0, 0, 3, 0, 0, 0])), pa.py_buffer(b"/\xff\xfe")
NOT_UTF8 = pa.Array.from_buffers(pa.string(), 1, [None, OFFSETS, BYTES])
DAMAGED_GZIP = bytearray(gzip.compress(b"".join(b"/%d.jpg\n" % i for i in range(999))))
DAMAGED_GZIP[20] ^= 0xFF


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "uri,c", "the manifest has no rows: {}"),
        ("m.csv", b"uri,c\0d\n/a.jpg,x\n", "{}: the name of column 'c\\x00d' holds what is no character; rename it"),
        ("m.csv", b"\0" * 500, "{}: the name of column '\\x00"),
        ("m.csv", "uri,c\n/a,x\r\n/b,y\r/c\n", "{}, row 4: 1 fields where the header has 2: /c"),
        ("m.csv", 'uri,c\n/a,"x\ny"z,\n', '{}, row 2: 3 fields where the header has 2: /a,"x y"z,'),
        ("m.csv", 'uri,c\n/a,x\n/b,"' + "y\n" * 8_000_000, "{}: a row after row 2 is too long, or a quotation mark"),
        ("m.csv", "uri," + "c" * 2000 + "\n/a,x\n", "{}: a column's name has 2000 characters: 'ccc"),
        ("m.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "{} is not UTF-8 text"),
        ("m.txt.gz", bytes(DAMAGED_GZIP), "{} is not a whole gzip file, though named so (Error -3"),
        ("m.jsonl", '{"uri": "/a", "k\\ud83d": 1}\n', "{}: the name of column 'k\\ud83d' holds what is no character"),
        ("m.jsonl", '{"uri": "/a"}\n"' + "x" * 9999 + '"\n', '{}, line 2 is not a JSON object: "' + "x" * 59),
        ("m.jsonl", '{"uri": "/a", "c": "x\ny"}\n', "{}, line 1 is not JSON: Invalid control character"),
        ("m.jsonl", b'{"uri": "/a"}\n\0\0\0\n', "{}, line 2 is not JSON"),
        ("m.jsonl", "{}\n", "the manifest has no rows: {}"),
        (
            "m.parquet",
            pa.table({"uri": NOT_UTF8}),
            "{}: column uri is damaged in one of rows 1 to 1: In chunk 0: Invalid: Invalid UTF8",
        ),
        ("m.parquet", pa.table({"uri": ["/a"], "c": NOT_UTF8}), "{}: column c is damaged in one of rows 1 to 1"),
        ("m.parquet", pa.table({"image": [{"bytes": 1.5, "path": "x"}]}), "{} has no column with the images' URIs"),
        ("m.parquet", pa.table({"image": [[{"bytes": b"x"}]]}), "{} has no column with the images' URIs"),
        ("m.parquet", pa.table({f"c{i}": [1] for i in range(500)}), "Its columns are c0, c1, c2,"),
        ("m.parquet", b"PAR1PAR1", "{} is not a whole Parquet file"),
    ],
)
def test_what_cannot_be_read_is_one_short_sentence(
    tmp_path: Path, name: str, content: str | bytes | pa.Table, message: str
) -> None:
    manifest = write(tmp_path / name, content)
    said = refusal(manifest)
    assert message.format(manifest) in said
    assert "\n" not in said
    assert len(said) < 800


def test_line_ends_nuls_and_byte_order_marks(tmp_path: Path) -> None:
    csv = rows(read(write(tmp_path / "m.csv", b'\xef\xbb\xbf"uri",c\r\n/a\0.jpg,x\0y\n/b.jpg,y\r/c.jpg,z')))
    assert csv["image_uri"].to_pylist() == ["/a\0.jpg", "/b.jpg", "/c.jpg"]
    assert csv["c"].to_pylist() == ["x\0y", "y", "z"]
    text = rows(read(write(tmp_path / "m.txt", "\ufeff/a\u2028.jpg\r/b\x85.jpg\r\n/c\x0c.jpg\n".encode())))
    assert text["image_uri"].to_pylist() == ["/a\u2028.jpg", "/b\x85.jpg", "/c\x0c.jpg"]


def test_numbers_of_json_that_no_float_holds_exactly(tmp_path: Path) -> None:
    lines = '{"uri": "/a", "x": 0.5}\n{"uri": "/b", "x": 9007199254740993}\n{"uri": "/c", "x": null}\n'
    assert rows(read(write(tmp_path / "m.jsonl", lines)))["x"].to_pylist() == [0.5, 2.0**53, None]


def test_types_of_parquet_that_python_or_arrow_hold_in_part(tmp_path: Path) -> None:
    columns = {
        "uri": pa.array(["/a"]).cast(pa.string_view()),
        "far": pa.array([2**62], pa.timestamp("us")),
        "view": pa.array([b"x"]).cast(pa.binary_view()),
        "tags": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())),
        "half": pa.array([1.5], pa.float16()),
        "": pa.array([["x"]], pa.large_list(pa.large_string())),
    }
    manifest = write(tmp_path / "m.parquet", columns)
    table = rows(read(manifest))
    assert table["far"].cast(pa.int64()).to_pylist() == [2**62]
    assert table.column_names == ["image_uri", "problem", *list(columns)[1:]]
    said = rows(read(manifest, types={"far": "bool"}))["problem"][0].as_py()
    assert said == f"{manifest}, row 1: far must be bool, not '<value out of range: 4611686018427387904>'"


def test_no_column_or_id_decides_about_a_path(tmp_path: Path) -> None:
    hostile = ["../../escaped", "/tmp/escaped", "..", "a\0b", "x" * 1024, "a\nb", "\u202egpj.exe"]  # noqa: S108 - only a name
    names = ["clip_id", "file_name", "part", "../x", "a\nb", "metadata.parquet", "/abs", "Clip_ID"]
    columns = {"uri": [f"{text}.jpg" for text in hostile], **dict.fromkeys(names, hostile)}
    write(tmp_path / "in" / "m.parquet", columns)
    before = set(tmp_path.rglob("*"))
    config = load_config([], [f"manifest={tmp_path}/in/m.parquet", f"output={tmp_path}/out", "model.source=none"])
    layout = Layout(config.output)
    plan = make_plan(config, Storage(), read_holdings(layout, Storage()), ("rev", "weights"), run=layout.run("r"))
    written = set(tmp_path.rglob("*")) - before
    assert written
    assert all(path.is_relative_to(tmp_path / "out") for path in written)
    table = pa.concat_tables(pq.read_table(file.uri) for file in plan.work)
    assert all(re.fullmatch("[0-9a-f]{64}", clip_id) for clip_id in table["clip_id"].to_pylist())
    assert not {name.casefold() for name in plan.extras.names} & reserved_names(SvdGenerator)
    assert sorted(table["source_file_name"].to_pylist()) == sorted(hostile)


def test_odd_names_lead_to_their_files(tmp_path: Path) -> None:
    names = [
        "a\nb.jpg",
        "Grüße 世界 😀.jpg",
        "r\u0301.jpg",
        "a%2e%2e%2fb#?x=1.jpg",
        "'\"$(x);.jpg",
        "a::b.jpg",
        "x" * 250,
    ]
    for name in names:
        write(tmp_path / name, name.encode())
    listed = [*names, "in/../a\nb.jpg", f"../{tmp_path.name}/a\nb.jpg"]
    uris = rows(read(write(tmp_path / "m.parquet", {"uri": listed})))["image_uri"].to_pylist()
    assert [Storage().read_bytes(uri).decode() for uri in uris] == [*names, names[0], names[0]]
    missing = rows(read(write(tmp_path / "m.parquet", {"uri": ["y" * 1024, "a\0b"]})))["image_uri"].to_pylist()
    for uri in missing:
        with pytest.raises(StorageError):
            Storage().read_bytes(uri)


def test_the_configuration_says_which_schemes_images_may_have(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.txt", "/a.jpg\ns3://b/a.jpg\nhttps://h/a.jpg\nhttp://169.254.169.254/a\n")

    def refused(*overrides: str) -> int:
        config = load_config([], [f"manifest={manifest}", "output=s3://out", "model.source=none", *overrides])
        nothing = read_holdings(Layout(f"{tmp_path}/none"), Storage())
        return make_plan(config, Storage(), nothing, ("rev", "weights")).problems.counts.total()

    assert refused() == 2
    assert refused("output=/out") == 3
    assert refused("storage.schemes=[file,s3,https,http]") == 1
    with pytest.raises(ConfigError, match="a scheme is written in lower case and without ://"):
        refused("storage.schemes=[S3://]")


# --- Large cells -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_a_large_cell_passes_and_a_large_uri_is_a_problem(tmp_path: Path, name: str) -> None:
    large = "x" * 10_000_000  # more than a block of CSV
    columns = {"uri": ["/a.jpg", large, "/c.jpg"], "caption": [large, "cat", "dog"]}
    table = pa.table(columns)
    if name == "m.csv":
        content = b"uri,caption\n" + b"".join(f"{row['uri']},{row['caption']}\n".encode() for row in table.to_pylist())
        manifest = write(tmp_path / name, content)
    elif name == "m.jsonl":
        manifest = write(tmp_path / name, "".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        manifest = write(tmp_path / name, table)
    found = rows(read(manifest))
    assert found["caption"].to_pylist() == columns["caption"]
    number = 3 if name == "m.csv" else 2
    assert found["image_uri"].to_pylist() == ["/a.jpg", f"{manifest}#row={number}", "/c.jpg"]
    assert [bool(problem) for problem in found["problem"].to_pylist()] == [False, True, False]
    assert len(found["problem"][1].as_py()) < 500


def test_large_rows_come_in_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.manifest.files.BATCH_BYTES", 3000)
    monkeypatch.setattr("pipelines.manifest.chunks.CHUNK_BYTES", 9000)
    lines = [json.dumps({"uri": f"/{i}.jpg", "c": "x" * 1000}) for i in range(30)]
    text = [f"/{i}{'x' * 1000}.jpg" for i in range(30)]
    for name, content in (("m.jsonl", lines), ("m.txt", text)):
        chunks = list(read(write(tmp_path / name, "\n".join(content))).chunks())
        assert max(chunk.nbytes for chunk in chunks) < 12_500
        assert sum(map(len, chunks)) == 30


def test_one_large_group_of_parquet_decides_the_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.manifest.files.BATCH_BYTES", 10_000)
    table = pa.table(
        {"uri": [f"/{i}.jpg" for i in range(1000)], "c": [random.Random(i).randbytes(9) for i in range(1000)]}
    )
    table = table.set_column(1, "c", pa.array([bytes(1000)] * 10 + table["c"].to_pylist()[10:]))
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=10, use_dictionary=False, compression="none")
    (source,) = read(tmp_path / "m.parquet")._sources
    sizes = [len(batch.rows) for batch in source.first.batches(["uri", "c"], 1000)]
    assert max(sizes) < 12


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl", "image"])
def test_memory_of_cells_of_100_megabytes(tmp_path: Path, kind: str) -> None:
    # Arrow's CSV reader reads up to 32 blocks ahead, and a block holds a line at least: few cells, then.
    large, cells = b"x" * 100_000_000, 3 if kind == "csv" else 12
    path = tmp_path / f"m.{'parquet' if kind == 'image' else kind}"
    if kind in ("csv", "jsonl"):
        before, after = (b"/a,", b"\n") if kind == "csv" else (b'{"uri": "/a", "c": "', b'"}\n')
        with path.open("wb") as file:
            file.write(b"uri,c\n" if kind == "csv" else b"")
            for _ in range(cells):
                file.writelines([before, large, after])
    else:
        table = pa.table({"uri": ["/a"], "image": [large]})
        with pq.ParquetWriter(path, table.schema) as writer:
            for _ in range(cells):
                writer.write_table(table)
    # By the kernel's record of this program alone: `ru_maxrss` begins with the peak of the process that started it.
    program = (
        "import re, sys; from actors.storage import Storage; from pipelines.manifest.columns import *\n"
        "from pipelines.manifest.read import *\n"
        "reader = read_manifest([sys.argv[1]], columns=ManifestColumns(), parameters=Parameters, storage=Storage())\n"
        "rows = sum(len(chunk) for chunk in reader.chunks())\n"
        "print(rows, int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]) >> 10)"
    )
    # What is asked for, not what an allocator keeps for later, which differs between machines and moments.
    allocator = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_MMAP_THRESHOLD_": "1000000"}
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | allocator)
    count, peak_mib = map(int, done.stdout.split())
    assert count == cells
    assert peak_mib < 1500


# --- Bit flips -------------------------------------------------------------------------------------------------------


def whole_files() -> list[tuple[str, bytes]]:
    table = pa.table(
        {
            "uri": [f"/{i}.jpg" for i in range(200)],
            "seed": [str(i) for i in range(200)],
            "tag": pa.array(["x", "y", None, "é"] * 50).dictionary_encode(),
            "nested": [{"a": "é", "b": [i]} for i in range(200)],
        }
    )
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.table({"image": pa.array([{"bytes": bytes(30), "path": f"{i}.jpg"} for i in range(200)], kind)})
    files = []
    for one in (table, images):
        for options in ({"compression": "none", "row_group_size": 50}, {"compression": "zstd"}):
            sink = pa.BufferOutputStream()
            pq.write_table(one, sink, **options)
            files.append(("m.parquet", sink.getvalue().to_pybytes()))
    csv = "uri,c,seed\n" + "".join(f'/{i}.jpg,"x, ""y""\né",{i}\n' for i in range(50))
    lines = "".join(
        json.dumps({"uri": f"/{i}", "c": ["é", i], "f": i / 3}, ensure_ascii=i % 2 == 0) + "\n" for i in range(50)
    )
    for one, options in ((table, {}), (images, {}), (table, {"compression": "zstd"})):
        for name, make in (("m.arrow", pa.ipc.new_stream), ("m.feather", pa.ipc.new_file)):
            sink = pa.BufferOutputStream()
            with make(sink, one.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
                writer.write_table(one, max_chunksize=50)
            files.append((name, sink.getvalue().to_pybytes()))
    packed = pa.Codec("zstd").compress(csv.encode(), asbytes=True)
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as tar:
        for number in range(40):
            for what, content in (("jpg", bytes(700)), ("txt", "é".encode()), ("json", b"{}")):
                info = tarfile.TarInfo(f"{number:09d}{'x' * (number // 20 * 150)}.{what}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    entries = "[" + ",\n".join(lines.splitlines()) + "]"
    return [
        *files,
        ("m.tar", shard.getvalue()),
        ("m.json", entries.encode()),
        ("m.csv", csv.encode()),
        ("m.csv.bz2", bz2.compress(csv.encode())),
        ("m.csv.xz", lzma.compress(csv.encode())),
        ("m.csv.zst", packed),
        ("m.csv.gz", gzip.compress(csv.encode(), mtime=0)),
        ("m.jsonl", lines.encode()),
        ("m.txt", csv.encode()),
    ]


def test_flipped_bits_give_rows_or_one_sentence(tmp_path: Path) -> None:
    rng = random.Random(5)
    refused, files = 0, whole_files()
    for trial in range(300):
        name, whole = files[trial % len(files)]
        data = bytearray(whole)
        # Half of the trials damage the end, where Parquet has its directory.
        low = rng.choice([0, max(0, len(data) - 1200)])
        for _ in range(rng.choice([1, 2, 5, 20])):
            data[rng.randrange(low, len(data))] ^= 1 << rng.randrange(3)
        manifest = write(tmp_path / name, bytes(data[: rng.choice([len(data)] * 9 + [rng.randrange(1, len(data))])]))
        try:
            for chunk in read(manifest).chunks():
                chunk.validate(full=True)
        except ManifestError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017 - most of these files are refused, some are not
    assert 100 < refused < 300
