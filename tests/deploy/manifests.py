"""The manifests of conf/kubernetes, read."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "conf" / "kubernetes"


def documents() -> list[tuple[str, dict[str, Any]]]:
    """Each document of each file, with the file's name."""
    return [
        (path.name, document)
        for path in sorted(FOLDER.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]


def ray_job() -> dict[str, Any]:
    """The `spec` of the one run."""
    (job,) = (document["spec"] for _, document in documents() if document["kind"] == "RayJob")
    assert isinstance(job, dict)
    return job


def groups(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each group of nodes of the cluster by its name, the head's too."""
    cluster = job["rayClusterSpec"]
    return {"head": cluster["headGroupSpec"]} | {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
