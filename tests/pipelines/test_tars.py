"""Tars of images, such as shards of WebDataset: planned by their headers, each image read from where it is."""

import io
import os
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from actors.contracts import TAR_GROUP, Failed, Loaded, Place
from actors.embedded import EmbeddedImages
from actors.errors import ImageError
from actors.storage import Storage
from tests.faulty_proxy import faulty_proxy
from tests.pipelines.test_embedded_images import fed, loaded, picture, plan_of, work_rows
from tests.pipelines.test_manifest import read, refusal, rows, write
from tests.servers import S3Server

LOCAL = Storage()
JSON = b'{"url": "https://host.invalid/a.jpg", "caption": "a cat"}'


def tar_of(path: Path, members: Sequence[tuple[str, bytes]], kind: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def hashes(items: Sequence[Loaded | Failed]) -> list[str]:
    assert all(isinstance(item, Loaded) for item in items), items
    return [str(item.row.columns["image_sha256"]) for item in items]


def notes_of(reader: Any) -> list[str]:
    list(reader.chunks())
    notes: list[str] = reader.closing_notes()
    return notes


def test_shards_that_webdataset_writes(tmp_path: Path) -> None:
    data = [picture(number) for number in range(6)]
    with webdataset.ShardWriter(f"{tmp_path}/%05d.tar", maxcount=3, verbose=0) as writer:
        for number, image in enumerate(data):
            writer.write(
                {"__key__": f"sub/{number:09d}", "png": image, "txt": f"n {number}", "json": {"n": number}, "cls": 7}
            )
    reader = read(tmp_path, identity="content")
    table = rows(reader)
    assert table["__key__"].to_pylist() == [f"sub/{number:09d}" for number in range(6)]
    assert table["txt"].to_pylist() == [f"n {number}" for number in range(6)]
    assert table["json"].to_pylist() == [f'{{"n": {number}}}' for number in range(6)]
    assert table["cls"].to_pylist() == ["7"] * 6
    assert reader.closing_notes() == []
    plan = plan_of(str(tmp_path), tmp_path)
    assert [row["image_uri"] for row in work_rows(plan)] == [
        f"{tmp_path}/{number // 3:05d}.tar#sub/{number:09d}.png" for number in range(6)
    ]
    found = hashes(loaded(plan))
    assert len(set(found)) == 6
    assert table["image_identity"].to_pylist() == [f"sha256:{sha256}" for sha256 in found]
    assert rows(read(tmp_path, types={"cls": "int64"}))["cls"].to_pylist() == [7] * 6


def test_what_img2dataset_writes_by_default(tmp_path: Path) -> None:
    for shard in ("00000", "00001"):
        members = [
            (f"{shard}000{number}.{what}", data)
            for number in range(2)
            for what, data in (("jpg", picture(number)), ("json", JSON), ("txt", b"a cat"))
        ]
        tar_of(tmp_path / f"{shard}.tar", members)
        pq.write_table(pa.table({"url": ["https://host.invalid/a.jpg"], "key": ["0"]}), tmp_path / f"{shard}.parquet")
        (tmp_path / f"{shard}_stats.json").write_text("{}")
    reader = read(tmp_path)
    table = rows(reader)
    assert table["__key__"].to_pylist() == ["000000000", "000000001", "000010000", "000010001"]
    assert table["json"].to_pylist() == [JSON.decode()] * 4
    assert reader.closing_notes() == [
        (
            f"{tmp_path}: 2 files listing what is in the shards beside them were left out (.parquet 2), e.g. "
            f"{tmp_path}/00000.parquet"
        ),
        f"{tmp_path}: 2 files describing what is beside them were left out (.json 2), e.g. {tmp_path}/00000_stats.json",
    ]
    assert len(set(hashes(loaded(plan_of(str(tmp_path), tmp_path))))) == 2


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_every_length(tmp_path: Path, kind: int) -> None:
    names = ["a.png", "./b.PNG", "caf\u00e9/c.png"]
    if kind != tarfile.USTAR_FORMAT:
        names += ["d" * 180 + "/" + "e" * 200 + ".png", "f\ng.png"]
    tar = tar_of(tmp_path / "m.tar", [(name, picture(number)) for number, name in enumerate(names)], kind)
    plan = plan_of(str(tar), tmp_path)
    assert [row["image_column"] for row in work_rows(plan)] == names
    assert len(set(hashes(loaded(plan)))) == len(names)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "m.tar", [("b\udcff.png", picture(0))], tarfile.GNU_FORMAT)
    plan = plan_of(str(tar), tmp_path)
    assert [row["image_column"] for row in work_rows(plan)] == ["b\\xff.png"]
    assert len(hashes(loaded(plan))) == 1


