"""Four shards at once on one cluster, whose drivers are killed again and again; and runs beside them that may not be.

Each shard makes its clips, is killed at random moments, and started again. While it is at work, a second run of the
same shard, one of the whole dataset and one of another division are tried in turn: each must be refused.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from actors.storage import Storage
from benchmarks.faults import jobs
from benchmarks.faults.dataset import Audit, audit
from benchmarks.faults.nodes import set_pace, started_cluster
from pipelines.dataset.layout import Layout, part_of
from pipelines.dataset.shard import WHOLE, Shard
from pipelines.dataset.states import read_states
from tests.clusters import environment

SHARDS = 4
# A clip takes so long; while another run is tried beside the shard, no clip comes to its end; and when nobody kills the
# shard any more, clips come as fast as they can.
_CLIP_S, _HELD_S, _FAST_S = 0.3, 3600.0, 0.0
# One run in five is killed while it starts; the others after a random number of stored videos.
_SHARE_AT_START = 0.2
_START_S = 15.0
_BETWEEN_CLIPS_S = 0.3
# After every so many kills of a shard, a run is tried that must be refused.
_KILLS_PER_REFUSAL = 3
_ENDS_WITHIN_S = 1200.0


@dataclass(slots=True)
class Tally:
    """Sums over all shards."""

    clips: int
    kills: int = 0
    refused: int = 0  # runs that must not be and were not
    lost: int = 0
    duplicated: int = 0
    mismatched: int = 0
    failed: int = 0  # rows that ended as failures, though nothing is wrong with them
    misplaced: int = 0  # clips in a part of another shard
    not_refused: int = 0
    unfinished: int = 0  # shards that did not end well when nobody killed them any more
    status: str = ""  # of all shards, at the end
    left: int = 0  # rows that a run over all of it still found to do
    kills_by_shard: dict[str, int] = field(default_factory=dict)

    @property
    def faults(self) -> int:
        """What has to be none."""
        wrong = self.lost + self.duplicated + self.mismatched + self.failed + self.misplaced
        return wrong + self.not_refused + self.unfinished + self.left + (self.status != "done")


def trial(folder: Path, clips: int, kills: int, seed: int) -> Tally:
    """Kill `kills` drivers of `SHARDS` shards, which make `clips` clips together.

    The logs of shard 2 are `2-of-4.txt` in the folder, those of runs that were tried beside it `2-of-4-beside.txt`.
    """
    jobs.write_pictures(folder / "images", clips)
    tally = Tally(clips)
    with started_cluster() as cluster, ThreadPoolExecutor(SHARDS) as threads:
        cluster.add()
        config = write_config(folder / "job.yaml", folder / "images", folder / "out", cluster.address)
        race = _Race(folder, config, tally)
        shares = [kills // SHARDS + (number < kills % SHARDS) for number in range(SHARDS)]
        seeds = np.random.SeedSequence(seed).spawn(SHARDS)
        for one in [
            threads.submit(race.one, shard, share, np.random.default_rng(own))
            for shard, share, own in zip(Shard(1, SHARDS).division, shares, seeds, strict=True)
        ]:
            one.result()
        tally.status = read_states(Layout(str(folder / "out")), Storage()).word
        set_pace(folder / "1-of-1", _FAST_S)
        with race.running(WHOLE, "whole.txt") as whole:
            tally.unfinished += whole.wait(_ENDS_WITHIN_S) != 0
        tally.left = int("Nothing left to do" not in (folder / "whole.txt").read_text())
    found = audit(str(folder / "out"), Storage())
    tally.lost, tally.duplicated, tally.mismatched = found.lost(clips), found.duplicated, found.mismatched
    tally.failed, tally.misplaced = len(found.failures), _misplaced(folder / "out", found)
    return tally


class _Race:
    """Starts runs of shards, and kills them."""

    def __init__(self, folder: Path, config: Path, tally: Tally) -> None:
        self._folder, self._config, self._tally = folder, config, tally
        self._counting = threading.Lock()

    def one(self, shard: Shard, kills: int, rng: np.random.Generator) -> None:
        """A shard, from its first run to the one that nobody kills."""
        set_pace(self._marks(shard), _CLIP_S)
        most_clips = max(1, self._tally.clips // SHARDS // (kills + 1) - 1)  # so that some are left for all kills
        for number in range(kills):
            with self.running(shard, f"{shard.index}-of-{shard.count}.txt") as run:
                if number % _KILLS_PER_REFUSAL == 0:
                    self._beside(run, shard, number // _KILLS_PER_REFUSAL)
                self._wait(run, shard, int(rng.integers(0, most_clips + 1)), rng)
                was_alive = run.poll() is None
            with self._counting:
                self._tally.kills += was_alive
                by_shard = self._tally.kills_by_shard
                by_shard[str(shard)] = by_shard.get(str(shard), 0) + was_alive
        set_pace(self._marks(shard), _FAST_S)
        with self.running(shard, f"{shard.index}-of-{shard.count}.txt") as run:
            code = run.wait(_ENDS_WITHIN_S)
        with self._counting:
            self._tally.unfinished += code != 0

    @contextmanager
    def running(self, shard: Shard, log: str) -> "Iterator[subprocess.Popen[bytes]]":
        """A run of the shard, which is killed at the end of the block."""
        marks = self._marks(shard)
        command = [sys.executable, "-m", "benchmarks.faults.slow", str(self._config), str(marks), f"run.shard={shard}"]
        with (
            (self._folder / log).open("ab") as out,
            subprocess.Popen(command, env=environment() | {"OMP_NUM_THREADS": "1"}, stdout=out, stderr=out) as run,
        ):
            try:
                yield run
            finally:
                run.kill()

    def _beside(self, run: "subprocess.Popen[bytes]", shard: Shard, turn: int) -> None:
        """While the shard is at work: one that is refused."""
        before = self._stored(shard)
        while run.poll() is None and self._stored(shard) == before:
            time.sleep(0.1)
        set_pace(self._marks(shard), _HELD_S)
        other = (shard, WHOLE, Shard(1, SHARDS - 1))[turn % 3]
        log = self._folder / f"{shard.index}-of-{shard.count}-beside.txt"
        said_before = log.stat().st_size if log.exists() else 0
        with self.running(other, log.name) as beside:
            code = beside.wait(_ENDS_WITHIN_S)
        said = log.read_text()[said_before:]
        is_refused = code == 1 and "is being written by run" in said
        with self._counting:
            if run.poll() is None:  # else it was right to go on
                self._tally.refused += is_refused
                self._tally.not_refused += not is_refused
        set_pace(self._marks(shard), _CLIP_S)

    def _wait(self, run: "subprocess.Popen[bytes]", shard: Shard, clips: int, rng: np.random.Generator) -> None:
        """For a random moment to kill it."""
        if rng.random() < _SHARE_AT_START:
            time.sleep(rng.uniform(0, _START_S))
            return
        before = self._stored(shard)
        while run.poll() is None and self._stored(shard) <= before + clips:
            time.sleep(0.1)
        time.sleep(rng.uniform(0, _BETWEEN_CLIPS_S))

    def _marks(self, shard: Shard) -> Path:
        """Where the pace of a shard's clips is told."""
        return self._folder / f"{shard.index}-of-{shard.count}"

    def _stored(self, shard: Shard) -> int:
        """Videos in the shard's parts."""
        parts = (self._folder / "out/data").glob("part-*")
        return sum(len(list(part.glob("*.mp4"))) for part in parts if shard.owns(part_of(str(part)) or 0))


def write_config(path: Path, images: Path, output: Path, address: str) -> Path:
    """Of a run of any shard, on the cluster."""
    tree = {
        "manifest": str(images),
        "output": str(output),
        "generator": "null",
        "generation": {"num_frames": 3},
        "image": {"width": 96, "height": 64},
        "video": {"threads": 1},
        "workers": {
            "load": {"num_cpus": 0.25},
            "generate": {"actors": 1, "num_gpus": 0, "num_cpus": 0},
            "finish": {"actors": 1, "num_gpus": 0, "num_cpus": 0},
        },
        "run": {"flush_s": 1, "log_interval_s": 1, "max_failed_share": 1, "metrics": False},
        "ray": {"address": address},
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def _misplaced(output: Path, found: Audit) -> int:
    """Clips in parts that are not of the shard to which their ids belong."""
    places = {path.stem: part_of(str(path.parent)) for path in output.glob("data/*/*.mp4")}
    return sum(int(clip_id[:16], 16) % SHARDS != (places.get(clip_id) or 0) % SHARDS for clip_id in found.clips)
