"""Iceberg tables as manifests: the rows of one snapshot and no others."""

import json
import sys
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.table import Table
from pyiceberg.types import LongType

from actors.contracts import Loaded
from actors.storage import Storage
from pipelines.manifest.formats import Opener
from pipelines.manifest.image_uris import AllowedImages
from pipelines.manifest.tables import TableFile, Wanted
from tests import iceberg_tables as iceberg
from tests.pipelines.test_delta_tables import upload, uris
from tests.pipelines.test_embedded_images import loaded, picture, plan_of, table_of, work_rows
from tests.pipelines.test_growing_sources import day
from tests.pipelines.test_manifest import read, refusal, rows
from tests.servers import S3Server

LOCAL = Storage()


def files_of(table: str) -> dict[str, str]:
    wanted = Wanted(None, AllowedImages.beside([table], None, None))
    found = [later.opened() for later in Opener(LOCAL, "iceberg", None, None, wanted).files([table], {})]
    assert all(isinstance(file, TableFile) for file in found)
    return {file.uri: file.version for file in found if isinstance(file, TableFile)}


def metadata_of(table: Table) -> str:
    return str(table.metadata_location).removeprefix("file://")


def read_here(table: Path | str, **columns: Any) -> list[dict[str, Any]]:
    return sorted(rows(read(table, **columns)).drop_columns("problem").to_pylist(), key=itemgetter("image_uri"))


def test_partitions_renames_deletes_and_columns_that_came_later(tmp_path: Path) -> None:
    """Checked against what `pyiceberg` itself reads, after each change; and at a snapshot of the past."""
    with iceberg.catalog(tmp_path) as catalog:
        first = uris(0, 4, day=["x", "y", None, "x"], tags=[["p"], None, [], ["q", None]], n=[1, 2, 3, 4])
        table = iceberg.create(catalog, "t", first.rename_columns(["url", "day", "tags", "n"]))
        folder = tmp_path / "n/t"
        with table.update_spec() as spec:
            spec.add_identity("day")
        with table.update_schema() as schema:
            schema.rename_column("url", "image_uri")
            schema.rename_column("n", "m")
        with table.update_schema() as schema:
            schema.add_column("n", LongType())  # another column of an old name
            schema.delete_column("tags")
        table.append(uris(4, 3, day=["y", None, "z"], m=[5, 6, 7], n=[50, 60, 70]))
        with table.update_schema() as schema:
            schema.move_first("day")
        assert read_here(folder) == iceberg.read_by_the_library(metadata_of(table))
        assert [row["n"] for row in read_here(folder)].count(None) == 4
        table.delete("m == 2")
        assert read_here(folder) == iceberg.read_by_the_library(metadata_of(table))
        assert len(read_here(folder)) == 6
        # By the metadata file that a catalog names; at the first snapshot, in its own schema; by the name of a branch.
        assert len(read_here(metadata_of(table))) == 6
        snapshot = table.metadata.snapshots[0].snapshot_id
        past = read_here(folder, table_version=snapshot)
        assert [(row["image_uri"], row["n"]) for row in past] == [(f"/{n}.jpg", n + 1) for n in range(4)]
        assert read_here(folder, table_version="main") == read_here(folder)


def test_position_deletes_change_what_is_read_and_the_version_of_the_file(tmp_path: Path) -> None:
    with iceberg.catalog(tmp_path) as catalog:
        table = iceberg.create(catalog, "t", uris(0, 5, n=["a", "1", "b", "2", "c"]))
        (data,) = [task.file.file_path for task in table.scan().plan_files()]
        before = files_of(str(tmp_path / "n/t"))
        metadata = iceberg.delete_rows(table, data, [1, 2])
    assert read_here(tmp_path / "n/t") == iceberg.read_by_the_library(metadata)
    found = rows(read(tmp_path / "n/t", types={"n": "int64"}))
    assert found["n"].to_pylist() == [None, 2, None]
    file = data.removeprefix("file://")
    assert [text and text.partition(":")[0] for text in found["problem"].to_pylist()] == [
        f"{file}, row 1",
        None,
        f"{file}, row 5",
    ]
    after = files_of(str(tmp_path / "n/t"))
    assert before.keys() == after.keys()
    assert before != after


