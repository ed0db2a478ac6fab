"""Which files a folder or a glob stands for: links, what is left out and said so, and datasets of ours in it."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors import listings
from actors.errors import ManifestError, StorageError
from actors.generators.svd.settings import SvdParameters
from actors.storage import Storage
from pipelines.manifest.columns import ManifestColumns
from pipelines.manifest.own_datasets import OwnDatasets
from pipelines.manifest.read import read_manifest
from pipelines.manifest.reader import ManifestReader
from tests.hub_datasets import hub

LOCAL = Storage()
METADATA = pa.table({"clip_id": ["0"], "file_name": ["0.mp4"], "image_uri": ["/elsewhere/a.jpg"]})


def read(
    *sources: Path | str, output: Path | str | None = None, storage: Storage = LOCAL, **columns: object
) -> ManifestReader:
    return read_manifest(
        [str(source) for source in sources],
        columns=ManifestColumns.model_validate(columns),
        parameters=SvdParameters,
        storage=storage,
        output=None if output is None else str(output),
    )


def found(*sources: Path | str, **options: object) -> tuple[list[str], list[str]]:
    """The images' URIs, and the notes on what was left out."""
    reader = read(*sources, **options)  # type: ignore[arg-type]
    uris = [uri for chunk in reader.chunks() for uri in chunk["image_uri"].to_pylist()]
    return uris, reader.closing_notes()


def refusal(*sources: Path | str, **options: object) -> str:
    with pytest.raises(ManifestError) as refused:
        found(*sources, **options)
    return str(refused.value)


