"""Runs on a cluster whose nodes are lost while they are busy, with notice and without; each is repeated after that.

One head that makes nothing, and two nodes; in each trial one of them is lost, and another one joins in its place.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from actors.storage import Storage
from benchmarks.faults import jobs, slow
from benchmarks.faults.dataset import audit, stored_videos
from tests.clusters import Head, another_node, environment, head_alone, lose, node_id, ray_connected

CLIPS = 40
# So slow until the node is lost and another one is there, and then so fast.
_SLOW_S, _FAST_S = 1.5, 0.1
# Some of these notices are over before the clips under way have ended, and most are not.
_NOTICE_S = (1.0, 10.0)
_JOINS_WITHIN_S = 300.0
_ENDS_WITHIN_S = 900.0
# Where Ray starts so slowly on a busy machine that it gives up by itself.
_TRIES_TO_JOIN = 5
# A node has room for one generator, and for what belongs to it.
_NODE_CPUS = 2
_WORKERS = {
    "load": {"num_cpus": 0.2},
    "generate": {"actors": 2, "num_gpus": 0, "num_cpus": 1.25},
    "finish": {"actors": 2, "num_gpus": 0, "num_cpus": 0.25},
}


@dataclass(slots=True)
class Tally:
    """Sums over all trials."""

    clips: int  # of each
    lost_nodes: int = 0
    with_notice: int = 0
    lost: int = 0
    duplicated: int = 0
    mismatched: int = 0
    counted: int = 0  # rows in failures/, and deaths that were counted; one would have been enough for a failure
    unfinished: int = 0  # runs that did not end well, or whose repetition found something to do
    unsaid: int = 0  # runs that did not say what became of the node
    not_busy: int = 0  # runs that had ended before: they show nothing
    made_again: dict[str, int] = field(default_factory=lambda: {"notice": 0, "none": 0})  # stages of clips, by notice

    @property
    def faults(self) -> int:
        """What has to be none."""
        wrong = self.lost + self.duplicated + self.mismatched + self.counted
        return wrong + self.unfinished + self.unsaid + self.not_busy


def trial(folder: Path, count: int, seed: int, clips: int = CLIPS) -> Tally:
    """Lose a node in `count` runs of `clips` clips each, every second one with notice.

    The log of run 7 is `007/log.txt` in the folder.
    """
    rng = np.random.default_rng(seed)
    jobs.write_pictures(folder / "images", clips)
    tally = Tally(clips)
    with started_cluster() as cluster:
        cluster.add()
        cluster.add()
        for number in range(count):
            _one(folder / f"{number:03d}", cluster, rng, tally, notice=number % 2 == 0)
    return tally


class Cluster:
    """The head, and the nodes by Ray's ids of them."""

    def __init__(self, head: Head, stack: ExitStack) -> None:
        self._head, self._stack = head, stack
        self.nodes: dict[str, psutil.Process] = {}

    @property
    def address(self) -> str:
        """Of the head."""
        return self._head.address

    def add(self) -> str:
        """Another node, by its id; waits until Ray has it."""
        for _ in range(_TRIES_TO_JOIN):
            process = self._stack.enter_context(another_node(self._head, cpus=_NODE_CPUS))
            node = node_id(process)
            if _comes(partial(_is_alive, node)):
                self.nodes[node] = process
                return node
            lose(process)
        raise AssertionError(f"no node of Ray has started, {_TRIES_TO_JOIN} times")

    def lose(self, node: str) -> None:
        """End all of its processes at once."""
        lose(self.nodes.pop(node))

    def give_notice(self, node: str, seconds: float) -> "subprocess.Popen[str]":
        """`stillreel drain`, which is under way."""
        command = ["drain", "--address", self.address, "--node", node, "--deadline-s", f"{seconds:.1f}"]
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines", *command],
            env=environment() | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextmanager
def started_cluster() -> Iterator[Cluster]:
    """A head that makes nothing; this process is connected to it."""
    with ExitStack() as stack:
        head = stack.enter_context(head_alone())
        stack.enter_context(ray_connected(head))
        yield Cluster(head, stack)