def test_images_in_an_iceberg_table(tmp_path: Path) -> None:
    data = table_of([picture(number, 8) for number in range(4)], caption=["a", "b", "c", "d"])
    with iceberg.catalog(tmp_path) as catalog:
        table = iceberg.create(catalog, "t", data)
        with table.update_schema() as schema:
            schema.rename_column("image", "photo")
        (file,) = [task.file.file_path for task in table.scan().plan_files()]
        iceberg.delete_rows(table, file, [2])
    plan = plan_of(str(tmp_path / "n/t"), tmp_path)
    assert [row["caption"] for row in work_rows(plan)] == ["a", "b", "d"]
    items = loaded(plan)
    assert all(isinstance(item, Loaded) for item in items), items
    assert len({item.row.columns["image_sha256"] for item in items}) == 3


def test_a_table_that_is_appended_to_makes_what_is_new(tmp_path: Path) -> None:
    with iceberg.catalog(tmp_path) as catalog:
        table, folder = iceberg.create(catalog, "t", uris(0, 4)), tmp_path / "n/t"
        assert day(folder, tmp_path) == (4, 0)
        before = files_of(str(folder))
        table.append(uris(4, 2))
        after = files_of(str(folder))
        assert before.items() < after.items()
        assert day(folder, tmp_path) == (2, 4)
        table.delete("image_uri == '/0.jpg'")
        assert day(folder, tmp_path) == (0, 5)


def test_which_metadata_is_the_newest(tmp_path: Path) -> None:
    with iceberg.catalog(tmp_path) as catalog:
        table = iceberg.create(catalog, "t", uris(0, 1))
        table.append(uris(1, 1))
    folder = tmp_path / "n/t/metadata"
    newest = Path(metadata_of(table))
    # What a commit that did not succeed leaves beside it.
    other = folder / (newest.name[:6] + "ffff.metadata.json")
    other.write_bytes(newest.read_bytes())
    message = refusal(tmp_path / "n/t")
    assert f"which version is the newest, only its catalog knows ({newest.name} and {other.name})" in message
    assert message.endswith(f"name the metadata file that the catalog has, manifest={folder}/{newest.name}")
    assert len(rows(read(newest))) == 2
    # Hadoop's tables say it themselves.
    (folder / "v1.metadata.json").write_bytes(newest.read_bytes())
    (folder / "version-hint.text").write_text("1")
    assert len(rows(read(tmp_path / "n/t"))) == 2


def test_versions_that_there_are_not(tmp_path: Path) -> None:
    with iceberg.catalog(tmp_path) as catalog:
        table = iceberg.create(catalog, "t", uris(0, 1))
    folder, newest = tmp_path / "n/t", table.metadata.current_snapshot_id
    assert refusal(folder, table_version=7) == (
        f"{folder}: columns.table_version is 7, and the table has no such snapshot; the newest is {newest}"
    )
    assert refusal(folder, table_version="june").endswith("is june, and the table's branches and tags are main")


