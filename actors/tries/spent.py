"""Seconds of workers that no finished clip tells of: starts, tries that came to nothing, and clips under way.

The ledger keeps them beside the tries themselves, because it hears of every one; the driver takes them from there and
knows how many GPUs each worker of a stage holds (`pipelines.money.gpu_time`).
"""

import time
from collections import Counter, defaultdict
from typing import Any

# Before the name of a stage: what a worker does that starts.
START_OF = "start of "
# Whose tasks hold no GPU: of its clips nothing is kept.
_WITHOUT_GPU = "load"

# As `SpentTime.take` gives it, in what Ray packs as it is. By stage unless said otherwise:
#   age_s: since the ledger began (a number, of all stages)
#   ready: workers that became ready for the first time that the ledger knows of; first_start_s: seconds of their
#     starts; first_wait_s: seconds from the ledger's begin until they started
#   restart_s: seconds of starts after a death
#   lost_s: of tries that came to nothing
#   under_way_s: of clips that have not come out of the last stage (what is now, and not what is new)
Spent = dict[str, Any]


class SpentTime:
    """Counts on the ledger's own clock: machines' clocks differ."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._begun: dict[str, dict[str, float]] = {}  # when, by key and stage
        self._done: dict[str, dict[str, float]] = {}  # seconds, by key and stage, until the clip comes out
        self._workers: set[str] = set()  # that were ready once
        self._restarted: dict[str, float] = {}  # when a worker of the stage began to start again, the last time
        self._ready: Counter[str] = Counter()
        self._first, self._waited, self._restart, self._lost = (defaultdict[str, float](float) for _ in range(4))

    def begin(self, key: str, stage: str) -> None:
        """A worker begins; what was begun or done before under this key and stage came to nothing."""
        if stage == _WITHOUT_GPU:
            return
        now = time.monotonic()
        if stage.startswith(START_OF):
            if key in self._workers:
                self._restarted[stage.removeprefix(START_OF)] = now
            self._begun.setdefault(key, {}).setdefault(stage, now)  # of several starts in a row all count
            return
        self.died(key, stage)
        if stage in self._done.get(key, {}):  # its frames were lost with their node
            self._lost[stage] += self._done[key].pop(stage)
        self._begun.setdefault(key, {})[stage] = now

    def died(self, key: str, stage: str) -> None:
        """The worker that began has died, now or some time ago.

        When it died without a word is not known: it is taken to be when a worker of its stage was started again.
        """
        if stage.startswith(START_OF) or stage not in self._begun.get(key, {}):
            return
        begun = self._begun[key].pop(stage)
        ended = self._restarted.get(stage, 0.0)
        self._lost[stage] += (ended if ended > begun else time.monotonic()) - begun

    def end(self, key: str, stage: str, seconds: float, *, is_out: bool) -> None:
        """The stage is done with it, after so many seconds; a clip that was out before was made for nobody."""
        if self._begun.get(key, {}).pop(stage, None) is None:
            return
        if is_out:
            self._begun.pop(key)
            self._lost[stage] += seconds
        else:
            self._done.setdefault(key, {})[stage] = seconds

    def come_out(self, key: str) -> None:
        """The clip is the driver's, which counts it from here on; or the worker has started."""
        self._done.pop(key, None)
        for step, begun in self._begun.pop(key, {}).items():
            stage = step.removeprefix(START_OF)
            if stage == step:
                continue
            now = time.monotonic()
            if key in self._workers:
                self._restart[stage] += now - begun
            else:
                self._workers.add(key)
                self._ready[stage] += 1
                self._first[stage] += now - begun
                self._waited[stage] += begun - self._since

    def take(self) -> Spent:
        """What has come since the last time."""
        now = time.monotonic()
        under_way: defaultdict[str, float] = defaultdict(float)
        for steps in self._begun.values():
            for stage, begun in steps.items():
                if not stage.startswith(START_OF):
                    under_way[stage] += now - begun
        for steps in self._done.values():
            for stage, seconds in steps.items():
                under_way[stage] += seconds
        taken = {
            "age_s": now - self._since,
            "ready": dict(self._ready),
            "first_start_s": dict(self._first),
            "first_wait_s": dict(self._waited),
            "restart_s": dict(self._restart),
            "lost_s": dict(self._lost),
            "under_way_s": dict(under_way),
        }
        self._ready.clear()
        for seconds_by_stage in (self._first, self._waited, self._restart, self._lost):
            seconds_by_stage.clear()
        return taken