def test_several_pictures_of_a_key(tmp_path: Path) -> None:
    members = [
        (f"{key}.{what}", picture(number))
        for number, key in enumerate("ab")
        for what in ("mask.png", "png", "depth.png")
    ]
    tar = tar_of(tmp_path / "m.tar", members)
    plan = plan_of(str(tar), tmp_path)
    assert [row["image_column"] for row in work_rows(plan)] == ["a.png", "b.png"]
    assert plan.notes == [
        (
            f"{tar}: of a sample's pictures png is animated; others that were left out: 4 (mask.png 2, depth.png 2); "
            "columns.bytes_column can name another"
        )
    ]
    plan = plan_of(str(tar), tmp_path, "columns.bytes_column=mask.png")
    assert [row["image_column"] for row in work_rows(plan)] == ["a.mask.png", "b.mask.png"]
    assert len(hashes(loaded(plan))) == 2
    assert refusal(tar, bytes_column="jpg") == (
        f"{tar}: columns.bytes_column is jpg, but its samples have no member of that name; the first have mask.png, "
        "png, depth.png"
    )
    tar = tar_of(tmp_path / "n.tar", [("a.0.png", picture(0)), ("a.1.png", picture(1)), ("b.0.png", picture(2))])
    assert rows(read(tar))["image_uri"].to_pylist() == [f"{tar}#a.0.png", f"{tar}#b.0.png"]


def test_images_of_any_kind_and_samples_without(tmp_path: Path) -> None:
    members = [
        ("a.png", picture(0)),
        ("a.npy", b"\x93NUMPY\0\xff"),
        ("b.txt", b"no picture"),
        ("c.webp", picture(1)),
        ("c.txt", b"caf\xc3\xa9"),
        ("folder/.DS_Store", b"x"),
        ("README", b"x"),
        ("a.png", picture(2)),  # a key once more is a sample of its own
    ]
    tar = tar_of(tmp_path / "m.tar", members)
    with tarfile.open(tar, "a") as opened:
        link = tarfile.TarInfo("d.png")
        link.type, link.linkname = tarfile.LNKTYPE, "a.png"
        opened.addfile(link)
    reader = read(tar)
    table = rows(reader)
    assert table.column_names == ["image_uri", *[f"image_{n}" for n in ("file", "column", "group", "row", "fallback")],
                                  "problem", "__key__", "txt"]  # fmt: skip
    assert table["image_column"].to_pylist() == ["a.png", "c.webp", "a.png"]
    assert table["txt"].to_pylist() == [None, "caf\u00e9", None]
    assert reader.closing_notes() == [
        f"{tar}: members of tars that were left out: 4 (hidden or without an ending 2, .npy 1, links 1)",
        f"{tar}: samples that have no picture and were left out: 1",
    ]
    assert "holds no pictures: the members of its samples are txt" in refusal(
        tar_of(tmp_path / "n.tar", [("a.txt", b"x")])
    )


def test_a_tar_of_images_and_nothing_else(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "in" / f"{number}.png", picture(number))
    with tarfile.open(tmp_path / "m.tar", "w") as tar:
        tar.add(tmp_path / "in", arcname=".")
    plan = plan_of(str(tmp_path / "m.tar"), tmp_path)
    assert sorted(row["image_column"] for row in work_rows(plan)) == ["./0.png", "./1.png", "./2.png"]
    assert len(set(hashes(loaded(plan)))) == 3


def test_damaged_tars(tmp_path: Path) -> None:
    whole = tar_of(tmp_path / "m.tar", [(f"{number}.png", picture(number)) for number in range(4)]).read_bytes()
    size = len(whole) // 4
    cases = {
        "a": whole[: 2 * size + 700],
        "b": whole[:100],
        "c": b"no tar at all" * 100,
        "d": whole[: size * 2].replace(b"1.png", b"\xff.png", 1),  # a header whose sum is wrong, in the middle
    }
    for name, content in cases.items():
        tar = write(tmp_path / f"{name}.tar", content)
        assert refusal(tar).startswith(f"{tar} is not a whole tar file, though named so ("), name
    assert "0 bytes" in refusal(write(tmp_path / "e.tar", b""))
    assert refusal(tar_of(tmp_path / "f.tar", [])) == f"the manifest has no rows: {tmp_path}/f.tar"
    assert "is a packed archive" in refusal(write(tmp_path / "g.tar.gz", b"x"))
    # Without the mark of its end a tar may be whole.
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    assert len(rows(read(write(tmp_path / "h.tar", whole[:end])))) == 4


def test_a_tar_that_was_replaced_is_seen(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "m.tar", [(f"{number}.png", picture(number)) for number in range(3)])
    plan = plan_of(str(tar), tmp_path)
    tar_of(tar, [(f"{number}.png", picture(number, 50)) for number in (2, 1, 0)])
    items = loaded(plan)
    assert all(isinstance(item, Failed) for item in items)
    assert {item.error_type for item in items if isinstance(item, Failed)} == {"ImageError"}
    place = Place(str(tar), "0.png", TAR_GROUP, 10**6)
    with pytest.raises(ImageError, match="has changed since it was planned"):
        EmbeddedImages(LOCAL).read(place)


