"""Which cluster a run is told to use, and what is said where there is none."""

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from actors.errors import ConfigError
from pipelines.config import load_config
from pipelines.driver.address import Address, address_of
from tests.clusters import free_port
from tests.jobs import in_process, write_null_config, write_pictures
from tests.web import serving


@pytest.mark.parametrize(
    ("setting", "variable", "expected"),
    [
        (None, None, None),
        (None, "", None),
        (None, "  ", None),
        (None, "local", None),
        ("local", "10.0.0.1:6379", None),
        ("", "10.0.0.1:6379", "RAY_ADDRESS=10.0.0.1:6379"),
        (None, "10.0.0.1:6379", "RAY_ADDRESS=10.0.0.1:6379"),
        (None, "auto", "RAY_ADDRESS=auto"),
        ("auto", None, "ray.address=auto"),
        ("auto", "10.0.0.1:6379", "RAY_ADDRESS=10.0.0.1:6379"),  # so does Ray
        ("10.0.0.2:6379", "10.0.0.1:6379", "ray.address=10.0.0.2:6379"),
        ("10.0.0.2:6379", "garbage", "ray.address=10.0.0.2:6379"),
    ],
)
def test_the_cluster_is_what_the_user_has_set(
    setting: str | None, variable: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    config = load_config(["conf/null.yaml"], ["manifest=m", "output=o"])
    address = address_of(config.model_copy(update={"ray": config.ray.model_copy(update={"address": setting})}))
    assert (address and address.said) == expected
    if address is not None:
        address.endpoint()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("garbage", "is no address of a Ray cluster: write host:port"),
        ("127.0.0.1", "is no address of a Ray cluster"),
        ("localhost:abc", "is no address of a Ray cluster"),
        ("localhost:0", "is no address of a Ray cluster"),
        ("localhost:65536", "is no address of a Ray cluster"),
        (":6379", "is no address of a Ray cluster"),
        ("a:b:6379", "is no address of a Ray cluster"),
        ("tcp://10.0.0.1:6379", "is no address of a Ray cluster"),
        ("http://127.0.0.1:8265", "`ray job submit --address http://127.0.0.1:8265 -- ...`"),
        ("HTTPS://ray.example.com", "`ray job submit --address HTTPS://ray.example.com -- ...`"),
        ("ray://10.0.0.1:10001", "Ray's client, which is not supported: run the command on a node"),
    ],
)
def test_what_can_be_no_address_is_a_mistake_that_names_its_setting(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Address(text, f"RAY_ADDRESS={text}").endpoint()
    assert str(caught.value).startswith(f"RAY_ADDRESS={text} is ")
    assert words in str(caught.value)


def test_addresses_are_taken_apart() -> None:
    assert Address("head.example.com:6379", "").endpoint() == ("head.example.com", 6379)
    assert Address("[::1]:6379", "").endpoint() == ("::1", 6379)
    assert Address("auto", "").endpoint() is None


@contextmanager
def web_server() -> Iterator[int]:
    with serving(http.server.SimpleHTTPRequestHandler) as address:
        yield int(address.rpartition(":")[2])


def accept_and_close(listening: socket.socket) -> None:
    listening.accept()[0].close()


def test_a_run_says_in_one_sentence_that_there_is_no_such_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "images", 1)
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "images", tmp_path / "out")

    def sentence(variable: str, *overrides: str) -> str:
        monkeypatch.setenv("RAY_ADDRESS", variable)
        done = in_process("run", "--config", config, *overrides)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        return done.stderr

    port = free_port()
    assert f"no Ray cluster at RAY_ADDRESS=127.0.0.1:{port}: Connection refused" in sentence(f"127.0.0.1:{port}")
    named = sentence("garbage", f"ray.address=127.0.0.1:{port}")
    assert f"no Ray cluster at ray.address=127.0.0.1:{port}: " in named
    assert "RAY_ADDRESS" not in named
    assert "RAY_ADDRESS=garbage is no address" in sentence("garbage")
    with web_server() as port:
        assert "something else listens there" in sentence(f"127.0.0.1:{port}")
    with closing(socket.socket()) as closes_at_once:
        closes_at_once.bind(("127.0.0.1", 0))
        closes_at_once.listen()
        thread = threading.Thread(target=accept_and_close, args=[closes_at_once])
        thread.start()
        assert "something else listens there" in sentence(f"127.0.0.1:{closes_at_once.getsockname()[1]}")
        thread.join()
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    planned = in_process("plan", "--config", config)
    assert planned.returncode == 0
    assert "note: here, `run` would say: RAY_ADDRESS=http://127.0.0.1:8265 is the address of" in planned.stdout
