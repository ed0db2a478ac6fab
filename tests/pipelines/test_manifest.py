import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.contracts import PLACE_SCHEMA
from actors.errors import ManifestError
from actors.generators.svd.settings import SvdParameters
from actors.storage import Storage
from pipelines.manifest.columns import ManifestColumns
from pipelines.manifest.files import EXTENSIONS
from pipelines.manifest.read import read_manifest
from pipelines.manifest.reader import CHUNK_ROWS, ManifestReader

LOCAL = Storage()


def read(
    *sources: Path | str, storage: Storage = LOCAL, reserved: tuple[str, ...] = (), **columns: Any
) -> ManifestReader:
    chunk_rows, schemes = columns.pop("chunk_rows", CHUNK_ROWS), columns.pop("schemes", None)
    return read_manifest(
        [str(source) for source in sources],
        columns=ManifestColumns(**columns),
        parameters=SvdParameters,
        storage=storage,
        chunk_rows=chunk_rows,
        reserved=reserved,
        schemes=schemes,
    )


def rows(reader: ManifestReader) -> pa.Table:
    """All rows, each chunk having the promised schema."""
    chunks = list(reader.chunks())
    assert all(chunk.schema == reader.schema for chunk in chunks)
    table = pa.concat_tables(chunks)
    has_no_secrets = table["image_fallback"].null_count == len(table)
    return table.drop_columns("image_fallback") if has_no_secrets and "image_file" not in table.column_names else table


def refusal(*sources: Path | str, **columns: Any) -> str:
    """The ManifestError's message."""
    with pytest.raises(ManifestError) as refused:
        list(read(*sources, **columns).chunks())
    return str(refused.value)


def write(path: Path, content: str | bytes | pa.Table | dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8", newline="")
    else:
        pq.write_table(content if isinstance(content, pa.Table) else pa.table(content), path)
    return path


# --- Formats ---------------------------------------------------------------------------------------------------------


def test_csv(tmp_path: Path) -> None:
    text = '\ufeffurl,caption,score\r\nhttps://h/a%20b.jpg,"two\nlines, ""quoted""",007\r\n\r\nsub/b.jpg,"",\r\n'
    table = rows(read(write(tmp_path / "m.csv", text), schemes=["file", "https"]))
    assert table.to_pydict() == {
        "image_uri": ["https://h/a%20b.jpg", f"{tmp_path}/sub/b.jpg"],
        "problem": [None, None],
        "caption": ['two\nlines, "quoted"', ""],
        "score": ["007", None],
    }


def test_tsv_and_packed_csv(tmp_path: Path) -> None:
    tsv = write(tmp_path / "m.tsv", "uri\tcaption\n/a.jpg\tone, two\n")
    assert rows(read(tsv)).to_pylist() == [{"image_uri": "/a.jpg", "problem": None, "caption": "one, two"}]
    packed = write(tmp_path / "m.csv.gz", gzip.compress(b"uri,caption\n/a.jpg,one\n"))
    assert rows(read(packed))["caption"].to_pylist() == ["one"]


def test_csv_types_do_not_depend_on_the_block(tmp_path: Path) -> None:
    lines = "".join(f"/{i}.jpg,{i}\n" for i in range(300_000)) + "/x.jpg,text\n"
    reader = read(write(tmp_path / "m.csv", "uri,value\n" + lines))
    chunks = list(reader.chunks())
    assert [len(chunk) for chunk in chunks] == [100_000, 100_000, 100_000, 1]
    assert chunks[0]["value"][5].as_py() == "5"
    assert chunks[3]["value"][0].as_py() == "text"


def test_types_are_given_to_csv_columns(tmp_path: Path) -> None:
    text = "uri,score,n,ok,name\n/a.jpg,1.5,3,true,7\n/b.jpg, ,x,0,8\n"
    reader = read(
        write(tmp_path / "m.csv", text),
        types={"score": "float64", "n": "int64", "ok": "bool"},
        passthrough=["score", "n", "ok"],
    )
    table = rows(reader)
    assert table.schema.types[2:] == [pa.float64(), pa.int64(), pa.bool_()]
    assert table.select(["score", "n", "ok"]).to_pydict() == {"score": [1.5, None], "n": [3, None], "ok": [True, False]}
    assert table["problem"].to_pylist() == [None, f"{tmp_path}/m.csv, row 3: n must be int64, not 'x'"]


def test_unnamed_csv_column_is_numbered(tmp_path: Path) -> None:
    assert rows(read(write(tmp_path / "m.csv", ",uri\n0,/a.jpg\n"))).column_names == [
        "image_uri",
        "problem",
        "column_1",
    ]


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        {"image_url": "s3://b/a.jpg", "score": 1, "tags": ["x", "é"], "n": 1, "big": 2**70, "none": None},
        {"image_url": "b.jpg", "score": 2.5, "mixed": "1", "n": 2, "ok": True},
        {"image_url": "c.jpg", "mixed": 1, "caption": "half \ud83d"},
    ]
    text = "\n\n".join(map(json.dumps, lines))
    for name, content in (("m.jsonl", text.encode()), ("n.ndjson.gz", gzip.compress(text.encode()))):
        table = rows(read(write(tmp_path / name, content)))
        assert table.drop_columns(["problem"]).to_pydict() == {
            "image_uri": ["s3://b/a.jpg", f"{tmp_path}/b.jpg", f"{tmp_path}/c.jpg"],
            "score": [1.0, 2.5, None],
            "tags": ['["x", "é"]', None, None],
            "n": [1, 2, None],
            "big": [str(2**70), None, None],
            "none": [None, None, None],
            "mixed": [None, "1", "1"],
            "ok": [None, True, None],
            "caption": [None, None, "half ?"],
        }
        assert table.schema.field("n").type == pa.int64()
        assert table.schema.field("none").type == pa.string()


