"""Which column holds the images: by what the columns hold, and not by name or rank alone."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from actors.contracts import Place
from actors.embedded import EmbeddedImages
from actors.storage import Storage
from pipelines.config import load_config
from pipelines.dataset.layout import Layout
from pipelines.manifest.pictures import is_picture
from pipelines.planning.holdings import read_holdings
from pipelines.planning.planner import Plan, make_plan
from tests.pipelines.test_manifest import read, refusal, rows, write


def planned(manifest: Path, *overrides: str) -> Plan:
    settings = [f"manifest={manifest}", f"output={manifest.parent}/out", "model.source=none", *overrides]
    config = load_config([], settings)
    layout = Layout(config.output)
    return make_plan(config, Storage(), read_holdings(layout, Storage()), ("rev", ""), run=layout.run("r"))


def picture(kind: str, number: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (number, 5, 5)).save(buffer, kind)
    return buffer.getvalue()


JPEG, PNG, WEBP = picture("JPEG"), picture("PNG"), picture("WEBP")
OTHER_JPEG = picture("JPEG", 99)
SOUND = b"RIFF\x24\0\0\0WAVEfmt " + bytes(20)
EMBEDDING = np.arange(64, dtype=np.float32).tobytes()
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
WEB = "https://host.invalid/a.jpg"


def structs(*values: bytes | None, kind: pa.DataType = STRUCT) -> pa.Array:
    return pa.array([{"bytes": value, "path": f"{row}.jpg"} for row, value in enumerate(values)], kind)


def with_features(columns: dict[str, Any], **features: str) -> pa.Table:
    """As `datasets` writes it."""
    said = {"info": {"features": {name: {"_type": kind} for name, kind in features.items()}}}
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(said)})


def taken(manifest: Path, **columns: Any) -> tuple[str | None, str | None, list[str]]:
    """The column with the images, that with their URIs, and those that travel through."""
    reader = read(manifest, **columns)
    rows(reader)
    roles = reader._sources[0].roles
    return roles.image, roles.uri, list(roles.passthrough)


# Columns; which of them holds the images; which the URIs; which travel through.
CHOICES: dict[str, tuple[dict[str, Any] | pa.Table, str | None, str | None, list[str]]] = {
    "img2dataset": (
        {"jpg": [None, JPEG, OTHER_JPEG], "url": [WEB] * 3, "key": ["0", "1", "2"], "status": ["x"] * 3},
        "jpg",
        "url",
        ["key", "status"],
    ),
    "img2dataset, webp": ({"webp": [WEBP], "url": [WEB], "json": [b"{}"]}, "webp", "url", ["json"]),
    "nothing downloaded": ({"jpg": pa.array([None], pa.binary()), "url": [WEB]}, "jpg", "url", []),
    "png beside json": ({"png": [JPEG], "json": ["{}"]}, "png", None, ["json"]),
    "a name that says nothing": ({"x": [PNG], "y": [b"{}"]}, "x", None, ["y"]),
    "data": ({"data": [WEBP], "path": ["/a.jpg"]}, "data", "path", []),
    "content that is no picture": ({"content": [b"%PDF-1.4"], "path": ["/a.jpg"]}, None, "path", ["content"]),
    "image that is an embedding": ({"image": [EMBEDDING], "url": ["/a.jpg"]}, None, "url", ["image"]),
    "embedding first": ({"embedding": [EMBEDDING], "photo": [JPEG]}, "photo", None, ["embedding"]),
    "fixed size": ({"img": pa.array([PNG], pa.binary(len(PNG)))}, "img", None, []),
    "large": ({"picture": pa.array([PNG], pa.large_binary())}, "picture", None, []),
    "view": ({"photo": pa.array([PNG], pa.binary_view())}, "photo", None, []),
    "dictionary": ({"photo": pa.array([PNG, PNG]).dictionary_encode()}, "photo", None, []),
    "upper case": ({"JPG": [JPEG], "URL": ["/a.jpg"]}, "JPG", None, ["URL"]),
    "mask first": ({"mask": [PNG], "image": [JPEG]}, "image", None, []),
    "mask beside an image of another name": ({"seg_mask": [PNG], "rgb": [JPEG]}, "rgb", None, []),
    "two pictures": ({"before": [PNG], "after": [JPEG]}, "before", None, []),
    "a thumbnail goes after the URL": ({"thumbnail": [JPEG], "url": ["/a.jpg"]}, None, "url", []),
    "a thumbnail goes before a URL that may not be fetched": (
        {"thumbnail": [JPEG], "url": [WEB]},
        "thumbnail",
        "url",
        [],
    ),
    "struct": ({"photo": structs(JPEG)}, "photo", None, []),
    "sound first": ({"audio": structs(SOUND), "image": structs(JPEG)}, "image", None, []),
    "sound alone beside a URL": ({"audio": structs(SOUND), "image_url": ["/a.jpg"]}, None, "image_url", []),
    "struct of masks first": ({"mask": structs(PNG), "picture": structs(JPEG)}, "picture", None, []),
    "path before bytes": (
        {"image": structs(JPEG, kind=pa.struct([("path", pa.string()), ("bytes", pa.binary())]))},
        "image",
        None,
        [],
    ),
    "bytes alone": ({"image": pa.array([{"bytes": JPEG}])}, "image", None, []),
    "more than bytes": ({"image": pa.array([{"bytes": JPEG, "path": "a.jpg", "width": 8}])}, "image", None, []),
    "bytes of another name": ({"x": pa.array([{"format": "png", "data": PNG}])}, "x", None, []),
    "large bytes in a struct": (
        {"x": structs(PNG, kind=pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())]))},
        "x",
        None,
        [],
    ),
    "only paths in the struct": ({"photo": structs(None)}, "photo", None, []),
    "features": (
        with_features({"a": structs(JPEG), "b": structs(JPEG)}, a="Audio", b="Image"),
        "b",
        None,
        [],
    ),
    "features of a path": (
        with_features({"photo_of": ["a.jpg"], "url": [WEB]}, photo_of="Image"),
        None,
        "photo_of",
        ["url"],
    ),
    "features that are none": (
        pa.table({"image": [JPEG]}).replace_schema_metadata({"huggingface": '{"info": []}'}),
        "image",
        None,
        [],
    ),
    "lists stay out": ({"pages": [[JPEG, PNG]], "path": ["/a.jpg"]}, None, "path", []),
    "lists of structs stay out": ({"images": [[{"bytes": JPEG, "path": "a"}]], "image": [PNG]}, "image", None, []),
    "deep pictures stay out": ({"x": [{"views": [{"raw": JPEG}], "n": 1}], "path": ["/a.jpg"]}, None, "path", []),
    "hashes and ids travel": ({"path": ["/a.jpg"], "sha": pa.array([bytes(32)], pa.binary(32))}, None, "path", ["sha"]),
    "a URL that may be fetched": ({"url": [WEB], "path": ["/a.jpg"]}, None, "path", ["url"]),
    "a URL that is none": ({"image": ["a cat on a mat"], "image_url": ["/a.jpg"]}, None, "image_url", ["image"]),
    "base64": ({"image": ["/9j/4AAQ" + "x/" * 900], "file_name": ["a.jpg"]}, None, "file_name", ["image"]),
    "nothing in it": ({"url": pa.array([None], pa.string()), "path": ["/a.jpg"]}, None, "path", ["url"]),
    "ids": ({"path": ["0001"], "file_name": ["0001.jpg"]}, None, "file_name", ["path"]),
    "by rank": ({"path": ["/b.jpg"], "image_uri": ["/a.jpg"]}, None, "image_uri", ["path"]),
    "by what it holds": ({"url": [WEB], "where_it_is": ["x/a.jpg"]}, None, "where_it_is", ["url"]),
    "a link": ({"link": ["/a"], "text": ["x"]}, None, "link", ["text"]),
    "no link": ({"link": ["none"], "img": ["a"]}, None, "img", ["link"]),
    "none may be fetched": ({"url": [WEB], "text": ["x"]}, None, "url", ["text"]),
}


@pytest.mark.parametrize("case", CHOICES)
def test_the_column_with_the_images_is_found(case: str, tmp_path: Path) -> None:
    columns, *expected = CHOICES[case]
    assert list(taken(write(tmp_path / "m.parquet", columns))) == expected


@pytest.mark.parametrize(
    "name",
    [
        *("URL", "Image_URL", "imageUrl", "Image URL", "image-path", "filepath", "file_path", "filename", "fileName"),
        *("link", "img_url", "IMG_PATH", "picture", "photo_url", "FILE", "src"),
    ],
)
def test_names_in_every_spelling(tmp_path: Path, name: str) -> None:
    for content in (f"text,{name}\nx,/a\n", f"{name}\n/a\n"):
        assert rows(read(write(tmp_path / "m.csv", content)))["image_uri"].to_pylist() == ["/a"]
    manifest = write(tmp_path / "m.jsonl", json.dumps({"n": 1, name: "/a"}))
    assert rows(read(manifest))["image_uri"].to_pylist() == ["/a"]


@pytest.mark.parametrize("name", ["img", "picture", "photo", "content", "data", "PNG", "x"])
def test_pictures_are_read_from_where_they_are_found(tmp_path: Path, name: str) -> None:
    for values in (
        pa.array([None, JPEG]),
        pa.array([None, JPEG], pa.binary(len(JPEG))),
        pa.array([None, JPEG], pa.binary_view()),
        pa.array([None, JPEG]).dictionary_encode(),
        pa.StructArray.from_arrays([pa.array([None, JPEG]).dictionary_encode()], ["bytes"]),
        pa.array([None, {"bytes": JPEG}]),
        pa.array([None, {"more": 1, "path": "p", "bytes": JPEG}]),
    ):
        manifest = write(tmp_path / "m.parquet", {"n": [1, 2], name: values})
        for identity in ("uri", "content"):
            found = rows(read(manifest, identity=identity)).to_pylist()[1]
            place = Place(*(found[key] for key in ("image_file", "image_column", "image_group", "image_row")))
            assert EmbeddedImages(Storage()).read(place) == JPEG


def test_every_rival_is_noted_with_the_setting_that_takes_it(tmp_path: Path) -> None:
    columns = {"jpg": [JPEG], "mask": [PNG], "pages": [[PNG]], "url": ["/a.jpg"], "audio": structs(SOUND)}
    said = "the images are those of column jpg; column"
    out = "of the manifest holds files and stays out of the metadata; columns.passthrough can name it"
    assert read(write(tmp_path / "m.parquet", columns)).notes == [
        f"{said} mask holds pictures, too (columns.bytes_column=mask takes them)",
        f"{said} pages holds pictures, too (several in a row: write a row for each picture to take them)",
        f"{said} url holds URIs, too (columns.uri_column=url takes it)",
        *(f"column {name} {out}" for name in ("mask", "pages", "audio")),
    ]
    manifest = write(tmp_path / "n.parquet", {"url": [WEB], "path": ["/a.jpg"], "image": [EMBEDDING], "mask": [PNG]})
    said = "the images' URIs are those of column path; column"
    unfetched = "holds no URIs that may be fetched, as far as its first rows tell (columns.uri_column=url takes it)"
    assert read(manifest).notes == [
        f"{said} url {unfetched}",
        f"{said} mask holds pictures, too (columns.bytes_column=mask takes them)",
        f"{said} image holds no pictures, as far as its first rows tell (columns.bytes_column=image takes it)",
        f"column mask {out}",
    ]
    manifest = write(tmp_path / "o.csv", "url,whereabouts\nhttps://h.invalid/a,/a.jpg\n")
    said = "the images' URIs are those of column whereabouts"
    assert read(manifest).notes == [
        f"{said}, by what it holds (columns.uri_column can name another)",
        f"{said}; column url {unfetched}",
    ]
    assert read(write(tmp_path / "p.parquet", {"image": [JPEG], "n": [1]})).notes == []


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"pages": [[JPEG, PNG]]}, ["column pages holds several pictures a row: write a row for each"]),
        ({"x": [EMBEDDING], "text": ["a cat"]}, ["(perhaps to x)"]),
        ({"audio": structs(SOUND)}, ["(perhaps to audio)"]),
        ({"x": pa.array([{"bytes": 1.5}])}, []),
        ({"urls": [["/a.jpg"]]}, []),
    ],
)
def test_no_column_of_images_names_both_settings(tmp_path: Path, columns: dict[str, Any], words: list[str]) -> None:
    said = refusal(write(tmp_path / "m.parquet", columns))
    for word in [*words, "has no column with the images' URIs", "columns.uri_column", "columns.bytes_column"]:
        assert word in said
    (name,) = list(columns)[:1]
    for setting in ("uri_column", "bytes_column"):
        if setting == "bytes_column" and words and "several" not in words[0]:
            continue
        said = refusal(tmp_path / "m.parquet", **{setting: name})
        assert "columns.uri_column" in said
        assert "columns.bytes_column" in said


def test_pictures_travel_only_where_they_are_named(tmp_path: Path) -> None:
    columns = {"url": ["/a.jpg"], "x": [JPEG], "pages": [[JPEG]], "image": pa.array([None], pa.binary())}
    manifest = write(tmp_path / "m.parquet", columns)
    assert taken(manifest, uri_column="url") == (None, "url", [])
    assert rows(read(manifest, uri_column="url", passthrough=["x", "pages"]))["x"].to_pylist() == [JPEG]
    assert taken(manifest, bytes_column="x", passthrough=["x"]) == ("x", "url", ["x"])


def test_what_is_damaged_is_said_where_it_is_read_and_not_where_it_is_looked_at(tmp_path: Path) -> None:
    manifest = tmp_path / "m.parquet"
    table = pa.table({"image": [JPEG] * 50, "path": ["/a.jpg"] * 50})
    pq.write_table(table, manifest, compression="zstd", use_dictionary=False)
    data = bytearray(manifest.read_bytes())
    data[20:60] = bytes(40)
    manifest.write_bytes(data)
    assert taken(manifest) == ("image", "path", [])


def test_text_that_parquet_calls_bytes(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.parquet", {"url": [b"/a.jpg", None, b"/\xff.jpg"], "n": [1, 2, 3]})
    assert taken(manifest) == (None, "url", ["n"])
    found = rows(read(manifest))
    assert found["image_uri"].to_pylist() == ["/a.jpg", f"{manifest}#row=2", "/\\xff.jpg"]


PICTURES = [
    *(picture(kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "PPM", "ICO", "AVIF")),
    b"\0\0\0\x18ftypheic\0\0\0\0",
    b"\xff\x0a\xfa\x1f",
    b"\0\0\0\x0cJXL \r\n\x87\n",
    b"8BPS\0\1",
    b"MM\0+\0\x08\0\0",
]


@pytest.mark.parametrize("data", PICTURES, ids=lambda data: repr(data[:12]))
def test_pictures_are_known_by_their_first_bytes(data: bytes) -> None:
    assert is_picture(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        SOUND,
        EMBEDDING,
        b"%PDF-1.4",
        b"{}",
        b"BM",
        b"BM is text",
        b"PK\3\4",
        b"\0\0\0\x18ftypisom",
        b"ID3\3",
        bytes(64),
    ],
)
def test_other_files_are_not(data: bytes) -> None:
    assert not is_picture(data)
