"""One writer per share of an output: leases that lie beside the dataset, on any store.

A lease is a sequence of generations, `<output>/_lease/00000001.json`, `00000002.json`, ... The highest belongs to the
run that may write. All that this asks of a store is what all of them have: that of several writers who create one
object at once, one succeeds. To take over means to create the next number; whoever created one looks again whether it
is the highest, because a slow writer can create a number that others have long gone past.

The holder renews its generation all the time, and another run may take over when it has not been renewed for `lease_s`.
That compares the clocks of two machines: they are assumed to agree within MAX_CLOCK_SKEW_S. Where they do not, two runs
may write for as long as the clocks differ, until the slower one sees at its next `check` that it was superseded. The
holder trusts only itself, and no clock that can be set: without a renewal for `lease_s` it may not write either.

A holder whose process is gone from this very machine is known to be dead, so a run after `kill -9` starts at once. One
that has let a renewal pass may be dead on another machine: who comes then waits until its lease ends, or is renewed.
So the second try of a scheduler, whose first one was lost with its machine, does not come to nothing.

Each share of a dataset (`pipelines.dataset.shard`) has a lease of its own. Shares of one division go together; all
others exclude each other, the whole dataset among them. A run creates its generation first, and looks at the leases
that exclude its own after that. So of two runs at once, at least one sees the other: never do both go on. Where both
see each other, both withdraw, wait for a moment, and try again.

Of each excluding lease that is over and was not released, it ends the sequence by a next generation, which is released.
So a holder who stood still meanwhile, for longer than its own clock noticed, finds at its next `check` that it was
superseded, by whichever share: `check` looks at its own lease alone. What is left is what one write that is on its way
can do when its holder stands still right before it: it meets `pipelines.dataset.commit`'s condition on the file.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from actors.errors import BusyError, RunError, StorageError
from actors.repeating import Repeating
from actors.storage import NotFound, Storage
from pipelines.dataset import processes
from pipelines.dataset.generations import LOOKS, Entry, Generations, all_highest
from pipelines.dataset.layout import Layout, is_upkeep
from pipelines.dataset.shard import WHOLE, Shard

# Two renewals in a row may fail before the third is too late.
_RENEWALS_PER_LEASE = 3
# A lease is overdue whose last renewal is older than so many of its intervals.
_OVERDUE = 1.5
# Seconds between two looks at one that is.
_OVERDUE_LOOK_S = 5.0
# A lease that began so recently may be of a run that is about to withdraw, as this one is.
_RACE = timedelta(seconds=10)
# So often a run withdraws before such a lease, and waits for at most so long, which is many times what a try takes.
_TRIES_IN_A_RACE = 6
_RACE_WAIT_S = 2.0
# Leases that are looked at beside each other: a small request each.
_READERS = 16


class Lease:
    """The right to write to a share of an output, for as long as `check` does not raise."""

    def __init__(self, generations: Generations, number: int, entry: Entry, renewed: float) -> None:
        self._generations, self._root = generations, generations.layout.root
        self._number, self._entry = number, entry
        self._renewed = renewed  # when the last renewal that succeeded began, by time.monotonic
        self._renewing = Repeating("lease", self._renew, entry.lease_s / _RENEWALS_PER_LEASE)
        self._renewing.start()

    @property
    def age_s(self) -> float:
        """Seconds since the last renewal that succeeded; as old as `length_s` it may be another run's."""
        return time.monotonic() - self._renewed

    @property
    def length_s(self) -> float:
        """Seconds that it holds without a renewal."""
        return self._entry.lease_s

    def check(self) -> None:
        """Ask the store whether the lease is still ours, in two requests; call it before each write that counts.

        Raises:
            RunError: it is not, or it might not be any more. Nothing more may be written.
            StorageError: the store does not answer.
        """
        self._check_owner()
        silent_s = self.age_s
        if silent_s > self.length_s:
            raise RunError(
                f"the lease on {self._root} could not be renewed for {silent_s:.0f} s, so another run may be "
                "writing there by now; what was committed is kept, and the next run makes the rest"
            )

    def release(self) -> None:
        """Let the next run start at once. A store that fails here only makes it wait until the lease expires."""
        self._renewing.stop(patiently=True)  # a renewal that comes late would undo the release
        with suppress(StorageError, RunError):
            self._check_owner()
            self._generations.write(self._number, self._entry.model_copy(update={"released": True}))

    def _renew(self) -> None:
        started = time.monotonic()
        entry = self._entry.model_copy(update={"renewed_at": datetime.now(UTC)})
        try:
            self._check_owner()
            self._generations.write(self._number, entry)
        except RunError:
            self._renewing.end()  # `check` finds the same, where it can be raised
        except StorageError:
            pass  # the next renewal may succeed; `check` counts the seconds
        else:
            self._renewed, self._entry = started, entry

    def _check_owner(self) -> None:
        highest = self._generations.highest()
        entry = self._generations.read(highest) if highest else None
        if highest != self._number or entry is None or entry.token != self._entry.token:
            by = f"{entry.ended_by or entry.by} has taken it over" if entry else "its file was removed"
            raise RunError(
                f"the lease on {self._root} is lost: {by}; this run has stopped writing, what it committed is kept"
            )


