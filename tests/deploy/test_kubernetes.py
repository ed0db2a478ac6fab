"""What the files for Docker and Kubernetes say, held against schemas, against each other and against the code."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer
import yaml
from ray._common import utils as ray_common_utils
from ray._private import ray_constants, services
from ray._private import utils as ray_utils
from ray.autoscaler._private.kuberay.autoscaling_config import _get_labels_from_group_spec
from ray.job_submission import JobStatus
from ray.util.accelerators import accelerators

from pipelines import __main__ as cli
from pipelines.config import load_config
from pipelines.config.sections import RunSettings
from pipelines.placement.nodes import TYPE_LABEL, Node
from pipelines.placement.placing import place
from tests.deploy.manifests import FOLDER, ROOT, documents, groups, ray_job

# KubeRay's, as JSON Schema (rayjob.v1.schema.json), of the operator's release 1.7.0.
SCHEMAS = Path(os.environ.get("KUBERAY_SCHEMAS", ROOT.parent / "shared" / "kuberay"))
JOB = ray_job()
GROUPS = groups(JOB)
SUBMITTER = JOB["submitterPodTemplate"]
DRAIN_VARIABLE = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
TYPES_OF_RAY = {value for name, value in vars(accelerators).items() if name.isupper()}
ENTRYPOINT = shlex.split(JOB["entrypoint"])


def workers() -> list[dict[str, Any]]:
    return [group for name, group in GROUPS.items() if name != "head"]


def held(group: dict[str, Any], what: str) -> int:
    """GPUs or CPUs of a pod."""
    (container,) = group["template"]["spec"]["containers"]
    resources = container["resources"]
    return int(resources["requests"]["cpu"] if what == "cpu" else resources["limits"].get("nvidia.com/gpu", 0))


def bytes_of(memory: str) -> int:
    """Of a quantity in Kubernetes' way, such as 40Gi."""
    assert memory.endswith("Gi")
    return int(memory.removesuffix("Gi")) * 2**30


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
    templates = {name: group["template"] for name, group in GROUPS.items()} | {"submitter": SUBMITTER}
    for name, template in templates.items():
        metadata = {"name": name, **template.get("metadata", {})}
        pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": metadata}
        kubernetes_validate.validate(pod, "1.34", strict=True)


