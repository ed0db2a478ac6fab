"""What the files for Docker and Kubernetes say, held against schemas, against each other and against the code."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer
import yaml
from ray._private import ray_constants

from pipelines import __main__ as cli
from pipelines.config import load_config
from pipelines.config.sections import RunSettings
from pipelines.placement.nodes import Node
from pipelines.placement.placing import place
from tests.deploy.manifests import FOLDER, ROOT, documents, groups, ray_job

# KubeRay's, as JSON Schema (rayjob.v1.schema.json), of the operator's release 1.7.0.
SCHEMAS = Path(os.environ.get("KUBERAY_SCHEMAS", ROOT.parent / "shared" / "kuberay"))
JOB = ray_job()
GROUPS = groups(JOB)
ENTRYPOINT = shlex.split(JOB["entrypoint"])


def workers() -> list[dict[str, Any]]:
    return [group for name, group in GROUPS.items() if name != "head"]


def held(group: dict[str, Any], what: str) -> int:
    """GPUs or CPUs of a pod."""
    (container,) = group["template"]["spec"]["containers"]
    resources = container["resources"]
    return int(resources["requests"]["cpu"] if what == "cpu" else resources["limits"].get("nvidia.com/gpu", 0))


def closed(schema: Any) -> Any:
    """A schema that takes no field which it does not name: the API server drops those in silence."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: closed(part) for name, part in schema.items()}
    keeps = parts.get("x-kubernetes-preserve-unknown-fields", False)
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema and not keeps:
        parts["additionalProperties"] = False
    return parts


def test_the_run_is_one_that_the_operator_takes() -> None:
    path = SCHEMAS / "rayjob.v1.schema.json"
    if not path.is_file():
        pytest.skip(f"KubeRay's schemas are not in {SCHEMAS}")
    schema = closed(json.loads(path.read_text()))
    (job,) = (document for _, document in documents() if document["kind"] == "RayJob")
    faults = [error.json_path + ": " + error.message for error in jsonschema.Draft7Validator(schema).iter_errors(job)]
    assert faults == []
    broken = json.loads(json.dumps(job))
    broken["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    assert not jsonschema.Draft7Validator(schema).is_valid(broken)


@pytest.mark.parametrize(
    "document",
    [document for _, document in documents() if document["kind"] not in ("RayJob", "Kustomization")],
    ids=lambda document: str(document["kind"]),
)
def test_the_others_are_what_kubernetes_takes(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, "1.34", strict=True)


def test_the_pods_of_the_run_are_what_kubernetes_takes() -> None:
    for name, group in GROUPS.items():
        pod = {"apiVersion": "v1", "kind": "Pod", **group["template"]}
        kubernetes_validate.validate(pod | {"metadata": {"name": name, **pod["metadata"]}}, "1.34", strict=True)


def test_the_configmap_holds_the_run() -> None:
    (kustomization,) = (document for _, document in documents() if document["kind"] == "Kustomization")
    (generator,) = kustomization["configMapGenerator"]
    (schedule,) = (document for _, document in documents() if document["kind"] == "CronJob")
    pod = schedule["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["volumes"][0]["configMap"]["name"] == generator["name"]
    assert pod["containers"][0]["command"][-1] == "/job/" + generator["files"][0]
    assert all((FOLDER / name).is_file() for name in [*kustomization["resources"], *generator["files"]])


def test_pods_get_longer_than_clips_under_way() -> None:
    grace_s = RunSettings().grace_s
    stop_s = float(yaml.safe_load(JOB["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"])
    assert grace_s < stop_s
    for group in GROUPS.values():
        assert stop_s < group["template"]["spec"]["terminationGracePeriodSeconds"]


def test_workers_hear_of_a_notice_and_get_the_time_that_it_tells() -> None:
    for group in workers():
        (container,) = group["template"]["spec"]["containers"]
        program, command, option, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
        drain = typer.main.get_command(cli.app).commands[command]  # type: ignore[attr-defined]  # a group's
        assert (program, option in [name for parameter in drain.params for name in parameter.opts]) == (
            "stillreel",
            True,
        )
        left_s = group["template"]["spec"]["terminationGracePeriodSeconds"] - float(seconds)
        assert left_s > ray_constants.RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S  # that Ray waits on SIGTERM by itself
    assert "lifecycle" not in GROUPS["head"]["template"]["spec"]["containers"][0]


def test_rays_version_is_that_of_the_constraints() -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    assert f"\nray=={JOB['rayClusterSpec']['rayVersion']}\n" in constraints


def test_the_command_is_one_that_stillreel_takes_and_that_fits_the_cluster() -> None:
    command, verb, flag, config, *overrides = ENTRYPOINT
    assert (command, verb, flag) == ("stillreel", "run", "--config")
    loaded = load_config([str(ROOT / config.removeprefix("/opt/stillreel/"))], overrides)
    assert loaded.ray.autoscaling
    there = loaded.model_copy(update={"ray": loaded.ray.model_copy(update={"autoscaling": False})})
    nodes = [
        Node(held(group, "cpu"), held(group, "gpu"), "H100" if held(group, "gpu") else None)
        for group in workers()
        for _ in range(group["maxReplicas"])
    ]
    placement = place(there, nodes)
    assert placement.pools.gpus == sum(node.gpus for node in nodes)
    assert [note for note in placement.notes if "memory is not known" not in note] == []


def test_every_node_is_of_one_image_and_offers_its_metrics() -> None:
    images = set()
    for group in GROUPS.values():
        (container,) = group["template"]["spec"]["containers"]
        images.add(container["image"])
        port = group["rayStartParams"]["metrics-export-port"]
        assert group["template"]["metadata"]["annotations"]["prometheus.io/port"] == port
        assert int(port) in [one["containerPort"] for one in container["ports"]]
    assert len(images) == 1


def test_the_head_makes_no_clips_and_stands_on_no_spot_machine() -> None:
    head = GROUPS["head"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    (term,) = head["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert {rule["key"] for rule in term["matchExpressions"]} == {
        "karpenter.sh/capacity-type",
        "cloud.google.com/gke-spot",
    }


def test_no_file_holds_a_secret_or_runs_as_root() -> None:
    for name, document in documents():
        assert document["kind"] != "Secret", name
    for group in GROUPS.values():
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
    assert re.search(r"^USER 1000$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_the_dockerfile_has_no_faults() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for name in ("actors", "pipelines")
        for path in (ROOT / name).rglob("__init__.py")
    }
    assert sorted(listed) == sorted(there)


def test_the_dockerfile_copies_what_is_there() -> None:
    text = (ROOT / "Dockerfile").read_text()
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        name
        for line in text.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    }
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)
