"""The run of the manifest on a cluster of this machine: its own parameters, its own command, nodes that come and go."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from ray.util.state import list_nodes, list_tasks

from tests.clusters import RAY, Head, environment
from tests.deploy.fake_cluster import growing_cluster
from tests.deploy.manifests import ROOT, groups, ray_job
from tests.jobs import write_null_config, write_pictures

JOB = ray_job()
GROUPS = groups(JOB)


def node_types() -> dict[str, dict[str, Any]]:
    """The groups of workers, as many CPUs and GPUs as their pods ask for."""
    types = {}
    for name, group in GROUPS.items():
        if name == "head":
            continue
        resources = group["template"]["spec"]["containers"][0]["resources"]
        held = {"CPU": int(resources["requests"]["cpu"]), "object_store_memory": 100_000_000}
        if gpus := int(resources["limits"].get("nvidia.com/gpu", 0)):
            held["GPU"] = gpus
        types[name] = {
            "resources": held,
            "labels": group.get("labels", {}),
            "node_config": {},
            "min_workers": group["minReplicas"],
            "max_workers": group["maxReplicas"],
        }
    return types


def entrypoint(config: Path, *overrides: str) -> list[str]:
    """The manifest's own, with another configuration file, which needs no model and no GPU."""
    command = shlex.split(JOB["entrypoint"])
    kept = [one for one in command if not one.startswith(("manifest=", "output=", "interpolation.", "workers."))]
    return [str(config) if one.startswith("/opt/") else one for one in kept] + list(overrides)


@pytest.mark.slow
def test_a_cluster_without_a_node_grows_for_the_run(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 6)
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "pictures", tmp_path / "out")
    environ = environment() | {"PYTHONPATH": str(ROOT)}
    command: list[str | Path] = [
        RAY, "job", "submit", f"--runtime-env-json={runtime_env()}", "--",
        *entrypoint(config, "workers.generate.num_gpus=1", "workers.generate.actors=1"),
    ]  # fmt: skip
    with growing_cluster(GROUPS["head"]["rayStartParams"], node_types(), idle_s=300) as head:
        for _ in range(30):  # the operator waits, too, until a job can be submitted
            here = environ | {"RAY_ADDRESS": head.dashboard}
            done = subprocess.run(command, env=here, capture_output=True, text=True, timeout=250, check=False)
            if "No available agent" not in done.stderr:
                break
            time.sleep(1)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        loads = list_tasks(head.dashboard, filters=[("name", "=", "MapBatches(Load)")])
        with_gpu = {node.node_id for node in list_nodes(head.dashboard) if node.resources_total.get("GPU")}
        grown = [process for process in psutil.process_iter() if is_below(process, head) and "raylet" in process.name()]
    assert pq.read_table(tmp_path / "out/data/part-00000/metadata.parquet").num_rows == 6
    assert len(grown) >= 2
    # Nothing was known of the nodes when the run decided where it loads, and images have room beside the generator.
    assert with_gpu
    assert {task.node_id for task in loads} - {None}
    assert not {task.node_id for task in loads} & with_gpu


def runtime_env() -> str:
    """Of the manifest, and this checkout in the place of the image's installation."""
    given = yaml.safe_load(JOB["runtimeEnvYAML"])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    given["env_vars"] |= {"PYTHONPATH": str(ROOT), "PATH": path}
    return json.dumps(given)


def is_below(process: psutil.Process, head: Head) -> bool:
    try:
        return head.pid in [parent.pid for parent in process.parents()]
    except psutil.Error:
        return False
