"""Delta tables as manifests: the rows of one version and no others, from files that are opened when they are read."""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from actors.contracts import Loaded
from actors.errors import ManifestError
from actors.storage import Storage
from pipelines.manifest.files import ManifestFile
from pipelines.manifest.formats import Opener
from pipelines.manifest.image_uris import AllowedImages
from pipelines.manifest.tables import TableFile, Wanted
from tests import delta_tables as by_hand
from tests.pipelines.test_embedded_images import loaded, picture, plan_of, table_of, work_rows
from tests.pipelines.test_growing_sources import day
from tests.pipelines.test_manifest import read, refusal, rows
from tests.servers import S3Server

LOCAL = Storage()
FIELDS = [by_hand.field("image_uri", "string"), by_hand.field("n", "long")]


def uris(first: int, count: int, **columns: Any) -> pa.Table:
    return pa.table({"image_uri": [f"/{number}.jpg" for number in range(first, first + count)], **columns})


def files_of(table: Path | str, version: int | None = None, storage: Storage = LOCAL) -> list[TableFile]:
    wanted = Wanted(version, AllowedImages.beside([str(table)], None, None))
    found: list[ManifestFile] = [
        later.opened() for later in Opener(storage, "delta", None, None, wanted).files([str(table)], {})
    ]
    assert all(isinstance(file, TableFile) for file in found)
    return found  # type: ignore[return-value]


def read_by_the_library(table: Path) -> list[dict[str, Any]]:
    return sorted(pa.table(DeltaTable(table).scan()).to_pylist(), key=str)


def read_here(table: Path) -> list[dict[str, Any]]:
    return sorted(rows(read(table)).drop_columns("problem").to_pylist(), key=str)


# --- What is read ----------------------------------------------------------------------------------------------------


def test_partitions_deletes_updates_and_columns_that_came_later(tmp_path: Path) -> None:
    """Checked against what `deltalake` itself reads, after each change; and at a version of the past."""
    table = tmp_path / "t"
    days = ["mon day/1", "é%20=", None, "mon day/1"]
    write_deltalake(table, uris(0, 4, day=days, n=pa.array([1, 2, 3, 4], pa.int32())), partition_by=["day", "n"])
    first = read_here(table)
    assert first == read_by_the_library(table)
    write_deltalake(table, uris(4, 2, new=[1.5, 2.5]), mode="append", schema_mode="merge")
    DeltaTable(table).delete("image_uri = '/0.jpg'")
    DeltaTable(table).update(predicate="image_uri = '/5.jpg'", updates={"new": "7.0"})
    assert read_here(table) == read_by_the_library(table)
    assert len(read_here(table)) == 5
    assert rows(read(table)).schema.field("n").type == pa.int32()
    DeltaTable(table).optimize.compact()
    DeltaTable(table).create_checkpoint()
    assert read_here(table) == read_by_the_library(table)
    assert sorted(rows(read(table, table_version=0)).drop_columns("problem").to_pylist(), key=str) == first


def test_deletion_vectors_and_renamed_columns(tmp_path: Path) -> None:
    table = tmp_path / "t"
    fields = [
        by_hand.field("image_uri", "string", "col-1"),
        by_hand.field("n", "long", "col-2"),
        by_hand.field("day", "date", "col-3"),
        by_hand.field("tags", {"type": "array", "elementType": "string", "containsNull": True}, "col-4"),
    ]
    first = pa.table(
        {"col-1": [f"/{n}.jpg" for n in range(5)], "col-2": range(5), "col-4": [["x"], None, [], ["y"], None]}
    )
    actions = [
        by_hand.add(table, "a.parquet", first, partition={"col-3": "2026-01-02"}, deleted=[1, 4]),
        by_hand.add(table, "b.parquet", pa.table({"col-1": ["/5.jpg"]}), partition={"col-3": "2026-01-03"}),
    ]
    by_hand.commit(
        table,
        0,
        actions,
        fields=fields,
        features=["deletionVectors", "columnMapping"],
        configuration={"delta.columnMapping.mode": "name"},
        partition=["day"],
    )
    found = rows(read(table))
    assert found["image_uri"].to_pylist() == ["/0.jpg", "/2.jpg", "/3.jpg", "/5.jpg"]
    assert found["n"].to_pylist() == [0, 2, 3, None]
    assert read_here(table) == read_by_the_library(table)
    # The rows of messages are those of the file.
    bad = rows(read(table, types={"tags": "int64"}, passthrough=["tags"]))["problem"].to_pylist()
    assert [text and text.partition(": ")[0] for text in bad] == [
        f"{table}/a.parquet, row 1",
        f"{table}/a.parquet, row 3",
        f"{table}/a.parquet, row 4",
        None,
    ]


