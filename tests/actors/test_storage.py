import http.server
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest

from actors import retries
from actors.errors import StorageError
from actors.storage import Changed, NotFound, Storage
from actors.store_options import STORES
from actors.uris import common_scheme
from tests.web import serving

if TYPE_CHECKING:
    from tests.servers import S3Server


LOCAL = Storage()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (("/data", "a.jpg"), "/data/a.jpg"),
        (("/data/", "x", "a.jpg"), "/data/x/a.jpg"),
        (("/data/x", "../a.jpg"), "/data/a.jpg"),
        (("/data", "/other/a.jpg"), "/other/a.jpg"),
        (("s3://bucket/in", "a%20b.jpg"), "s3://bucket/in/a%20b.jpg"),
        (("s3://bucket/in", "./x/../a.jpg"), "s3://bucket/in/a.jpg"),
        (("s3://bucket//in", "a.jpg"), "s3://bucket//in/a.jpg"),
        (("s3://bucket", "https://host/a.jpg?v=1"), "https://host/a.jpg?v=1"),
    ],
)
def test_join(parts: tuple[str, ...], joined: str) -> None:
    assert Storage.join(*parts) == joined


def test_uris_are_taken_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Storage.absolute("x/../a.jpg") == str(tmp_path / "a.jpg")
    assert Storage.absolute("file:///a/./b") == "/a/b"
    assert Storage.absolute("s3://bucket/a/../b") == "s3://bucket/a/../b"
    assert [Storage.scheme(uri) for uri in ("/a", "C:/x", "S3://b/k", "https://h/p")] == ["", "", "s3", "https"]
    assert Storage.parent("s3://bucket/a/b.csv") == "s3://bucket/a"
    assert Storage.parent("/a/b.csv") == "/a"
    assert Storage.has_magic("s3://b/*.jpg")
    assert not Storage.has_magic("https://host/a.jpg?size=[1]")


def test_local_put_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "clip.mp4"
    LOCAL.put_bytes(str(target), b"first")
    (tmp_path / "source").write_bytes(b"second")
    LOCAL.put_file(str(target), tmp_path / "source")
    assert target.read_bytes() == b"second"
    assert LOCAL.read_bytes(f"file://{target}") == b"second"
    assert LOCAL.size(str(target)) == 6
    assert [path.name for path in target.parent.iterdir()] == ["clip.mp4"]
    (tmp_path / "plain").touch()
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_failed_local_put_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "clip.mp4"
    target.write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        StorageError, match=r"clip.mp4 could not be written: No space left on device \(tried 5 times\)$"
    ):
        LOCAL.put_bytes(str(target), b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("clip.mp4", b"old")]


