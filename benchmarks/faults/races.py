"""Drivers without Ray that race for one dataset, and are killed: lease, recovery, plan and commit as in a run.

    python -m benchmarks.faults.races FOLDER [--clips 400] [--kills 200] [--seed 0]

They are forked, so one starts within milliseconds and hundreds can be killed at any step of theirs. First they are four
shards, then the whole dataset, then three shards; and in between some that must not be there: the same shard twice,
other divisions. Rows fail by chance, are tried again, and videos get lost, so rows move between the files of a part.

That no two were at work who must not be is known from locks on files, which the kernel gives back when a process ends:
nothing that is tested here takes part in that.
"""

import argparse
import fcntl
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from actors import video
from actors.contracts import Ending, Failed, Made, Row
from actors.errors import RunError
from actors.generators import GENERATORS
from actors.records import clip_schema
from actors.storage import Storage
from benchmarks.faults.dataset import audit
from pipelines.config import load_config, to_yaml
from pipelines.dataset import lease as leases
from pipelines.dataset.commit import Committer
from pipelines.dataset.layout import Layout, part_of
from pipelines.dataset.recover import recover
from pipelines.dataset.shard import WHOLE, Shard
from pipelines.dataset.work import read_work, remove_work
from pipelines.exits import exit_with
from pipelines.job import Job
from pipelines.planning.planner import Retry

# Shards of each phase, and its share of the kills.
_PHASES = ((4, 0.5), (1, 0.15), (3, 0.35))
# Each phase begins with so many more rows than the one before it, and loses so many videos.
_GROWTH, _LOST = 0.25, 0.1
_FAIL_SHARE = 0.2
_CLIP_S, _FLUSH_S = 0.004, 0.03
_BETWEEN_KILLS_S = 0.25
# Of the kills, those that meet a driver which has its lease.
_AT_WORK_SHARE = 0.8
# Before such a share of kills, a driver is started that is one too many.
_TOO_MANY_SHARE = 0.4
_LEASE_S = 30
# Of drivers that meet: a local disk is fast.
_RACE_WAIT_S = 0.1
_ENDS_WITHIN_S = 300.0
# Ways of a driver to end by itself.
_DONE, _REFUSED, _BROKEN = 0, 1, 3
_REFUSALS = ("is being written by run", "did not come to its end", "changed hands")


@dataclass(slots=True)
class Tally:
    """What came of it."""

    clips: int = 0
    kills: int = 0
    done: int = 0
    refused: int = 0
    lost: int = 0
    duplicated: int = 0
    mismatched: int = 0
    failed: int = 0  # rows that the last run left in failures/, though nothing fails any more
    together: int = 0  # times that two were at work who must not be
    foreign_parts: int = 0  # writes to a part of another shard
    broken: int = 0  # drivers that ended in any other way
    moves: int = 0  # files of records that were written
    kinds: dict[str, int] = field(default_factory=dict)  # refusals, by what they say

    @property
    def faults(self) -> int:
        """What has to be none."""
        wrong = self.lost + self.duplicated + self.mismatched + self.failed
        return wrong + self.together + self.foreign_parts + self.broken