def touch(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return [str(folder / name) for name in names]


def dataset_at(root: Path, *, with_runs: bool = True) -> None:
    """What a run leaves, as far as a walk can see it."""
    touch(root, "README.md", "data/part-00000/0.mp4", "data/.DS_Store")
    pq.write_table(METADATA, root / "data/part-00000/metadata.parquet")
    (root / "failures").mkdir()
    pq.write_table(METADATA, root / "failures/part-00000.parquet")
    if with_runs:
        touch(root, "_lease/00000001.json", "_runs/20260101T000000Z-abcdef/config.yaml")


# --- What is left out ------------------------------------------------------------------------------------------------


def test_what_is_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    touch(tmp_path, "a.JPG", "b.dng", "c.DNG", "d.tar.gz", "noext", "e.2024-11-05 at 10.31", "x/.hidden.jpg", "e.txt")
    touch(tmp_path, "x/f.JPG.txt", "x/f.json", "_SUCCESS", "odd\nname.psd")
    uris, notes = found(tmp_path)
    assert uris == [f"{tmp_path}/a.JPG"]
    assert any("6 files of other kinds were left out (.dng 2, no extension 2, .tar.gz 1, .psd 1)" in n for n in notes)
    assert any("3 files of text or JSON beside others were left out (.txt 2, .json 1)" in note for note in notes)


def test_nothing_usable_says_what_is_there(tmp_path: Path) -> None:
    touch(tmp_path, "a.dng", "b.dng", "c.json")
    message = refusal(tmp_path)
    assert message.startswith(f"the folder {tmp_path} holds neither images nor manifests (known are .parquet,")
    assert f"; 2 files of other kinds were left out (.dng 2), e.g. {tmp_path}/a.dng" in message
    assert message.endswith("set columns.format=json, or text, to read such files")
    (tmp_path / "empty").mkdir()
    assert "holds neither images nor manifests" in refusal(tmp_path / "empty")
    assert "is a packed archive" in refusal(*touch(tmp_path, "shard.tar.gz"))
    assert "is a packed archive" in refusal(*touch(tmp_path, "photos.ZIP"))


def test_files_without_an_extension_are_read_where_a_pattern_and_the_format_say_so(tmp_path: Path) -> None:
    (tmp_path / "part-00000").write_text("uri\n/a.jpg\n")
    (tmp_path / "README.md").write_text("x")
    assert found(f"{tmp_path}/*", format="csv")[0] == ["/a.jpg"]
    assert "holds no csv file; 2 files" in refusal(tmp_path, format="csv")


def test_the_table_that_spark_writes(tmp_path: Path) -> None:
    table = tmp_path / "table.parquet"
    touch(table, "_SUCCESS", "._SUCCESS.crc", ".part-00000-c000.snappy.parquet.crc", "_temporary/0/part-9.parquet")
    for number in range(2):
        pq.write_table(pa.table({"uri": [f"/{number}.jpg"]}), table / f"part-0000{number}-c000.snappy.parquet")
    assert found(table)[0] == ["/0.jpg", "/1.jpg"]
    lines = tmp_path / "table.json"
    touch(lines, "_SUCCESS")
    (lines / "part-00000-c000.json").write_text('{"uri": "/2.jpg"}\n{"uri": "/3.jpg"}\n')
    assert found(lines)[0] == ["/2.jpg", "/3.jpg"]


# --- Links -----------------------------------------------------------------------------------------------------------


def test_linked_folders_are_followed_and_each_file_comes_once(tmp_path: Path) -> None:
    pics, elsewhere = tmp_path / "pics", tmp_path / "elsewhere"
    touch(pics, "a.jpg", "sub/b.jpg", "sub/.cache/c.jpg")
    touch(elsewhere, "z.jpg", "deep/y.jpg")
    links = {"0link": elsewhere, "again": elsewhere, "loop": pics, "sub/up": tmp_path, "sub2": pics / "sub"}
    links |= {"self": pics / "self", "deeper": elsewhere / "deep", "kept.jpg": pics / "sub/.cache/c.jpg"}
    links |= {
        "same.jpg": pics / "a.jpg",
        "out1.jpg": elsewhere / "z.jpg",
        "gone.jpg": tmp_path / "none",
        "gone": tmp_path / "none",
    }
    for name, target in links.items():
        (pics / name).symlink_to(target)
    (elsewhere / "back").symlink_to(pics)
    names = ["a.jpg", "gone.jpg", "kept.jpg", "out1.jpg", "sub/b.jpg", "0link/deep/y.jpg"]
    uris, notes = found(pics)
    assert uris == [str(pics / name) for name in names]
    assert any("8 files met once more by a link were left out (no extension 6, .jpg 2)" in note for note in notes), (
        notes
    )
    assert any("2 files that are links to nothing were left out (no extension 2)" in note for note in notes), notes
    assert found(f"{pics}/**/*.jpg")[0] == uris
    assert found(f"{pics}/**.jpg")[0] == [str(pics / f"{name}.jpg") for name in ("a", "gone", "kept", "out1")]
    assert found(f"{pics}/*link/*.jpg")[0] == [f"{pics}/0link/z.jpg"]
    assert found(f"{pics}/s*.jpg")[0] == [f"{pics}/same.jpg"]  # what it leads to is not meant by the pattern


def test_only_the_folders_that_a_glob_means_are_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/x.jpg", "b/x.jpg", "b/c/x.jpg")
    looked: list[str] = []

    def watched(filesystem: object, path: str) -> list[tuple[str, listings.Kind]]:
        looked.append(path.removeprefix(str(tmp_path)))
        return listings.entries(filesystem, path)

    monkeypatch.setattr("actors.folders.entries", watched)
    assert found(f"{tmp_path}/[b]/*.jpg")[0] == [f"{tmp_path}/b/x.jpg"]
    assert looked == ["", "/b"]
    assert found(f"{tmp_path}/b/**")[0] == [f"{tmp_path}/b/x.jpg", f"{tmp_path}/b/c/x.jpg"]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "b.jpg")
    uris, notes = found(tmp_path)
    assert uris == [f"{tmp_path}/a.jpg"]
    assert notes == [f"{tmp_path}: 1 file being devices, pipes or sockets was left out (.jpg 1), e.g. {tmp_path}/b.jpg"]


# --- Datasets of ours ------------------------------------------------------------------------------------------------


