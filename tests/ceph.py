"""Ceph's S3 gateway on a loopback port: a store whose conditional writes are atomic, for what Swift cannot show.

One monitor, one OSD and one gateway, from Debian's packages (radosgw, ceph-mon, ceph-osd): about 600 MB and 15 s.
"""

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.servers import S3Server, free_ports, wait_until_it_answers

_PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_KEY, _SECRET = "test", "testing"
_COMMAND_TIMEOUT_S = 60
# What a monitor that has just started says on a busy machine, before it has seen the command.
_NOT_READY = "problem getting command descriptions"
_COMMAND_TRIES = 20
_OSD_STARTS = 8

# `monmap` and `cluster_addr` are not optional: without the first the OSD sometimes asks the wrong cluster, without the
# second it listens to the whole network. `bluestore_block_size` is of a sparse file.
_CEPH_CONF = """\
[global]
fsid = {fsid}
mon_host = [v1:127.0.0.1:{port}]
monmap = {folder}/monmap
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
osd_pool_default_size = 1
osd_pool_default_pg_num = 8
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
osd_objectstore = bluestore
bluestore_block_size = 10G
run_dir = {folder}
mon_data = {folder}/mon
osd_data = {folder}/osd
rgw_data = {folder}/rgw
log_file = {folder}/$name.log
keyring = {folder}/keyring
"""


@pytest.fixture(scope="session")
def ceph_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One gateway for all tests of a run; they are skipped where Ceph is not installed."""
    if missing := [program for program in _PROGRAMS if shutil.which(program) is None]:
        pytest.skip(f"Ceph is not installed ({', '.join(missing)}): apt-get install radosgw ceph-mon ceph-osd")
    with ceph(tmp_path_factory.mktemp("ceph")) as server:
        yield server


@contextmanager
def ceph(folder: Path) -> Iterator[S3Server]:
    """Run the gateway with all it keeps under `folder`; raise RuntimeError with its log where it does not start."""
    monitor_port, port = free_ports(2)
    fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
    (folder / "ceph.conf").write_text(_CEPH_CONF.format(fsid=fsid, port=monitor_port, folder=folder))
    (folder / "keyring").touch()
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    with ExitStack() as stack:
        _run(
            folder, "monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v1:127.0.0.1:{monitor_port}]", "monmap"
        )
        _run(folder, "ceph-mon", "-i", "a", "--mkfs", "--monmap", "monmap")
        stack.enter_context(_running(folder, "ceph-mon", "-i", "a", "-f"))
        _run(folder, "ceph", "osd", "new", osd)
        _run(folder, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        stack.enter_context(_running_osd(folder))
        frontend = f"beast endpoint=127.0.0.1:{port}"
        gateway = stack.enter_context(
            _running(folder, "radosgw", "-f", "-n", "client.rgw", "--rgw_frontends", frontend)
        )
        with (folder / "client.rgw.log").open("a+b") as log:
            wait_until_it_answers(gateway, log, port, "/")
        keys = [f"--access-key={_KEY}", f"--secret-key={_SECRET}"]
        _run(folder, "radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=t", "--display-name=t", *keys)
        yield S3Server(f"http://127.0.0.1:{port}", _KEY, _SECRET)


def _run(folder: Path, *command: str) -> str:
    """What one of Ceph's tools prints; what it complains of is in the error if it fails."""
    for _ in range(_COMMAND_TRIES):
        result = subprocess.run(
            command,
            cwd=folder,
            env=_environment(folder),
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
        if result.returncode == 0:
            return result.stdout
        if _NOT_READY not in result.stderr:
            break
        time.sleep(1)
    raise RuntimeError(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")


@contextmanager
def _running(folder: Path, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / f"{command[0]}.out").open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=_environment(folder), stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.kill()  # nothing of it is kept, and its orderly end takes seconds
            process.wait()


@contextmanager
def _running_osd(folder: Path) -> Iterator[None]:
    """The OSD, started again where it died at its start.

    Every third time or so it asks the monitor before it has been told the cluster's id, and ends with "wrong fsid".
    """
    for _ in range(_OSD_STARTS):
        with _running(folder, "ceph-osd", "-i", "0", "-f") as process:
            while process.poll() is None:
                if json.loads(_run(folder, "ceph", "osd", "stat", "--format", "json"))["num_up_osds"] == 1:
                    yield
                    return
    raise RuntimeError(f"ceph-osd did not start:\n{(folder / 'ceph-osd.out').read_text()}")


def _environment(folder: Path) -> dict[str, str]:
    return os.environ | {"CEPH_CONF": str(folder / "ceph.conf")}