def trial(folder: Path, clips: int, kills: int, seed: int) -> Tally:
    """Race in a process of its own, which has no threads; the log of all drivers is `log.txt` in the folder."""
    command = [sys.executable, "-m", "benchmarks.faults.races", str(folder), f"--clips={clips}", f"--kills={kills}"]
    done = subprocess.run([*command, f"--seed={seed}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Tally(**json.loads(done.stdout))


def main() -> int:
    """Race, and print the tally as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tally = Race(arguments.folder, arguments.clips, arguments.kills, arguments.seed).run()
    print(json.dumps(asdict(tally)))
    return 0


class Race:
    """The process that starts drivers, and kills them."""

    def __init__(self, folder: Path, clips: int, kills: int, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._kills, self._random = folder, kills, random.Random(seed)  # noqa: S311 - chance
        self._tally = Tally(clips)
        self._drivers: dict[int, Shard] = {}
        self._manifest, self._output = folder / "manifest.txt", folder / "out"
        tree = {
            "manifest": str(self._manifest),
            "output": str(self._output),
            "generator": "null",
            "storage": {"schemes": ["file"]},
            "run": {"lease_s": _LEASE_S},
        }
        (folder / "job.yaml").write_text(yaml.safe_dump(tree))
        for name in ("locks", "at work"):
            (folder / name).mkdir()
        for name in ("killed.txt", "told.txt"):
            (folder / name).touch()
        self._manifest.touch()
        load_config([str(folder / "job.yaml")], ["run.shard=1/1"])  # so that what this reads and imports is forked, too

    def run(self) -> Tally:
        """All phases, and at the end a run over all rows, in which nothing fails."""
        begun = self._tally.clips / (1 + _GROWTH * (len(_PHASES) - 1))
        for number, (count, share) in enumerate(_PHASES):
            rows = self._tally.clips if number == len(_PHASES) - 1 else int(begun * (1 + _GROWTH * number))
            self._manifest.write_text("".join(f"/images/{row}.png\n" for row in range(rows)))
            self._lose_videos()
            self._phase(Shard(1, count).division, round(self._kills * share))
        for retries in (False, True):
            self._wait(self._start(WHOLE, retries=retries, fail_share=0.0))
        return self._audited()

    def _phase(self, shards: list[Shard], kills: int) -> None:
        """Until so many were killed, and each shard has come to its end after that."""
        until, done, killed = time.monotonic() + _ENDS_WITHIN_S, set[Shard](), 0
        while len(done) < len(shards) or self._drivers:
            assert time.monotonic() < until, f"shards {shards}: only {done} came to their end"
            for shard in shards:
                if shard not in done and shard not in self._drivers.values():
                    self._start(shard, retries=self._random.random() < 0.5)
            if killed < kills:
                if self._random.random() < _TOO_MANY_SHARE:
                    others = [self._random.choice(shards), WHOLE, Shard(2, 2)]
                    self._start(self._random.choice(others), retries=False)
                time.sleep(self._random.uniform(0, _BETWEEN_KILLS_S))
                self._kill()
            else:
                time.sleep(0.01)
            for shard, code in self._reap():
                killed += code < 0
                if killed < kills:
                    if code == _DONE:
                        self._lose_videos(shard)
                elif code == _DONE:
                    done.add(shard)

    def _start(self, shard: Shard, *, retries: bool, fail_share: float = _FAIL_SHARE) -> int:
        seed = self._random.random()
        pid = os.fork()
        if pid == 0:
            os._exit(_Driver(self._folder, shard, seed, retries=retries, fail_share=fail_share).run())
        self._drivers[pid] = shard
        return pid

    def _kill(self) -> None:
        """Some driver; it was not reaped yet, so nobody else has its number."""
        victims = list(self._drivers)
        if self._random.random() < _AT_WORK_SHARE:
            at_work = {int(path.name) for path in (self._folder / "at work").iterdir()}
            victims = [pid for pid in victims if pid in at_work]
        if victims:
            victim = self._random.choice(victims)
            with (self._folder / "killed.txt").open("a") as file:
                file.write(f"{victim}\n")
            os.kill(victim, signal.SIGKILL)

    def _wait(self, pid: int) -> None:
        while pid in self._drivers:
            for _ in self._reap():
                pass
            time.sleep(0.01)

    def _reap(self) -> Iterator[tuple[Shard, int]]:
        """The drivers that have ended, with their exit codes; -9 of those that were killed."""
        for pid in list(self._drivers):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            code = os.waitstatus_to_exitcode(status)
            self._tally.kills += code < 0
            self._tally.done += code == _DONE
            self._tally.refused += code == _REFUSED
            self._tally.broken += code == _BROKEN
            yield self._drivers.pop(pid), code

    def _lose_videos(self, shard: Shard = WHOLE) -> None:
        """Somebody deletes some videos of a shard."""
        for path in sorted(self._output.glob("data/*/*.mp4")):
            part = part_of(str(path.parent))
            if part is not None and shard.owns(part) and self._random.random() < _LOST:
                path.unlink(missing_ok=True)

    def _audited(self) -> Tally:
        tally = self._tally
        found = audit(str(self._output), Storage())
        tally.lost, tally.duplicated, tally.mismatched = found.lost(tally.clips), found.duplicated, found.mismatched
        tally.failed = len(found.failures)
        told = [json.loads(line) for line in (self._folder / "told.txt").read_text().splitlines()]
        tally.together = sum("together" in one for one in told)
        writes = [(Shard.parse(one["shard"]), one["part"]) for one in told if "part" in one]
        tally.moves, tally.foreign_parts = len(writes), sum(not shard.owns(part) for shard, part in writes)
        for one in told:
            if "refused" in one:
                tally.kinds[one["refused"]] = tally.kinds.get(one["refused"], 0) + 1
        return tally


class _Driver:
    """A run of a share, in a process of its own."""

    def __init__(self, folder: Path, shard: Shard, seed: float, *, retries: bool, fail_share: float) -> None:
        self._folder, self._shard, self._retries, self._fail_share = folder, shard, retries, fail_share
        self._random = random.Random(seed)  # noqa: S311 - chance
        self._at_work = folder / "at work" / str(os.getpid())

    def run(self) -> int:
        """To its end; the exit code."""
        leases._RACE_WAIT_S = _RACE_WAIT_S
        # A video is its own record, as text.
        video.read_tag = lambda path: path.read_text()
        put = Committer._put

        def put_and_tell(committer: Committer, stored: Any, table: pa.Table) -> None:
            self._tell(part=part_of(stored.uri))
            put(committer, stored, table)

        Committer._put = put_and_tell  # type: ignore[assignment,method-assign]
        try:
            self._make()
        except RunError as error:
            kind = next((kind for kind in _REFUSALS if kind in str(error)), None)
            self._tell(**({"broken": str(error)} if kind is None else {"refused": kind}))
            return _BROKEN if kind is None else _REFUSED
        except Exception:  # noqa: BLE001 - whatever it is, it must not be
            self._tell(broken=traceback.format_exc())
            return _BROKEN
        return _DONE

    def _make(self) -> None:
        """As `pipelines.run` has it."""
        job = Job.to_run(load_config([str(self._folder / "job.yaml")], [f"run.shard={self._shard}"]))
        with job.lease(None, break_lease=False) as lease, self._alone():
            recover(job.layout, job.storage, lease.check, job.shard)
            job.storage.put_bytes(job.folder.config, to_yaml(job.config).encode())
            plan = job.plan(Retry() if self._retries else None, with_work=True)
            committer = job.committer(plan, lease)
            committer.begin(plan.work)
            for file in plan.work:
                for row in read_work(file.uri, ["clip_id", "part", "attempts", "image_uri"], job.storage).to_pylist():
                    committer.add(self._ending(row, job.layout, job.storage))
                    committer.flush_if_older(_FLUSH_S)
            committer.flush()
            remove_work(job.folder, plan.work, job.storage)
            job.forget()

    def _ending(self, work: dict[str, Any], layout: Layout, storage: Storage) -> Ending:
        time.sleep(self._random.uniform(0, 2 * _CLIP_S))
        row = Row(work["clip_id"], work["part"], work["attempts"], work["image_uri"], {})
        if self._random.random() < self._fail_share:
            return Failed(row, "load", "ImageError", "by chance")
        record = dict.fromkeys(clip_schema(GENERATORS["null"]).names) | {"clip_id": row.clip_id, "generator": "null"}
        name = f"{row.clip_id}.mp4"
        data = json.dumps(record | {"file_name": name, "image_uri": row.image_uri}).encode()
        storage.put_bytes(layout.video(row.part, name), data)
        if self._random.random() < self._fail_share:
            time.sleep(0.05)  # stored, and not committed yet
        del record["clip_id"]
        known = {"file_name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        return Made(row.with_columns(**record | known | {"image_uri": row.image_uri}))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Tell of everybody else who is within this block and must not be, whatever the lease says."""
        locks = self._folder / "locks"
        own = locks / f"{self._shard.index} of {self._shard.count}"
        with (locks / "look").open("w") as look, own.open("a+") as mine:
            fcntl.flock(look, fcntl.LOCK_EX)  # one looks at a time
            for path in locks.glob("* of *"):
                index, _, count = path.name.partition(" of ")
                other = Shard(int(index), int(count))
                if other == self._shard:
                    self._take(mine, other)
                elif other.count != self._shard.count:
                    with path.open("a+") as file:
                        self._take(file, other)
            mine.truncate(0)
            mine.write(str(os.getpid()))
            mine.flush()
            fcntl.flock(look, fcntl.LOCK_UN)
            self._at_work.touch()
            yield

    def _take(self, file: Any, of: Shard) -> None:
        """The lock of a share, which nobody may have but who has just been killed."""
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                if file.read() not in (self._folder / "killed.txt").read_text().split():
                    self._tell(together=f"{self._shard} and {of}")
                    return
                time.sleep(0.005)  # the kernel is about to end it
            else:
                return

    def _tell(self, **what: object) -> None:
        line = json.dumps({"shard": str(self._shard), "pid": os.getpid()} | what)
        with (self._folder / "told.txt").open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    exit_with(main)
