import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from actors import retries
from actors.errors import BusyError, RunError, StorageError
from actors.storage import Storage
from pipelines.dataset import lease as leases
from pipelines.dataset.generations import MAX_CLOCK_SKEW_S
from pipelines.dataset.layout import Layout
from pipelines.dataset.lease import Lease

LOCAL = Storage()
LEASE_S = 60.0
RACERS = 8


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Storage]:
    """An output with nothing in it yet, and the access to it."""
    if request.param == "local":
        return str(tmp_path / "out"), LOCAL
    return f"{request.getfixturevalue('s3_bucket')}/out", request.getfixturevalue("s3_storage")


@contextmanager
def held(output: str, storage: Storage, **options: Any) -> Iterator[Lease]:
    with leases.held(Layout(output), storage, **options) as lease:
        yield lease


def _generations(output: str, storage: Storage) -> list[str]:
    return [uri.rpartition("/")[2] for uri in storage.list_files(f"{output}/_lease")]


def _entry(output: str, storage: Storage, number: int) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(storage.read_bytes(f"{output}/_lease/{number:08d}.json"))
    return entry


def leave_behind(output: str, storage: Storage, number: int, **changes: object) -> None:
    """What a run on another machine left: as this machine writes it, with `changes`."""
    scratch = f"{output}/{uuid.uuid4().hex}"
    with held(scratch, storage, run_id="other-run", lease_s=LEASE_S):
        entry = _entry(scratch, storage, 1) | {"process": "elsewhere/1/2"} | changes
    storage.put_bytes(f"{output}/_lease/{number:08d}.json", json.dumps(entry).encode())


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_one_run_after_the_other(place: tuple[str, Storage]) -> None:
    output, storage = place
    for number in (1, 2, 3):
        with held(output, storage, run_id=f"run-{number}", lease_s=LEASE_S) as lease:
            lease.check()
            assert _generations(output, storage) == [f"{number:08d}.json"]
            entry = _entry(output, storage, number)
            assert (entry["run_id"], entry["pid"], entry["released"]) == (f"run-{number}", os.getpid(), False)
        assert _entry(output, storage, number)["released"]
    assert not any(thread.name == "lease" for thread in threading.enumerate())


def test_a_second_run_is_refused(place: tuple[str, Storage]) -> None:
    output, storage = place
    with held(output, storage, run_id="first-run", lease_s=LEASE_S) as lease:
        expected = (
            rf"out is being written by run first-run of \S+@\S+ \(process {os.getpid()}\) since 20\d\d-.* UTC; its "
            r"lease ends at 20\d\d-.* UTC unless it is renewed. Wait for that run; .*pipelines run \.\.\. --break-lease"
        )
        with pytest.raises(BusyError, match=expected), held(output, storage, run_id="second", lease_s=LEASE_S):
            pass
        lease.check()
        assert _generations(output, storage) == ["00000001.json"]


