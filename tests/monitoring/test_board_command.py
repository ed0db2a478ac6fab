"""`stillreel board` with files and servers that are not what they should be."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from actors import secrets
from pipelines.monitoring.board import read_queries
from tests.clusters import free_port
from tests.jobs import in_process
from tests.prometheus import MONITORING, running_prometheus
from tests.web import send, serving

NUMBER = len(read_queries(str(MONITORING)))


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logins of one test are no secrets of the next."""
    monkeypatch.setattr(secrets, "_known", secrets._Known())


def test_a_prometheus_that_is_not_there_is_one_sentence() -> None:
    port = free_port()
    done = in_process("board", "--prometheus", f"http://me:secret@127.0.0.1:{port}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"stillreel: no Prometheus can be reached at http://***@127.0.0.1:{port} ([Errno 111] Connection refused): "
        "start one, or name another with --prometheus\n"
    )


@pytest.mark.parametrize("address", ["localhost:9090", "ftp://host", "http://", "http://host:port", "http://[::1"])
def test_what_is_no_address_is_one_sentence(address: str) -> None:
    done = in_process("board", "--prometheus", address)
    assert done.returncode == 2
    assert done.stderr == f"stillreel: --prometheus={address} is no address: it is to be as http://HOST:9090\n"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>Log in</html>", "is no Prometheus (status 200), or a page that asks for a login"),
        (404, b"nothing here", "is no Prometheus (status 404)"),
        (200, b'{"status": "ok"}', "is no Prometheus (status 200)"),
        (200, b'["a list"]', "is no Prometheus (status 200)"),
        (
            200,
            b'{"status": "success", "data": {"resultType": "vector", "result": [{"value": []}]}}',
            "is no Prometheus",
        ),
        (500, b"\xff\xfe", "is no Prometheus (status 500)"),
        (401, b"", "does not let us in (401): put the login into the address"),
        (403, b"", "does not let us in (403)"),
    ],
)
def test_a_server_that_is_no_prometheus_or_lets_nobody_in(status: int, body: bytes, said: str) -> None:
    with _server(lambda *_: (status, body)) as address:
        done = in_process("board", "--prometheus", address)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_address_that_leads_elsewhere_is_not_followed() -> None:
    with _server(lambda *_: (302, b""), {"Location": "https://login.example.com/?next=1"}) as address:
        done = in_process("board", "--prometheus", address)
    assert done.returncode == 1
    said = f"stillreel: {address} redirects to https://login.example.com/?next=1: name that address, or log in first\n"
    assert done.stderr == said


