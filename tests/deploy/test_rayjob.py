"""The run of the manifest on a cluster of this machine: its own parameters, its own command, nodes that come and go."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
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


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with growing_cluster(GROUPS["head"]["rayStartParams"], node_types(), idle_s=300) as started:
        yield started


@pytest.mark.slow
def test_a_cluster_without_a_node_grows_for_the_run(tmp_path: Path, head: Head) -> None:
    write_pictures(tmp_path / "pictures", 6)
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "pictures", tmp_path / "out")
    given = entrypoint(config, "workers.generate.num_gpus=1", "workers.generate.actors=1")
    for _ in range(30):  # the operator waits, too, until a job can be submitted
        done = subprocess.run(
            submission(*given), env=environ(head), capture_output=True, text=True, timeout=250, check=False
        )
        if "No available agent" not in done.stderr:
            break
        time.sleep(1)
    grown = [process for process in psutil.process_iter() if is_below(process, head) and "raylet" in process.name()]
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    loads = list_tasks(head.dashboard, filters=[("name", "=", "MapBatches(Load)")])
    with_gpu = {node.node_id for node in list_nodes(head.dashboard) if node.resources_total.get("GPU")}
    assert pq.read_table(tmp_path / "out/data/part-00000/metadata.parquet").num_rows == 6
    assert len(grown) >= 2
    # Nothing was known of the nodes when the run decided where it loads, and images have room beside the generator.
    assert with_gpu
    assert {task.node_id for task in loads} - {None}
    assert not {task.node_id for task in loads} & with_gpu


@pytest.mark.slow
def test_a_run_that_asks_for_gpus_of_no_group_says_so(tmp_path: Path, head: Head) -> None:
    """On the cluster that has grown; and `ray job stop` ends it."""
    write_pictures(tmp_path / "pictures", 1)
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "pictures", tmp_path / "out")
    asks = ["workers.generate.num_gpus=1", "workers.generate.actors=1", "workers.generate.accelerator_types=[A100]"]
    command = submission(*entrypoint(config, *asks), name="asks")
    with subprocess.Popen(
        command, env=environ(head), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as job:
        assert job.stdout is not None
        said = list(until(job.stdout, "No node with a GPU of type A100 can come"))
        subprocess.run([RAY, "job", "stop", "asks"], env=environ(head), capture_output=True, check=True, timeout=120)
        job.communicate(timeout=120)
    assert any("wait for nodes with GPUs of type A100 that are to come" in line for line in said)


def until(lines: Iterable[str], last: str) -> Iterator[str]:
    """Up to one that begins so."""
    for line in lines:
        yield line
        if line.startswith(last):
            return
    raise AssertionError(last)


def submission(*given: str, name: str = "") -> list[str | Path]:
    named = [f"--submission-id={name}"] if name else []
    return [RAY, "job", "submit", f"--runtime-env-json={runtime_env()}", *named, "--", *given]


def environ(head: Head) -> dict[str, str]:
    return environment() | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": head.dashboard}


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