def test_the_output_is_left_out_of_the_folder_that_it_lies_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pics = tmp_path / "pics"
    touch(pics, "0.jpg", "z/1.jpg")
    dataset_at(pics / "videos")
    dataset_at(pics / "z" / "other")
    (tmp_path / "real").mkdir()
    dataset_at(tmp_path / "real" / "set")
    (pics / "linked").symlink_to(tmp_path / "real" / "set")
    (pics / "part").symlink_to(tmp_path / "real" / "set" / "data" / "part-00000")
    (pics / "records.parquet").symlink_to(tmp_path / "real/set/data/part-00000/metadata.parquet")
    monkeypatch.chdir(pics)
    for source in (str(pics), ".", f"{pics}/../pics/", f"file://{pics}", f"{pics}/**/*"):
        for output in (str(pics / "videos"), "videos/", f"{pics}/z/../videos", str(pics / "linked")):
            uris, notes = found(source, output=output)
            assert uris == [f"{pics}/0.jpg", f"{pics}/z/1.jpg"], (source, output)
            left_out = [note.partition(": ")[2] for note in notes if "dataset of clips" in note]
            roots = [f"{pics}/videos", f"{pics}/z/other", f"{tmp_path}/real/set", f"{pics}/linked"]
            assert sorted(left_out) == sorted(f"the dataset of clips at {root} was left out" for root in roots)


def test_a_copied_dataset_is_known_by_its_records(tmp_path: Path) -> None:
    touch(tmp_path, "0.jpg", "data/1.jpg", "failures/2.jpg")
    dataset_at(tmp_path / "copy", with_runs=False)
    assert found(tmp_path)[0] == [f"{tmp_path}/{name}.jpg" for name in ("0", "data/1", "failures/2")]


def test_a_dataset_is_not_its_own_manifest(tmp_path: Path) -> None:
    output = tmp_path / "videos"
    touch(tmp_path, "0.jpg")
    dataset_at(output)
    (tmp_path / "link").symlink_to(output / "data")
    inside = (output, f"{output}/data", f"{output}/data/part-00000/metadata.parquet", f"{output}/data/*/*.parquet")
    for source in (*inside, tmp_path / "link", f"{tmp_path}/link/part-00000"):
        assert f"manifest={source} is, or lies in, the dataset that this run writes to" in refusal(
            source, output=output
        )
    # Another dataset's records are a list of images like any other.
    assert found(f"{output}/data/*/*.parquet", output=tmp_path / "new")[0] == ["/elsewhere/a.jpg"]
    assert found(output / "data", output=tmp_path / "new")[0] == ["/elsewhere/a.jpg"]
    assert f"is a dataset of clips: to animate its images anew, name its records, manifest={output}/data/*/" in (
        refusal(output, output=tmp_path / "new")
    )
    # A list beside the dataset's own folders is none of it.
    (output / "list.csv").write_text("uri\n/b.jpg\n")
    assert found(output / "list.csv", output=output)[0] == ["/b.jpg"]


def test_a_folder_of_pictures_in_the_working_folder_may_feed_it(tmp_path: Path) -> None:
    touch(tmp_path, "pics/0.jpg")
    assert found(tmp_path / "pics", output=tmp_path)[0] == [f"{tmp_path}/pics/0.jpg"]
    # Unless it is where the dataset keeps its clips.
    touch(tmp_path, "data/0.jpg")
    assert "is, or lies in, the dataset that this run writes to" in refusal(tmp_path / "data", output=tmp_path)


def test_a_folder_at_the_root_of_the_disk_is_not_that_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_at(tmp_path)
    monkeypatch.chdir(tmp_path)
    OwnDatasets(".", LOCAL).refuse("/data/pics", "/data/pics", is_folder=False)


# --- Shards of img2dataset, saved datasets ---------------------------------------------------------------------------


def test_lists_beside_shards_are_not_the_manifest(tmp_path: Path) -> None:
    for number in ("00000", "00001"):
        pq.write_table(pa.table({"url": ["https://host.invalid/a.jpg"]}), tmp_path / f"{number}.parquet")
        touch(tmp_path, f"{number}/000000000.jpg", f"{number}/000000000.txt", f"{number}/000000000.json")
        touch(tmp_path, f"{number}_stats.json")
    uris, notes = found(tmp_path)
    assert uris == [f"{tmp_path}/{number}/000000000.jpg" for number in ("00000", "00001")]
    assert any("2 files listing what is in the shards beside them were left out (.parquet 2)" in n for n in notes)
    assert any("2 files describing what is beside them were left out (.json 2)" in note for note in notes)
    assert any("4 files of text or JSON beside others were left out (.json 2, .txt 2)" in note for note in notes)
    reader = read(tmp_path, format="parquet")
    assert sum(len(chunk) for chunk in reader.chunks()) == 2


