"""The same command through `ray job submit`, against a real cluster head on this machine."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.clusters import RAY, Head, environment
from tests.jobs import ROOT, SLOW_CLIPS, in_process, write_null_config, write_pictures

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def submit(head: Head, *arguments: object) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [RAY, "job", "submit", "--address", head.dashboard, "--working-dir", str(ROOT), "--"]
    command += [sys.executable, "-m", "pipelines", *map(str, arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=400, check=False)


def test_a_submitted_job_makes_the_dataset_and_logs_plain_lines(head: Head, tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 5)
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "images", tmp_path / "out")
    done = submit(head, "run", "--config", config, "run.log_interval_s=0.2", *SLOW_CLIPS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert pq.read_table(tmp_path / "out/data/part-00000/metadata.parquet").num_rows == 5
    lines = done.stdout.splitlines()
    progress = [line for line in lines if "/5 clips" in line]
    assert progress[-1].startswith("5/5 clips (100 %), 0 failed")
    assert any("ETA 0:" in line for line in progress)
    assert not any("\r" in line or "it/s" in line for line in lines)
    assert any("clips made" in line for line in lines)


def test_a_job_that_needs_gpus_says_so(head: Head, tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 1)
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "images", tmp_path / "out")
    done = in_process("run", "--config", config, f"ray.address={head.address}", "workers.generate.num_gpus=1")
    assert done.returncode == 2  # of which `ray job submit` makes 1: it knows no other
    assert "the configuration reserves GPUs" in done.stderr
