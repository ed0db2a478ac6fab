"""Lance tables as manifests: the rows of one version, and images that are read from where they are."""

import datetime as dt
import sys
from operator import itemgetter
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from lance.blob import Blob, blob_array, blob_field

from actors.contracts import Failed, Loaded
from actors.storage import Storage
from pipelines.manifest.formats import Opener
from pipelines.manifest.image_uris import AllowedImages
from pipelines.manifest.tables import TableFile, Wanted
from tests.pipelines.test_delta_tables import upload, uris
from tests.pipelines.test_embedded_images import loaded, picture, plan_of, table_of, work_rows
from tests.pipelines.test_growing_sources import day
from tests.pipelines.test_manifest import read, refusal, rows

LOCAL = Storage()


def files_of(table: Path) -> dict[str, str]:
    wanted = Wanted(None, AllowedImages.beside([str(table)], None, None))
    found = list(Opener(LOCAL, "lance", None, None, wanted).opened([str(table)]))
    assert all(isinstance(file, TableFile) for file in found)
    return {file.uri: file.version for file in found if isinstance(file, TableFile)}


def read_here(table: Path, **columns: Any) -> list[dict[str, Any]]:
    return sorted(rows(read(table, **columns)).drop_columns("problem").to_pylist(), key=itemgetter("image_uri"))


def read_by_the_library(table: Path) -> list[dict[str, Any]]:
    return sorted(lance.dataset(table).to_table().to_pylist(), key=itemgetter("image_uri"))


def test_deletes_updates_renames_and_columns_that_came_later(tmp_path: Path) -> None:
    """Checked against what `lance` itself reads, after each change; and at a version of the past, and a tag."""
    table = tmp_path / "t.lance"
    first = uris(0, 5, n=[1, 2, 3, 4, 5], kind=pa.array(["a", "b", "a", None, "b"]).dictionary_encode())
    dataset = lance.write_dataset(first, table, max_rows_per_file=2)
    dataset.tags.create("june", dataset.version)
    assert read_here(table) == read_by_the_library(table)
    dataset.delete("n = 2")
    dataset.update({"n": "40"}, where="n = 4")
    dataset.add_columns({"m": "n * 2"})
    dataset.alter_columns({"path": "n", "name": "number"})
    lance.write_dataset(pa.table({"image_uri": ["/9.jpg"], "number": [9]}), table, mode="append")
    assert read_here(table) == read_by_the_library(table)
    assert len(read_here(table)) == 5
    for version in (1, "june"):
        assert [row["n"] for row in read_here(table, table_version=version)] == [1, 2, 3, 4, 5]
    lance.dataset(table).optimize.compact_files()
    assert read_here(table) == read_by_the_library(table)


def test_rows_of_messages_are_those_of_the_fragment(tmp_path: Path) -> None:
    table = tmp_path / "t.lance"
    dataset = lance.write_dataset(uris(0, 6, n=["0", "x", "2", "3", "4", "y"]), table, max_rows_per_file=3)
    dataset.delete("n = '0' or n = '4'")
    problems = rows(read(table, types={"n": "int64"}))["problem"].to_pylist()
    assert [text and text.partition(":")[0] for text in problems] == [
        f"{table}#fragment=0, row 2",
        None,
        None,
        f"{table}#fragment=1, row 3",
    ]


def blobs_v1(data: list[bytes | None]) -> pa.Table:
    field = pa.field("image", pa.large_binary(), metadata={"lance-encoding:blob": "true"})
    return pa.table({"image": pa.array(data, pa.large_binary())}, schema=pa.schema([field]))


def blobs_v2(data: list[bytes | None]) -> pa.Table:
    return pa.table([blob_array(data)], schema=pa.schema([blob_field("image")]))