@contextmanager
def held(
    layout: Layout,
    storage: Storage,
    *,
    run_id: str,
    lease_s: float,
    break_lease: bool = False,
    shard: Shard = WHOLE,
    tell: Callable[[str], None] | None = None,
) -> Iterator[Lease]:
    """Hold the lease on a share of a dataset within the block, renewed every third of `lease_s` by a thread.

    `break_lease` takes it over from whoever holds it at the start, or a lease that excludes it; they stop at their next
    `check`. With `tell`, which is told of it once, this waits for a lease that is overdue; without, it is refused.

    Raises:
        BusyError: another run holds it; the message says who, since when, until when, and what to do.
        RunError: it changed hands all the time, or is none that this version can read.
        StorageError: the store failed, or cannot create an object only where there is none.
    """
    own = Generations(layout, storage, shard)
    try:
        lease = _acquire(own, run_id, lease_s, break_lease=break_lease)
    except BusyError:
        if tell is None or break_lease or not _has_waited_for_overdue(own, tell):
            raise
        lease = _acquire(own, run_id, lease_s, break_lease=break_lease)
    try:
        yield lease
    finally:
        lease.release()


@dataclass(frozen=True, slots=True)
class Holder:
    """Who wrote to a share of a dataset last, or writes."""

    run_id: str
    name: str
    since: datetime
    renewed_at: datetime
    is_released: bool
    is_over: bool  # another run may take over
    is_gone: bool  # it ran on this machine, where its process is no more
    was_ended: bool  # by another run, when it was


def last_holders(layout: Layout, storage: Storage) -> dict[Shard, Holder]:
    """The holder of each lease's highest generation, in a request and one more for each; those who withdrew left out.

    Raises:
        RunError: a lease is none that this version can read.
    """
    highest = all_highest(layout, storage)
    with ThreadPoolExecutor(_READERS) as readers:
        found = readers.map(lambda shard: Generations(layout, storage, shard).last(highest[shard])[1], highest)
        return {
            shard: _holder(entry)
            for shard, entry in zip(highest, found, strict=True)
            if entry is not None and not entry.withdrawn
        }


def read_holder(uri: str, storage: Storage) -> Holder | None:
    """The holder that a lease's file names; None where it was removed.

    Raises:
        ValueError: the file is none that this version can read.
        StorageError: the store does not give it out.
    """
    try:
        return _holder(Entry.model_validate_json(storage.read_bytes(uri)))
    except NotFound:
        return None


def _holder(entry: Entry) -> Holder:
    return Holder(
        run_id=entry.run_id,
        name=entry.holder,
        since=entry.since,
        renewed_at=entry.renewed_at,
        is_released=entry.released,
        is_over=entry.is_over(),
        is_gone=processes.is_gone(entry.pid, entry.process),
        was_ended=entry.ended_by is not None,
    )


def _acquire(own: Generations, run_id: str, lease_s: float, *, break_lease: bool) -> Lease:
    """The lease, when no other run has one that excludes it."""
    broken = all_highest(own.layout, own.storage) if break_lease else {}
    for tries_left in reversed(range(_TRIES_IN_A_RACE)):
        # Before anything is written: a run that is refused leaves nothing, and disturbs nobody.
        rival = _rival(own, broken, None)
        if rival is None:
            started = time.monotonic()
            number, entry = _claim(own, run_id, lease_s, broken.get(own.shard, 0))
            try:
                rival = _rival(own, broken, entry)
            except BaseException:
                _withdraw(own, number, entry)
                raise
            if rival is None:
                return Lease(own, number, entry, started)
            _withdraw(own, number, entry)
        is_settled = datetime.now(UTC) - rival[1].since > _RACE
        if is_settled or not tries_left:
            raise BusyError(_refusal(own, run_id, *rival))
        time.sleep(random.uniform(0, _RACE_WAIT_S))  # noqa: S311 - so that not both come again at once
    raise AssertionError  # the last try returns, or raises