def test_text(tmp_path: Path) -> None:
    text = "\ufeff# mine\r\n\r\na b.jpg  \r\nhttps://h/c.jpg?x=1#y\r\n  /d.jpg"
    table = rows(read(write(tmp_path / "m.txt", text)))
    assert table["image_uri"].to_pylist() == [f"{tmp_path}/a b.jpg", "https://h/c.jpg?x=1#y", "/d.jpg"]


def test_folder_glob_and_images(tmp_path: Path) -> None:
    names = [
        "b.JPG",
        "a.png",
        "x/c.webp",
        "x/y/d.tiff",
        ".hidden.jpg",
        ".thumbs/e.jpg",
        "x/notes.txt",
        "README.md",
        "_MG_1.jpg",
    ]
    for name in names:
        write(tmp_path / ".cache" / name, b"x")
    folder = tmp_path / ".cache"

    def found(*sources: Path | str, **columns: Any) -> list[str]:
        return [str(Path(uri).relative_to(folder)) for uri in rows(read(*sources, **columns))["image_uri"].to_pylist()]

    assert found(folder) == ["_MG_1.jpg", "a.png", "b.JPG", "x/c.webp", "x/y/d.tiff"]
    assert found(f"{folder}/**/*.*") == ["_MG_1.jpg", "a.png", "b.JPG", "x/c.webp", "x/y/d.tiff"]
    assert found(f"{folder}/x/*.webp") == ["x/c.webp"]
    assert found(folder / "b.JPG") == ["b.JPG"]


def test_file_names_that_are_not_utf8(tmp_path: Path) -> None:
    for name in (b"a.jpg", b"b\xff.jpg", b"c.jpg"):
        write(Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name)), b"")
    reader = read(tmp_path / "in")
    table = rows(reader)
    assert table["image_uri"].to_pylist() == [f"{tmp_path}/in/{name}" for name in ("a.jpg", "b\\udcff.jpg", "c.jpg")]
    problems = table["problem"].to_pylist()
    assert problems[::2] == [None, None]
    assert problems[1].startswith("the list of images, row 2: the file's name must be UTF-8 text, not '")
    assert problems[1].endswith("b\\\\udcff.jpg'")
    assert reader.problems.counts == {"the file's name must be UTF-8 text": 1}

    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    message = refusal(write(folder / "m.csv", "uri\na.jpg\n"))
    assert message == f"{tmp_path}/caf\\udce9/m.csv: this path is not UTF-8 text: rename it"


