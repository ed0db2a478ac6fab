import errno
import http.server
import io
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from actors.errors import StorageError
from actors.retries import wait_s
from actors.storage import Changed, NotFound, Storage
from tests.faulty_proxy import Faults, faulty_proxy
from tests.web import send, serving

if TYPE_CHECKING:
    from tests.servers import S3Server

LOCAL = Storage()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, which take no time here."""
    waited: list[float] = []

    def wait_s(number: int) -> float:
        waited.append(number)
        return 0.0

    monkeypatch.setattr("actors.retries.wait_s", wait_s)
    return waited


_SLOW_DOWN = b"""\
<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"""

Handler = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextmanager
def _server(answer: Handler) -> Iterator[str]:
    """A web server on a free port, every request of which goes to `answer`."""

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_HEAD = do_PUT = do_DELETE = do_GET

    with serving(Answering) as address:
        yield address


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_a_web_server_that_fails_twice(status: int, waits: list[float]) -> None:
    answers = iter([status, status, 200])
    with _server(lambda handler: send(handler, next(answers), b"picture")) as url:
        assert LOCAL.read_bytes(f"{url}/a.jpg") == b"picture"
    assert waits == [1, 2]


def test_a_web_server_that_never_recovers(waits: list[float]) -> None:
    with _server(lambda handler: send(handler, 503, b"")) as url:
        with pytest.raises(
            StorageError, match=r"a.jpg could not be read: the server answered 503 .*\(tried 3 times\)$"
        ):
            Storage(tries=3).read_bytes(f"{url}/a.jpg")
        with pytest.raises(StorageError, match=r"answered 503 Service Unavailable$"):
            Storage(tries=1).read_bytes(f"{url}/a.jpg")
    assert waits == [1, 2]


def test_what_lasts_is_raised_at_once(tmp_path: Path, waits: list[float]) -> None:
    with _server(lambda handler: send(handler, 403, b"")) as url, pytest.raises(StorageError, match="403"):
        LOCAL.read_bytes(f"{url}/a.jpg")
    with pytest.raises(NotFound):
        LOCAL.read_bytes(str(tmp_path / "none"))
    with pytest.raises(StorageError, match="is not a known scheme"):
        LOCAL.read_bytes("gopher://x/y")
    with pytest.raises(StorageError, match="a package is missing"):
        LOCAL.read_bytes("gs://bucket/key")
    assert waits == []


def test_a_truncated_download_is_read_again() -> None:
    promised = iter([7, 100, 7, 100, 7])  # of seven bytes that are sent
    with _server(lambda handler: send(handler, 200, b"picture", promised=next(promised))) as url:
        assert LOCAL.read_bytes(f"{url}/a.jpg") == b"picture"
        assert LOCAL.read_bytes(f"{url}/a.jpg") == b"picture"
        with LOCAL.open(f"{url}/a.jpg") as stream:
            assert stream.read() == b"picture"


def test_no_more_attempts_after_so_much_time(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    monkeypatch.setattr("actors.retries.GIVE_UP_AFTER_S", 0.0)
    with _server(lambda handler: send(handler, 503, b"")) as url, pytest.raises(StorageError, match="503"):
        LOCAL.read_bytes(f"{url}/a.jpg")
    assert waits == []


def test_a_local_disk_that_is_full_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, failures = os.fsync, [errno.ENOSPC, errno.EIO, errno.ENOSPC]

    def fail_at_first(descriptor: int) -> None:
        if failures:
            raise OSError(failures.pop(), "no")
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", fail_at_first)
    (tmp_path / "source").write_bytes(b"video")
    LOCAL.put_file(str(tmp_path / "clip.mp4"), tmp_path / "source")
    assert (tmp_path / "clip.mp4").read_bytes() == b"video"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "source"]
    assert not failures


def test_a_stream_reads_on_where_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(100_000)
    (tmp_path / "f").write_bytes(data)
    filesystem = LOCAL.filesystem(str(tmp_path))
    opened: list[int] = []

    class Stale(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if len(opened) < 3 and self.tell() >= 30_000 * len(opened):
                raise OSError(errno.ESTALE, "Stale file handle")
            return super().read(size)

    def open_stale(_path: str, _mode: str, **_options: object) -> io.BytesIO:
        opened.append(1)
        return Stale(data)

    monkeypatch.setattr(filesystem, "open", open_stale)
    monkeypatch.setattr("actors.storage.READ_BUFFER_BYTES", 10_000)
    with LOCAL.open(str(tmp_path / "f")) as stream:
        assert stream.read(5) == data[:5]
        assert stream.read() == data[5:]
        stream.seek(-7, io.SEEK_END)
        assert stream.read() == data[-7:]
        stream.seek(1_000_000)
        assert stream.read() == b""
    assert len(opened) == 3


def test_a_stream_that_ends_early_is_not_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [b"0123456789", b"0123456789", b"0123"]

    class Short(io.BytesIO):
        def seek(self, offset: int, whence: int = 0, /) -> int:
            return 10 if whence == io.SEEK_END else super().seek(offset, whence)

    monkeypatch.setattr(LOCAL.filesystem(str(tmp_path)), "open", lambda *_args, **_kwargs: Short(contents.pop()))
    with LOCAL.open(str(tmp_path / "f")) as stream:
        assert stream.read() == b"0123456789"
    contents += [b"0123"] * 5
    with (
        LOCAL.open(str(tmp_path / "f")) as stream,
        pytest.raises(StorageError, match=r"it ended at byte 4 of 10 \(tried 5 times\)$"),
    ):
        stream.read()


def test_a_file_replaced_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(100_000))
    monkeypatch.setattr("actors.storage.READ_BUFFER_BYTES", 1000)
    with LOCAL.open(str(path)) as stream:
        assert stream.read(2) == bytes(2)
        os.truncate(path, 3)
        with pytest.raises(StorageError, match="f was replaced while it was read"):
            stream.read()


def test_at_most_so_many_bytes(tmp_path: Path, s3_storage: Storage, s3_bucket: str) -> None:
    for storage, folder in ((LOCAL, str(tmp_path)), (s3_storage, s3_bucket)):
        storage.put_bytes(f"{folder}/f", b"0123456789")
        assert storage.read_bytes(f"{folder}/f", max_bytes=10) == b"0123456789"
        with pytest.raises(StorageError, match=r"/f is larger than the 9 bytes allowed$"):
            storage.read_bytes(f"{folder}/f", max_bytes=9)
        with pytest.raises(NotFound):
            storage.read_bytes(f"{folder}/none", max_bytes=9)
    with pytest.raises(StorageError, match="/dev/zero is a device or pipe, not a file"):
        LOCAL.read_bytes("/dev/zero", max_bytes=9)


@pytest.mark.parametrize("tells_size", [True, False])
def test_at_most_so_many_bytes_from_the_web(tells_size: bool, waits: list[float]) -> None:
    sent: list[int] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        endless = handler.path == "/endless"
        handler.send_response(200)
        if tells_size:
            handler.send_header("Content-Length", str(10**9 if endless else 10))
        handler.end_headers()
        try:
            while endless:
                sent.append(handler.wfile.write(b"0" * 65_536))
        except OSError:
            return
        handler.wfile.write(b"0123456789")

    with _server(answer) as url:
        assert LOCAL.read_bytes(f"{url}/f", max_bytes=10) == b"0123456789"
        with pytest.raises(StorageError, match=r"/f is larger than the 9 bytes allowed$"):
            LOCAL.read_bytes(f"{url}/f", max_bytes=9)
        with pytest.raises(StorageError, match="/endless is larger than the 100,000 bytes allowed"):
            LOCAL.read_bytes(f"{url}/endless", max_bytes=100_000)
    assert waits == []
    assert sum(sent) < 50_000_000  # what fits into the buffers between the two


def test_redirects_are_refused_unless_they_are_allowed(waits: list[float]) -> None:
    asked: list[str] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        if handler.path == "/a.jpg":
            handler.send_response(302)
            handler.send_header("Location", "/secret")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        else:
            send(handler, 200, b"picture")

    with _server(answer) as url:
        expected = (
            rf"^{url}/a.jpg redirects to {url}/secret: put that address in its place, or let redirects be followed "
            r"with storage.options=\{https: \{allow_redirects: true\}\}$"
        )
        reads: list[Callable[[str], object]] = [
            LOCAL.read_bytes,
            lambda uri: LOCAL.read_bytes(uri, max_bytes=100),
            LOCAL.open,
            LOCAL.size,
            LOCAL.exists,
            lambda uri: LOCAL.filesystem(uri).cat_file(uri),
        ]
        for read in reads:
            with pytest.raises(StorageError, match=expected):
                read(f"{url}/a.jpg")
        assert set(asked) == {"/a.jpg"}
        assert waits == []
        following = Storage({"https": {"allow_redirects": True}})
        assert following.read_bytes(f"{url}/a.jpg", max_bytes=100) == b"picture"
        assert following.size(f"{url}/a.jpg") == 7
        assert LOCAL.read_bytes(f"{url}/secret") == b"picture"


def test_create(tmp_path: Path, s3_storage: Storage, s3_bucket: str) -> None:
    for storage, folder in ((LOCAL, str(tmp_path / "new")), (s3_storage, s3_bucket)):
        assert storage.create_bytes(f"{folder}/f", b"first")
        assert not storage.create_bytes(f"{folder}/f", b"second")
        assert storage.create_bytes(f"{folder}/f", b"first")  # as after an answer that was lost
        assert storage.read_bytes(f"{folder}/f") == b"first"
        assert [uri.rpartition("/")[2] for uri in storage.list_files(folder)] == ["f"]
    with pytest.raises(StorageError, match="memory:// cannot replace a file at once"):
        LOCAL.create_bytes("memory://x/y", b"")


def test_create_where_it_cannot_be_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_args: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    with pytest.raises(StorageError, match=r"f could not be created: this file system has no hard links"):
        LOCAL.create_bytes(str(tmp_path / "f"), b"")
    assert list(tmp_path.iterdir()) == []

    conditions: list[str | None] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        conditions.append(handler.headers["If-None-Match"])
        send(handler, 501, b'<?xml version="1.0"?><Error><Code>NotImplemented</Code><Message>no</Message></Error>')

    with (
        _server(answer) as url,
        pytest.raises(StorageError, match=r"f could not be created: this store has no conditional writes"),
    ):
        Storage({"s3": {"key": "k", "secret": "s", "client_kwargs": {"endpoint_url": url}}}).create_bytes(
            "s3://b/f", b""
        )
    assert conditions == ["*"]


@pytest.mark.parametrize("knows_conditions", [True, False])
def test_removal_by_a_condition(knows_conditions: bool, waits: list[float]) -> None:
    """Of S3's: Swift and Ceph take the condition and do not look at it."""
    asked: list[str | None] = []
    failed = '<?xml version="1.0"?><Error><Code>{0}</Code><Message>{0}</Message></Error>'

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers["If-Match"])
        if asked[-1] is not None and not knows_conditions:
            send(handler, 501, failed.format("NotImplemented").encode())
        elif asked[-1] not in (None, "now"):
            send(handler, 412, failed.format("PreconditionFailed").encode())
        else:
            send(handler, 204, b"")

    with _server(answer) as url:
        storage = Storage({"s3": {"key": "k", "secret": "s", "client_kwargs": {"endpoint_url": url}}})
        if knows_conditions:
            with pytest.raises(Changed, match="s3://b/f was changed by another program"):
                storage.remove_unchanged("s3://b/f", "before")
        storage.remove_unchanged("s3://b/f", "now")
    assert asked == (["before", "now"] if knows_conditions else ["now", None])
    assert waits == []


