"""Debian's Prometheus on a loopback port, with the project's own configuration, for the tests of metrics."""

import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.clusters import free_port
from tests.jobs import ROOT

MONITORING = ROOT / "conf/monitoring"
_START_TIMEOUT_S = 60


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; the test is skipped where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install --no-install-recommends prometheus")
    return path


@contextmanager
def running_prometheus(folder: Path, nodes: Path | None = None) -> Iterator[str]:
    """A Prometheus that scrapes every two seconds what Ray's head lists in the file `nodes`; its address."""
    settings = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"}
    settings["rule_files"] = [str(MONITORING / "alerts.yaml")]
    (job,) = settings["scrape_configs"]
    (discovery,) = job["file_sd_configs"]
    discovery |= {"files": [str(nodes or folder / "none.json")], "refresh_interval": "1s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address={address}", "--log.level=warn",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_for(f"http://{address}", process, folder / "prometheus.log")
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{address}/-/ready", timeout=5).close()  # noqa: S310 - http://
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"Prometheus does not get ready:\n{log.read_text()}")