def test_fields_within_a_column_that_were_renamed_are_not_read_as_nothing(tmp_path: Path) -> None:
    table = tmp_path / "t"
    inner = {"type": "struct", "fields": [by_hand.field("x", "long", "col-9")]}
    fields = [by_hand.field("image_uri", "string", "col-1"), by_hand.field("s", inner, "col-2")]
    data = pa.table({"col-1": ["/a.jpg"], "col-2": [{"col-9": 1}]})
    by_hand.commit(
        table,
        0,
        [by_hand.add(table, "a.parquet", data)],
        fields=fields,
        features=["columnMapping"],
        configuration={"delta.columnMapping.mode": "name"},
    )
    assert f"{table}: fields within column s were renamed, which is not followed here" in refusal(table)
    assert rows(read(table, passthrough=[]))["image_uri"].to_pylist() == ["/a.jpg"]


def test_relative_uris_start_from_the_table(tmp_path: Path) -> None:
    table = pa.table({"file_name": ["a.jpg", "../b.jpg"], "day": ["x", "y"]})
    write_deltalake(tmp_path / "t", table, partition_by=["day"])
    assert sorted(rows(read(tmp_path / "t"))["image_uri"].to_pylist()) == [f"{tmp_path}/b.jpg", f"{tmp_path}/t/a.jpg"]


@pytest.mark.parametrize("is_deleted_from", [False, True])
def test_images_in_a_delta_table(tmp_path: Path, is_deleted_from: bool) -> None:
    table = tmp_path / "t"
    data = table_of([picture(number, 8) for number in range(4)], caption=["a", "b", "c", "d"])
    if is_deleted_from:
        image = {"type": "struct", "fields": [by_hand.field("bytes", "binary"), by_hand.field("path", "string")]}
        fields = [by_hand.field("image", image), by_hand.field("caption", "string")]
        actions = [by_hand.add(table, "a.parquet", data, deleted=[0, 2])]
        by_hand.commit(table, 0, actions, fields=fields, features=["deletionVectors"])
    else:
        write_deltalake(table, data)
    expected = ["b", "d"] if is_deleted_from else ["a", "b", "c", "d"]
    plan = plan_of(str(table), tmp_path)
    assert [row["caption"] for row in work_rows(plan)] == expected
    items = loaded(plan)
    assert all(isinstance(item, Loaded) for item in items), items
    found = [f"sha256:{item.row.columns['image_sha256']}" for item in items]
    assert found == rows(read(table, identity="content"))["image_identity"].to_pylist()
    assert len(set(found)) == len(expected)


# --- Versions, and what is new ---------------------------------------------------------------------------------------


