"""What creates runs on a schedule, and what hears of them: the CronJob's script, and all of docs/schedule.md."""

import configparser
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ray.job_submission import JobStatus

from pipelines import __main__ as cli
from pipelines.config.sections import RunSettings
from tests.deploy.manifests import FOLDER, ROOT, documents

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
        self._answer(self.server.jobs.pop(self.path.rpartition("/")[2], {}))

    def _answer(self, body: dict[str, Any]) -> None:
        is_known = self.headers["Authorization"] == "Bearer secret" and (body or self.command != "DELETE")
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
    assert set(cluster.jobs) == {"long", "stillreel-3"}


def test_what_cannot_be_cleared_away_keeps_no_run_from_being_created(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cluster, "old", {"jobDeploymentStatus": "Complete"}, days=30)
    monkeypatch.setattr(Answers, "do_DELETE", lambda self: self._answer({}))
    assert create(cluster) == "created stillreel-1; old is not deleted: 403 Forbidden"


def test_an_api_that_refuses_is_an_error(cluster: Cluster) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        create(cluster, is_known=False)


def block(language: str, containing: str) -> str:
    """Of docs/schedule.md, the one with these words."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs/schedule.md").read_text(), re.DOTALL)
    (found,) = (one for one in blocks if containing in one)
    return str(found)


def test_systemd_ends_the_run_and_not_ray_under_it() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # as systemd reads them
    unit.read_string(block("ini", "ExecStart="))
    service = unit["Service"]
    assert service["KillMode"] == "mixed"  # the default sends SIGTERM to Ray's processes, too
    assert int(service["TimeoutStopSec"]) > RunSettings().grace_s
    assert int(service["SuccessExitStatus"]) == cli.EXIT_BUSY


class Jobs:
    """Ray's, as far as the DAG asks for them: each ends as it is asked for."""

    def __init__(self, exit_code: int = 0) -> None:
        self.jobs: dict[str, SimpleNamespace] = {}
        self.exit_code = exit_code
        self.submitted: list[dict[str, Any]] = []

    def __call__(self, address: str) -> "Jobs":
        return self

    def list_jobs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(submission_id=None, status=JobStatus.RUNNING), *self.jobs.values()]

    def submit_job(self, *, submission_id: str, **given: Any) -> None:
        assert submission_id not in self.jobs  # Ray takes a name once
        self.submitted.append(given)
        self.add(submission_id, JobStatus.RUNNING)

    def add(self, name: str, status: JobStatus) -> None:
        self.jobs[name] = SimpleNamespace(submission_id=name, status=status, driver_exit_code=None, message="")

    def get_job_status(self, name: str) -> JobStatus:
        job = self.jobs[name]
        before, job.driver_exit_code = job.status, self.exit_code
        job.status = JobStatus.FAILED if self.exit_code else JobStatus.SUCCEEDED
        return before

    def get_job_info(self, name: str) -> SimpleNamespace:
        return self.jobs[name]


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Callable[[Jobs], None]:
    """What the DAG of the docs does at a try, with stand-ins for what Airflow hands it."""
    made: list[Callable[..., None]] = []

    def decorated(**options: object) -> Callable[[Callable[..., None]], Callable[[], None]]:
        def keep(function: Callable[..., None]) -> Callable[[], None]:
            made.append(function)
            return lambda: None

        return keep

    errors = {
        name: type(name, (Exception,), {})
        for name in ("AirflowException", "AirflowFailException", "AirflowSkipException")
    }
    monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.exceptions", SimpleNamespace(**errors))
    monkeypatch.setitem(sys.modules, "airflow.sdk", SimpleNamespace(DAG=lambda *_, **__: nullcontext(), task=decorated))
    monkeypatch.setattr("time.sleep", lambda _: None)

    def attempt(jobs: Jobs) -> None:
        monkeypatch.setattr("ray.job_submission.JobSubmissionClient", jobs)
        exec(block("python", "airflow"), {})  # noqa: S102 - the docs' own
        made[-1](ts_nodash="20260101T000000")

    return attempt


def test_a_try_of_airflow_follows_the_job_that_is_at_work(task: Callable[[Jobs], None]) -> None:
    jobs = Jobs()
    jobs.add("stillreel-20251231T000000-1", JobStatus.RUNNING)  # of another day
    task(jobs)
    (given,) = jobs.submitted
    assert float(given["runtime_env"]["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) > RunSettings().grace_s
    jobs = Jobs()
    jobs.add("stillreel-20260101T000000-1", JobStatus.FAILED)
    task(jobs)
    assert list(jobs.jobs) == ["stillreel-20260101T000000-1", "stillreel-20260101T000000-2"]
    jobs = Jobs()
    jobs.add("stillreel-20260101T000000-1", JobStatus.RUNNING)  # the try before was killed
    task(jobs)
    assert not jobs.submitted


@pytest.mark.parametrize(
    ("code", "raised"), [(1, "AirflowException"), (2, "AirflowFailException"), (75, "AirflowSkipException")]
)
def test_airflow_tries_again_what_may_pass(code: int, raised: str, task: Callable[[Jobs], None]) -> None:
    with pytest.raises(Exception, match="stillreel-20260101T000000-1") as caught:
        task(Jobs(code))
    assert type(caught.value).__name__ == raised


@pytest.mark.parametrize(
    ("code", "state", "hours", "said"),
    [
        (0, "done", 3, ""),
        (0, "done", 40, "no run has begun since"),
        (1, "failed", 3, "failed, see"),
        (3, "running", 40, ""),
        (4, "stale", 3, "stale, see"),
    ],
)
def test_a_question_from_elsewhere_hears_of_a_run_that_never_came(
    code: int, state: str, hours: int, said: str, tmp_path: Path
) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not there")
    since = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    told = json.dumps({"state": state, "since": since})
    (tmp_path / "stillreel").write_text(f"#!/bin/bash\necho '{told}'\nexit {code}\n")
    (tmp_path / "stillreel").chmod(0o755)
    script = block("bash", "status")
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], env={"PATH": path}, capture_output=True, text=True, check=False)  # noqa: S607 - as cron does
    assert done.stderr == ""
    assert (said in done.stdout) if said else (done.stdout == "")