KINDS: dict[str, Any] = {
    "binary": (lambda data: pa.table({"image": pa.array(data, pa.binary())}), None),
    "struct": (table_of, None),
    "blobs": (blobs_v1, "2.1"),
    "blobs of the second kind": (blobs_v2, "2.2"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_in_a_lance_table(tmp_path: Path, kind: str) -> None:
    """In each of the ways that it has; also where rows were deleted, before and after the plan."""
    make, storage_version = KINDS[kind]
    table = tmp_path / "t.lance"
    data = [picture(number, 8) for number in range(6)]
    images = make(data)
    dataset = lance.write_dataset(
        images.append_column("n", pa.array(range(6))), table, max_rows_per_file=3, data_storage_version=storage_version
    )
    dataset.delete("n = 1")
    plan = plan_of(str(table), tmp_path)
    assert [row["n"] for row in work_rows(plan)] == [0, 2, 3, 4, 5]
    version = dataset.version
    assert [(row["image_file"], row["image_row"]) for row in work_rows(plan)] == [
        (f"{table}#version={version}&fragment={fragment}", row)
        for fragment, row in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    ]
    identities = rows(read(table, identity="content"))["image_identity"].to_pylist()
    lance.dataset(table).delete("n = 0")  # by another, while the run goes on
    items = loaded(plan)
    assert all(isinstance(item, Loaded) for item in items), items
    assert [f"sha256:{item.row.columns['image_sha256']}" for item in items] == identities
    assert len(set(identities)) == 5
    # A version that is gone fails its rows, and says so.
    lance.dataset(table).cleanup_old_versions(
        dt.timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False
    )
    failed = loaded(plan)
    assert {type(item) for item in failed} == {Failed}
    assert all("cannot be read" in item.error for item in failed if isinstance(item, Failed))


def test_blobs_that_lie_elsewhere_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(1, 8))
    table = tmp_path / "t.lance"
    outside = blob_array([Blob.from_uri(f"file://{tmp_path}/secret.png")])
    data = pa.table([outside], schema=pa.schema([blob_field("image")]))
    lance.write_dataset(data, table, data_storage_version="2.2", allow_external_blob_outside_bases=True)
    plan = plan_of(str(table), tmp_path)
    (item,) = loaded(plan)
    assert isinstance(item, Failed)
    assert "lies in a file that the table only names" in item.error
    assert "column image names files elsewhere" in refusal(table, identity="content")


def test_a_table_that_is_appended_to_makes_what_is_new(tmp_path: Path) -> None:
    table = tmp_path / "t.lance"
    lance.write_dataset(uris(0, 4), table)
    assert day(table, tmp_path) == (4, 0)
    before = files_of(table)
    lance.write_dataset(uris(4, 2), table, mode="append")
    after = files_of(table)
    assert before.items() < after.items()
    assert day(table, tmp_path) == (2, 4)
    lance.dataset(table).delete("image_uri = '/0.jpg'")
    changed = files_of(table)
    assert changed.keys() == after.keys()
    assert [name for name in changed if changed[name] != after[name]] == [f"{table}#fragment=0"]
    assert day(table, tmp_path) == (0, 5)


def test_versions_that_there_are_not(tmp_path: Path) -> None:
    table = tmp_path / "t.lance"
    lance.write_dataset(uris(0, 1), table).tags.create("june", 1)
    assert refusal(table, table_version=7) == (
        f"{table}: columns.table_version is 7, and the table has the versions 1 to 1, less those cleaned up"
    )
    assert refusal(table, table_version="july").endswith("is july, and the table's tags are june")


def test_what_is_wrong_with_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "t.lance"
    dataset = lance.write_dataset(uris(0, 2, n=[1, 2]), table)
    assert "columns.passthrough names caption" in refusal(table, passthrough=["caption"])
    assert refusal(tmp_path, format="lance").startswith(f"{tmp_path} cannot be read as a Lance table (")
    dataset.delete("true")
    assert refusal(table) == f"the manifest has no rows: {table}"
    lance.write_dataset(uris(0, 2, n=[1, 2]), table, mode="overwrite")
    for data in (table / "data").iterdir():
        data.write_bytes(data.read_bytes()[:40])
    assert refusal(table, uri_column="image_uri").startswith(f"{table}#fragment=")
    for data in (table / "data").iterdir():
        data.unlink()
    assert " cannot be read, as after a clean-up of old versions (" in refusal(table, uri_column="image_uri")
    for manifest in (table / "_versions").glob("*.manifest"):
        manifest.write_bytes(b"x")
    assert refusal(table).startswith(f"{table} cannot be read as a Lance table (")
    monkeypatch.setitem(sys.modules, "lance", None)
    assert refusal(table).endswith("pip install 'stillreel[lance]'")


@pytest.mark.slow
def test_images_of_a_table_in_a_store(tmp_path: Path, s3_bucket: str, s3_storage: Storage) -> None:
    """The settings of the store reach the library, in the plan and in the workers."""
    local, uri = tmp_path / "t.lance", f"{s3_bucket}/lists/t.lance"
    lance.write_dataset(table_of([picture(number, 8) for number in range(3)]), local)
    upload(local, uri, s3_storage)
    plan = plan_of(uri, tmp_path, storage=s3_storage)
    items = loaded(plan, s3_storage)
    assert all(isinstance(item, Loaded) for item in items), items
    assert len({item.row.columns["image_sha256"] for item in items}) == 3
    lance.write_dataset(table_of([picture(9, 8)]), local, mode="append")
    upload(local, uri, s3_storage)
    assert plan_of(uri, tmp_path, storage=s3_storage).to_do == 4