def test_the_configmap_holds_the_run() -> None:
    (kustomization,) = (document for _, document in documents() if document["kind"] == "Kustomization")
    (generator,) = kustomization["configMapGenerator"]
    (schedule,) = (document for _, document in documents() if document["kind"] == "CronJob")
    pod = schedule["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["volumes"][0]["configMap"]["name"] == generator["name"]
    assert pod["containers"][0]["image"] == container_of({"template": SUBMITTER})["image"]
    python, script, manifest = pod["containers"][0]["command"]
    assert python == "python"
    assert (ROOT / script.removeprefix("/opt/stillreel/")).is_file()  # the image holds conf/ there
    assert manifest == "/job/" + generator["files"][0]
    assert all((FOLDER / name).is_file() for name in [*kustomization["resources"], *generator["files"]])


def container_of(group: dict[str, Any]) -> dict[str, Any]:
    (container,) = group["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def hook_of(group: dict[str, Any]) -> list[str]:
    """The command of its `preStop`."""
    command = container_of(group)["lifecycle"]["preStop"]["exec"]["command"]
    return [str(word) for word in command]


def test_pods_get_longer_than_clips_under_way() -> None:
    grace_s = RunSettings().grace_s
    stop_s = float(yaml.safe_load(JOB["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"])
    assert grace_s < stop_s
    assert hasattr(ray_constants, DRAIN_VARIABLE)  # Ray itself reads it by this name
    for name, group in GROUPS.items():
        (drain_s,) = [float(one["value"]) for one in container_of(group)["env"] if one["name"] == DRAIN_VARIABLE]
        hook_s = stop_s if name == "head" else float(hook_of(group)[-1])
        assert grace_s < min(hook_s, drain_s)  # each alone is enough, where the other does not work
        assert hook_s + drain_s < group["template"]["spec"]["terminationGracePeriodSeconds"]


def test_workers_hear_of_a_notice() -> None:
    for group in workers():
        program, command, option, _ = hook_of(group)
        drain = typer.main.get_command(cli.app).commands[command]  # type: ignore[attr-defined]  # a group's
        assert program == "stillreel"
        assert option in [name for parameter in drain.params for name in parameter.opts]


def test_the_end_of_the_head_stops_the_run_that_is_at_work_and_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = {"done": [JobStatus.SUCCEEDED], "run": [JobStatus.RUNNING] * 3 + [JobStatus.STOPPED]}
    stopped: list[str] = []
    waited: list[float] = []

    class Client:
        def __init__(self, address: str) -> None:
            assert address == "http://127.0.0.1:8265"

        def list_jobs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(submission_id=name) for name in (None, *statuses)]  # None: a driver without a job

        def get_job_status(self, name: str) -> JobStatus:
            left = statuses[name]
            return left.pop(0) if len(left) > 1 else left[0]

        def stop_job(self, name: str) -> None:
            stopped.append(name)

    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", Client)
    monkeypatch.setattr("time.sleep", waited.append)
    python, option, script = hook_of(GROUPS["head"])
    assert (python, option) == ("python", "-c")
    exec(script, {})  # noqa: S102 - the manifest's own
    assert (stopped, waited) == (["run"], [1, 1])
    assert statuses["run"] == [JobStatus.STOPPED]


def test_a_group_with_gpus_says_of_which_type_before_it_has_a_node() -> None:
    for group in workers():
        labels = _get_labels_from_group_spec(group, group["groupName"])  # as Ray's autoscaler reads them
        kind = labels.get(TYPE_LABEL)
        assert (kind in TYPES_OF_RAY) if held(group, "gpu") else (kind is None)


def test_the_constraints_leave_pytorchs_cuda_build_its_own_triton() -> None:
    """The CPU build asks for no Triton, so that no installation here would see it."""
    asked_for = {"2.13.0": "3.7.1"}  # by the builds of PyTorch with CUDA: `Requires-Dist: triton==...`
    versions = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    assert versions["triton"] == asked_for[versions["torch"]]


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
    images = {container_of({"template": SUBMITTER})["image"]}
    for group in GROUPS.values():
        (container,) = group["template"]["spec"]["containers"]
        images.add(container["image"])
        port = group["rayStartParams"]["metrics-export-port"]
        assert group["template"]["metadata"]["annotations"]["prometheus.io/port"] == port
        assert int(port) in [one["containerPort"] for one in container["ports"]]
    assert len(images) == 1


@pytest.mark.parametrize("name", GROUPS)
def test_the_object_store_of_a_pod_lies_in_its_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Ray's own functions, with all of the pod's memory to begin with: the store is never larger."""
    pod = GROUPS[name]["template"]["spec"]
    (container,) = pod["containers"]
    memory = bytes_of(container["resources"]["limits"]["memory"])
    mounted = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    own = [one["emptyDir"]["sizeLimit"] for one in pod["volumes"] if one["name"] == mounted.get("/dev/shm")]  # noqa: S108
    # Where the pod mounts none, the operator mounts one of the size of the memory that is asked for.
    shm = bytes_of(own[0] if own else container["resources"]["requests"]["memory"])
    monkeypatch.setattr(ray_utils, "get_shared_memory_bytes", lambda: shm)
    monkeypatch.setattr(ray_common_utils, "get_system_memory", lambda: memory)
    given = GROUPS[name]["rayStartParams"].get("object-store-memory")
    store = ray_utils.resolve_object_store_memory(memory, int(given) if given else None)
    assert store > 2**30
    assert services.determine_plasma_store_config(store, "/tmp/ray")[0] == "/dev/shm"  # noqa: S108


def test_the_head_makes_no_clips_and_stands_on_no_spot_machine() -> None:
    head = GROUPS["head"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    (term,) = head["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    refused = {rule["key"]: rule.get("values") for rule in term["matchExpressions"]}
    assert {rule["operator"] for rule in term["matchExpressions"]} == {"NotIn", "DoesNotExist"}
    assert refused == {
        "karpenter.sh/capacity-type": ["spot"],
        "eks.amazonaws.com/capacityType": ["SPOT"],
        "cloud.google.com/gke-spot": None,
        "cloud.google.com/gke-provisioning": ["spot"],
        "kubernetes.azure.com/scalesetpriority": ["spot"],
    }


def test_a_submitter_that_is_lost_is_followed_by_another_beside_the_head() -> None:
    assert JOB["submitterConfig"]["backoffLimit"] >= 2
    pod = SUBMITTER["spec"]
    assert pod["affinity"] == GROUPS["head"]["template"]["spec"]["affinity"]
    assert pod["restartPolicy"] == "Never"
    assert "command" not in container_of({"template": SUBMITTER})  # the operator's own, which asks for the job first


def test_the_group_of_spot_machines_stands_on_those_that_the_head_refuses() -> None:
    selector = GROUPS["gpu-spot"]["template"]["spec"]["nodeSelector"]
    (term,) = GROUPS["head"]["template"]["spec"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    refused = {(rule["key"], value) for rule in term["matchExpressions"] for value in rule.get("values", ["true"])}
    assert set(selector.items()) & refused


def test_no_file_holds_a_secret_or_runs_as_root() -> None:
    for name, document in documents():
        assert document["kind"] != "Secret", name
    for template in [SUBMITTER, *(group["template"] for group in GROUPS.values())]:
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
    for group in GROUPS.values():  # which mount the cache, of a hundred GB
        assert group["template"]["spec"]["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
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


def test_a_job_for_each_shard(tmp_path: Path) -> None:
    """The loop of docs/kubernetes.md, with a `kubectl` that keeps what it is given."""
    (loop,) = re.findall(r"    for k in .*?\n    done\n", (ROOT / "docs/kubernetes.md").read_text(), re.DOTALL)
    kubectl = tmp_path / "kubectl"
    kept = tmp_path / "all"
    kubectl.write_text(f'#!/bin/bash\n[[ "$*" == "create -f -" ]] && (echo --- && cat) >> {kept}\n')
    kubectl.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(["bash", "-ec", loop], cwd=ROOT, env={"PATH": path}, check=True)  # noqa: S607 - as a user does
    jobs = [job for job in yaml.safe_load_all(kept.read_text()) if job]
    assert [job["metadata"]["generateName"] for job in jobs] == [f"stillreel-{k}-of-16-" for k in range(1, 17)]
    for k, job in enumerate(jobs, 1):
        words = shlex.split(job["spec"]["entrypoint"])
        assert words == ["stillreel", "run", f"run.shard={k}/16", *ENTRYPOINT[2:]]
