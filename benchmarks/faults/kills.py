"""Runs that lose their driver, a worker or Ray's node process at a random moment, and are run again."""

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from actors.storage import Storage
from benchmarks.faults import jobs
from benchmarks.faults.dataset import audit, stored_videos

CLIPS = 40
# One run in five is killed while it starts; the others after a random number of stored videos.
_SHARE_AT_START = 0.2
_START_S = 15.0
_BETWEEN_CLIPS_S = 0.3
_ENDS_WITHIN_S = 600.0
VICTIMS = ("driver", "worker", "raylet")


@dataclass(slots=True)
class Tally:
    """Sums over all runs."""

    runs: int = 0
    lost: int = 0
    duplicated: int = 0
    mismatched: int = 0
    failed: int = 0  # rows that ended as failures, though nothing is wrong with them
    paid_twice: int = 0  # clips whose video was stored at the kill and that were made again
    orphans: int = 0  # processes that had to be killed 40 s after the job's end
    unfinished: int = 0  # runs that did not end well after the kill
    hung: int = 0  # killed runs that had not ended ten minutes later
    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*VICTIMS, "none"), 0))

    @property
    def faults(self) -> int:
        """What has to be none."""
        return (
            self.lost + self.duplicated + self.mismatched + self.failed + self.paid_twice + self.unfinished + self.hung
        )


def trial(
    folder: Path,
    models: jobs.Models | jobs.NoModels,
    runs: int,
    seed: int,
    victims: Sequence[str] = VICTIMS,
    continued: Sequence[str] = (),
) -> Tally:
    """Kill `runs` runs of `CLIPS` clips each, continue each to its end, and look at what they made.

    The `victims` take turns. `continued`: arguments of the runs that continue others. The log of run 7 is
    `007/log.txt` in the folder.
    """
    rng = np.random.default_rng(seed)
    jobs.write_pictures(folder / "images", CLIPS)
    tally = Tally()
    for number in range(runs):
        victim = victims[number % len(victims)]
        _one(folder / f"{number:03d}", folder / "images", models, victim, rng, tally, continued)
    return tally


def _one(
    folder: Path,
    images: Path,
    models: jobs.Models | jobs.NoModels,
    victim: str,
    rng: np.random.Generator,
    tally: Tally,
    continued: Sequence[str],
) -> None:
    folder.mkdir()
    output, storage, log = str(folder / "out"), Storage(), folder / "log.txt"
    config = jobs.write_config(folder / "job.yaml", models, str(images), output)
    job = jobs.start(config, log=log)
    _wait_for_moment(job, output, rng)
    members = jobs.family(job)  # afterwards a dead driver has no children any more
    killed = _kill(job, victim, rng)
    tally.kills[victim if killed else "none"] += 1
    try:
        code = job.wait(_ENDS_WITHIN_S)
    except psutil.TimeoutExpired:
        tally.hung += 1
        job.kill()
        code = job.wait()
    tally.orphans += jobs.end_all(members)
    written = {uri: Path(uri).stat().st_mtime_ns for uri in storage.list_files(output + "/data", suffix=".mp4")}
    if code != 0:
        tally.unfinished += jobs.finish(config, *continued, log=log) != 0
    tally.paid_twice += sum(Path(uri).stat().st_mtime_ns != at for uri, at in written.items())
    result = audit(output, storage)
    tally.runs += 1
    tally.lost += result.lost(CLIPS)
    tally.duplicated += result.duplicated
    tally.mismatched += result.mismatched
    tally.failed += len(result.failures)


def _wait_for_moment(job: psutil.Popen, output: str, rng: np.random.Generator) -> None:
    if rng.random() < _SHARE_AT_START:
        time.sleep(rng.uniform(0, _START_S))
        return
    count = int(rng.integers(0, CLIPS))
    while job.poll() is None and len(stored_videos(output, Storage())) < count:
        time.sleep(0.05)
    time.sleep(rng.uniform(0, _BETWEEN_CLIPS_S))


def _kill(job: psutil.Popen, victim: str, rng: np.random.Generator) -> bool:
    """SIGKILL to a process of the kind; False where the job ended before."""
    while job.poll() is None:
        found = _of_kind(job, victim)
        if found:
            try:
                found[int(rng.integers(len(found)))].send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
            return True
        time.sleep(0.1)  # Ray has not started it yet
    return False


def _of_kind(job: psutil.Popen, victim: str) -> list[psutil.Process]:
    if victim == "driver":
        return [job]
    found = []
    for process in jobs.family(job)[1:]:
        try:
            name, title = process.name(), " ".join(process.cmdline()[:1])
        except psutil.Error:
            continue
        is_worker = title.startswith("ray::") and not jobs.is_agent(process)
        if (victim == "raylet" and name == "raylet") or (victim == "worker" and is_worker):
            found.append(process)
    return found
