"""Runs that end before their time, through the command line: what they leave, and what the next one does with it."""

import json
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.clusters import Head
from tests.jobs import SLOW_CLIPS, in_process, running_stillreel, write_null_config, write_pictures

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SLOW_ENOUGH = ("run.log_interval_s=0.01", *SLOW_CLIPS)


def until(folder: Path, count: int, timeout_s: float = 200) -> None:
    """Wait until so many videos are stored."""
    deadline = time.monotonic() + timeout_s
    while len(list(folder.rglob("*.mp4"))) < count:
        assert time.monotonic() < deadline, f"{len(list(folder.rglob('*.mp4')))} videos after {timeout_s} s"
        time.sleep(0.05)


def test_a_killed_run_is_continued_and_nothing_stored_is_made_again(tmp_path: Path, head: Head) -> None:
    """Also: while it runs another one is refused, and after the kill the next one starts at once."""
    pictures = write_pictures(tmp_path / "images", 10)
    config = write_null_config(tmp_path / "job.yaml", pictures, tmp_path / "out")
    command = ("run", "--config", config, *SLOW_ENOUGH, "run.flush_s=600")
    data = tmp_path / "out/data"
    with running_stillreel(*command) as running:
        until(tmp_path / "out", 1)
        refused = in_process(*command)
        assert refused.returncode == 75
        assert "is being written by run" in refused.stderr
        assert "--break-lease" in refused.stderr
        until(tmp_path / "out", 3)
        workers = workers_of(running)
        running.kill()
        _, errors = running.communicate(timeout=60)
    assert errors.startswith("stillreel: the run was ended from outside (it was killed, or ")
    assert "/session_20" in errors  # its own, not the last one that was begun on this machine
    assert errors.endswith("; what is finished is kept, the same command continues\n")
    assert not list(data.rglob("metadata.parquet"))  # the first commit would have come after ten minutes
    _, alive = psutil.wait_procs(workers, timeout=60)  # they notice that their driver is gone
    assert not alive
    stored = {path: path.stat().st_mtime_ns for path in data.rglob("*.mp4")}
    assert 3 <= len(stored) < 10
    done = in_process(*command, f"ray.address={head.address}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Recovered {len(stored)} finished clips of an interrupted run" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in stored} == stored
    clips = pq.read_table(data / "part-00000/metadata.parquet").to_pylist()
    assert sorted(clip["file_name"] for clip in clips) == sorted(path.name for path in data.rglob("*.mp4"))
    assert len(clips) == 10
    assert not list((tmp_path / "out").rglob("work-*.parquet"))
    statuses = [json.loads(path.read_text())["status"] for path in (tmp_path / "out").rglob("summary.json")]
    assert statuses == ["done"]