def test_folder_with_brackets_in_its_name(tmp_path: Path) -> None:
    write(tmp_path / "2024 [raw]" / "a.jpg", b"x")
    assert len(rows(read(tmp_path / "2024 [raw]"))) == 1


def test_relative_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in" / "m.txt", "../a.jpg\n./b.jpg\n")
    monkeypatch.chdir(tmp_path)
    assert rows(read("in/m.txt"))["image_uri"].to_pylist() == [f"{tmp_path}/a.jpg", f"{tmp_path}/in/b.jpg"]


def test_base(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.txt", "a.jpg\nx/../b%2F.jpg\n/c.jpg\n")
    uris = rows(read(manifest, base="s3://bucket/in/"))["image_uri"].to_pylist()
    assert uris == ["s3://bucket/in/a.jpg", "s3://bucket/in/b%2F.jpg", "/c.jpg"]


def test_eight_images_are_one_chunk() -> None:
    images = [f"https://host/{i}.jpg" for i in range(8)]
    (chunk,) = read(*images).chunks()
    assert chunk["image_uri"].to_pylist() == images


def test_parquet_keeps_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "path": pa.array(["/a.jpg", "/b.jpg"]).dictionary_encode(),
            "when": pa.array([1, 2], pa.timestamp("ms", tz="Europe/Zurich")),
            "vector": pa.array([[1.0, 2.0], None], pa.list_(pa.float32())),
            "nested": pa.array([{"x": 1}, {"x": None}], pa.struct([("x", pa.int8())])),
            "price": pa.array([None, 1], pa.decimal128(5, 2)),
            "label": pa.array(["x", "x"]).dictionary_encode(),
            "long": pa.array(["x", "y"], pa.large_string()),
            "blob": pa.array([b"1", None], pa.binary()),
            "nothing": pa.nulls(2),
        }
    )
    read_back = rows(read(write(tmp_path / "m.parquet", table)))
    assert read_back["image_uri"].to_pylist() == ["/a.jpg", "/b.jpg"]
    plain = {"label": pa.string(), "long": pa.string(), "nothing": pa.string()}
    for name in table.column_names[1:]:
        assert read_back.schema.field(name).type == plain.get(name, table.schema.field(name).type)
        assert read_back[name].to_pylist() == table[name].to_pylist()


def test_parquet_parts(tmp_path: Path) -> None:
    folder = tmp_path / "m.parquet"
    for part in range(3):
        uris = [f"/{part}-{i}.jpg" for i in range(4)]
        write(folder / f"part-{part}.parquet", {"uri": uris, "n": pa.array(range(4)) if part != 1 else pa.nulls(4)})
    write(folder / "_SUCCESS", b"")
    write(folder / "_temporary" / "00.parquet", b"x")
    chunks = list(read(folder, chunk_rows=5).chunks())
    assert [len(chunk) for chunk in chunks] == [5, 5, 2]
    assert chunks[1]["image_uri"].to_pylist() == ["/1-1.jpg", "/1-2.jpg", "/1-3.jpg", "/2-0.jpg", "/2-1.jpg"]
    assert chunks[1]["n"].to_pylist() == [None, None, None, 0, 1]
    assert len(rows(read(f"{folder}/part-[01].parquet"))) == 8


