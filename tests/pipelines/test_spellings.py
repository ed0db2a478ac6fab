"""One picture, many spellings: one clip. Keys of object stores are as they are."""

from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pytest

from actors.storage import Storage
from actors.uris import local_path
from pipelines.manifest.spellings import identities, identity
from tests.pipelines.test_image_columns import planned
from tests.pipelines.test_manifest import read, rows, write


@pytest.mark.parametrize("name", ["a.png", "a b.png", "a%20b.png", "é?x=1#2.png", "a\nb.png", "file:a.png"])
def test_a_file_of_this_machine_is_one_image(tmp_path: Path, name: str) -> None:
    (tmp_path / "y").mkdir()
    path = f"{tmp_path}/{name}"
    spellings = [
        path,
        f"/{tmp_path}//{name}",
        f"//{tmp_path}/{name}",
        f"{tmp_path}/./{name}",
        f"{tmp_path}/y/../{name}",
        f"{tmp_path}/none/../{name}",
        f"/..{tmp_path}/{name}",
        f"file://{quote(path)}",
        f"file://{quote(path, safe='/~').replace('.png', '%2Epng')}",
        f"FILE://LocalHost{quote(path)}",
        f"file:{quote(path)}",
        f"file:////{quote(path)}",
        f"file://{tmp_path}/./y//..//{quote(name)}",
        f"./{name}",
        f".//{name}",
        f"y/../{name}",
        f"../{tmp_path.name}/{name}",
    ]
    manifest = write(tmp_path / "m.parquet", {"path": spellings})
    assert rows(read(manifest))["image_uri"].to_pylist() == [path] * len(spellings)
    plan = planned(manifest)
    assert (plan.to_do, plan.duplicates) == (1, len(spellings) - 1)
    Path(path).write_bytes(b"x")
    assert Storage().read_bytes(path) == b"x"


def test_what_is_no_path_of_this_machine_says_so(tmp_path: Path) -> None:
    uris = ["file://images/a.png", "file://../a.png", "file:///%ff.png", "file:///a%00b.png"]
    manifest = write(tmp_path / "m.parquet", {"path": uris})
    said = [problem or "" for problem in rows(read(manifest))["problem"].to_pylist()]
    assert ["a file:// URL must name a path of this machine" in problem for problem in said] == [True] * 3 + [False]
    far = write(tmp_path / "n.parquet", {"path": ["file:/etc/passwd"]})
    assert "an image's URI must be s3://" in rows(read(far, schemes=["s3"]))["problem"][0].as_py()


def test_dots_beyond_a_link_lead_where_the_system_says(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    manifest = write(tmp_path / "m.parquet", {"path": [f"{tmp_path}/link/../a.png", f"{tmp_path}/real/../a.png"]})
    assert rows(read(manifest))["image_uri"].to_pylist() == [f"{tmp_path}/link/../a.png", f"{tmp_path}/a.png"]


def test_a_manifest_has_one_spelling_too(tmp_path: Path) -> None:
    manifest = write(tmp_path / "a b" / "m.csv", "path\na.png\n")
    for spelling in (manifest, f"/{manifest}", f"file://{tmp_path}/a%20b/m.csv", f"{tmp_path}//a b/./m.csv"):
        assert rows(read(spelling))["image_uri"].to_pylist() == [f"{tmp_path}/a b/a.png"]
    for base in (f"{tmp_path}/a b/", f"file:{tmp_path}//a%20b"):
        assert rows(read(manifest, base=base))["image_uri"].to_pylist() == [f"{tmp_path}/a b/a.png"]


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/a%20b", "/a%20b"),
        ("a//b", "a/b"),
        ("file:///a%20b", "/a b"),
        ("file://localhost/a", "/a"),
        ("file:/a", "/a"),
        ("//a", "/a"),
        ("file:a", "file:a"),
    ],
)
def test_local_paths(uri: str, path: str) -> None:
    assert str(local_path(uri)) == path