def _one(folder: Path, cluster: Cluster, rng: np.random.Generator, tally: Tally, *, notice: bool) -> None:
    marks, output, log = folder / "marks", str(folder / "out"), folder / "log.txt"
    set_pace(marks, _SLOW_S)
    config = write_config(folder / "job.yaml", folder.parent / "images", output, cluster.address)
    with running(config, marks, log) as run:
        node = busy_node(run, output, marks, int(rng.integers(1, tally.clips // 2)), cluster.nodes)
        if node is not None:
            if notice:
                seconds = rng.uniform(*_NOTICE_S)
                ends = time.monotonic() + seconds
                drain = cluster.give_notice(node, seconds)
                (folder / "drain.txt").write_text(drain.communicate()[0])
                tally.unsaid += drain.returncode != 0
                time.sleep(max(0.0, ends - time.monotonic()))
            cluster.lose(node)
            cluster.add()
            set_pace(marks, _FAST_S)
        code = run.wait(_ENDS_WITHIN_S)
    tally.lost_nodes += node is not None
    tally.with_notice += notice and node is not None
    tally.not_busy += node is None
    with running(config, marks, folder / "again.txt") as again:
        tally.unfinished += code != 0 or again.wait(_ENDS_WITHIN_S) != 0
    tally.unfinished += "Nothing left to do" not in (folder / "again.txt").read_text()
    _look(folder, output, tally, notice=notice)


def _look(folder: Path, output: str, tally: Tally, *, notice: bool) -> None:
    """What the run has left, and what it has said."""
    result = audit(output, Storage())
    tally.lost += result.lost(tally.clips)
    tally.duplicated += result.duplicated
    tally.mismatched += result.mismatched
    summary: dict[str, Any] = json.loads(next(Path(output).rglob("summary.json")).read_text())
    degradations = summary["degradations"]
    tally.counted += len(result.failures) + degradations.get("worker died", 0)
    said = (folder / "log.txt").read_text()
    tally.unsaid += ("goes away in" if notice else "was lost without notice") not in said
    warnings = "".join(path.read_text() for path in Path(output).rglob("warnings.log"))
    tally.made_again["notice" if notice else "none"] += warnings.count("its node was lost, or goes away")


def write_config(path: Path, images: Path, output: str, address: str) -> Path:
    """Of a run on the cluster."""
    tree = {
        "manifest": str(images),
        "output": output,
        "generator": "null",
        "generation": {"num_frames": 3},
        "image": {"width": 96, "height": 64},
        "video": {"threads": 1},
        "workers": _WORKERS,
        # One death would be a failure. The run begins with the nodes that are there.
        "run": {"flush_s": 1, "log_interval_s": 1, "max_failed_share": 1, "max_deaths": 1},
        "ray": {"address": address, "autoscaling": True},
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def set_pace(marks: Path, seconds: float) -> None:
    """How long each clip takes that is under way, or begins."""
    marks.mkdir(parents=True, exist_ok=True)
    (marks / "new pace").write_text(str(seconds))
    (marks / "new pace").replace(marks / slow.PACE)


@contextmanager
def running(config: Path, marks: Path, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A run of `benchmarks.faults.slow`, which does not outlive the block."""
    command = [sys.executable, "-m", "benchmarks.faults.slow", str(config), str(marks)]
    with log.open("ab") as out, subprocess.Popen(command, env=environment(), stdout=out, stderr=out) as run:
        try:
            yield run
        finally:
            run.kill()


def busy_node(
    run: "subprocess.Popen[bytes]", output: str, marks: Path, count: int, among: Container[str]
) -> str | None:
    """One of these nodes whose worker has a clip, when `count` clips are stored; None where the run ends before."""
    while run.poll() is None and len(stored_videos(output, Storage())) < count:
        time.sleep(0.1)
    while run.poll() is None:
        for mark in marks.iterdir():
            if mark.name in among:
                return mark.name
        time.sleep(0.01)
    return None


def _is_alive(node: str) -> bool:
    import ray

    return any(one["NodeID"] == node and one["Alive"] for one in ray.nodes())


def _comes(sign: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _JOINS_WITHIN_S
    while time.monotonic() < deadline:
        if sign():
            return True
        time.sleep(0.2)
    return False
