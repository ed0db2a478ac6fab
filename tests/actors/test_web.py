"""Web servers: asked for URLs as they stand, told who asks, and connected to only where that is allowed."""

import http.server
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import fsspec
import pytest

from actors import __version__, retries
from actors.errors import StorageError
from actors.fingerprint import fingerprint
from actors.storage import Storage
from actors.web import WebAccess, as_asked
from tests.web import send, serving

LOCAL = Storage(tries=1)
MACHINE = "an image's URL must lead to another machine than this one, and to no cloud's metadata service"
PRIVATE = r"an image's URL must not lead into a private network \(storage.private_networks=true allows it\)"


@dataclass
class Server:
    url: str = ""
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # before all is well


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            state.headers.append(dict(self.headers))
            status, headers = state.answers.pop(0) if state.answers else (200, {})
            send(self, status, b"picture", headers)

        do_HEAD = do_GET

    with serving(Answering) as state.url:
        yield state


@pytest.mark.parametrize(
    ("stands", "asked"),
    [
        ("/a%2Fb%3A%2C%27%7E.jpg", None),
        ("/a%2fb%e4%b8%ad%E4.jpg", None),
        ("/-._~!$&'()*+,;=:@/[x].jpg", None),
        ("/a+b.jpg?c=d+e&f=%20&g[]=h;i&j=k=l&m=n/o?p@q:r", None),
        ("/x.jpg?X-Amz-Credential=A%2F2026%2Feu%2Fs3%2Faws4_request&X-Amz-Signature=0a1b", None),
        ("/x.jpg?sv=2024&sig=a%2Bb%2Fc%3D", None),
        ("/./a/../b//c.jpg", None),
        ("/a::b.jpg", None),
        ("/a b.jpg?c d", "/a%20b.jpg?c%20d"),
        ("/a%20b c.jpg", "/a%20b%20c.jpg"),
        ("/中é.jpg?x=ü", "/%E4%B8%AD%C3%A9.jpg?x=%C3%BC"),
        ("/100%.jpg", "/100%25.jpg"),
        ("/%zz%2F.jpg", "/%25zz%2F.jpg"),
        ('/"<>\\^`{|}.jpg', "/%22%3C%3E%5C%5E%60%7B%7C%7D.jpg"),
        ("/a.jpg#b%2F", "/a.jpg"),
        ("?a=%2F", "/?a=%2F"),
        ("", "/"),
    ],
)
def test_a_url_is_asked_for_as_it_stands(stands: str, asked: str | None, server: Server) -> None:
    url = f"{server.url}{stands}"
    assert LOCAL.read_bytes(url) == b"picture"
    assert LOCAL.read_bytes(url, max_bytes=100) == b"picture"
    with LOCAL.open(url) as stream:
        assert stream.read() == b"picture"
    with LOCAL.open_exact(url) as stream:
        assert stream.read(3) == b"pic"
    assert LOCAL.size(url) == 7
    assert LOCAL.guarded(WebAccess(("127.0.0.1",))).read_bytes(url) == b"picture"
    fingerprint(url)
    assert set(server.asked) == {asked or stands}


def test_logins_and_names_beyond_ascii(server: Server) -> None:
    LOCAL.read_bytes(server.url.replace("//", "//me%40x:p%3Aw@") + "/a")
    assert server.headers[-1]["Authorization"] == "Basic bWVAeDpwOnc="
    assert as_asked("https://müller.example/ä") == "https://xn--mller-kva.example/%C3%A4"
    assert LOCAL.read_bytes(server.url.replace("http", "HTTP") + "/a") == b"picture"


def test_the_user_agent_says_who_we_are_and_can_be_set(server: Server) -> None:
    def told(**options: Any) -> str:
        Storage({"https": options}).read_bytes(f"{server.url}/a")
        return {name.lower(): value for name, value in server.headers[-1].items()}["user-agent"]

    assert told() == f"stillreel/{__version__}"
    assert told(headers={"User-Agent": "me/1 (me@example.com)"}) == "me/1 (me@example.com)"
    assert told(client_kwargs={"headers": {"user-agent": "me/2"}}) == "me/2"
    assert told(client_kwargs={"headers": {"X-Other": "x"}}) == f"stillreel/{__version__}"


@pytest.mark.parametrize(("asks", "waited_s"), [("7", 7), ("9999", 60), ("soon", 0), ("-3", 0), ("nan", 0)])
def test_a_server_that_asks_to_wait_is_given_the_time(
    asks: str, waited_s: float, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("actors.retries.time.sleep", waits.append)
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)
    server.answers += [(429, {"Retry-After": asks}), (503, {"Retry-After": asks})]
    assert Storage(tries=3).read_bytes(f"{server.url}/a", max_bytes=10) == b"picture"
    assert [round(wait) for wait in waits] == [waited_s, waited_s]


