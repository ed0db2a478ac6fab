"""What schedule.yaml does each night: create the run of a manifest, unless one like it is still at work.

    python create.py rayjob.yaml

Like it are runs in the same namespace with the same labels `app.kubernetes.io/...`. Of these it deletes those that
ended more than a week ago: the operator deletes a run's cluster, and keeps the run itself, its submitter and the log.
Exit codes: 0 created, or one is still at work; 1 the cluster's API refused.
"""

import json
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

# Kubernetes gives every pod its service account in there.
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT_S = 30
KEPT = timedelta(days=7)
# `status.jobDeploymentStatus` of a RayJob to which nothing happens any more.
ENDED = ("Complete", "Failed", "ValidationFailed")


@dataclass(frozen=True)
class Api:
    """RayJobs of a namespace: all that is asked of the cluster."""

    address: str
    namespace: str
    token: str
    trusted: ssl.SSLContext | None

    def ask(self, method: str, path: str = "", body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A request and its answer. Raises `urllib.error.URLError`."""
        request = urllib.request.Request(  # noqa: S310 - the cluster's own API
            f"{self.address}/apis/ray.io/v1/namespaces/{self.namespace}/rayjobs{path}",
            json.dumps(body).encode() if body is not None else None,
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=self.trusted) as answer:  # noqa: S310 - as above
            found: dict[str, Any] = json.load(answer)
            return found


def create(api: Api, job: dict[str, Any], now: datetime) -> str:
    """Do it, and say what was done. Raises `urllib.error.URLError`."""
    labels = job["metadata"]["labels"].items()
    own = ",".join(f"{name}={value}" for name, value in labels if name.startswith("app.kubernetes.io/"))
    runs = api.ask("GET", "?" + urllib.parse.urlencode({"labelSelector": own}))["items"]
    ended = [run for run in runs if run.get("status", {}).get("jobDeploymentStatus") in ENDED]
    at_work = [run["metadata"]["name"] for run in runs if run not in ended]
    if at_work:
        done = f"nothing created: {', '.join(at_work)} is still at work"
    else:
        done = f"created {api.ask('POST', body=job)['metadata']['name']}"
    for run in ended:  # after that: what cannot be cleared away keeps no run from being created
        if now - _moment(run) > KEPT:
            try:
                api.ask("DELETE", "/" + run["metadata"]["name"])
            except urllib.error.HTTPError as error:
                done += f"; {run['metadata']['name']} is not deleted: {error.code} {error.reason}"
    return done


def _moment(run: dict[str, Any]) -> datetime:
    """When it ended; of one that never began, when it was created."""
    return datetime.fromisoformat(run["status"].get("endTime") or run["metadata"]["creationTimestamp"])


def main() -> None:
    """Read the manifest, and do it."""
    api = Api(
        "https://kubernetes.default.svc",
        (_ACCOUNT / "namespace").read_text().strip(),
        (_ACCOUNT / "token").read_text().strip(),
        ssl.create_default_context(cafile=_ACCOUNT / "ca.crt"),
    )
    try:
        print(create(api, yaml.safe_load(Path(sys.argv[1]).read_text()), datetime.now(UTC)))
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.code} {error.reason}: {error.read().decode(errors='replace')}")
    except OSError as error:  # `URLError` is one
        sys.exit(str(error))


if __name__ == "__main__":
    main()