def _has_waited_for_overdue(own: Generations, tell: Callable[[str], None]) -> bool:
    """Wait while the lease of another run is overdue and not renewed; False where it is not overdue, and none waits."""
    first = _in_the_way(own)
    if first is None or not _is_overdue(first):
        return False
    tell(
        f"{first.by} holds {own.layout.root} and lets no renewal be seen: waiting until its lease ends at "
        f"{_clock(first.expires_at)}, or is renewed (--break-lease takes it over from a run that is certainly dead)"
    )
    now: Entry | None = first
    while now == first:
        time.sleep(_OVERDUE_LOOK_S)
        now = _in_the_way(own)
    return True


def _in_the_way(own: Generations) -> Entry | None:
    """Who holds this share's lease, or one that excludes it."""
    highest = own.highest()
    last = own.last(highest)[1] if highest else None
    if last is not None and not last.is_over():
        return last
    rival = _rival(own, {}, None)
    return rival and rival[1]


def _is_overdue(entry: Entry) -> bool:
    interval = timedelta(seconds=entry.lease_s / _RENEWALS_PER_LEASE)
    return datetime.now(UTC) - entry.renewed_at > _OVERDUE * interval


def _claim(own: Generations, run_id: str, lease_s: float, broken: int) -> tuple[int, Entry]:
    """Create the next generation of this share's lease; raise BusyError where another run holds one above `broken`."""
    for _ in range(LOOKS):
        highest = own.highest()
        if highest > broken:
            highest, last = own.last(highest)
            if last is not None and not last.is_over():
                raise BusyError(_refusal(own, run_id, own.shard, last))
        number, entry = highest + 1, Entry.of_this_process(run_id, lease_s)
        if own.add(number, entry):
            return number, entry
    raise RunError(_unrest(own))


def _withdraw(own: Generations, number: int, entry: Entry) -> None:
    with suppress(StorageError):  # then others wait until it expires
        own.write(number, entry.model_copy(update={"released": True, "withdrawn": True}))


def _rival(own: Generations, broken: Mapping[Shard, int], claim: Entry | None) -> tuple[Shard, Entry] | None:
    """The run that holds a lease which excludes this one and is none of the `broken`; the oldest of several.

    With a `claim`, the entry of our own generation, those leases are ended that are over, or broken, and not released.
    """
    layout, storage = own.layout, own.storage
    others = {shard: number for shard, number in all_highest(layout, storage).items() if own.shard.excludes(shard)}
    if not others:
        return None
    with ThreadPoolExecutor(_READERS) as readers:
        found = readers.map(
            lambda shard: _alive(Generations(layout, storage, shard), others[shard], broken.get(shard, 0), claim),
            others,
        )
        rivals = [(shard, entry) for shard, entry in zip(others, found, strict=True) if entry is not None]
    return min(rivals, key=lambda rival: rival[1].since, default=None)


def _alive(other: Generations, number: int, broken: int, claim: Entry | None) -> Entry | None:
    """Who holds the lease whose highest generation was `number` when it was looked for; None where it may be ended."""
    for _ in range(LOOKS):
        if number <= broken and claim is None:
            return None
        try:
            number, last = other.last(number)
        except RunError:  # whatever it says
            if number > broken:
                raise
            last = claim
        if last is None or last.released:
            return None
        if number > broken and not last.is_over():
            return last
        if claim is None or other.add(number + 1, last.ended(claim.by)):
            return None
        number = other.highest()
    raise RunError(_unrest(other))


def _unrest(generations: Generations) -> str:
    return (
        f"the lease on {generations.layout.root} changed hands {LOOKS} times while this run asked for it; start it "
        "again"
    )


def _refusal(own: Generations, run_id: str, shard: Shard, entry: Entry) -> str:
    root, mine = own.layout.root, own.shard
    # A repair that is wrong about a run being dead would move what that one is writing; a run would not.
    advice = (
        "if it is certainly dead, until its lease has ended, and call this again; only `run` can take over before, with"
        " --break-lease"
        if is_upkeep(run_id)
        else "if it is certainly dead, take over with `python -m pipelines run ... --break-lease`"
    )
    why = "" if shard == mine else f"That is {shard.name}, beside which {mine.name} cannot be written. "
    return (
        f"{root} is being written by run {entry.run_id} of {entry.holder} (process {entry.pid}) since "
        f"{_clock(entry.since)}; its lease ends at {_clock(entry.expires_at)} unless it is renewed. {why}Wait for that "
        f"run; {advice}"
    )


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
