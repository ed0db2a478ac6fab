"""Real servers on a loopback port, for tests that must not trust a fake: OpenStack Swift behind its S3 face.

Swift is a production object store that pip installs and that runs as four small processes (about 250 MB, 4 s to
start). Its PUT is atomic and it checks signatures. What it does not honour is a conditional PUT (`If-None-Match`) under
a race: prove nothing about leases with it.
"""

import http.client
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from actors.storage import Storage

KEY = "test:tester"
SECRET = "testing"
START_TIMEOUT_S = 60.0
LISTING_PAGE = 20  # keys per listing answer: few, so that small tests meet the second page too (AWS: 1000)

_BACKENDS = ("object", "container", "account")

_SWIFT_CONF = """\
[swift-hash]
swift_hash_path_suffix = stillreel
"""

_BACKEND_CONF = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
fallocate_reserve = 0
log_address = {folder}/no-syslog
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""

# No memcached: tempauth then keeps nothing between requests, which S3 requests do not need.
_PROXY_CONF = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
log_address = {folder}/no-syslog
[pipeline:main]
pipeline = catch_errors s3api tempauth slo versioned_writes proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:s3api]
use = egg:swift#s3api
max_bucket_listing = {page}
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:slo]
use = egg:swift#slo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running S3 endpoint and the keys it accepts."""

    endpoint: str
    key: str = KEY
    secret: str = SECRET
    listing_page: int = LISTING_PAGE

    def options(self, **changed: Any) -> dict[str, Any]:
        """fsspec options for the scheme `s3`; `changed` replaces some (a wrong secret, say)."""
        return {"key": self.key, "secret": self.secret, "client_kwargs": {"endpoint_url": self.endpoint}} | changed


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One Swift for all tests of a run."""
    with swift(tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_storage(s3_server: S3Server) -> Storage:
    """Access to `s3_server` with its keys."""
    return Storage({"s3": s3_server.options()})


@pytest.fixture
def s3_bucket(s3_storage: Storage) -> str:
    """The URI of a new, empty bucket."""
    name = f"bucket-{uuid.uuid4().hex}"
    s3_storage.filesystem("s3://").mkdir(name)
    return f"s3://{name}"


@contextmanager
def swift(folder: Path) -> Iterator[S3Server]:
    """Run Swift with all it keeps under `folder`; raise RuntimeError with its log where it does not start."""
    (folder / "swift.conf").write_text(_SWIFT_CONF)
    ports = dict(zip((*_BACKENDS, "proxy"), free_ports(len(_BACKENDS) + 1), strict=True))
    _build_rings(folder, ports)
    with ExitStack() as stack:
        for kind in _BACKENDS:
            config = _BACKEND_CONF.format(port=ports[kind], folder=folder, kind=kind)
            stack.enter_context(_server(folder, kind, config, ports[kind], "/recon/version"))
        config = _PROXY_CONF.format(port=ports["proxy"], folder=folder, secret=SECRET, page=LISTING_PAGE)
        stack.enter_context(_server(folder, "proxy", config, ports["proxy"], "/"))
        yield S3Server(f"http://127.0.0.1:{ports['proxy']}")


# What `swift-ring-builder` does, which would be nine processes.
_RINGS = """\
import sys
from swift.common.ring import RingBuilder
for kind, port in (one.split("=") for one in sys.argv[1:]):
    ring = RingBuilder(1, 1, 0)
    place = {"ip": "127.0.0.1", "port": int(port), "device": "d1"}
    ring.add_dev({"region": 1, "zone": 1, "weight": 1.0, "meta": "", **place})
    ring.rebalance()
    ring.get_ring().save(f"{kind}.ring.gz")
"""


def _build_rings(folder: Path, ports: Mapping[str, int]) -> None:
    (folder / "devices" / "d1").mkdir(parents=True)
    command = [sys.executable, "-c", _RINGS, *(f"{kind}={ports[kind]}" for kind in _BACKENDS)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@contextmanager
def _server(folder: Path, kind: str, config: str, port: int, probe: str) -> Iterator[None]:
    (folder / f"{kind}-server.conf").write_text(config)
    with (folder / f"{kind}.log").open("w+b") as log:
        command = [_program(f"swift-{kind}-server"), f"{kind}-server.conf"]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until_it_answers(process, log, port, probe)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_it_answers(process: "subprocess.Popen[bytes]", log: IO[bytes], port: int, path: str) -> None:
    """Until `process` speaks HTTP on `port`; raise RuntimeError with its log where it does not."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            connection.getresponse()
        except OSError:
            time.sleep(0.1)
        else:
            return
        finally:
            connection.close()
    log.seek(0)
    raise RuntimeError(f"{process.args!r} did not start:\n{log.read().decode(errors='replace')}")


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nothing listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]