def test_what_speaks_no_http_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        done = in_process("board", "--prometheus", f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()
    assert done.returncode == 1
    assert done.stderr.startswith("stillreel: no Prometheus can be reached at http://127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1


def test_logins_are_sent_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()

    def answer(_: str, authorization: str) -> tuple[int, bytes]:
        seen.add(authorization)
        return 200, _vector(["1"])

    with _server(answer) as address:
        done = in_process("board", "--prometheus", address.replace("http://", "http://me:p%40ss@"))
        monkeypatch.setenv("PROMETHEUS_TOKEN", "a-token-of-mine")
        in_process("board", "--prometheus", address)
    assert seen == {"Basic bWU6cEBzcw==", "Bearer a-token-of-mine"}
    assert "p%40ss" not in done.stdout


def test_what_is_not_answered_is_named_and_counts() -> None:
    def answer(query: str, _: str) -> tuple[int, bytes]:
        if query.startswith("histogram_quantile"):
            return 400, b'{"status": "error", "errorType": "bad_data", "error": "parse error"}'
        if query == "count(ray_stillreel_runs_total)" or ("uploaded_bytes" in query and not query.startswith("count(")):
            return 200, _vector([])
        return 200, _vector(["1", "2"])

    with _server(answer) as address:
        done = in_process("board", "--prometheus", address)
    assert done.returncode == 1
    lines = {line.split("│")[2].strip(): line.split("│") for line in done.stdout.splitlines() if line.count("│") == 4}
    said = {title: (cells[1].strip(), cells[3].strip()) for title, cells in lines.items()}
    assert said["panel: Seconds of a clip, by stage: median"] == ("NO", "error: parse error")
    assert said["panel: Bytes uploaded, a second"] == ("NO", "nothing, although its series are there")
    assert said["panel: Runs and how they ended"] == ("NO", "no series of ray_stillreel_runs_total")
    assert said["panel: Clips made"] == ("yes", "2 series")
    assert said["alert: StillreelGpuIdle"] == ("yes", "its condition holds now; it fires after 15m of that")
    unanswered = sum(mark == "NO" for mark, _ in said.values())
    assert f"{NUMBER - unanswered} of {NUMBER} queries are answered" in done.stdout


@pytest.mark.slow
def test_a_prometheus_that_knows_no_run_answers_nothing(tmp_path: Path) -> None:
    with running_prometheus(tmp_path) as address:
        done = in_process("board", "--prometheus", address)
    assert done.returncode == 1
    assert f"0 of {NUMBER} queries are answered" in done.stdout
    assert "it scrapes the head of the run's Ray cluster" in done.stdout


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("grafana.json", None, "grafana.json cannot be read (No such file or directory): name the folder"),
        ("grafana.json", "{", "grafana.json is broken: Expecting property name"),
        ("grafana.json", "[]", "grafana.json is no board that this version can read, for want of a list of `panels`"),
        ("grafana.json", '{"elements": {}}', "export it from Grafana in the classic format"),
        ("grafana.json", '{"panels": []}', "grafana.json asks for nothing: take the one that came with this version"),
        (
            "grafana.json",
            '{"panels": [{"title": "A", "targets": [{"expr": "ray_stillreel_old"}]}]}',
            "ray_stillreel_old",
        ),
        ("alerts.yaml", "groups: [", "alerts.yaml is broken: while parsing"),
        ("alerts.yaml", "a: 1", "alerts.yaml is no file of Prometheus rules, which has `groups`"),
        ("alerts.yaml", "spec: {groups: []}", "give what stands in its `spec`"),
        ("alerts.yaml", "groups: [{rules: [{alert: A, expr: ray_stillreel_new_total}]}]", "this version of stillreel"),
    ],
)
def test_files_that_are_broken_or_of_another_version(name: str, text: str | None, said: str, tmp_path: Path) -> None:
    for file in ("grafana.json", "alerts.yaml"):
        if file != name:
            (tmp_path / file).write_text((MONITORING / file).read_text())
    if text is not None:
        (tmp_path / name).write_text(text)
    done = in_process("board", "--files", tmp_path, "--prometheus", "http://127.0.0.1:1")
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_panels_within_folded_rows_are_asked_for_too(tmp_path: Path) -> None:
    inner = {"title": "inner", "targets": [{"expr": 'rate(up{run=~"$run"}[$__rate_interval])'}, {"hide": True}]}
    board = {"panels": [{"type": "row", "title": "r", "panels": [inner]}]}
    (tmp_path / "grafana.json").write_text(json.dumps(board))
    (tmp_path / "alerts.yaml").write_text("groups: [{rules: [{alert: A, expr: up}, {record: b, expr: up}]}]")
    assert [(query.title, query.expression) for query in read_queries(str(tmp_path))] == [
        ("inner", 'rate(up{run=~".*"}[5m])'),
        ("A", "up"),
    ]


def _vector(values: list[str]) -> bytes:
    series = [{"metric": {}, "value": [0, value]} for value in values]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": series}}).encode()


@contextmanager
def _server(answer: Any, headers: Mapping[str, str] = {}) -> Iterator[str]:
    """A web server; `answer(query, authorization)` gives status and body."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            status, body = answer(parse_qs(text)["query"][0], self.headers.get("Authorization", ""))
            send(self, status, body, headers)

    with serving(Handler) as address:
        yield address