def test_a_connection_is_refused_by_the_address_that_it_would_lead_to(server: Server) -> None:
    port = server.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost"):
        for access in (WebAccess(), WebAccess((), private_networks=True), WebAccess(("example.com",))):
            with pytest.raises(StorageError, match=f"^{host}.*: {MACHINE}$"):
                Storage().guarded(access).read_bytes(f"http://{host}:{port}/a", max_bytes=10)
            with pytest.raises(StorageError, match=MACHINE):
                Storage().guarded(access).open(f"http://{host}:{port}/a")
        assert Storage().guarded(WebAccess((host,))).read_bytes(f"http://{host}:{port}/a") == b"picture"
    assert server.asked == ["/a", "/a"]
    with pytest.raises(StorageError, match=f"^10.255.255.1: {PRIVATE}$"):
        Storage().guarded(WebAccess()).read_bytes("http://10.255.255.1:1/a")
    with pytest.raises(StorageError, match=f": {PRIVATE}$"):
        Storage().guarded(WebAccess()).read_bytes("http://[fd12::1]:1/a")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """What names resolve to, one list of addresses after the other; the last one stays."""
    table: dict[str, list[list[str]]] = {}

    class Resolver:
        async def resolve(self, host: str, port: int, _family: int) -> list[dict[str, Any]]:
            found = table[host].pop(0) if len(table[host]) > 1 else table[host][0]
            rest = {"port": port, "proto": 0, "flags": 0}
            return [
                {"hostname": host, "host": one, "family": socket.AF_INET6 if ":" in one else socket.AF_INET, **rest}
                for one in found
            ]

        async def close(self) -> None:
            pass

    monkeypatch.setattr(aiohttp, "DefaultResolver", Resolver)
    fsspec.get_filesystem_class("http").clear_instance_cache()  # and with it the clients of other tests
    return table


def test_a_name_is_judged_by_what_it_resolves_to_when_it_is_connected_to(
    server: Server, names: dict[str, list[list[str]]]
) -> None:
    port = server.url.rpartition(":")[2]

    def read(host: str, access: WebAccess) -> bytes:
        return Storage(tries=1).guarded(access).read_bytes(f"http://{host}:{port}/a", max_bytes=10)

    names["evil.example"] = [["127.0.0.1"]]
    names["mapped.example"] = [["::ffff:127.0.0.1"]]
    names["inside.example"] = [["10.0.0.5"], ["192.168.0.1"], ["fd00::1"], ["64:ff9b::10.0.0.5"]]
    for host in ("evil.example", "mapped.example"):
        with pytest.raises(StorageError, match=rf"{host} resolves to \S+: {MACHINE}"):
            read(host, WebAccess(private_networks=True))
    for _ in range(4):
        with pytest.raises(StorageError, match=rf"inside.example resolves to \S+: {PRIVATE}"):
            read("inside.example", WebAccess())
    assert server.asked == []
    # The manifest's own host is where the user says, and what lies behind another name there is not.
    names["own.example"] = [["127.0.0.1"]]
    access = WebAccess(("own.example",))
    assert read("own.example", access) == b"picture"
    with pytest.raises(StorageError, match=MACHINE):
        read("evil.example", access)


def test_a_redirect_leads_to_no_other_place(server: Server, names: dict[str, list[list[str]]]) -> None:
    port = server.url.rpartition(":")[2]
    names["own.example"], names["evil.example"] = [["127.0.0.1"]], [["127.0.0.1"]]
    storage = Storage({"http": {"allow_redirects": True}}, tries=1).guarded(WebAccess(("own.example",)))
    server.answers.append((302, {"Location": f"http://evil.example:{port}/b"}))
    with pytest.raises(StorageError, match=f"evil.example resolves to 127.0.0.1: {MACHINE}"):
        storage.read_bytes(f"http://own.example:{port}/a", max_bytes=10)
    server.answers.append((302, {"Location": "http://169.254.169.254:1/b"}))
    with pytest.raises(StorageError, match=f"169.254.169.254: {MACHINE}"):
        storage.read_bytes(f"http://own.example:{port}/a", max_bytes=10)
    assert server.asked == ["/a", "/a"]


@pytest.mark.parametrize("place", [lambda url: {"proxy": url}, lambda url: {"client_kwargs": {"proxy": url}}])
def test_a_proxy_of_the_users_may_be_anywhere(server: Server, place: Callable[[str], dict[str, Any]]) -> None:
    storage = Storage({"http": place(server.url)}, tries=1).guarded(WebAccess())
    assert storage.read_bytes("http://example.com/a%2Fb.jpg", max_bytes=10) == b"picture"
    assert server.asked == ["http://example.com/a%2Fb.jpg"]
