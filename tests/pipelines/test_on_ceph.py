"""What Swift cannot show, whose conditional writes do not hold in a race: on one Ceph, which takes long to start."""

import uuid
from pathlib import Path

import pytest

from actors import retries
from actors.storage import Storage
from tests.pipelines.test_commit import holder_that_stands_still
from tests.pipelines.test_lease import ago, leave_behind, race_threads
from tests.servers import S3Server

pytest_plugins = ["tests.ceph"]

pytestmark = pytest.mark.slow

ROUNDS = 12


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)


def test_of_racing_threads_one_wins(ceph_server: S3Server) -> None:
    storage = Storage({"s3": ceph_server.options()})
    bucket = f"bucket-{uuid.uuid4().hex}"
    storage.filesystem("s3://").mkdir(bucket)
    for number in range(0, ROUNDS, 2):  # every second round takes over what a dead run left
        leave_behind(f"s3://{bucket}/{number}", storage, 1, renewed_at=ago(1000))
    race_threads(f"s3://{bucket}", storage, ROUNDS)


def test_a_holder_that_stood_still_undoes_nothing(ceph_server: S3Server, tmp_path: Path) -> None:
    storage = Storage({"s3": ceph_server.options()})
    storage.filesystem("s3://stall").mkdir("s3://stall")
    holder_that_stands_still("s3://stall/out", storage, tmp_path)