def test_a_table_is_listed_without_opening_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file keeps its name and its version while nothing of it changes."""
    table = tmp_path / "t"
    write_deltalake(table, uris(0, 3))
    opened: list[str] = []
    for how in ("open", "open_exact"):
        real = getattr(Storage, how)

        def counted(storage: Storage, uri: str, real: Any = real) -> Any:
            opened.append(uri)
            return real(storage, uri)

        monkeypatch.setattr(Storage, how, counted)
    before = {file.uri: file.version for file in files_of(table)}
    write_deltalake(table, uris(3, 2), mode="append")
    after = {file.uri: file.version for file in files_of(table)}
    assert len(before) == 1
    assert len(after) == 2
    assert before.items() <= after.items()
    assert opened == []
    # The newest file comes last.
    assert next(iter(after)) in before
    DeltaTable(table).delete("image_uri = '/0.jpg'")
    assert not before.keys() & {file.uri for file in files_of(table)}


def test_a_deletion_vector_and_a_new_column_change_the_version_of_a_file(tmp_path: Path) -> None:
    table = tmp_path / "t"
    data = uris(0, 3, n=[1, 2, 3])
    begin: dict[str, Any] = {"fields": FIELDS, "features": ["deletionVectors"]}
    by_hand.commit(table, 0, [by_hand.add(table, "a.parquet", data)], **begin)
    versions = [files_of(table)[0].version]
    vector: dict[str, Any] = {}
    for number, deleted in enumerate(([0], [0, 2]), 1):
        gone = {"remove": {"path": "a.parquet", "dataChange": True, "deletionTimestamp": 9} | vector}
        added = by_hand.add(table, "a.parquet", data, deleted=deleted)
        vector = {"deletionVector": added["add"]["deletionVector"]}
        by_hand.commit(table, number, [gone, added])
        versions.append(files_of(table)[0].version)
    assert len(set(versions)) == 3
    by_hand.commit(table, 3, [by_hand.add(table, "b.parquet", data)])
    assert {file.uri: file.version for file in files_of(table)}[f"{table}/a.parquet"] == versions[2]
    by_hand.commit(table, 4, [], fields=[*FIELDS, by_hand.field("caption", "string")], features=["deletionVectors"])
    assert not {file.version for file in files_of(table)} & set(versions)


def test_a_table_that_is_appended_to_makes_what_is_new(tmp_path: Path) -> None:
    table = tmp_path / "t"
    write_deltalake(table, uris(0, 4))
    assert day(table, tmp_path) == (4, 0)
    write_deltalake(table, uris(4, 2), mode="append")
    assert day(table, tmp_path) == (2, 4)
    DeltaTable(table).delete("image_uri = '/0.jpg'")  # its clip stays, and is no error
    DeltaTable(table).optimize.compact()
    assert day(table, tmp_path) == (0, 5)
    # As it was at first: nothing is made again.
    assert day(table, tmp_path, "columns.table_version=0") == (0, 4)


def test_versions_that_there_are_not(tmp_path: Path) -> None:
    table = tmp_path / "t"
    write_deltalake(table, uris(0, 1))
    assert refusal(table, table_version=7) == f"{table}: columns.table_version is 7, and the newest version is 0"
    assert "and the versions of a Delta table are whole numbers" in refusal(table, table_version="v1")
    assert "columns.table_version is set, and the manifest is no table" in refusal(
        next(table.glob("*.parquet")), table_version=0
    )
    assert "the manifest has several tables" in refusal(table, table, table_version=0)


# --- What is wrong with a table --------------------------------------------------------------------------------------


def test_no_table(tmp_path: Path) -> None:
    pq.write_table(uris(0, 1), tmp_path / "a.parquet")
    assert refusal(tmp_path, format="delta") == (
        f"{tmp_path} is no Delta table: there is no log of versions in its _delta_log"
    )
    assert refusal(tmp_path / "none", format="delta") == f"{tmp_path}/none does not exist"
    assert "a table is a folder" in refusal(f"{tmp_path}/*", format="delta")
    (tmp_path / "_delta_log").mkdir()
    assert "is no Delta table" in refusal(tmp_path)
    (tmp_path / "_delta_log/00000000000000000000.json").write_text('{"add": 7}')
    assert refusal(tmp_path).startswith(f"{tmp_path} cannot be read as a Delta table (")


def test_files_of_a_table_by_their_whole_path(tmp_path: Path) -> None:
    """As in a shallow clone of another table of this machine."""
    other, table = tmp_path / "other, of 100%", tmp_path / "t"
    data = by_hand.add(other, "a b.parquet", uris(0, 2, n=[1, 2]), deleted=[0])
    data["add"]["path"] = (other / "a b.parquet").as_uri()
    by_hand.commit(table, 0, [data], fields=FIELDS, features=["deletionVectors"])
    assert rows(read(table))["n"].to_pylist() == [2]


def test_a_table_without_rows(tmp_path: Path) -> None:
    DeltaTable.create(tmp_path / "t", uris(0, 1).schema)
    assert refusal(tmp_path / "t") == f"the manifest has no rows: {tmp_path}/t"


@pytest.mark.parametrize("feature", ["futureFeature", "variantType"])
def test_what_the_table_needs_and_is_not_known_is_named(tmp_path: Path, feature: str) -> None:
    table = tmp_path / "t"
    by_hand.commit(table, 0, [by_hand.add(table, "a.parquet", uris(0, 1, n=[1]))], fields=FIELDS, features=[feature])
    message = refusal(table)
    assert message.startswith(str(table))
    assert feature in message


def test_files_that_were_vacuumed(tmp_path: Path) -> None:
    table = tmp_path / "t"
    write_deltalake(table, uris(0, 2))
    (gone,) = table.glob("*.parquet")
    write_deltalake(table, uris(2, 2), mode="overwrite")
    DeltaTable(table).vacuum(0, enforce_retention_duration=False, dry_run=False)
    assert not gone.exists()
    assert len(rows(read(table))) == 2
    assert refusal(table, table_version=0, uri_column="image_uri") == (
        f"{table}: the table's file {gone} is gone, as after a clean-up of old versions: read a newer version of the "
        "table, or restore the file"
    )


def test_a_file_that_is_not_what_the_table_says(tmp_path: Path) -> None:
    table = tmp_path / "t"
    by_hand.commit(table, 0, [by_hand.add(table, "a.parquet", uris(0, 1, n=["x"]))], fields=FIELDS)
    assert refusal(table).startswith(f"{table}/a.parquet: column n is string, which is not int64, as in the table")
    assert "columns.passthrough names caption" in refusal(table, passthrough=["caption"])
    assert "has no column with the images' URIs" in refusal(table_of_numbers(tmp_path / "n"))


def table_of_numbers(folder: Path) -> Path:
    write_deltalake(folder, pa.table({"n": [1]}))
    return folder


def test_a_table_within_a_folder_is_not_read_as_loose_files(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "lists/t", uris(0, 1))
    assert refusal(tmp_path).startswith(f"{tmp_path}/lists/t is a Delta table: name it as a source of its own")
    assert len(rows(read(tmp_path, format="parquet"))) == 1
    assert len(rows(read(f"{tmp_path}/lists/t/*.parquet"))) == 1


@pytest.mark.parametrize(("image", "partition_by"), [("a.png", []), ("zz/a.png", ["day"])])
def test_a_table_beside_images_is_named_and_not_one_of_its_files(
    tmp_path: Path, image: str, partition_by: list[str]
) -> None:
    (tmp_path / image).parent.mkdir(exist_ok=True)
    (tmp_path / image).write_bytes(picture(1))
    write_deltalake(tmp_path / "lists/t", uris(0, 1, day=["monday"]), partition_by=partition_by)
    assert refusal(tmp_path).startswith(f"{tmp_path}/lists/t is a Delta table: name it as a source of its own")
    assert len(rows(read(tmp_path, format="images"))) == 1


def test_a_missing_reader_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_deltalake(tmp_path / "t", uris(0, 1))
    monkeypatch.setitem(sys.modules, "deltalake", None)
    message = refusal(tmp_path / "t")
    assert message.startswith(f"{tmp_path}/t is a Delta table, for which a reader is not installed")
    assert message.endswith("pip install 'stillreel[delta]'")


def test_a_table_somewhere_else_names_only_files_of_its_own_place() -> None:
    wanted = Wanted(None, AllowedImages.beside(["s3://b/t"], None, None, prefixes=["s3://c/shared"]))
    wanted.check_place("s3://b/t", "s3://b/other/a.parquet")
    wanted.check_place("s3://b/t", "s3://c/shared/a.parquet")
    wanted.check_place("/t", "/anywhere/a.parquet")
    for place in ("s3://c/a.parquet", "/etc/a.parquet", "file:///etc/a.parquet"):
        with pytest.raises(ManifestError, match=r"the table has a file elsewhere"):
            wanted.check_place("s3://b/t", place)


# --- In a store ------------------------------------------------------------------------------------------------------


def upload(folder: Path, uri: str, storage: Storage) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            storage.put_file(f"{uri}/{path.relative_to(folder)}", path)


@pytest.mark.slow
def test_a_table_in_a_store(tmp_path: Path, s3_server: S3Server, s3_bucket: str, s3_storage: Storage) -> None:
    """The settings of the store reach the library, under either of S3's schemes; deletion vectors are found there."""
    local, uri = tmp_path / "local", f"{s3_bucket}/lists/t"
    write_deltalake(local, pa.table({"path": ["a.jpg", "b.jpg"], "day": ["mon day", "é%"]}), partition_by=["day"])
    upload(local, uri, s3_storage)
    found = rows(read(uri, storage=s3_storage))
    assert sorted(found["image_uri"].to_pylist()) == [f"{uri}/a.jpg", f"{uri}/b.jpg"]
    assert day(uri, tmp_path, storage=s3_storage) == (2, 0)
    write_deltalake(local, pa.table({"path": ["c.jpg"], "day": ["tue"]}), mode="append")
    upload(local, uri, s3_storage)
    assert day(uri, tmp_path, storage=s3_storage) == (1, 2)
    assert len(rows(read(uri.replace("s3://", "s3a://"), storage=s3_storage))) == 3

    data = uris(0, 3, n=[1, 2, 3])
    by_hand.commit(
        tmp_path / "dv",
        0,
        [by_hand.add(tmp_path / "dv", "a b.parquet", data, deleted=[1])],
        fields=FIELDS,
        features=["deletionVectors"],
    )
    upload(tmp_path / "dv", f"{uri}/dv", s3_storage)
    assert rows(read(f"{uri}/dv", storage=s3_storage, passthrough=["n"], schemes=["s3", "file"]))["n"].to_pylist() == [
        1,
        3,
    ]

    wrong = Storage({"s3": s3_server.options(secret="a-wrong-secret-000")}, tries=1)
    message = refusal(uri, storage=wrong, format="delta")
    assert "a-wrong-secret-000" not in message


def test_options_that_the_reader_would_ignore_are_an_error(tmp_path: Path) -> None:
    storage = Storage({"s3": {"endpoint_url": "http://127.0.0.1:1", "profile": "mine"}}, tries=1)
    wanted = Wanted(None, AllowedImages.beside(["s3://b/t"], None, None))
    with pytest.raises(Exception, match=r"storage.options.s3.profile means nothing to the reader of this table"):
        list(Opener(storage, "delta", None, None, wanted).files(["s3://b/t"], {}))
