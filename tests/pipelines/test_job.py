"""The same command through `ray job submit`, against a real cluster head on this machine."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.jobs import ROOT, write_config, write_pictures

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RAY = Path(sys.executable).with_name("ray")
START_TIMEOUT_S = 90


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment() -> dict[str, str]:
    """This process's, without what another Ray may have left there; the test's cluster asks for no token."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return clean | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """The address of a cluster head with 2 CPUs; `--block` makes its processes end with the one that we started."""
    port = free_port()
    # Unix sockets live in there, and their paths may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        command: list[str | Path] = [RAY, "start", "--head", "--block"]
        command += [f"--port={free_port()}", f"--dashboard-port={port}"]
        command += ["--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}", "--num-cpus=2"]
        command += ["--object-store-memory=200000000", f"--dashboard-agent-listen-port={free_port()}"]
        head = subprocess.Popen(
            command,
            env=environment(),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(address, head)
            yield address
        finally:
            head.send_signal(signal.SIGINT)
            try:
                head.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(head.pid, signal.SIGKILL)


def wait_for(address: str, head: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert head.poll() is None, "the cluster's head ended by itself"
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=2).close()  # noqa: S310 - http://
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
        else:
            return
    raise AssertionError(f"no dashboard at {address} after {START_TIMEOUT_S} s")


def submit(dashboard: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [RAY, "job", "submit", "--address", dashboard, "--working-dir", str(ROOT), "--"]
    command += [sys.executable, "-m", "pipelines", *map(str, arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=400, check=False)


def test_a_submitted_job_makes_the_dataset_and_logs_plain_lines(
    dashboard: str, tmp_path: Path, svd_checkpoint: Path, rife_weights: Path
) -> None:
    write_pictures(tmp_path / "images", 5)
    config = write_config(tmp_path / "job.yaml", tmp_path / "images", tmp_path / "out", svd_checkpoint, rife_weights)
    done = submit(dashboard, "run", "--config", config, "run.log_interval_s=0.2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert pq.read_table(tmp_path / "out/data/part-00000/metadata.parquet").num_rows == 5
    lines = done.stdout.splitlines()
    progress = [line for line in lines if "/5 clips" in line]
    assert progress[-1].startswith("5/5 clips (100 %), 0 failed")
    assert any("ETA 0:" in line for line in progress)
    assert not any("\r" in line or "it/s" in line for line in lines)
    assert any("clips made" in line for line in lines)


def test_a_job_that_needs_gpus_says_so(
    dashboard: str, tmp_path: Path, svd_checkpoint: Path, rife_weights: Path
) -> None:
    write_pictures(tmp_path / "images", 1)
    config = write_config(tmp_path / "job.yaml", tmp_path / "images", tmp_path / "out", svd_checkpoint, rife_weights)
    done = submit(dashboard, "run", "--config", config, "workers.generate.num_gpus=1")
    assert done.returncode == 1  # `ray job submit` knows no other; the job's own exit code is 2
    assert "the configuration reserves GPUs" in done.stdout + done.stderr
