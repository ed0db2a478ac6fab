"""A real Prometheus at a real head of Ray: what it sees of a run, and that board and alerts have answers there."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from pipelines.monitoring.asking import Prometheus
from pipelines.monitoring.board import read_queries
from tests.clusters import metered_head
from tests.jobs import SLOW_CLIPS, in_process, running_stillreel, write_null_config, write_pictures
from tests.prometheus import MONITORING, running_prometheus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

_TIMEOUT_S = 180
# Ray reports every ten seconds otherwise.
_OFTEN = {"RAY_metrics_report_interval_ms": "2000"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("metrics")


@pytest.fixture(scope="module")
def run_seen(folder: Path) -> Iterator[Prometheus]:
    """After a run of which two rows fail and whose encoder is killed once; `board.txt`: what was asked meanwhile."""
    images = folder / "images"
    write_pictures(images, 30)
    (images / "broken.png").write_bytes(b"no picture")
    (images / "empty.png").write_bytes(b"")
    workers = {
        "load": {"num_cpus": 0.5},
        "generate": {"actors": 1, "num_gpus": 1, "num_cpus": 0},  # Ray is told that there is one
        "finish": {"actors": 1, "num_gpus": 0, "num_cpus": 0},
    }
    config = write_null_config(folder / "job.yaml", images, folder / "out", workers=workers)
    with metered_head() as (head, nodes), running_prometheus(folder, nodes) as address:
        prometheus = Prometheus(address)
        command = ("run", "--config", config, f"ray.address={head.address}", "cost.gpu_hour=2.5", *SLOW_CLIPS)
        with running_stillreel(*command, **_OFTEN) as process:
            _wait_until(lambda: _is_at_work(process) and prometheus.ask('ray_stillreel_rows_total{ended="made"} > 2'))
            _kill_one("Finish", below=head.pid)
            _wait_until(lambda: _is_at_work(process) and _is_answered(address, folder / "board.txt"))
            out, errors = process.communicate(timeout=_TIMEOUT_S)
            assert process.returncode == 0, out + errors
        _wait_until(lambda: prometheus.ask('ray_stillreel_runs_total{ended="done"} == 1'))
        yield prometheus


def test_every_query_of_board_and_alerts_is_answered(run_seen: Prometheus, folder: Path) -> None:
    table = (folder / "board.txt").read_text()
    number = len(read_queries(str(MONITORING)))
    assert f"{number} of {number} queries are answered by http://127.0.0.1:" in table
    for title in ("panel: Backlog by stage", "alert: StillreelNoProgress", "alert: StillreelGpuIdle"):
        assert title in table


def test_nothing_is_lost_or_doubled_where_a_worker_was_killed(run_seen: Prometheus, folder: Path) -> None:
    (path,) = (folder / "out/_runs").glob("*/summary.json")
    summary = json.loads(path.read_text())
    assert (summary["made"], summary["failed"]) == (30, 2)
    made_bytes = sum(pq.read_table(folder / "out/data/part-00000/metadata.parquet")["bytes"].to_pylist())
    counted = {
        'sum(ray_stillreel_rows_total{ended="made"})': 30,
        'sum(ray_stillreel_rows_total{ended="failed", stage="load", reason="ImageError"})': 2,
        "sum(ray_stillreel_uploaded_bytes_total)": made_bytes,
        'sum(ray_stillreel_stage_seconds_count{stage="generate"})': 30,
        'sum(ray_stillreel_stage_seconds_count{stage="load"})': 30,
        "sum(ray_stillreel_degradations_total)": sum(summary["degradations"].values()),
        f'count(ray_stillreel_rows_total{{ended="made", run="{path.parent.name}", generator="null"}})': 1,
    }
    assert summary["degradations"]
    # On a busy machine a node answers too late now and then: until its next answer Prometheus knows nothing.
    _wait_until(lambda: all(run_seen.ask(query) for query in counted))
    assert {query: run_seen.ask(query) for query in counted} == {query: [count] for query, count in counted.items()}
    (work,) = run_seen.ask('sum(ray_stillreel_gpu_seconds_total{state="work"})')
    (held,) = run_seen.ask('sum(ray_stillreel_gpu_seconds_total{state="held"})')
    assert 0 < work < held == pytest.approx(summary["gpu_hours"] * 3600, abs=5)


def _is_at_work(process: "subprocess.Popen[str]") -> bool:
    """A run that has ended is not waited for."""
    assert process.poll() is None, process.communicate()
    return True


def _is_answered(address: str, table: Path) -> bool:
    """Whether `stillreel board` ends well; what it prints goes into the file."""
    done = in_process("board", "--prometheus", address)
    table.write_text(done.stdout + done.stderr)
    return done.returncode == 0


def _kill_one(stage: str, *, below: int) -> None:
    workers = [
        process
        for process in psutil.Process(below).children(recursive=True)
        if f"({stage})" in "".join(process.cmdline()[:1])
    ]
    assert workers, stage
    workers[0].kill()


def _wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(1)
