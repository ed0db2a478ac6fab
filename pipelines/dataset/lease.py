"""One writer per output: a lease that lies beside the dataset, on any store.

The lease is a sequence of generations, `<output>/_lease/00000001.json`, `00000002.json`, ... The highest belongs to the
run that may write. All that this asks of a store is what all of them have: that of several writers who create one
object at once, one succeeds. To take over means to create the next number; whoever created one looks again whether it
is the highest, because a slow writer can create a number that others have long gone past.

The holder renews its generation all the time, and another run may take over when it has not been renewed for `lease_s`.
That compares the clocks of two machines: they are assumed to agree within MAX_CLOCK_SKEW_S. Where they do not, two runs
may write for as long as the clocks differ, until the slower one sees at its next `check` that it was superseded. The
holder trusts only itself, and no clock that can be set: without a renewal for `lease_s` it may not write either.

A holder whose process is gone from this very machine is known to be dead, so a run after `kill -9` starts at once.
"""

import getpass
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from actors.errors import RunError, StorageError
from actors.storage import NotFound, Storage
from pipelines.dataset.layout import Layout, lease_number

# Machines that synchronise their clocks agree within milliseconds; this also covers one that has just started to.
MAX_CLOCK_SKEW_S = 5.0
# Two renewals in a row may fail before the third is too late.
_RENEWALS_PER_LEASE = 3
# How often a run that was overtaken looks again. Each time some other run has won, so one look mostly tells who.
_LOOKS = 10


class _Entry(BaseModel):
    """What one generation holds."""

    model_config = ConfigDict(frozen=True)

    token: str
    holder: str
    pid: int = Field(gt=0, lt=2**31)
    process: str | None
    run_id: str
    since: AwareDatetime
    renewed_at: AwareDatetime
    lease_s: float = Field(gt=0, le=1e6)
    released: bool = False

    @property
    def expires_at(self) -> datetime:
        """When another run may take over, unless it is renewed until then."""
        return self.renewed_at + timedelta(seconds=self.lease_s + MAX_CLOCK_SKEW_S)

    def is_over(self) -> bool:
        """Whether another run may take over."""
        return self.released or datetime.now(UTC) > self.expires_at or _is_gone(self)


class Lease:
    """The right to write to an output, for as long as `check` does not raise."""

    def __init__(self, layout: Layout, storage: Storage, number: int, entry: _Entry, renewed: float) -> None:
        self._layout, self._storage = layout, storage
        self._number, self._entry = number, entry
        self._renewed = renewed  # when the last renewal that succeeded began, by time.monotonic
        self._stop = threading.Event()
        self._renewer = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)
        self._renewer.start()

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
                f"the lease on {self._layout.root} could not be renewed for {silent_s:.0f} s, so another run may be "
                "writing there by now; what was committed is kept, and the next run makes the rest"
            )

    def release(self) -> None:
        """Let the next run start at once. A store that fails here only makes it wait until the lease expires."""
        self._stop.set()
        self._renewer.join()
        with suppress(StorageError, RunError):
            self._check_owner()
            self._write(self._entry.model_copy(update={"released": True}))

    def _keep_renewing(self) -> None:
        while not self._stop.wait(self._entry.lease_s / _RENEWALS_PER_LEASE):
            started = time.monotonic()
            entry = self._entry.model_copy(update={"renewed_at": datetime.now(UTC)})
            try:
                self._check_owner()
                self._write(entry)
            except RunError:
                return  # `check` finds the same, where it can be raised
            except StorageError:
                continue  # the next renewal may succeed; `check` counts the seconds
            self._renewed = started

    def _check_owner(self) -> None:
        highest = _highest(self._layout, self._storage)
        entry = _read(self._layout, self._storage, highest) if highest else None
        if highest != self._number or entry is None or entry.token != self._entry.token:
            by = f"run {entry.run_id} of {entry.holder} has taken it over" if entry else "its file was removed"
            raise RunError(
                f"the lease on {self._layout.root} is lost: {by}; this run has stopped writing, what it committed is "
                "kept"
            )

    def _write(self, entry: _Entry) -> None:
        self._storage.put_bytes(self._layout.lease_generation(self._number), entry.model_dump_json(indent=2).encode())


@contextmanager
def held(
    layout: Layout, storage: Storage, *, run_id: str, lease_s: float, break_lease: bool = False
) -> Iterator[Lease]:
    """Hold the lease on a dataset within the block, renewed every third of `lease_s` by a thread.

    `break_lease` takes it over from whoever holds it at the start; that run stops at its next `check`.

    Raises:
        RunError: another run holds it; the message says who, since when, until when, and what to do.
        StorageError: the store failed, or cannot create an object only where there is none.
    """
    lease = _acquire(layout, storage, run_id, lease_s, break_lease=break_lease)
    try:
        yield lease
    finally:
        lease.release()


@dataclass(frozen=True, slots=True)
class Holder:
    """Who wrote to a dataset last, or writes."""

    run_id: str
    name: str
    since: datetime
    renewed_at: datetime
    is_released: bool
    is_over: bool  # another run may take over


