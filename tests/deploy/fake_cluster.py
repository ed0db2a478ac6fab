"""A cluster on this machine that grows by itself: each of its nodes is a process, of a group of the manifest."""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import clusters
from tests.clusters import RAY, Head, environment, free_port, wait_for

_HEAD_TYPE = "ray.head.default"  # as that provider calls it
# What Ray's provider of pretended nodes calls the head.
_HEAD_ID = "f" * 51 + "00000"
_STORE_BYTES = 100_000_000


@contextmanager
def growing_cluster(
    start: Mapping[str, str], node_types: Mapping[str, dict[str, Any]], *, idle_s: float
) -> Iterator[Head]:
    """A head with these `rayStartParams`, and nodes of these types, which come when they are needed."""
    port, dashboard_port = free_port(), free_port()
    head = {"resources": {"CPU": 0}, "node_config": {}, "min_workers": 0, "max_workers": 0}
    config = {
        "cluster_name": "test",
        "max_workers": 8,
        "idle_timeout_minutes": idle_s / 60,
        "provider": {
            # By its class: the type of that name wants a file that Ray's wheel lacks.
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": _HEAD_ID,
            "gcs_address": f"127.0.0.1:{port}",
        },
        "available_node_types": {**node_types, _HEAD_TYPE: head},
        "head_node_type": _HEAD_TYPE,
        "upscaling_speed": 10.0,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "setup_commands": [],
        "initialization_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "autoscaling.json"
        path.write_text(json.dumps(config))
        given = [f"--{name}={value}" for name, value in start.items() if name != "dashboard-host"]
        command: list[str | Path] = [
            RAY, "start", "--head", "--block", f"--autoscaling-config={path}", f"--temp-dir={folder}",
            f"--port={port}", f"--dashboard-port={dashboard_port}", f"--dashboard-agent-listen-port={free_port()}",
            f"--ray-client-server-port={free_port()}",
            "--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1", f"--object-store-memory={_STORE_BYTES}",
            *given,
        ]  # fmt: skip
        fakes = {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": _HEAD_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
        }
        process = subprocess.Popen(
            command,
            env=environment() | fakes,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(f"http://127.0.0.1:{dashboard_port}", process)
            yield Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard_port}", process.pid)
        finally:
            clusters.end(process)
