"""A cluster head on this machine, for the tests that need just any cluster: one for each process of the tests."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

RAY = Path(sys.executable).with_name("ray")
_START_TIMEOUT_S = 90
_STORE_BYTES = 150_000_000
_NODE_ID = "--node_id="  # among the arguments of a node's raylet
_IS_UP = "Ray runtime started."
# On a busy machine Ray gives up a node that has not come up within half a minute (2.60).
_TRIES_TO_START = 4
# What sends the logs of workers to drivers: nobody here has a use for it, and it takes a twentieth of a core.
_WITHOUT = "--include-log-monitor=false"


@dataclass(frozen=True)
class Head:
    """Where a driver, and where `ray job submit` finds the cluster."""

    address: str
    dashboard: str
    pid: int  # of the process that all of its others are below


@pytest.fixture(scope="session")
def head() -> Iterator[Head]:
    """A head with 4 CPUs; it asks for no token."""
    port, dashboard_port = free_port(), free_port()
    ports = [f"--port={port}", f"--dashboard-port={dashboard_port}", f"--dashboard-agent-listen-port={free_port()}"]
    dashboard = f"http://127.0.0.1:{dashboard_port}"
    with _node("--head", *ports, "--dashboard-host=127.0.0.1", "--num-cpus=4") as process:
        wait_for(dashboard, process)
        yield Head(f"127.0.0.1:{port}", dashboard, process.pid)


@contextmanager
def metered_head() -> Iterator[tuple[Head, Path]]:
    """A head with 4 CPUs and a GPU that is not there, and the file in which it lists its nodes for Prometheus."""
    port, dashboard_port = free_port(), free_port()
    ports = [f"--port={port}", f"--dashboard-port={dashboard_port}", f"--dashboard-agent-listen-port={free_port()}"]
    ports += ["--dashboard-host=127.0.0.1", f"--metrics-export-port={free_port()}"]
    dashboard = f"http://127.0.0.1:{dashboard_port}"
    with (
        tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder,
        _node("--head", *ports, f"--temp-dir={folder}", "--num-cpus=4", "--num-gpus=1") as process,
    ):
        wait_for(dashboard, process)
        yield Head(f"127.0.0.1:{port}", dashboard, process.pid), Path(folder) / "prom_metrics_service_discovery.json"


@contextmanager
def head_alone(**variables: str) -> Iterator[Head]:
    """A cluster without a node that could make anything, or a dashboard; `variables` are added to its environment."""
    port = free_port()
    with _node("--head", f"--port={port}", "--include-dashboard=false", "--num-cpus=0", **variables) as process:
        yield Head(f"127.0.0.1:{port}", "", process.pid)


@contextmanager
def simulated_head(*, cpus: int, gpus: int, store_bytes: int) -> Iterator[Head]:
    """A head with GPUs that are not there."""
    port = free_port()
    has = [f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--object-store-memory={store_bytes}"]
    with _node("--head", f"--port={port}", "--include-dashboard=false", *has) as process:
        yield Head(f"127.0.0.1:{port}", "", process.pid)


@contextmanager
def another_node(head: Head, *, cpus: int) -> Iterator["psutil.Process"]:
    """A second node of the cluster, as the process that all of its others are below."""
    with _node(f"--address={head.address}", f"--num-cpus={cpus}") as process:
        yield psutil.Process(process.pid)


def node_id(node: psutil.Process) -> str:
    """Ray's id of a node, of its process; waited for."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        for process in node.children(recursive=True):
            with suppress(psutil.Error):
                for word in process.cmdline():
                    if word.startswith(_NODE_ID):
                        return word.removeprefix(_NODE_ID)
        time.sleep(0.1)
    raise AssertionError(f"no raylet below process {node.pid}")


def lose(node: psutil.Process) -> None:
    """End all processes of a node at once, as when its machine is switched off."""
    members = [node, *node.children(recursive=True)]
    with suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    for process in members:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@contextmanager
def ray_connected(head: Head) -> Iterator[None]:
    """This process as a driver of the cluster."""
    import ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        ray.init(address=head.address, log_to_driver=False, logging_level="ERROR")
        try:
            yield
        finally:
            ray.shutdown()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment() -> dict[str, str]:
    """This process's, without what another Ray may have left there."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return clean | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def _node(*arguments: str, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """One that is up; `--block` makes all processes of the node end with the one that is started here."""
    is_head = "--head" in arguments
    command: Sequence[str | Path] = [
        RAY, "start", "--block", "--node-ip-address=127.0.0.1", f"--object-store-memory={_STORE_BYTES}", _WITHOUT,
        *arguments,
    ]  # fmt: skip
    has_place = not is_head or any(one.startswith("--temp-dir=") for one in arguments)  # other nodes take the head's
    for _ in range(_TRIES_TO_START):
        # Unix sockets live in there, and their paths may have 107 characters.
        with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
            said = Path(folder) / "said.txt"
            with said.open("wb") as out:
                process = subprocess.Popen(
                    [*command, *([] if has_place else [f"--temp-dir={folder}"])],
                    env=environment() | {"PYTHONUNBUFFERED": "1"} | variables,
                    start_new_session=True,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            try:
                if _comes_up(process, said):
                    yield process
                    return
            finally:
                end(process)
    raise AssertionError(f"no node of Ray has come up, {_TRIES_TO_START} times")


def _comes_up(process: "subprocess.Popen[bytes]", said: Path) -> bool:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if _IS_UP in said.read_text():
            return True
        time.sleep(0.1)
    return False


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a node of `ray start --block`, and all that it has started."""
    # What a shell has started in the background hears no SIGINT, nor does what that starts; by SIGTERM it takes longer.
    is_deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    process.send_signal(signal.SIGTERM if is_deaf else signal.SIGINT)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(dashboard: str, process: "subprocess.Popen[bytes]") -> None:
    """Until a head's dashboard answers."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the cluster's head ended by itself"
        try:
            urllib.request.urlopen(f"{dashboard}/api/version", timeout=2).close()  # noqa: S310 - http://
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"no dashboard at {dashboard} after {_START_TIMEOUT_S} s")