def test_of_racing_local_creates_one_succeeds(tmp_path: Path) -> None:
    def create(number: int) -> bool:
        barrier.wait()
        return LOCAL.create_bytes(str(tmp_path / "f"), b"%d" % number)

    for _ in range(20):
        barrier = threading.Barrier(8)
        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(create, range(8))) == [False] * 7 + [True]
        (tmp_path / "f").unlink()


def test_expired_credentials_are_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    expired = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
    keys: list[str] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        keys.append(handler.headers["Authorization"].partition("Credential=")[2].partition("/")[0])
        if keys[-1] == "old-key":
            send(handler, 400, expired)
        else:
            send(handler, 200, b"picture")

    def refresh(_attempt: int) -> float:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "new-key")
        return 0.0

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "old-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr("actors.retries.wait_s", refresh)
    with _server(answer) as url:
        storage = Storage({"s3": {"client_kwargs": {"endpoint_url": url}}})
        assert storage.read_bytes("s3://bucket/a.jpg") == b"picture"
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "old-key")
        assert storage.size("s3://bucket/a.jpg") == 7
    assert keys[0] == "old-key"
    assert keys[-1] == "new-key"
    assert keys == sorted(keys, reverse=True)  # the old one never again


def test_a_dead_store_is_reported_soon(waits: list[float]) -> None:
    requests: list[str] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        requests.append(handler.path)
        send(handler, 503, _SLOW_DOWN)

    with _server(answer) as url:
        options = {"key": "k", "secret": "s", "client_kwargs": {"endpoint_url": url}}
        with pytest.raises(StorageError, match=r"listed: Please reduce your request rate\. \(tried 5 times\)$"):
            Storage({"s3": options}).list_files("s3://bucket")
    assert len(requests) == 5  # not times those of s3fs, and those of botocore
    assert waits == [1, 2, 3, 4]


