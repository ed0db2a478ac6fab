"""The script for Slurm, with stand-ins for Slurm's own commands that start what they are given on this machine."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from actors.storage import Storage
from pipelines.dataset.layout import Layout
from pipelines.dataset.shard import Shard
from pipelines.dataset.states import read_states
from tests.clusters import environment, free_port
from tests.deploy.manifests import ROOT
from tests.jobs import SLOW_CLIPS, write_null_config, write_pictures

SCRIPT = ROOT / "conf/slurm/stillreel.sbatch"
# `srun [--option=value | --flag] command`: here, with what one machine needs that is to be two nodes.
SRUN = """\
#!/bin/bash
while [[ $1 == --* ]]; do shift; done
if [[ "$1 $2" == "ray start" ]]; then
    set -- "$@" --node-ip-address=127.0.0.1 --object-store-memory=150000000 --disable-usage-stats
fi
exec "$@"
"""


@contextmanager
def batch(folder: Path, nodes: int, *arguments: str, task: int = 1) -> Iterator["subprocess.Popen[str]"]:
    """The script as Slurm runs it: on the first node, in the folder that it was submitted from; a task of an array."""
    bin_folder = folder / f"bin-{task}"
    bin_folder.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", "#!/bin/bash\necho 127.0.0.1\n")):
        (bin_folder / name).write_text(text)
        (bin_folder / name).chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": str(free_port() - 20000 + 10 * 20000),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_ARRAY_TASK_ID": str(task),
        "STILLREEL": sys.prefix,
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


def write_job(folder: Path, count: int) -> list[str]:
    write_pictures(folder / "pictures", count)
    return ["--config", str(write_null_config(folder / "job.yaml", folder / "pictures", folder / "out"))]


def made(folder: Path) -> int:
    return sum(pq.read_metadata(path).num_rows for path in (folder / "out/data").glob("*/metadata.parquet"))


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
    assert 0 < made(tmp_path) < 30
    assert made(tmp_path) == len(list(tmp_path.glob("out/data/*/*.mp4")))


@pytest.mark.slow
def test_a_task_of_an_array_makes_its_shard(tmp_path: Path) -> None:
    (shard,) = set(re.findall(r"'(run\.shard=\S+)/16'", (ROOT / "docs/slurm.md").read_text()))
    with batch(tmp_path, 1, *write_job(tmp_path, 16), f"{shard}/2", task=2) as process:
        told, _ = process.communicate(timeout=280)
    assert process.returncode == 0, told
    states = read_states(Layout(str(tmp_path / "out")), Storage())
    (state,) = states.known
    assert states.by_shard == {Shard(1, 2): None, Shard(2, 2): state}
    assert state.beat is not None
    assert state.beat.made == made(tmp_path) == len(list(tmp_path.glob("out/data/part-00001/*.mp4"))) > 0