def last_holder(layout: Layout, storage: Storage) -> Holder | None:
    """The holder of the highest generation, in two requests; None where there was never one.

    Raises:
        RunError: the lease is none that this version can read.
    """
    for _ in range(_LOOKS):
        highest = _highest(layout, storage)
        entry = _read(layout, storage, highest) if highest else None
        if entry is not None:
            return Holder(entry.run_id, entry.holder, entry.since, entry.renewed_at, entry.released, entry.is_over())
        if not highest:
            break
    return None


def read_holder(uri: str, storage: Storage) -> Holder | None:
    """The holder that a lease's file names; None where it was removed.

    Raises:
        ValueError: the file is none that this version can read.
        StorageError: the store does not give it out.
    """
    try:
        entry = _Entry.model_validate_json(storage.read_bytes(uri))
    except NotFound:
        return None
    return Holder(entry.run_id, entry.holder, entry.since, entry.renewed_at, entry.released, entry.is_over())


def _acquire(layout: Layout, storage: Storage, run_id: str, lease_s: float, *, break_lease: bool) -> Lease:
    broken = _highest(layout, storage) if break_lease else 0
    for _ in range(_LOOKS):
        highest = _highest(layout, storage)
        if highest > broken:
            entry = _read(layout, storage, highest)
            if entry is None:  # removed by a run that has just gone past it
                continue
            if not entry.is_over():
                raise RunError(_refusal(layout, entry))
        started, entry = time.monotonic(), _new_entry(run_id, lease_s)
        number = highest + 1
        if not storage.create_bytes(layout.lease_generation(number), entry.model_dump_json(indent=2).encode()):
            continue
        numbers = _numbers(layout, storage)
        if numbers and max(numbers) > number:
            _remove(layout, storage, [number])
            continue
        _remove(layout, storage, [older for older in numbers if older < number])
        return Lease(layout, storage, number, entry, started)
    raise RunError(
        f"the lease on {layout.root} changed hands {_LOOKS} times while this run asked for it; start it again"
    )


def _refusal(layout: Layout, entry: _Entry) -> str:
    return (
        f"{layout.root} is being written by run {entry.run_id} of {entry.holder} (process {entry.pid}) since "
        f"{_clock(entry.since)}; its lease ends at {_clock(entry.expires_at)} unless it is renewed. Wait for that run; "
        "if it is certainly dead, take over with `python -m pipelines run ... --break-lease`"
    )


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _numbers(layout: Layout, storage: Storage) -> list[int]:
    found = map(lease_number, storage.list_names(layout.lease))
    return [number for number in found if number is not None]


def _highest(layout: Layout, storage: Storage) -> int:
    """The number of the generation that counts, 0 where there was never one."""
    return max(_numbers(layout, storage), default=0)


def _read(layout: Layout, storage: Storage, number: int) -> _Entry | None:
    """The entry of a generation, None where it was removed."""
    uri = layout.lease_generation(number)
    try:
        return _Entry.model_validate_json(storage.read_bytes(uri))
    except NotFound:
        return None
    except ValidationError as error:
        raise RunError(
            f"{uri} is not a lease that this version can read ({error.error_count()} faults in it), so it is unknown "
            f"whether another run writes to {layout.root}; if none does, take over with "
            "`python -m pipelines run ... --break-lease`"
        ) from error


def _remove(layout: Layout, storage: Storage, numbers: list[int]) -> None:
    for number in numbers:
        with suppress(StorageError):  # of no effect below a higher one; some stores never let anything be deleted
            storage.remove(layout.lease_generation(number))


def _new_entry(run_id: str, lease_s: float) -> _Entry:
    now = datetime.now(UTC)
    return _Entry(
        token=secrets.token_hex(16),
        holder=f"{_user()}@{socket.gethostname()}",
        pid=os.getpid(),
        process=_process(os.getpid()),
        run_id=run_id,
        since=now,
        renewed_at=now,
        lease_s=lease_s,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # containers run under numbers that no name belongs to
        return str(os.getuid())


def _is_gone(entry: _Entry) -> bool:
    """Whether the holder ran on this machine, since its last start, and runs no more."""
    machine = _machine()
    if machine is None or entry.process is None or not entry.process.startswith(machine):
        return False
    try:
        os.kill(entry.pid, 0)  # signal 0 only asks
    except ProcessLookupError:
        return True
    except PermissionError:  # it belongs to another user, who may hide what is read next
        pass
    now = _process(entry.pid)
    return now is not None and now != entry.process


def _process(pid: int) -> str | None:
    """What no other process is called, here or elsewhere: a number alone is given again; None if that is not known."""
    machine = _machine()
    try:
        # After the name in parentheses: field 3 is the state, field 22 the start time.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    has_ended = fields[0] in "ZX"  # killed, and its parent has not asked for its exit code yet
    return f"{machine}{pid}/{'ended' if has_ended else fields[19]}" if machine else None


def _machine() -> str | None:
    """This machine since its last start, and this container in it: they number their processes apart."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:  # not Linux: a lease of this machine ends by time alone
        return None
    return f"{socket.gethostname()}/{boot}/{namespace}/"