def test_hugging_face_images(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [
        {"bytes": b"one", "path": "one.jpg"},
        {"bytes": b"two", "path": None},
        {"bytes": None, "path": "three.jpg"},
        {"bytes": b"", "path": ""},
        None,
    ]
    manifest = write(tmp_path / "m.parquet", {"image": pa.array(images, kind), "label": [1, 2, 3, 4, 5]})
    table = rows(read(manifest))
    assert table.column_names == ["image_uri", *PLACE_SCHEMA.names, "problem", "label"]
    here = {"image_file": str(manifest), "image_column": "image.bytes", "image_group": 0}
    paths = [f"{tmp_path}/one.jpg", None, f"{tmp_path}/three.jpg", None, None]
    found = [here | {"image_row": row, "image_fallback": path} for row, path in enumerate(paths)]
    assert table.select(PLACE_SCHEMA.names).to_pylist() == found
    # What a file calls its images need not tell them apart.
    assert table["image_uri"].to_pylist() == [f"{manifest}#row={row}" for row in range(1, 6)]
    assert table["problem"].null_count == 5


def test_binary_column(tmp_path: Path) -> None:
    manifest = write(
        tmp_path / "m.parquet", {"jpg": pa.array([b"1", None], pa.large_binary()), "url": ["u", "s3://b/v"]}
    )
    assert rows(read(manifest, bytes_column="jpg")).to_pydict() == {
        "image_uri": ["u", "s3://b/v"],
        "image_file": [str(manifest)] * 2,
        "image_column": ["jpg"] * 2,
        "image_group": [0, 0],
        "image_row": [0, 1],
        "image_fallback": [f"{tmp_path}/u", None],  # which may not be fetched
        "problem": [None, None],
    }
    found = write(tmp_path / "n.parquet", {"image": pa.array([b"1"])})
    assert rows(read(found))["image_column"].to_pylist() == ["image"]


def test_image_struct_beside_a_chosen_uri_column_stays_out(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"url": ["/a.jpg"], "photo": pa.array([{"bytes": b"x", "path": "p"}], kind)}
    manifest = write(tmp_path / "m.parquet", columns)
    reader = read(manifest, uri_column="url")
    assert rows(reader).column_names == ["image_uri", "problem"]
    assert reader.notes == [
        "column photo of the manifest holds files and stays out of the metadata; columns.passthrough can name it"
    ]
    assert rows(read(manifest, uri_column="url", passthrough=["photo"]))["photo"].to_pylist() == [
        {"bytes": b"x", "path": "p"}
    ]


# --- Columns ---------------------------------------------------------------------------------------------------------


def test_sources_of_several_kinds(tmp_path: Path) -> None:
    csv = write(tmp_path / "a.csv", "uri,caption,seed\n/a.jpg,first,7\n")
    parquet = write(tmp_path / "b.parquet", {"path": ["/b.jpg"], "caption": ["second"], "n": [3]})
    image = write(tmp_path / "c.jpg", b"x")
    reader = read(csv, parquet, image)
    assert reader.overrides == ("seed",)
    assert reader.extras == pa.schema([("caption", pa.string()), ("n", pa.int64())])
    assert rows(reader).to_pydict() == {
        "image_uri": ["/a.jpg", "/b.jpg", str(image)],
        "problem": [None] * 3,
        "seed": [7, None, None],
        "caption": ["first", "second", None],
        "n": [None, 3, None],
    }


def test_overrides_have_their_types(tmp_path: Path) -> None:
    columns = {
        "uri": ["/a.jpg", "/b.jpg"],
        "seed": pa.array([2**63 - 1, None], pa.uint64()),
        "fps": pa.array([7.0, float("nan")]),
        "motion_bucket_id": ["127", ""],
        "noise_aug_strength": pa.array([None, 1], pa.int8()),
        "min_guidance_scale": pa.nulls(2),
    }
    reader = read(write(tmp_path / "m.parquet", columns))
    table = rows(reader)
    assert table.drop_columns(["problem"]).to_pydict() == {
        "image_uri": ["/a.jpg", "/b.jpg"],
        "seed": [2**63 - 1, None],
        "fps": [7, None],
        "motion_bucket_id": [127, None],
        "noise_aug_strength": [None, 1.0],
        "min_guidance_scale": [None, None],
    }
    assert table.schema.types[2:] == [pa.int64(), pa.int64(), pa.int64(), pa.float64(), pa.float64()]
    assert not reader.problems.counts


def test_problems_stay_in_their_rows(tmp_path: Path) -> None:
    text = (
        "uri,seed,fps,noise_aug_strength,caption\n"
        "/a.jpg,1,7,0.1,good\n"
        ",2,,,no image\n"
        "/c.jpg,-1,0,inf,all wrong\n"
        "/d.jpg,1.5,1e1, 3.0 ,half\n"
        "/e.jpg,1e999999999,99999999999,nan,large\n"
    )
    manifest = write(tmp_path / "m.csv", text)
    reader = read(manifest)
    table = rows(reader)
    assert table["caption"].to_pylist() == ["good", "no image", "all wrong", "half", "large"]
    assert table["image_uri"].to_pylist() == ["/a.jpg", f"{manifest}#row=3", "/c.jpg", "/d.jpg", "/e.jpg"]
    assert table["seed"].to_pylist() == [1, 2, None, None, None]
    assert table["fps"].to_pylist() == [7, None, None, 10, None]
    assert table["noise_aug_strength"].to_pylist() == [0.1, None, None, 3.0, None]
    whole = f"seed must be a whole number from 0 to {2**63 - 1}"
    assert table["problem"].to_pylist() == [
        None,
        f"{manifest}, row 3: no image: uri is empty",
        (
            f"{manifest}, row 4: {whole}, not '-1'; fps must be a whole number from 1 to 1000, not '0'; "
            "noise_aug_strength must be a number from 0 to 10, not 'inf'"
        ),
        f"{manifest}, row 5: {whole}, not '1.5'",
        (
            f"{manifest}, row 6: {whole}, not '1e999999999'; fps must be a whole number from 1 to 1000, not "
            "'99999999999'; noise_aug_strength must be a number from 0 to 10, not 'nan'"
        ),
    ]
    assert reader.problems.counts == {
        "no image: uri is empty": 1,
        whole: 3,
        "fps must be a whole number from 1 to 1000": 2,
        "noise_aug_strength must be a number from 0 to 10": 2,
    }
    assert reader.problems.examples["no image: uri is empty"] == [f"{manifest}, row 3: no image: uri is empty"]


def test_only_a_few_problems_are_kept(tmp_path: Path) -> None:
    reader = read(write(tmp_path / "m.csv", "uri,seed\n" + "/a.jpg,x\n" * 1000))
    assert rows(reader)["problem"].null_count == 0
    assert reader.problems.counts.total() == 1000
    assert [len(examples) for examples in reader.problems.examples.values()] == [3]


def test_names_that_are_taken_get_a_prefix(tmp_path: Path) -> None:
    text = "url,width,Width,source_width,Caption,caption,problem,image_uri\nu,1,2,3,4,5,6,/a.jpg\n"
    reader = read(write(tmp_path / "m.csv", text), reserved=("width",), uri_column="image_uri")
    assert rows(reader).drop_columns(["image_uri", "problem"]).to_pydict() == {
        "url": ["u"],
        "source_width": ["1"],
        "source_source_Width": ["2"],
        "source_source_source_width": ["3"],
        "Caption": ["4"],
        "source_caption": ["5"],
        "source_problem": ["6"],
    }
    assert "column width of the manifest travels as source_width, because that name is taken" in reader.notes


def test_passthrough_list_and_limit(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.csv", "url,a,b\n" + "".join(f"/{i}.jpg,{i},x\n" for i in range(10)))
    table = rows(read(manifest, passthrough=["b", "url"], limit=7, chunk_rows=5))
    assert table.column_names == ["image_uri", "problem", "b", "url"]
    assert table["url"].to_pylist() == [f"/{i}.jpg" for i in range(7)]
    assert rows(read(manifest, passthrough=[])).column_names == ["image_uri", "problem"]


def test_secrets_of_uris_go_to_the_worker_alone(tmp_path: Path) -> None:
    whole = ["https://u:p@h/a.png?w=1&Expires=2&Signature=s", "/b.png?sig=x", "https://h/c.png?w=1", None]
    manifest = write(tmp_path / "m.parquet", {"url": pa.array(whole, pa.large_string()).cast(pa.string())})
    table = rows(read(manifest, passthrough=["url"], schemes=["file", "https"]))
    named = ["https://h/a.png?w=1", "/b.png?sig=x", "https://h/c.png?w=1"]
    assert table["image_uri"].to_pylist() == [*named, f"{manifest}#row=4"]
    assert table["url"].to_pylist() == [*named, None]
    assert table["image_fallback"].to_pylist() == [whole[0], None, None, None]
    images = pa.array([{"bytes": b"x", "path": None}] * 4)
    manifest = write(tmp_path / "n.parquet", {"image": images, "url": whole})
    table = rows(read(manifest, bytes_column="image", schemes=["file", "https"]))
    assert table["image_uri"].to_pylist() == [*named, f"{manifest}#row=4"]
    assert table["image_fallback"].to_pylist() == whole


def test_uris_that_may_not_be_fetched_stay_as_problems(tmp_path: Path) -> None:
    uris = ["https://host/a.jpg", "/b.jpg", "zip://*::/etc/c.zip", "x" * 10_000]
    manifest = write(tmp_path / "m.parquet", {"uri": uris})
    reader = read(manifest)
    table = rows(reader)
    refused = "an image's URI must be a path of this machine (storage.schemes can allow others)"
    assert table["problem"].to_pylist() == [
        f"{manifest}, row 1: {refused}, not 'https://host/a.jpg'",
        None,
        f"{manifest}, row 3: {refused}, not 'zip://*::/etc/c.zip'",
        f"{manifest}, row 4: an image's URI must have at most 8192 characters, not '{'x' * 59}",
    ]
    assert table["image_uri"].to_pylist()[:3] == uris[:3]
    assert table["image_uri"][3].as_py() == f"{manifest}#row=4"
    assert reader.problems.counts[refused] == 2
    assert rows(read(manifest, schemes=["https"]))["problem"].null_count == 1


def test_beside_an_image_a_uri_that_may_not_be_fetched_is_only_a_name(tmp_path: Path) -> None:
    paths = ["https://host/a.jpg", "/b.jpg", "zip://*::/etc/c.zip", "x" * 10_000]
    images = pa.array([{"bytes": b"x", "path": path} for path in paths])
    table = rows(read(write(tmp_path / "m.parquet", {"image": images})))
    assert table["problem"].null_count == 4
    assert table["image_fallback"].to_pylist() == [None, "/b.jpg", None, None]


# --- Refusals --------------------------------------------------------------------------------------------------------


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.csv") == f"{tmp_path}/none.csv does not exist"
    assert refusal(tmp_path / "none.jpg") == f"{tmp_path}/none.jpg does not exist"
    assert refusal(f"{tmp_path}/*.jpg") == (
        f"{tmp_path}/*.jpg matches neither images nor manifests (known are {', '.join(EXTENSIONS)})"
    )
    write(tmp_path / "empty" / "README.md", "x")
    assert refusal(tmp_path / "empty").startswith(f"the folder {tmp_path}/empty holds neither images nor manifests")
    assert refusal(tmp_path / "empty", format="csv").startswith(
        f"the folder {tmp_path}/empty holds no csv file; 1 file"
    )
    assert "set columns.format" in refusal(write(tmp_path / "m.xlsx", "[]"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "", "{} is empty: it has 0 bytes"),
        ("m.csv", "\n\n", "{} is empty: expected a header with the names of the columns"),
        ("m.csv", "uri,caption\n", "the manifest has no rows: {}"),
        ("m.csv", "uri,uri\n/a,/b\n", "{}: column 'uri' appears 2 times; rename all but one"),
        ("m.csv", "uri,c\n/a,b\n/b,c,d\n", "{}, row 3: 3 fields where the header has 2: /b,c,d"),
        ("m.csv", 'uri,c\n/a,"b\n/b,c\n', "{}, row 2: a quotation mark is opened and never closed"),
        ("m.csv", "uri,c\n/a,é\n".encode("latin-1"), "is not UTF-8 text"),
        ("m.csv", "uri,c\n/a,b\n".encode("utf-16"), "{} is UTF-16 text: save it as UTF-8"),
        ("m.csv.gz", b"uri,c\n/a,b\n", "{} is not a whole gzip file, though named so"),
        (
            "m.csv.gz",
            gzip.compress(b"uri\n" + b"/a.jpg\n" * 9999)[:-20],
            "{} is not a whole gzip file, though named so",
        ),
        ("m.jsonl", "", "{} is empty: it has 0 bytes"),
        ("m.jsonl", '{"uri": "/a"}\n\n{"uri": \n', "{}, line 3 is not JSON: Expecting value"),
        (
            "m.jsonl",
            '{"uri": "/a"}\n{"n": ' + "7" * 5_000 + "}\n",
            "{}, line 2 cannot be read as JSON: Exceeds the limit",
        ),
        ("m.jsonl", '{"uri": "/a"}\n' + "[" * 100_000 + "\n", "{}, line 2 cannot be read as JSON: maximum recursion"),
        ("m.jsonl", '{"uri": "/a"}\n[1, 2]\n', "{}, line 2 is not a JSON object: [1, 2]"),
        ("m.txt", "# nothing\n\n", "the manifest has no rows: {}"),
        ("m.txt", b"\xe9.jpg\n", "{} is not UTF-8 text"),
        (
            "m.parquet",
            "uri\n/a.jpg\n",
            "{} is not a whole Parquet file, though named so (Parquet magic bytes not found",
        ),
        ("m.parquet", pa.table({"uri": pa.array([], pa.string())}), "the manifest has no rows: {}"),
        ("m.parquet", pa.table({"uri": [1]}), "has no column with the images' URIs"),
        ("m.parquet", pa.table({"uri": ["/a"], "seed": [True]}), "{}: column seed must be int64, and is bool"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: str | bytes | pa.Table, message: str) -> None:
    manifest = write(tmp_path / name, content)
    assert message.format(manifest) in refusal(manifest)


def test_truncated_parquet(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.parquet", {"uri": [f"/{i}.jpg" for i in range(1000)]})
    manifest.write_bytes(manifest.read_bytes()[:-100])
    assert f"{manifest} is not a whole Parquet file" in refusal(manifest)


def test_damaged_parquet_page(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.parquet", {"uri": [f"/{i}.jpg" for i in range(1000)]})
    data = bytearray(manifest.read_bytes())
    data[4:200] = bytes(196)
    manifest.write_bytes(data)
    assert f"{manifest} is not a whole Parquet file" in refusal(manifest)


def test_missing_columns_name_the_nearest(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.csv", "image_ulr,caption\ncat,x\n")
    assert refusal(manifest) == (
        f"{manifest} has no column with the images' URIs, and none with the images themselves: set columns.uri_column "
        "(perhaps to image_ulr) or columns.bytes_column, or name it as one of image_uri, uri, url, image_url, "
        "image_path, path, file_name, image. Its columns are image_ulr, caption"
    )
    assert refusal(manifest, uri_column="image_url") == (
        f"{manifest}: columns.uri_column is image_url, but there is no such column (perhaps image_ulr). "
        "The columns are image_ulr, caption"
    )
    assert "columns.passthrough names captoin, but there is no such column (perhaps caption)" in refusal(
        manifest, uri_column="image_ulr", passthrough=["captoin"]
    )
    assert "columns.types names score, but there is no such column." in refusal(
        manifest, uri_column="image_ulr", types={"score": "int64"}
    )
    assert refusal(manifest, bytes_column="caption") == (
        f"{manifest}: column caption holds no image bytes: it is string. columns.bytes_column takes binary columns and "
        "structs with bytes, columns.uri_column takes text"
    )


def test_columns_of_a_manifest_without_columns(tmp_path: Path) -> None:
    text = write(tmp_path / "m.txt", "/a.jpg\n")
    assert refusal(text, uri_column="url") == "columns.uri_column is set, but a manifest of text has no columns"


def test_parts_that_differ(tmp_path: Path) -> None:
    first = write(tmp_path / "a" / "0.parquet", {"uri": ["/a.jpg"], "n": [1]})
    second = write(tmp_path / "a" / "1.parquet", {"uri": ["/b.jpg"], "n": ["x"]})
    assert refusal(tmp_path / "a") == (
        f"column n is int64 in {first} and string in {second}: give it one type with columns.types={{n: ...}}, or "
        "leave it out of columns.passthrough"
    )
    assert rows(read(tmp_path / "a", types={"n": "string"}))["n"].to_pylist() == ["1", "x"]
    assert len(rows(read(tmp_path / "a", passthrough=[]))) == 2
    write(tmp_path / "a" / "1.parquet", {"uri": ["/b.jpg"]})
    assert refusal(tmp_path / "a") == f"column n is in {first} and not in {second}: all parts need the same"
    write(tmp_path / "a" / "1.parquet", {"uri": ["/b.jpg"], "n": [1], "m": [1]})
    assert f"column m is in {second} and not in {first}" in refusal(tmp_path / "a")


def test_json_parts_may_lack_keys(tmp_path: Path) -> None:
    write(tmp_path / "a" / "0.jsonl", '{"uri": "/a.jpg", "n": 1}')
    write(tmp_path / "a" / "1.jsonl", '{"uri": "/b.jpg"}')
    assert rows(read(tmp_path / "a"))["n"].to_pylist() == [1, None]


def test_folders_of_several_kinds(tmp_path: Path) -> None:
    image, table = write(tmp_path / "a.jpg", b"x"), write(tmp_path / "metadata.csv", "file_name,caption\na.jpg,cat\n")
    assert refusal(tmp_path) == (
        f"the folder {tmp_path} holds images and also {table}: set columns.format=images to leave the others out, or "
        "name that file"
    )
    assert rows(read(tmp_path, format="images"))["image_uri"].to_pylist() == [str(image)]
    assert rows(read(table)).to_pylist() == [{"image_uri": str(image), "problem": None, "caption": "cat"}]


# --- On a real object store ------------------------------------------------------------------------------------------


def test_s3(s3_storage: Storage, s3_bucket: str, tmp_path: Path) -> None:
    part = write(tmp_path / "m.parquet", {"uri": ["in/a.jpg", "s3://other/b.jpg"], "n": [1, 2]})
    s3_storage.put_file(f"{s3_bucket}/set/0.parquet", part)
    s3_storage.put_file(f"{s3_bucket}/set/1.parquet", part)
    s3_storage.put_bytes(f"{s3_bucket}/m.csv", b"uri,caption\na%20b.jpg,cat\n")
    for name in ("a#b.jpg", "b c.png", "x/d%20.jpg"):
        s3_storage.put_bytes(f"{s3_bucket}/in/{name}", b"x")

    def uris(*sources: str) -> list[str]:
        names: list[str] = rows(read(*sources, storage=s3_storage))["image_uri"].to_pylist()
        return [uri.replace(s3_bucket, "s3:/") for uri in names]

    assert uris(f"{s3_bucket}/set") == ["s3://set/in/a.jpg", "s3://other/b.jpg"] * 2
    assert uris(f"{s3_bucket}/set/*.parquet", f"{s3_bucket}/m.csv")[-1] == "s3://a%20b.jpg"
    assert uris(f"{s3_bucket}/in/") == ["s3://in/a#b.jpg", "s3://in/b c.png", "s3://in/x/d%20.jpg"]
    assert uris(f"{s3_bucket}/in/*.png") == ["s3://in/b c.png"]
    assert uris(f"{s3_bucket}/in/b c.png") == ["s3://in/b c.png"]
    assert refusal(f"{s3_bucket}/none.csv", storage=s3_storage) == f"{s3_bucket}/none.csv does not exist"
    assert "the bucket does not exist" in refusal("s3://nowhere-to-be-found/in/*.jpg", storage=s3_storage)
    assert "in/none" in refusal(f"{s3_bucket}/in/none", storage=s3_storage)