# --- The web and object stores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ordinary", "others"),
    [
        (
            "https://host.example/a/b~c.png?x=1%2F2",
            [
                "HTTPS://Host.Example:443/a/b%7Ec.png?x=1%2f2",
                "https://host.example:/a/b%7ec.png?%78=1%2F2",
                "https://host.example/a/./b~c.png?x=1%2F2",
                "https://host.example/q/../a/%62~c.png?x=1%2F2",
            ],
        ),
        ("http://h/", ["http://h", "HTTP://H:80", "http://h:80/"]),
        ("http://h/?q", ["http://h?q"]),
        ("https://h/a.jpg?x", ["https://h/a.jpg?x#top", "https://h/a.jpg?x#/../b"]),
        ("https://h/caf%C3%A9%20b.png", ["https://h/caf%c3%a9 b.png", "https://h/café%20b.png"]),
        ("https://xn--bcher-kva.example/a", ["https://Bücher.example/a"]),
        ("http://[::1]:8080/a", ["http://[::1]:8080/%61"]),
        ("https://u:P@h/a", ["https://u:P@H:443/a"]),
        ("s3://b/K//a%20b/./c.png", ["S3://b/K//a%20b/./c.png", "s3a://b/K//a%20b/./c.png"]),
        ("gs://b/k", ["gcs://b/k", "GS://b/k"]),
        ("abfs://c@account/k", ["abfss://c@account/k"]),
    ],
)
def test_what_a_server_cannot_tell_apart_is_one_image(ordinary: str, others: list[str]) -> None:
    assert identities(pa.chunked_array([[ordinary, *others]])) == [ordinary] * (1 + len(others))


@pytest.mark.parametrize(
    "uris",
    [
        ["https://h/a%2Fb.png", "https://h/a/b.png"],
        ["https://h/a//b.png", "https://h/a/b.png"],
        ["https://h/A.png", "https://h/a.png", "http://h/a.png", "https://h:444/a.png", "https://h:80/a.png"],
        ["https://h/a.png?x=%26", "https://h/a.png?x=&", "https://h/a.png?", "https://h/a.png"],
        ["https://h/a+b.png", "https://h/a%2Bb.png", "https://h/a%20b.png"],
        ["https://h/a%25.png", "https://h/a%.png"],
        ["https://h/m.parquet#row=1", "https://h/m.parquet#row=2"],
        ["https://h/m.tar?x=1#a.jpg", "https://h/m.tar?x=1#b.jpg", "https://h/list#row=1", "https://h/list#row=2"],
        ["https://U@h/a", "https://u@h/a", "https://h/a"],
        ["s3://b/a//b", "s3://b/a/./b", "s3://b/a/b", "s3://b/a/c/../b"],
        ["s3://b/a b", "s3://b/a%20b", "s3://b/a+b", "s3://b/A b"],
        ["s3://b/é", "s3://b/e\u0301", "s3://b/%C3%A9"],
        ["/a%20b.png", "/a b.png", "/A b.png"],
    ],
)
def test_what_may_be_two_images_stays_two(uris: list[str]) -> None:
    assert len(set(identities(pa.chunked_array([uris])))) == len(uris)


def test_urls_are_kept_as_they_stand_and_count_once(tmp_path: Path) -> None:
    uris = ["https://h.example/a~b.png", "HTTPS://H.example/a%7Eb.png", "https://h.example:443/a~b.png"]
    manifest = write(tmp_path / "m.parquet", {"url": uris})
    found = rows(read(manifest, schemes=["https"]))
    assert found["image_uri"].to_pylist() == uris
    plan = planned(manifest, "storage.schemes=[https]")
    assert (plan.to_do, plan.duplicates) == (1, 2)


def test_relative_keys_keep_what_matters_in_them(s3_bucket: str, s3_storage: Storage, tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.parquet", {"path": ["a//b.png", "./a//b.png", "x/../a%20b.png", "a b.png"]})
    s3_storage.put_file(f"{s3_bucket}/f/m.parquet", manifest)
    found = rows(read(f"{s3_bucket}/f/m.parquet", storage=s3_storage))
    names = ["a//b.png", "a//b.png", "a%20b.png", "a b.png"]
    assert found["image_uri"].to_pylist() == [f"{s3_bucket}/f/{name}" for name in names]


def test_what_is_no_uri_is_its_own_identity() -> None:
    for text in ("", "a", "a b://c", "http://[/a", "http://a:b:c/", "é://x", "https:///a", "x" * 9000):
        assert identity(text) in (text, text.lower())