def test_a_large_member_is_not_read(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "m.tar", [("a.png", picture(0))])
    (row,) = work_rows(plan_of(str(tar), tmp_path))
    place = Place(row["image_file"], row["image_column"], row["image_group"], row["image_row"])
    with pytest.raises(ImageError, match=r"a.png in .*m.tar is larger than the 1,000 bytes allowed"):
        EmbeddedImages(LOCAL, 1000).read(place)
    assert EmbeddedImages(LOCAL).read(place) == picture(0)


def test_images_of_a_tar_are_loaded_by_eights(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "m.tar", [(f"{number}.png", picture(0, 8)) for number in range(20)])
    assert [group["rows"][0].count("\n") + 1 for group in fed(plan_of(str(tar), tmp_path))] == [8, 8, 4]


def test_planning_a_local_tar_reads_its_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.transfers import Stream

    tar = tar_of(tmp_path / "m.tar", [(f"{number}.jpg", os.urandom(1_000_000)) for number in range(20)])
    asked: list[int] = []
    read_into = Stream.readinto

    def counted(stream: Stream, buffer: bytearray) -> int:
        asked.append(read := read_into(stream, buffer))
        return read

    monkeypatch.setattr(Stream, "readinto", counted)
    assert len(rows(read(tar))) == 20
    assert sum(asked) < 3_000_000  # twice 20 headers and 64 KiB behind each, of 20 MB


@pytest.mark.parametrize(("size", "requests"), [(30, 3), (400, 17)])
def test_of_a_store_an_image_is_two_requests_or_less_and_comes_once(
    tmp_path: Path, s3_server: S3Server, s3_bucket: str, size: int, requests: int
) -> None:
    with faulty_proxy(s3_server.endpoint) as proxy:
        storage = Storage({"s3": replace(s3_server, endpoint=proxy.endpoint).options()})
        tar = tar_of(tmp_path / "m.tar", [(f"{number}.png", picture(number, size)) for number in range(8)])
        storage.put_file(f"{s3_bucket}/m.tar", tar)
        plan = plan_of(f"{s3_bucket}/m.tar", tmp_path, storage=storage)
        proxy.bytes_answered, before = 0, proxy.counts["ok"]
        assert len(set(hashes(loaded(plan, storage)))) == 8
        assert proxy.counts["ok"] - before <= requests
        assert proxy.bytes_answered < tar.stat().st_size + 10_000


def test_the_first_shards_may_have_no_pictures(tmp_path: Path) -> None:
    tar_of(tmp_path / "0.tar", [])
    tar_of(tmp_path / "1.tar", [(f"{number:03d}.json", JSON) for number in range(150)])
    tar_of(tmp_path / "2.tar", [*((f"a{number:03d}.txt", b"x") for number in range(150)), ("z.jpg", picture(1))])
    tar_of(tmp_path / "3.tar", [("b.jpg", picture(2)), ("b.txt", b"y")])
    reader = read(tmp_path)
    table = rows(reader)
    assert table["__key__"].to_pylist() == ["z", "b"]
    assert table["txt"].to_pylist() == [None, "y"]
    assert reader.closing_notes() == [f"{tmp_path}: samples that have no picture and were left out: 300"]
    (tmp_path / "2.tar").unlink()
    (tmp_path / "3.tar").unlink()
    assert refusal(tmp_path) == f"{tmp_path}/1.tar holds no pictures: the members of its samples are json"


def test_no_picture_of_a_sample_is_left_out_without_a_word(tmp_path: Path) -> None:
    two = tar_of(tmp_path / "two.tar", [("0.jpg", picture(1)), ("0.png", picture(2)), ("1.png", picture(3))])
    reader = read(two)
    assert rows(reader)["image_column"].to_pylist() == ["0.jpg", "1.png"]
    assert reader.closing_notes() == [
        (
            f"{two}: of a sample's pictures jpg or png is animated; others that were left out: 1 (png 1); "
            "columns.bytes_column can name another"
        )
    ]
    # A name with a dot in it is no less a picture, where it is alone.
    members = [("0.jpg", picture(1)), ("0.mask.png", picture(2)), ("1.v2.jpg", picture(3)), ("2.mask.png", picture(4))]
    reader = read(tar_of(tmp_path / "odd.tar", members), identity="content")
    assert rows(reader)["image_column"].to_pylist() == ["0.jpg", "1.v2.jpg"]
    notes = reader.closing_notes()
    assert "samples that have no picture and were left out: 1" in notes[0]
    assert "others that were left out: 2 (mask.png 2)" in notes[1]