def test_what_is_wrong_with_a_table(tmp_path: Path) -> None:
    with iceberg.catalog(tmp_path) as catalog:
        empty = catalog.create_table("n.empty", uris(0, 1).schema)
        table = iceberg.create(catalog, "t", uris(0, 1))
        (data,) = [task.file.file_path for task in table.scan().plan_files()]
        flink = iceberg.delete_rows(table, data, [0], by_equality=True)
    assert refusal(metadata_of(empty)) == f"the manifest has no rows: {metadata_of(empty)}"
    assert "the table has equality deletes, as Flink writes them" in refusal(flink)
    assert "columns.passthrough names caption" in refusal(metadata_of(table), passthrough=["caption"])
    assert "is no Iceberg table" in refusal(tmp_path / "n/t/data", format="iceberg")
    gone = Path(data.removeprefix("file://"))
    gone.unlink()
    assert f"the table's file {gone} is gone" in refusal(metadata_of(table), uri_column="image_uri")
    for name, content in (("broken", "{"), ("future", json.dumps({"format-version": 9}))):
        metadata = tmp_path / f"{name}/metadata/v1.metadata.json"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(content)
        assert refusal(tmp_path / name).startswith(f"{tmp_path}/{name} cannot be read as an Iceberg table (")
    for manifest in (tmp_path / "n/t/metadata").glob("*.avro"):
        manifest.unlink()
    assert "a file that the table's metadata names is gone" in refusal(metadata_of(table))


def test_fields_within_a_column_that_were_renamed_are_not_read_as_nothing(tmp_path: Path) -> None:
    with iceberg.catalog(tmp_path) as catalog:
        table = iceberg.create(catalog, "t", uris(0, 1, s=[[{"a": 1, "b": 2}]]))
        assert read_here(tmp_path / "n/t") == iceberg.read_by_the_library(metadata_of(table))
        with table.update_schema() as schema:
            schema.rename_column(("s", "element", "a"), "aa")
    assert "fields within column s were renamed" in refusal(metadata_of(table))
    assert len(rows(read(metadata_of(table), passthrough=[]))) == 1


def test_a_table_within_a_folder_and_a_missing_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with iceberg.catalog(tmp_path) as catalog:
        iceberg.create(catalog, "t", uris(0, 1))
    assert refusal(tmp_path / "n").startswith(f"{tmp_path}/n/t is an Iceberg table: name it as a source of its own")
    for image in (tmp_path / "n/a.png", tmp_path / "n/zz/a.png"):  # before the table's files, and after them
        image.parent.mkdir(exist_ok=True)
        image.write_bytes(picture(1))
        assert refusal(tmp_path / "n").startswith(f"{tmp_path}/n/t is an Iceberg table: name it as a source of its own")
        image.unlink()
    monkeypatch.setitem(sys.modules, "pyiceberg.table", None)
    assert refusal(tmp_path / "n/t").endswith("pip install 'stillreel[iceberg]'")


@pytest.mark.slow
def test_a_table_in_a_store(tmp_path: Path, s3_server: S3Server, s3_bucket: str, s3_storage: Storage) -> None:
    """Written there by the library; a copy, whose metadata names where it was written, is not read from there."""
    client = s3_server.options()
    properties = {
        "py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO",
        "s3.endpoint": client["client_kwargs"]["endpoint_url"],
        "s3.access-key-id": client["key"],
        "s3.secret-access-key": client["secret"],
    }
    with iceberg.catalog(s3_bucket, **properties) as catalog:
        table = iceberg.create(catalog, "t", pa.table({"path": ["a.jpg", "b.jpg"]}))
        folder = table.location()
        assert day(folder, tmp_path, storage=s3_storage) == (2, 0)
        table.append(pa.table({"path": ["c.jpg"]}))
        assert day(folder, tmp_path, storage=s3_storage) == (1, 2)
    found = rows(read(folder, storage=s3_storage))["image_uri"].to_pylist()
    assert sorted(found) == [f"{folder}/{name}.jpg" for name in "abc"]
    with iceberg.catalog(tmp_path) as catalog:
        iceberg.create(catalog, "t", uris(0, 1))
    upload(tmp_path / "n/t", f"{s3_bucket}/copy", s3_storage)
    message = refusal(f"{s3_bucket}/copy", storage=s3_storage)
    assert f"{s3_bucket}/copy: the table has a file elsewhere, {tmp_path}/n/t/metadata/snap-" in message