@pytest.mark.slow
def test_through_a_failing_network(
    s3_server: "S3Server", s3_storage: Storage, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.retries.wait_s", lambda number: wait_s(number) / 10)
    faults = Faults(share_503=0.05, share_reset=0.05, share_stall=0.03, share_truncate=0.05, stall_s=0.5, seed=4)

    def work(number: int) -> str:
        """One object in all ways there are; the first thing that is wrong, if any."""
        data, uri = os.urandom(number * 3000), f"{s3_bucket}/{number}"
        (tmp_path / str(number)).write_bytes(data)
        storage.put_bytes(f"{uri}/bytes", data)
        storage.put_file(f"{uri}/file", tmp_path / str(number))
        token = uuid.uuid4().bytes
        if not storage.create_bytes(f"{uri}/created", token) or storage.create_bytes(f"{uri}/created", b"other"):
            return f"{number}: created"
        if storage.read_bytes(f"{uri}/bytes") != data or storage.read_bytes(f"{uri}/created") != token:
            return f"{number}: bytes"
        with storage.open(f"{uri}/file") as stream:
            if stream.read() != data:
                return f"{number}: stream"
        if len(storage.list_files(uri)) != 3 or storage.exists(f"{uri}/none"):
            return f"{number}: listing"
        storage.remove(f"{uri}/created")
        return ""

    with faulty_proxy(s3_server.endpoint, **faults) as proxy:
        storage = Storage({"s3": replace(s3_server, endpoint=proxy.endpoint).options()}, tries=8)
        with ThreadPoolExecutor(10) as pool:
            wrong = [what for what in pool.map(work, range(30)) if what]
    assert wrong == []
    assert len(s3_storage.list_files(s3_bucket)) == 60
    assert all(proxy.counts[fault] >= 5 for fault in ("503", "reset", "stall", "truncate")), proxy.counts
