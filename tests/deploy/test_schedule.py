"""What creates runs on a schedule: the script of the CronJob, against an API that keeps RayJobs; units for systemd."""

import json
import runpy
import threading
import urllib.error
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.deploy.manifests import FOLDER, documents

CREATE = runpy.run_path(str(FOLDER / "create.py"))
NOW = datetime(2026, 1, 20, 2, tzinfo=UTC)
(RAY_JOB,) = (document for _, document in documents() if document["kind"] == "RayJob")
LABELS = RAY_JOB["metadata"]["labels"]


class Cluster(ThreadingHTTPServer):
    """As much of Kubernetes' API as has RayJobs of a namespace."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.asked: set[str] = set()  # verbs, as a Role has them


class Answers(BaseHTTPRequestHandler):
    server: Cluster

    def do_GET(self) -> None:
        self.server.asked.add("list")
        rules = [one.split("=") for one in parse_qs(urlsplit(self.path).query)["labelSelector"][0].split(",")]
        jobs = self.server.jobs.values()
        self._answer({"items": [job for job in jobs if all(job["metadata"]["labels"].get(k) == v for k, v in rules)]})

    def do_POST(self) -> None:
        self.server.asked.add("create")
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = f"{job['metadata']['generateName']}{len(self.server.jobs)}"
        self.server.jobs[name] = job | {"metadata": {**job["metadata"], "name": name}}
        self._answer(self.server.jobs[name])

    def do_DELETE(self) -> None:
        self.server.asked.add("delete")
        self._answer(self.server.jobs.pop(self.path.rpartition("/")[2]))

    def _answer(self, body: dict[str, Any]) -> None:
        is_known = self.headers["Authorization"] == "Bearer secret"
        is_ours = self.path.startswith("/apis/ray.io/v1/namespaces/night/rayjobs")
        self.send_response(200 if is_known and is_ours else 403)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *said: object) -> None:
        pass


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def create(cluster: Cluster, *, is_known: bool = True) -> str:
    api = CREATE["Api"](f"http://127.0.0.1:{cluster.server_address[1]}", "night", "secret" if is_known else "", None)
    said = CREATE["create"](api, RAY_JOB, NOW)
    assert isinstance(said, str)
    return said


def put(cluster: Cluster, name: str, status: dict[str, str], *, labels: dict[str, str] = LABELS, days: int = 1) -> None:
    created = (NOW - timedelta(days=days)).isoformat().replace("+00:00", "Z")
    cluster.jobs[name] = {"metadata": {"name": name, "labels": labels, "creationTimestamp": created}, "status": status}


def test_a_run_is_created_as_the_manifest_has_it(cluster: Cluster) -> None:
    put(cluster, "yesterday", {"jobDeploymentStatus": "Failed", "endTime": "2026-01-19T03:00:00Z"})
    put(
        cluster,
        "of-another-output",
        {"jobDeploymentStatus": "Running"},
        labels={**LABELS, "app.kubernetes.io/instance": "b"},
    )
    assert create(cluster) == "created stillreel-2"
    assert cluster.jobs["stillreel-2"]["spec"] == RAY_JOB["spec"]
    assert set(cluster.jobs) == {"yesterday", "of-another-output", "stillreel-2"}
    (role,) = (document for _, document in documents() if document["kind"] == "Role")
    put(cluster, "old", {"jobDeploymentStatus": "Failed"}, days=30)
    create(cluster)
    assert cluster.asked == set(role["rules"][0]["verbs"])


@pytest.mark.parametrize(
    "status", [{}, *({"jobDeploymentStatus": word} for word in ("Running", "Retrying", "Suspended"))]
)
def test_none_is_created_while_one_is_at_work(status: dict[str, str], cluster: Cluster) -> None:
    put(cluster, "of-last-night", status, days=30)
    assert create(cluster) == "nothing created: of-last-night is still at work"
    assert set(cluster.jobs) == {"of-last-night"}


def test_runs_are_deleted_a_week_after_their_end(cluster: Cluster) -> None:
    put(cluster, "long", {"jobDeploymentStatus": "Complete", "endTime": "2026-01-14T03:00:00Z"}, days=30)
    put(cluster, "old", {"jobDeploymentStatus": "Complete", "endTime": "2026-01-12T03:00:00Z"}, days=9)
    put(cluster, "never-began", {"jobDeploymentStatus": "ValidationFailed"}, days=9)
    create(cluster)
    assert set(cluster.jobs) == {"long", "stillreel-1"}


def test_an_api_that_refuses_is_an_error(cluster: Cluster) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        create(cluster, is_known=False)