def test_whether_shards_are_beside_lists_is_asked_once_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    call = Storage._call

    def count(storage: Storage, done: str, uri: str, operation: Callable[[object, str], object]) -> object:
        asked.append(f"{done} {uri}")
        return call(storage, done, uri, operation)

    monkeypatch.setattr(Storage, "_call", count)
    for number in range(20):
        pq.write_table(pa.table({"url": ["/a.jpg"]}), tmp_path / f"{number:04d}.parquet")
    assert found(tmp_path) == (["/a.jpg"] * 20, [])
    of_none = [one for one in asked if one.endswith((".tar", *(f"/{number:04d}" for number in range(20))))]
    assert of_none == []
    assert asked.count(f"listed {tmp_path}") < 5


def test_on_a_store_the_walk_goes_past_the_output(s3_storage: Storage, s3_bucket: str, tmp_path: Path) -> None:
    pq.write_table(METADATA, tmp_path / "m.parquet")
    root = f"{s3_bucket}/pics/videos"
    for name in ("a.jpg", "z.JPEG", "zz.dng"):
        s3_storage.put_bytes(f"{s3_bucket}/pics/{name}", b"x")
    for number in range(30):  # more than a page of the listing
        s3_storage.put_bytes(f"{root}/data/part-00000/{number:02d}.mp4", b"x")
    for name in ("README.md", "_lease/00000001.json", "_runs/r/config.yaml"):
        s3_storage.put_bytes(f"{root}/{name}", b"x")
    s3_storage.put_file(f"{root}/data/part-00000/metadata.parquet", tmp_path / "m.parquet")
    for output in (root, f"{root}/", root.replace("s3://", "s3a://"), None):
        for source in (f"{s3_bucket}/pics", f"{s3_bucket}/pics/", f"{s3_bucket}/pics/**/*"):
            uris, notes = found(source, output=output, storage=s3_storage)
            assert uris == [f"{s3_bucket}/pics/a.jpg", f"{s3_bucket}/pics/z.JPEG"]
            assert f"{source}: the dataset of clips at {root} was left out" in notes
            assert any("1 file of other kinds was left out (.dng 1)" in note for note in notes)
    for source in (root, f"{root}/data/part-00000/metadata.parquet"):
        assert "the dataset that this run writes to" in refusal(source, output=f"{root}/", storage=s3_storage)


# --- The Hub ---------------------------------------------------------------------------------------------------------


def test_a_manifest_on_the_hub(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    touch(folder, ".gitattributes", "README.md", "images/cat/a.jpg", "images/b.PNG", "images/c.dng")
    (folder / "data").mkdir()
    for number in range(2):
        table = pa.table({"file_name": [f"../images/{number}.jpg"], "n": [number]})
        pq.write_table(table, folder / "data" / f"train-0000{number}-of-00002.parquet")
    with hub(folder, "org/name") as server:
        storage = Storage({"hf": {"endpoint": server.endpoint, "token": False}}, tries=1)
        for root in ("hf://datasets/org/name", "hf://datasets/org/name@main", "hf://datasets/org/name@refs/pr/1"):
            images = [f"{root}/images/b.PNG", f"{root}/images/cat/a.jpg"]
            uris, notes = found(f"{root}/images", storage=storage)
            assert uris == images
            assert any("1 file of other kinds was left out (.dng 1)" in note for note in notes)
            assert found(f"{root}/**/*.jpg", storage=storage)[0] == images[1:]
            rows = [f"{root}/images/{number}.jpg" for number in range(2)]
            for source in (f"{root}/data", f"{root}/data/*.parquet"):
                assert found(source, storage=storage)[0] == rows
            assert found(f"{root}/data/train-00001-of-00002.parquet", storage=storage)[0] == rows[1:]
            assert storage.read_bytes(images[0], max_bytes=10) == b"x"
        for missing in ("hf://datasets/org/name/none.csv", "hf://datasets/org/other/m.csv"):
            assert refusal(missing, storage=storage) == f"{missing} does not exist"
            with pytest.raises(StorageError, match="does not exist; if it is private or gated, set HF_TOKEN"):
                storage.read_bytes(missing)
        with pytest.raises(StorageError, match=r"makes a commit of each file.*write to a local folder.*upload-large"):
            storage.create_bytes("hf://datasets/org/name/_lease/00000001.json", b"x")
        assert not [line for line in server.asked if line.startswith("POST")]