def workers_of(run: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Those of the Ray that the run has started; Ray's own agents outlive it by a minute."""
    found = []
    for process in psutil.Process(run.pid).children(recursive=True):
        with suppress(psutil.Error):
            title = process.cmdline()[0]
            if title.startswith("ray::") and "Agent" not in title:
                found.append(process)
    assert len(found) >= 3, "a ledger, a generator and an encoder, at least"
    return found


def test_an_interrupted_run_keeps_what_is_finished_and_continues(tmp_path: Path, head: Head) -> None:
    config = write_null_config(tmp_path / "job.yaml", write_pictures(tmp_path / "images", 12), tmp_path / "out")
    kept = interrupted(tmp_path, signal.SIGINT, "run", "--config", config, *SLOW_ENOUGH)
    done = in_process("run", "--config", config, f"ray.address={head.address}", *SLOW_ENOUGH)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{12 - kept}/{12 - kept} clips" in done.stdout
    metadata = tmp_path / "out/data/part-00000/metadata.parquet"
    clips = pq.read_table(metadata)["clip_id"].to_pylist()
    assert len(clips) == len(set(clips)) == 12
    assert {f"{clip}.mp4" for clip in clips} == {path.name for path in metadata.parent.glob("*.mp4")}


def test_a_run_on_a_cluster_that_is_terminated_keeps_what_is_finished(tmp_path: Path, head: Head) -> None:
    config = write_null_config(tmp_path / "job.yaml", write_pictures(tmp_path / "images", 12), tmp_path / "out")
    interrupted(tmp_path, signal.SIGTERM, "run", "--config", config, f"ray.address={head.address}", *SLOW_ENOUGH)


def interrupted(folder: Path, stop: signal.Signals, *command: object) -> int:
    """Run until a few of 12 clips are made, then send the signal; how many clips are kept."""
    with running_stillreel(*command) as running:
        assert running.stdout is not None
        some_done = tuple(f"{count}/12 clips" for count in range(2, 12))  # two clips may come within one line's time
        next(line for line in running.stdout if line.startswith(some_done))
        running.send_signal(stop)
        _, errors = running.communicate(timeout=120)
    assert running.returncode == 130, errors
    assert errors == "stillreel: interrupted; what is finished is kept, the same command continues.\n"
    metadata = folder / "out/data/part-00000/metadata.parquet"
    kept: int = pq.read_table(metadata).num_rows
    assert 2 <= kept < 12
    assert kept == len(list(metadata.parent.glob("*.mp4")))  # what was under way came to its end and was committed
    (summary,) = (folder / "out/_runs").rglob("summary.json")
    assert json.loads(summary.read_text())["status"] == "interrupted"
    (lease,) = (folder / "out/_lease").iterdir()
    assert json.loads(lease.read_text())["released"] is True
    return kept


def test_a_second_signal_ends_a_run_at_once(tmp_path: Path, head: Head) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(120)
        # An image that never comes: only the second signal can end this.
        store = {"endpoint_url": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        options = {"s3": {"key": "key", "secret": "secret", "client_kwargs": store}}
        (tmp_path / "list.txt").write_text("s3://bucket/a.png\n")
        config = write_null_config(
            tmp_path / "job.yaml",
            tmp_path / "list.txt",
            tmp_path / "out",
            storage={"schemes": ["s3"], "options": options},
        )
        with running_stillreel("run", "--config", config, f"ray.address={head.address}") as running:
            assert running.stdout is not None
            asking, _ = silent.accept()  # a worker, which has begun
            with asking:
                running.send_signal(signal.SIGTERM)
                next(line for line in running.stdout if line.startswith("Stopping"))
                running.send_signal(signal.SIGINT)
                started = time.monotonic()
                _, errors = running.communicate(timeout=60)
    assert time.monotonic() - started < 30
    assert running.returncode == 130
    assert errors == "stillreel: interrupted; what is finished is kept, the same command continues.\n"


def test_a_run_where_all_fails_stops_early(tmp_path: Path, head: Head) -> None:
    (tmp_path / "list.txt").write_text("".join(f"{tmp_path}/none-{number}.png\n" for number in range(2000)))
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "list.txt", tmp_path / "out")
    # Each worker that loads takes seconds to start.
    done = in_process("run", "--config", config, f"ray.address={head.address}", "workers.load.num_cpus=2")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "stopped early: " in done.stderr
    assert "failed at load (NotFound): the manifest names files that are not there" in done.stderr
    failed = pq.read_table(tmp_path / "out/failures").num_rows
    assert 100 <= failed < 1500
    assert f"left to do                   {2000 - failed:,}" in done.stdout


def test_a_worker_that_dies_while_ray_starts_does_not_hang_the_run(tmp_path: Path) -> None:
    """Killed as soon as there is one, before it has told Ray that it is there."""
    pictures = write_pictures(tmp_path / "images", 2)
    config = write_null_config(tmp_path / "job.yaml", pictures, tmp_path / "out")
    # Ray waits a minute for a worker that has not told.
    with running_stillreel("run", "--config", config, RAY_worker_register_timeout_seconds="10") as running:
        kill_first_worker(psutil.Process(running.pid))
        output, errors = running.communicate(timeout=300)
    assert running.returncode == 0, output + errors
    assert pq.read_table(tmp_path / "out/data/part-00000/metadata.parquet").num_rows == 2


def kill_first_worker(driver: psutil.Process) -> None:
    while True:
        assert driver.status() != psutil.STATUS_ZOMBIE, "the run ended before it had a worker"
        for process in driver.children(recursive=True):
            try:
                if any(part.endswith("default_worker.py") for part in process.cmdline()):
                    process.kill()
                    return
            except psutil.Error:
                continue
        time.sleep(0.01)
