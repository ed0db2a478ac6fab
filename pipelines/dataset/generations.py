"""The files of a lease: a sequence of generations, of which the highest counts (`pipelines.dataset.lease`)."""

import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from actors.counting import counted
from actors.errors import RunError, StorageError
from actors.storage import NotFound, Storage
from pipelines.dataset import processes
from pipelines.dataset.layout import Layout, lease_number
from pipelines.dataset.shard import Shard

# Machines that synchronise their clocks agree within milliseconds; this also covers one that has just started to.
MAX_CLOCK_SKEW_S = 5.0
# How often a run that was overtaken looks again. Each time some other run has won, so one look mostly tells who.
LOOKS = 10


class Entry(BaseModel):
    """What one generation holds.

    Attributes:
        process: of the holder (`pipelines.dataset.processes`).
        released: the holder writes no more.
        withdrawn: nor has it ever written, because another run was there.
        ended_by: the run that has put this generation above the holder's, who stood still or was told to be dead.
    """

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
    withdrawn: bool = False
    ended_by: str | None = None

    @classmethod
    def of_this_process(cls, run_id: str, lease_s: float) -> "Entry":
        """Of a run that begins now."""
        now = datetime.now(UTC)
        return cls(
            token=_token(),
            holder=processes.this_user(),
            pid=os.getpid(),
            process=processes.name_of(os.getpid()),
            run_id=run_id,
            since=now,
            renewed_at=now,
            lease_s=lease_s,
        )

    @property
    def by(self) -> str:
        """Who that is, for people."""
        return f"run {self.run_id} of {self.holder}"

    @property
    def expires_at(self) -> datetime:
        """When another run may take over, unless it is renewed until then."""
        return self.renewed_at + timedelta(seconds=self.lease_s + MAX_CLOCK_SKEW_S)

    def is_over(self) -> bool:
        """Whether another run may take over."""
        return self.released or datetime.now(UTC) > self.expires_at or processes.is_gone(self.pid, self.process)

    def ended(self, by: str) -> "Entry":
        """The generation that says so, to stand above this one."""
        return self.model_copy(update={"token": _token(), "released": True, "ended_by": by})


@dataclass(frozen=True, slots=True)
class Generations:
    """Those of the lease on a share of a dataset."""

    layout: Layout
    storage: Storage
    shard: Shard

    def numbers(self) -> list[int]:
        """All that are there, in one request."""
        found = map(lease_number, self.storage.list_names(self.layout.lease_of(self.shard)))
        return [number for number in found if number is not None]

    def highest(self) -> int:
        """The number of the generation that counts, 0 where there was never one."""
        return max(self.numbers(), default=0)

    def read(self, number: int) -> Entry | None:
        """The entry of a generation, None where it was removed.

        Raises:
            RunError: it is none that this version can read.
        """
        uri = self._uri(number)
        try:
            return Entry.model_validate_json(self.storage.read_bytes(uri))
        except NotFound:
            return None
        except ValidationError as error:
            raise RunError(
                f"{uri} is not a lease that this version can read ({counted(error.error_count(), 'fault')} in it), so "
                f"it is unknown whether another run writes to {self.layout.root}; if none does, remove it, "
                "or take over with `python -m pipelines run ... --break-lease`"
            ) from error

    def last(self, number: int) -> tuple[int, Entry | None]:
        """The number and the entry of the generation that counts, which was `number` when that was looked for."""
        for _ in range(LOOKS):
            entry = self.read(number) if number else None
            if entry is not None or not number:
                return number, entry
            number = self.highest()  # removed by a run that has just gone past it
        return number, None

    def add(self, number: int, entry: Entry) -> bool:
        """Put a generation above all others, and tidy those away; False where another run was faster."""
        if not self.storage.create_bytes(self._uri(number), _json(entry)):
            return False
        numbers = self.numbers()
        if numbers and max(numbers) > number:  # written late: others have gone past it, and tidied it away
            self._remove([number])
            return False
        self._remove(older for older in numbers if older < number)
        return True

    def write(self, number: int, entry: Entry) -> None:
        """Write over one of our own."""
        self.storage.put_bytes(self._uri(number), _json(entry))

    def _remove(self, numbers: Iterable[int]) -> None:
        """Of those below a higher one."""
        for number in numbers:
            with suppress(StorageError):  # of no effect there; some stores never let anything be deleted
                self.storage.remove(self._uri(number))

    def _uri(self, number: int) -> str:
        return self.layout.lease_generation(number, self.shard)


def all_highest(layout: Layout, storage: Storage) -> dict[Shard, int]:
    """The number of the generation that counts of each share that was ever leased: one listing."""
    highest: dict[Shard, int] = {}
    for uri in storage.walk(layout.lease):
        shard, number = layout.share_leased(uri), lease_number(uri)
        if shard is not None and number is not None:
            highest[shard] = max(number, highest.get(shard, 0))
    return highest


def _json(entry: Entry) -> bytes:
    return entry.model_dump_json(indent=2).encode()


def _token() -> str:
    return secrets.token_hex(16)
