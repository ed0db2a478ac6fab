"""The script for Slurm, with stand-ins for Slurm's own commands that start what they are given on this machine."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from actors.storage import Storage
from pipelines.dataset.layout import Layout
from pipelines.dataset.shard import Shard
from pipelines.dataset.states import read_states
from tests.clusters import environment
from tests.deploy.manifests import ROOT
from tests.jobs import SLOW_CLIPS, write_null_config, write_pictures

SCRIPT = ROOT / "conf/slurm/stillreel.sbatch"
# `srun [--option=value | --flag] command`: here, with what one machine needs that is to be two nodes. What it was told
# is kept.
SRUN = """\
#!/bin/bash
echo "$@" >> "$(dirname "$0")/told"
while [[ $1 == --* ]]; do shift; done
if [[ "$1 $2" == "ray start" ]]; then
    set -- "$@" --node-ip-address=127.0.0.1 --object-store-memory=150000000 --disable-usage-stats
fi
exec "$@"
"""


@contextmanager
def batch(
    folder: Path, nodes: int, *arguments: str, task: int = 1, venv: str = sys.prefix
) -> Iterator["subprocess.Popen[str]"]:
    """The script as Slurm runs it: on the first node, in the folder that it was submitted from; a task of an array."""
    bin_folder = folder / f"bin-{task}"
    bin_folder.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", "#!/bin/bash\necho 127.0.0.1\n")):
        (bin_folder / name).write_text(text)
        (bin_folder / name).chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": job_id(),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_ARRAY_TASK_ID": str(task),
        "STILLREEL": venv,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
    }
    with subprocess.Popen(
        ["bash", SCRIPT, *arguments],  # noqa: S607 - Slurm does so, too
        cwd=folder,
        env=environment() | slurm,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def job_id() -> str:
    """One whose ports are free."""
    while True:
        number = random.randrange(100_000, 900_000)
        port = 20_000 + number % 6_000 * 2
        with socket.socket() as one, socket.socket() as other, suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 1))
            return str(number)


def told(folder: Path) -> list[str]:
    """Each call of srun."""
    return (folder / "bin-1/told").read_text().splitlines()


def write_job(folder: Path, count: int) -> list[str]:
    write_pictures(folder / "pictures", count)
    return ["--config", str(write_null_config(folder / "job.yaml", folder / "pictures", folder / "out"))]


def made(folder: Path) -> int:
    return sum(pq.read_metadata(path).num_rows for path in (folder / "out/data").glob("*/metadata.parquet"))


def assert_all_is_cleared(folder: Path, nodes: int) -> None:
    """The last call goes to all nodes; and each that starts Ray asks for its CPUs."""
    *_, last = calls = told(folder)
    options, _, cleared = last.partition(" rm -rf ")
    assert f"--nodes={nodes} --ntasks={nodes} --ntasks-per-node=1" in options
    assert re.fullmatch(r"/tmp/r\d{6}", cleared)  # noqa: S108 - the nodes' own
    assert not Path(cleared).exists()
    assert all("--cpus-per-task=2" in call for call in calls if "ray start" in call)


@pytest.mark.parametrize(
    ("ray", "begun"),
    [("exit 1", "ray health-check"), ("exit 0", "python - 127.0.0.1")],
    ids=["it waits for the head", "it waits for the nodes"],
)
def test_an_end_before_the_run_begins_is_one(ray: str, begun: str, tmp_path: Path) -> None:
    """Each command of the job's environment is a stand-in that says that it was called."""
    (tmp_path / "venv/bin").mkdir(parents=True)
    said = tmp_path / "said"
    for name, does in {
        "ray": f'[[ $1 == start ]] && mkdir -p "$RAY_TMPDIR" && exec sleep 100; {ray}',
        "python": "[[ $1 == - ]] && exec sleep 100; echo token",
        "stillreel": "exit 0",
    }.items():
        command = tmp_path / "venv/bin" / name
        command.write_text(f'#!/bin/bash\necho {name} "$@" >> {said}\n{does}\n')
        command.chmod(0o755)
    with batch(tmp_path, 2, venv=str(tmp_path / "venv")) as process:
        deadline = time.monotonic() + 30
        while not said.exists() or begun not in said.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 143
    assert "stillreel" not in said.read_text()
    assert_all_is_cleared(tmp_path, 2)


@pytest.mark.slow
def test_two_nodes_make_clips_until_the_time_ends(tmp_path: Path) -> None:
    with batch(tmp_path, 2, *write_job(tmp_path, 30), *SLOW_CLIPS) as process:
        deadline = time.monotonic() + 200
        while not list(tmp_path.glob("out/data/*/*.mp4")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)  # to the script alone, as `--signal=B:TERM` does
        said, _ = process.communicate(timeout=150)
    assert process.returncode == 130, said
    assert_all_is_cleared(tmp_path, 2)
    assert 0 < made(tmp_path) < 30
    assert made(tmp_path) == len(list(tmp_path.glob("out/data/*/*.mp4")))


@pytest.mark.slow
def test_a_task_of_an_array_makes_its_shard(tmp_path: Path) -> None:
    (shard,) = set(re.findall(r"'(run\.shard=\S+)/16'", (ROOT / "docs/slurm.md").read_text()))
    with batch(tmp_path, 1, *write_job(tmp_path, 16), f"{shard}/2", task=2) as process:
        said, _ = process.communicate(timeout=280)
    assert process.returncode == 0, said
    states = read_states(Layout(str(tmp_path / "out")), Storage())
    (state,) = states.known
    assert states.by_shard == {Shard(1, 2): None, Shard(2, 2): state}
    assert state.beat is not None
    assert state.beat.made == made(tmp_path) == len(list(tmp_path.glob("out/data/part-00001/*.mp4"))) > 0