def test_a_lease_that_is_overdue_is_waited_for_until_it_ends(
    place: tuple[str, Storage], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, storage = place
    leave_behind(output, storage, 7, renewed_at=ago(LEASE_S / 2 + 1))
    told, waits = list[str](), list[float]()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:  # its time is over
            leave_behind(output, storage, 7, renewed_at=ago(LEASE_S + MAX_CLOCK_SKEW_S + 1))

    monkeypatch.setattr(time, "sleep", sleep)
    with held(output, storage, run_id="next", lease_s=LEASE_S, tell=told.append) as lease:
        lease.check()
    (said,) = told
    assert "run other-run of " in said
    assert "waiting until its lease ends at 20" in said
    assert len(waits) == 3


def test_a_run_whose_renewal_comes_late_is_not_disturbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = str(tmp_path)
    monkeypatch.setattr(leases, "_OVERDUE_LOOK_S", 0.0)
    leave_behind(output, LOCAL, 7, renewed_at=ago(LEASE_S / 2 + 1), token="t")
    told: list[str] = []

    def tell(text: str) -> None:  # its clock is slow, too: it still seems overdue after that
        told.append(text)
        leave_behind(output, LOCAL, 7, renewed_at=ago(LEASE_S / 2 + 0.5), token="t")

    with (
        pytest.raises(RunError, match="written by run other-run"),
        held(output, LOCAL, run_id="r", lease_s=LEASE_S, tell=tell),
    ):
        pass
    assert _generations(output, LOCAL) == ["00000007.json"]
    assert len(told) == 1


def test_a_lease_that_was_just_renewed_is_refused_at_once(tmp_path: Path) -> None:
    output, told = str(tmp_path), list[str]()
    leave_behind(output, LOCAL, 7, renewed_at=ago(LEASE_S / 2 - 2))
    with (
        pytest.raises(RunError, match="written by run other-run"),
        held(output, LOCAL, run_id="r", lease_s=LEASE_S, tell=told.append),
    ):
        pass
    assert not told


def test_an_expired_lease_is_taken_over(tmp_path: Path) -> None:
    output = str(tmp_path)
    leave_behind(output, LOCAL, 7, renewed_at=ago(LEASE_S + MAX_CLOCK_SKEW_S - 1))
    with pytest.raises(RunError, match="written by run other-run"), held(output, LOCAL, run_id="r", lease_s=LEASE_S):
        pass
    leave_behind(output, LOCAL, 7, renewed_at=ago(LEASE_S + MAX_CLOCK_SKEW_S + 1))
    with held(output, LOCAL, run_id="next", lease_s=LEASE_S) as lease:
        lease.check()
        assert _generations(output, LOCAL) == ["00000008.json"]


def test_breaking_a_lease_stops_its_holder(place: tuple[str, Storage]) -> None:
    output, storage = place
    with held(output, storage, run_id="old", lease_s=LEASE_S) as old:
        with held(output, storage, run_id="new", lease_s=LEASE_S, break_lease=True) as new:
            new.check()
            with pytest.raises(RunError, match=r"lease on .* is lost: run new of .* has taken it over"):
                old.check()
            old.release()
            new.check()
        assert _entry(output, storage, 2)["released"]
    assert _generations(output, storage) == ["00000002.json"]


@pytest.fixture
def _renewed_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tenth of a second, however long the lease is."""
    monkeypatch.setattr("pipelines.dataset.lease._RENEWALS_PER_LEASE", LEASE_S / 0.1)


def _eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("_renewed_often")
def test_the_lease_is_renewed(tmp_path: Path) -> None:
    with held(str(tmp_path), LOCAL, run_id="r", lease_s=LEASE_S) as lease:
        first = _entry(str(tmp_path), LOCAL, 1)
        _eventually(lambda: _entry(str(tmp_path), LOCAL, 1)["renewed_at"] > first["renewed_at"])
        lease.check()
        assert _entry(str(tmp_path), LOCAL, 1)["since"] == first["since"]


@pytest.mark.usefixtures("_renewed_often")
def test_a_holder_that_cannot_renew_stops_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, passed_s = time.monotonic, [0.0]
    tries: list[str] = []

    def full(self: Storage, uri: str, data: bytes) -> None:
        tries.append(uri)
        raise StorageError(f"{uri} could not be written: No space left on device")

    def may_write() -> bool:
        try:
            lease.check()
        except RunError:
            return False
        return True

    monkeypatch.setattr("pipelines.dataset.lease.time.monotonic", lambda: clock() + passed_s[0])
    with held(str(tmp_path), LOCAL, run_id="r", lease_s=LEASE_S) as lease:
        with monkeypatch.context() as patch:
            patch.setattr(Storage, "put_bytes", full)
            _eventually(lambda: len(tries) > 1)  # what was under way before has ended
            lease.check()
            passed_s[0] = LEASE_S
            with pytest.raises(RunError, match=r"could not be renewed for \d+ s, so another run may be writing"):
                lease.check()
        _eventually(may_write)  # nobody came, and the store works again


def test_a_lease_that_was_removed_or_overwritten_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "_lease" / "00000001.json"
    with held(str(tmp_path), LOCAL, run_id="r", lease_s=LEASE_S) as lease:
        stranger = json.loads(path.read_text()) | {"token": "0" * 32, "run_id": "stranger"}
        path.write_text(json.dumps(stranger))
        with pytest.raises(RunError, match=r"run stranger of .* has taken it over"):
            lease.check()
        path.unlink()
        with pytest.raises(RunError, match="its file was removed"):
            lease.check()
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"token": "x", "pid": 0}'])
def test_an_unreadable_lease_is_reported(content: bytes, tmp_path: Path) -> None:
    output = str(tmp_path)
    LOCAL.put_bytes(f"{output}/_lease/00000004.json", content)
    LOCAL.put_bytes(f"{output}/_lease/notes.txt", b"not a lease")
    with (
        pytest.raises(RunError, match=r"00000004.json is not a lease that this version can read .* --break-lease"),
        held(output, LOCAL, run_id="r", lease_s=LEASE_S),
    ):
        pass
    with held(output, LOCAL, run_id="r", lease_s=LEASE_S, break_lease=True) as lease:
        lease.check()
        assert _generations(output, LOCAL) == ["00000005.json", "notes.txt"]


_HOLD = """
import sys, time
from actors.storage import Storage
from pipelines.dataset.layout import Layout
from pipelines.dataset.lease import held
with held(Layout(sys.argv[1]), Storage(), run_id="killed-run", lease_s=3600):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_killed_holder_of_this_machine_is_followed_at_once(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with (
            pytest.raises(RunError, match=rf"killed-run of .* \(process {process.pid}\)"),
            held(str(tmp_path), LOCAL, run_id="next", lease_s=LEASE_S),
        ):
            pass
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended; its parent has not asked yet
        with held(str(tmp_path), LOCAL, run_id="next", lease_s=LEASE_S) as lease:
            lease.check()
    with held(str(tmp_path), LOCAL, run_id="one-more", lease_s=LEASE_S) as lease:
        lease.check()


def test_another_machine_or_a_new_process_of_the_same_number(tmp_path: Path) -> None:
    with held(str(tmp_path / "mine"), LOCAL, run_id="r", lease_s=LEASE_S):
        mine = _entry(str(tmp_path / "mine"), LOCAL, 1)["process"]
    boot, _, started = mine.rpartition("/")
    for process, is_free in ((mine, False), (f"{boot}/{int(started) - 1}", True), (f"x{mine}", False), (None, False)):
        output = str(tmp_path / uuid.uuid4().hex)
        leave_behind(output, LOCAL, 1, process=process)
        if is_free:
            with held(output, LOCAL, run_id="r", lease_s=LEASE_S) as lease:
                lease.check()
        else:
            with pytest.raises(RunError, match="written by"), held(output, LOCAL, run_id="r", lease_s=LEASE_S):
                pass


def test_a_slow_writer_of_an_old_number_steps_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = str(tmp_path)
    leave_behind(output, LOCAL, 1, released=True)
    create = Storage.create_bytes
    slept: list[str] = []

    def create_late(self: Storage, uri: str, data: bytes) -> bool:
        if not slept:  # the first time: others take 2 and 3, and remove what is below, before this one writes its 2
            slept.append(uri)
            leave_behind(output, LOCAL, 3)
            (tmp_path / "_lease" / "00000001.json").unlink()
        return create(self, uri, data)

    monkeypatch.setattr(Storage, "create_bytes", create_late)
    with pytest.raises(RunError, match="other-run"), held(output, LOCAL, run_id="slow", lease_s=LEASE_S):
        pass
    assert slept[0].endswith("00000002.json")
    assert _generations(output, LOCAL) == ["00000003.json"]


def _race(output: str, storage: Storage, round_of: Callable[[], Any], rounds: int) -> list[str]:
    """One racer: in each round, one try; the rounds it won, each held until all others have tried."""
    won = []
    for number in range(rounds):
        round_of().wait(60)
        with ExitStack() as until_all_have_tried:
            try:
                lease = until_all_have_tried.enter_context(
                    held(f"{output}/{number}", storage, run_id=f"racer {os.getpid()}", lease_s=LEASE_S)
                )
            except RunError as refusal:
                if "is being written by run racer" not in str(refusal):
                    raise
                lease = None
            round_of().wait(60)
            if lease is not None:
                lease.check()
                won.append(str(number))
    return won


def race_threads(output: str, storage: Storage, rounds: int) -> None:
    barrier = threading.Barrier(RACERS)
    wins: list[str] = []
    errors: list[BaseException] = []

    def racer() -> None:
        try:
            wins.extend(_race(output, storage, lambda: barrier, rounds))
        except BaseException as error:  # noqa: BLE001 - the test raises what a thread raised
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=racer) for _ in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    assert sorted(wins, key=int) == [str(number) for number in range(rounds)]


@pytest.mark.parametrize("begin", ["nothing", "released", "expired"])
def test_of_racing_threads_one_wins(begin: str, tmp_path: Path) -> None:
    rounds = 10
    for number in range(rounds):
        if begin == "released":
            leave_behind(f"{tmp_path}/{number}", LOCAL, 1, released=True)
        if begin == "expired":
            leave_behind(f"{tmp_path}/{number}", LOCAL, 1, renewed_at=ago(1000))
    race_threads(str(tmp_path), LOCAL, rounds)


_barrier: Any = None


def _set_barrier(barrier: Any) -> None:
    global _barrier  # noqa: PLW0603 - a barrier reaches a process only when that starts
    _barrier = barrier


def _race_in_process(output: str, rounds: int) -> list[str]:
    return _race(output, LOCAL, lambda: _barrier, rounds)


@pytest.mark.slow
def test_of_racing_processes_one_wins(tmp_path: Path) -> None:
    rounds = 30
    context = multiprocessing.get_context("spawn")
    with context.Pool(RACERS, _set_barrier, (context.Barrier(RACERS),)) as pool:
        wins = pool.starmap(_race_in_process, [(str(tmp_path), rounds)] * RACERS, chunksize=1)
    assert sorted(int(number) for won in wins for number in won) == list(range(rounds))


def test_a_lease_that_is_returned_tells_when_it_was_renewed_last(tmp_path: Path) -> None:
    with held(str(tmp_path), LOCAL, run_id="r", lease_s=0.3) as lease:
        since = _entry(str(tmp_path), LOCAL, 1)["renewed_at"]
        first = lease._renewed
        while lease._renewed == first:
            time.sleep(0.02)
    entry = _entry(str(tmp_path), LOCAL, 1)
    assert entry["released"]
    assert entry["renewed_at"] > since == entry["since"]