def _readers_see_whole_files(storage: Storage, uri: str, size: int, writes: int) -> set[bytes]:
    """What a reader sees while `uri` is overwritten `writes` times with `size` equal bytes."""
    seen: set[bytes] = set()
    done = threading.Event()
    storage.put_bytes(uri, b"a" * size)

    def read() -> None:
        while not done.is_set():
            data = storage.read_bytes(uri)
            seen.add(bytes(set(data)) + str(len(data)).encode())

    reader = threading.Thread(target=read)
    reader.start()
    for letter in (b"b", b"c") * (writes // 2):
        storage.put_bytes(uri, letter * size)
    done.set()
    reader.join()
    return seen


def test_local_readers_see_whole_files(tmp_path: Path) -> None:
    seen = _readers_see_whole_files(LOCAL, str(tmp_path / "f"), 1_000_000, writes=30)
    assert len(seen) >= 2
    assert seen <= {b"a1000000", b"b1000000", b"c1000000"}


def test_local_errors(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.jpg")
    with pytest.raises(NotFound, match=r"none.jpg does not exist$"):
        LOCAL.read_bytes(missing)
    with pytest.raises(NotFound):
        LOCAL.open(missing)
    with pytest.raises(StorageError, match="could not be read: it is a folder, not a file"):
        LOCAL.read_bytes(str(tmp_path))
    with pytest.raises(StorageError, match="is a folder, not a file"):
        LOCAL.size(str(tmp_path))
    assert not LOCAL.exists(missing)
    assert LOCAL.exists(str(tmp_path))
    assert LOCAL.is_folder(str(tmp_path))
    LOCAL.remove(missing)


def test_schemes_that_cannot_serve() -> None:
    with pytest.raises(StorageError, match=r"gopher:// is not a known scheme; use a local path, s3://"):
        LOCAL.read_bytes("gopher://x/y")
    with pytest.raises(StorageError, match=r"a package is missing \(.*\); pip install -e '\.\[gcs\]'"):
        LOCAL.read_bytes("gs://bucket/key")
    with pytest.raises(StorageError, match="memory:// cannot replace a file at once; write to a local folder"):
        LOCAL.put_bytes("memory://x/y", b"")


def test_local_listing(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.png", "x/c.jpg", "x/y/d.jpg"):
        LOCAL.put_bytes(str(tmp_path / name), b"")
    assert LOCAL.list_files(str(tmp_path)) == [str(tmp_path / n) for n in ("a.png", "b.jpg", "x/c.jpg", "x/y/d.jpg")]
    assert LOCAL.list_files(str(tmp_path), ".png") == [str(tmp_path / "a.png")]
    assert LOCAL.list_files(str(tmp_path / "none")) == []
    assert list(LOCAL.glob(str(tmp_path / "*.jpg"))) == [str(tmp_path / "b.jpg")]
    assert list(LOCAL.glob(str(tmp_path / "**/*.jpg"))) == [
        str(tmp_path / n) for n in ("b.jpg", "x/c.jpg", "x/y/d.jpg")
    ]


def test_local_folders(tmp_path: Path) -> None:
    for name in ("b/x.jpg", "a/c/y.jpg", "z.jpg"):
        LOCAL.put_bytes(str(tmp_path / name), b"")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    (tmp_path / "y.jpg").symlink_to(tmp_path / "z.jpg")
    assert LOCAL.list_folders(str(tmp_path)) == [str(tmp_path / name) for name in ("a", "b", "link", "lost")]
    assert [LOCAL.leads_nowhere(str(tmp_path / name)) for name in ("a", "link", "lost", "none")] == [0, 0, 1, 0]
    assert LOCAL.list_names(str(tmp_path)) == {"z.jpg", "y.jpg"}
    assert LOCAL.list_names(str(tmp_path / "none")) == set()
    assert LOCAL.list_folders(f"file://{tmp_path}/a/") == [str(tmp_path / "a" / "c")]
    assert LOCAL.list_folders(str(tmp_path / "none")) == []
    with pytest.raises(StorageError, match=r"z.jpg could not be listed: Not a directory"):
        LOCAL.list_folders(str(tmp_path / "z.jpg"))


def test_folders_of_other_stores() -> None:
    LOCAL.filesystem("memory://").pipe({"/folders/a/x": b"", "/folders/b/c/y": b"", "/folders/z": b""})
    assert LOCAL.list_folders("memory://folders") == ["memory://folders/a", "memory://folders/b"]
    assert LOCAL.list_folders("memory://none") == []
    assert LOCAL.list_names("memory://folders") == {"z"}
    assert LOCAL.list_names("memory://none") == set()


@pytest.mark.parametrize(
    ("folder", "path", "found", "uris"),
    [
        ("gcs://b/x", "b/x", ["b/x/c/1.jpg", "b/x/a.jpg"], ["gcs://b/x/a.jpg", "gcs://b/x/c/1.jpg"]),
        ("gcs://b/x/", "b/x", ["b/x/a.jpg"], ["gcs://b/x/a.jpg"]),
        ("gcs://b", "b", ["b/a.jpg"], ["gcs://b/a.jpg"]),
        ("abfss://c@account.net/x", "c/x", ["c/x/a.jpg"], ["abfss://c@account.net/x/a.jpg"]),
        ("memory://", "", ["/a.jpg"], ["memory:///a.jpg"]),
        ("github://o:r@main/", "", ["a.jpg"], ["github://o:r@main/a.jpg"]),
        ("hf://datasets/o/n@~p", "datasets/o/n@~p", ["datasets/o/n@refs%2Fp/a"], ["gs://datasets/o/n@refs%2Fp/a"]),
    ],
)
def test_what_is_listed_begins_as_the_folder_was_named(
    folder: str, path: str, found: list[str], uris: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    filesystem = Mock()
    filesystem.find.return_value = found
    filesystem.ls.return_value = [{"name": name, "type": "directory"} for name in found]
    filesystem.unstrip_protocol = lambda name: f"gs://{name}"
    monkeypatch.setattr(Storage, "_locate", lambda *_, **__: (filesystem, path))
    assert list(LOCAL.walk(folder)) == LOCAL.list_folders(folder) == uris


def test_a_glob_of_a_store_with_several_schemes(monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem = Mock()
    filesystem.find.return_value = ["b/x/1.jpg", "b/x/2.png", "b/x/y/3.jpg"]
    monkeypatch.setattr(Storage, "_locate", lambda *_, **__: (filesystem, "b/x"))
    assert list(LOCAL.glob("gcs://b/x/*.jpg")) == ["gcs://b/x/1.jpg"]


def test_a_stream_reads_and_seeks(tmp_path: Path) -> None:
    LOCAL.put_bytes(str(tmp_path / "f"), bytes(range(256)) * 100)
    with LOCAL.open(str(tmp_path / "f")) as stream:
        stream.seek(-3, 2)
        assert stream.read() == b"\xfd\xfe\xff"
        stream.seek(1)
        assert stream.read(2) == b"\x01\x02"


def test_storage_travels_to_workers() -> None:
    storage = Storage({"s3": {"key": "k", "client_kwargs": {"endpoint_url": "http://h"}}})
    assert pickle.loads(pickle.dumps(storage)) == storage


@pytest.mark.parametrize(
    ("given", "uri"),
    [
        ("S3", "s3://b/k"),
        ("s3", "s3a://b/k"),
        ("s3a", "S3://b/k"),
        ("gs", "gcs://b/k"),
        ("abfs", "az://b/k"),
        ("az", "abfss://b/k"),
        ("http", "https://h/k"),
        ("SSH", "sftp://h/k"),
    ],
)
def test_all_names_of_a_store_share_its_options(given: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []

    def url_to_fs(uri: str, **options: object) -> tuple[Mock, str]:
        seen.append(options)
        return Mock(), uri

    def filesystem(_scheme: str, **options: object) -> Mock:
        seen.append(options)
        return Mock()

    monkeypatch.setattr("fsspec.core.url_to_fs", url_to_fs)
    monkeypatch.setattr("fsspec.filesystem", filesystem)
    Storage({given: {"key": "k"}, "memory": {"key": "other"}}).filesystem(uri)
    assert seen[-1]["key"] == "k"
    assert all(options.items() >= {"key": "k"}.items() for options in seen)


def test_all_names_of_a_store_have_one_scheme_in_common() -> None:
    for one, store in STORES.items():
        assert {other for other in STORES if common_scheme(other) == common_scheme(one)} == {
            other for other in STORES if STORES[other] == store
        }
    assert common_scheme("S3A") == "s3"
    assert common_scheme("HTTPS") == "https"


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        ({"s3": {"key": "k"}, "GS": {}, "abfss": {}, "https": {}, "hf": {}, "memory": {}}, []),
        ({"s3": {"key": "k"}, "s3a": {"key": "k"}}, []),
        ({"s3": {"key": "k"}, "S3A": {"key": "secret"}}, ["s3 and storage.options.S3A are one store with different"]),
        ({"file": {"auto_mkdir": True}}, ["file has no effect: local files take no options; remove it"]),
        ({"azure": {}}, ["azure: there is no such scheme (perhaps az); the object stores are s3, s3a, gs, "]),
        (
            {"s4": {}, "sfpt": {}},
            ["s4: there is no such scheme (perhaps s3)", "sfpt: there is no such scheme (perhaps sf"],
        ),
        ({"nothing-like-it": {}}, ["nothing-like-it: there is no such scheme; the object stores are s3, s3a, gs, "]),
    ],
)
def test_options_are_checked(options: dict[str, dict[str, object]], faults: list[str]) -> None:
    found = Storage.check_options(options)
    assert len(found) == len(faults)
    for sentence, fault in zip(found, faults, strict=True):
        assert sentence.startswith(f"storage.options.{fault}")
    assert not any("secret" in sentence for sentence in found)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "a b.jpg").write_bytes(b"picture")

    class Answering(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            if self.path == "/private.jpg":
                self.send_error(403, "Forbidden")
            else:
                super().do_GET()

    with serving(Answering) as address:
        yield address


def test_http(web: str) -> None:
    assert LOCAL.read_bytes(f"{web}/a%20b.jpg") == b"picture"
    with LOCAL.open(f"{web}/a%20b.jpg") as stream:
        stream.seek(-4, 2)
        assert stream.read() == b"ture"
    for read in (LOCAL.read_bytes, LOCAL.open):
        with pytest.raises(NotFound, match=r"/none.jpg does not exist$"):
            read(f"{web}/none.jpg")
    with pytest.raises(StorageError, match=r"private.jpg could not be read: the server answered 403 Forbidden$"):
        LOCAL.read_bytes(f"{web}/private.jpg")
    with pytest.raises(StorageError, match=r"no connection .* check the network"):
        LOCAL.read_bytes("http://127.0.0.1:1/a.jpg")


def test_s3_reads_what_it_wrote(s3_storage: Storage, s3_bucket: str, tmp_path: Path) -> None:
    name = "a b%20c#d?é.bin"
    (tmp_path / "f").write_bytes(b"0123456789")
    s3_storage.put_file(f"{s3_bucket}/x/{name}", tmp_path / "f")
    assert s3_storage.read_bytes(f"{s3_bucket}/x/{name}") == b"0123456789"
    assert s3_storage.size(f"{s3_bucket}/x/{name}") == 10
    assert s3_storage.list_files(s3_bucket) == [f"{s3_bucket}/x/{name}"]
    with s3_storage.open(f"{s3_bucket}/x/{name}") as stream:
        stream.seek(-2, 2)
        assert stream.read() == b"89"
    assert s3_storage.is_folder(f"{s3_bucket}/x")
    assert not s3_storage.is_folder(f"{s3_bucket}/x/{name}")
    s3_storage.remove(f"{s3_bucket}/x/{name}")
    assert not s3_storage.exists(f"{s3_bucket}/x/{name}")
    s3_storage.remove(f"{s3_bucket}/x/{name}")


def test_s3_lists_page_by_page(s3_server: "S3Server", s3_storage: Storage, s3_bucket: str) -> None:
    count = 2 * s3_server.listing_page + 3
    filesystem = s3_storage.filesystem(s3_bucket)
    filesystem.pipe({f"{s3_bucket}/in/{i:04d}.jpg": b"x" for i in range(count)} | {f"{s3_bucket}/in/sub/": b""})
    s3_storage.put_bytes(f"{s3_bucket}/inn/other.jpg", b"x")
    assert s3_storage.list_files(f"{s3_bucket}/in/") == [f"{s3_bucket}/in/{i:04d}.jpg" for i in range(count)]
    assert list(s3_storage.glob(f"{s3_bucket}/in*/*[0o]*2.jpg")) == [
        f"{s3_bucket}/in/{i:04d}.jpg" for i in range(count) if i % 10 == 2
    ]
    assert list(s3_storage.glob(f"{s3_bucket}/**/o*.jpg")) == [f"{s3_bucket}/inn/other.jpg"]
    assert s3_storage.list_files(f"{s3_bucket}/none") == []


def test_s3_folders_are_listed_without_their_objects(
    s3_server: "S3Server", s3_storage: Storage, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 2 * s3_server.listing_page + 3
    folders = [f"{s3_bucket}/data/part-{i:05d}" for i in range(count)]
    filesystem = s3_storage.filesystem(s3_bucket)
    objects = [f"{folder}/{name}" for folder in folders for name in ("0.mp4", "1.mp4", "sub/2.mp4")]
    filesystem.pipe(dict.fromkeys([*objects, f"{s3_bucket}/data/loose", f"{s3_bucket}/data/"], b""))
    requests: list[str] = []
    call = type(filesystem).call_s3

    def count_request(self: object, method: str, **given: object) -> object:
        requests.append(method)
        return call(self, method, **given)

    monkeypatch.setattr(type(filesystem), "call_s3", count_request)
    assert s3_storage.list_folders(f"{s3_bucket}/data") == folders
    assert len(requests) == 3  # of 20 folders or loose objects each, not of 132 objects
    assert s3_storage.list_folders(s3_bucket) == [f"{s3_bucket}/data"]
    assert s3_storage.list_names(f"{s3_bucket}/data") == {"loose"}
    assert s3_storage.list_names(f"{s3_bucket}/none") == set()
    assert s3_storage.list_folders(f"{s3_bucket}/none") == []
    with pytest.raises(NotFound, match="the bucket does not exist"):
        s3_storage.list_folders("s3://nowhere-to-be-found/data")


def test_s3_readers_see_whole_objects(s3_storage: Storage, s3_bucket: str) -> None:
    seen = _readers_see_whole_files(s3_storage, f"{s3_bucket}/f", 300_000, writes=40)
    assert len(seen) >= 2
    assert seen <= {b"a300000", b"b300000", b"c300000"}


def test_a_broken_s3_multipart_upload_leaves_no_object(
    s3_storage: Storage, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(101 * 2**20)
    filesystem = s3_storage.filesystem(s3_bucket)
    uploads: list[int] = []
    call = type(filesystem)._call_s3

    async def fail_second_part(self: object, method: str, *args: object, **kwargs: object) -> object:
        if method == "upload_part":
            uploads.append(1)
            if len(uploads) == 2:
                raise OSError("connection lost")
        return await call(self, method, *args, **kwargs)

    monkeypatch.setattr(type(filesystem), "_call_s3", fail_second_part)
    with pytest.raises(StorageError, match=r"large.mp4 could not be written: connection lost"):
        s3_storage.put_file(f"{s3_bucket}/large.mp4", tmp_path / "large")
    assert len(uploads) >= 2
    assert s3_storage.list_files(s3_bucket) == []


def test_prune_removes_folders_as_far_up_as_they_are_empty(tmp_path: Path) -> None:
    storage, leaf = Storage(), tmp_path / "kept/run/work"
    leaf.mkdir(parents=True)
    (tmp_path / "kept/file").touch()
    storage.prune(f"file://{leaf}")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["file"]
    storage.prune(str(tmp_path / "kept"))
    storage.prune(str(leaf))  # which is gone
    assert (tmp_path / "kept/file").exists()
    storage.prune("memory://bucket/folder")  # no folders there: not looked at


def test_s3_errors(s3_server: "S3Server", s3_storage: Storage, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s3_storage.put_bytes(f"{s3_bucket}/a", b"x")
    with pytest.raises(NotFound, match=r"/none does not exist$"):
        s3_storage.read_bytes(f"{s3_bucket}/none")
    with pytest.raises(NotFound, match="the bucket does not exist; create it, or correct the name"):
        s3_storage.put_bytes("s3://nowhere-to-be-found/a", b"x")
    with pytest.raises(NotFound, match="the bucket does not exist"):
        s3_storage.list_files("s3://nowhere-to-be-found")

    stranger = Storage({"s3": s3_server.options(secret="wrong")})
    with pytest.raises(StorageError, match=r"could not be read: access denied .*; check AWS_ACCESS_KEY_ID"):
        stranger.read_bytes(f"{s3_bucket}/a")
    with pytest.raises(StorageError, match="could not be found: access denied"):
        stranger.exists(f"{s3_bucket}/a")

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    with pytest.raises(StorageError, match="there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        Storage({"s3": {"client_kwargs": {"endpoint_url": s3_server.endpoint}}}).read_bytes(f"{s3_bucket}/a")


def test_sizes_and_versions_are_listed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.mp4").write_bytes(b"123")
    (tmp_path / "data" / "gone.mp4").symlink_to(tmp_path / "nowhere")
    (found,) = LOCAL.list_sized(str(tmp_path))
    assert (found.uri, found.size) == (str(tmp_path / "data" / "a.mp4"), 3)
    assert found.version == LOCAL.version(found.uri)
    assert not list(LOCAL.list_sized(str(tmp_path / "none")))


@pytest.mark.parametrize(("scheme", "version"), [("gs", None), ("abfs", "0x1")])
def test_other_stores_list_sizes(scheme: str, version: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem = Mock()
    filesystem.find.return_value = {f"b/{name}": {"size": size, "etag": "0x1"} for name, size in (("x/2", 2), ("1", 1))}
    monkeypatch.setattr(Storage, "_locate", lambda *_, **__: (filesystem, "b"))
    found = [(listed.uri, listed.size, listed.version) for listed in LOCAL.list_sized(f"{scheme}://b")]
    assert found == [(f"{scheme}://b/1", 1, version), (f"{scheme}://b/x/2", 2, version)]


def test_s3_lists_sizes_and_versions(s3_storage: Storage, s3_bucket: str) -> None:
    s3_storage.put_bytes(f"{s3_bucket}/sized/a.bin", b"123")
    (found,) = s3_storage.list_sized(f"{s3_bucket}/sized")
    assert (found.uri, found.size) == (f"{s3_bucket}/sized/a.bin", 3)
    assert found.version == s3_storage.version(found.uri)


def test_what_has_changed_is_not_removed(tmp_path: Path) -> None:
    uri = str(tmp_path / "file")
    LOCAL.put_bytes(uri, b"first")
    first = LOCAL.version(uri)
    LOCAL.put_bytes(uri, b"second, and longer")
    with pytest.raises(Changed, match="was changed by another program"):
        LOCAL.remove_unchanged(uri, first)
    assert LOCAL.read_bytes(uri) == b"second, and longer"
    LOCAL.remove_unchanged(uri, LOCAL.version(uri))
    assert not LOCAL.exists(uri)
    LOCAL.remove_unchanged(uri, first)  # it has gone


def test_a_store_that_removes_by_no_condition_removes_all_the_same(s3_storage: Storage, s3_bucket: str) -> None:
    uri = f"{s3_bucket}/file"
    s3_storage.put_bytes(uri, b"first")
    s3_storage.remove_unchanged(uri, s3_storage.version(uri))
    assert not s3_storage.exists(uri)
    s3_storage.put_bytes(uri, b"second")
    s3_storage.remove_unchanged(uri, None)
    assert not s3_storage.exists(uri)
