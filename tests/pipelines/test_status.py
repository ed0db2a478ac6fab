"""What `stillreel status` says of a dataset: from its lease and its run's last beat alone."""

import io
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from actors.errors import RunError, StorageError
from actors.storage import Storage
from pipelines.__main__ import status as status_command
from pipelines.config.sections import CostSettings
from pipelines.dataset import beats, states
from pipelines.dataset.beats import Beat
from pipelines.dataset.layout import Layout, run_name
from pipelines.dataset.lease import held
from pipelines.dataset.shard import WHOLE, Shard
from pipelines.dataset.states import State, States, read_states
from pipelines.driver.screen import Screen
from pipelines.money.cost import GpuClock, price_of
from pipelines.placement.nodes import gpus_of, nodes_of
from pipelines.pools import Reserved
from pipelines.status import EXIT_CODES, print_status, rows_of, to_json
from tests.clusters import Head
from tests.jobs import in_process, write_null_config, write_pictures
from tests.servers import S3Server

STORAGE = Storage()
NOW = datetime.now(UTC)


def beat_of(layout: Layout, run_id: str, **fields: Any) -> None:
    beat = Beat(**({"run_id": run_id, "phase": "running", "started_at": NOW, "beaten_at": NOW} | fields))
    STORAGE.put_bytes(layout.run(run_id).heartbeat, beat.model_dump_json().encode())


def state_of(layout: Layout) -> State:
    state = read_states(layout, STORAGE).of_whole
    assert state is not None
    return state


def status(output: object, *options: str) -> tuple[int, str]:
    done = in_process("status", output, *options)
    return done.returncode, done.stdout + done.stderr


def test_a_run_at_work(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    with held(layout, STORAGE, run_id="r", lease_s=60):
        counts = {"to_do": 100, "made": 30, "failed": 10, "already_there": 7, "recent_s": 60.0, "recent_ended": 20}
        kinds = [{"stage": "load", "error_type": "ImageError", "count": 10}]
        beat_of(layout, "r", failures=kinds, gpus=8.0, gpu_s=7200.0, cost=5.0, **counts)
        code, said = status(tmp_path)
        assert code == 3
        for part in (
            "running", "30 made, 10 failed, of 100; 7 were there", "20.0 clips/min of late, ETA 3 min",
            "failed at load (ImageError)  10", "GPUs now", "2.00", "5.00 USD, 166.67 per 1,000 clips",
        ):  # fmt: skip
            assert part in " ".join(said.split()) or part in said, part
        code, said = status(tmp_path, "--json")
        told = json.loads(said)
        assert (code, told["state"], told["run"]["made"], told["run"]["clips_per_s"]) == (3, "running", 30, 20 / 60)


def test_a_run_that_waits_for_a_gpu_says_since_when_and_promises_no_end(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    since = datetime(2026, 11, 27, 12, 54, tzinfo=UTC)
    with held(layout, STORAGE, run_id="r", lease_s=60):
        counts = {"to_do": 100, "made": 30, "recent_s": 60.0, "recent_ended": 20}
        beat_of(layout, "r", waits_for="no node with a GPU is there", waits_since=since, **counts)
        code, said = status(tmp_path)
        assert code == 3
        waits = "waits no node with a GPU is there: the run waits for one, since 2026-11-27 12:54:00 UTC"
        assert waits in " ".join(said.split())
        assert "ETA" not in said
        assert "clips/min" not in said
        told = json.loads(status(tmp_path, "--json")[1])["run"]
        assert (told["waits_for"], told["clips_per_s"]) == ("no node with a GPU is there", None)
        assert told["waits_since"] == "2026-11-27T12:54:00Z"
    assert "waits for one" not in status(tmp_path)[1]  # it has ended


@pytest.mark.parametrize(
    ("phase", "word", "code"),
    [("done", "done", 0), ("interrupted", "failed", 1), ("stopped", "failed", 1), ("broke off", "failed", 1)],
)
def test_a_run_that_has_ended(tmp_path: Path, phase: str, word: str, code: int) -> None:
    layout = Layout(str(tmp_path))
    with held(layout, STORAGE, run_id="r", lease_s=60):
        beat_of(layout, "r", phase=phase)
    state = state_of(layout)
    assert state.word == word
    assert rows_of(state)["state"] == phase
    assert status(tmp_path)[0] == code


def test_a_run_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(str(tmp_path))
    with held(layout, STORAGE, run_id="r", lease_s=60):
        entry = json.loads(STORAGE.read_bytes(layout.lease_generation(1)))
    old = (NOW - timedelta(hours=1)).isoformat()
    entry |= {"released": False, "renewed_at": old, "process": None}
    STORAGE.put_bytes(layout.lease_generation(1), json.dumps(entry).encode())
    beat_of(layout, "r", beaten_at=old)
    code, said = status(tmp_path)
    assert code == 4
    assert "stale: it gives no sign of life; the same command continues it" in said


def on_another_clock(layout: Layout, apart: timedelta) -> None:
    """What a run on a machine whose clock is so much ahead has just written."""
    then = (datetime.now(UTC) + apart).isoformat()
    entry = {"released": False, "renewed_at": then, "since": then, "process": "other/1/2"}
    with held(layout, STORAGE, run_id="r", lease_s=60):
        entry = json.loads(STORAGE.read_bytes(layout.lease_generation(1))) | entry
    STORAGE.put_bytes(layout.lease_generation(1), json.dumps(entry).encode())
    beat_of(layout, "r", beaten_at=then)


@pytest.mark.parametrize(("minutes", "said_of_clock"), [(-3, "3 min behind"), (3, "3 min ahead of")])
def test_clocks_that_differ_do_not_make_a_run_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: int, said_of_clock: str
) -> None:
    layout, waits = Layout(str(tmp_path)), list[float]()
    on_another_clock(layout, timedelta(minutes=minutes))

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        beat_of(layout, "r", beaten_at=datetime.now(UTC) + timedelta(minutes=minutes))

    monkeypatch.setattr("pipelines.dataset.states.time", SimpleNamespace(sleep=sleep))
    state = state_of(layout)
    assert (state.word, len(waits)) == ("running", 1)
    assert f"which is {said_of_clock} this machine's" in rows_of(state)["last sign of life"]
    monkeypatch.setattr("pipelines.dataset.states.time", SimpleNamespace(sleep=waits.append))
    assert (state_of(layout).word, len(waits)) == ("stale", 2)  # no other beat comes


def test_a_shard_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    share_of_run(layout, "1/2", beat={"phase": "done", "made": 7})
    share_of_run(layout, "2/2", beat={"phase": "done", "made": 7})
    STORAGE.put_bytes(layout.run("r2").heartbeat, b'{"version": 2, "phase": "warming"}')
    code, said = status(tmp_path)
    assert code == 1
    assert "2/2: " in said
    assert "is of a newer version of stillreel: use that one to ask for its status" in " ".join(said.split())
    told = json.loads(status(tmp_path, "--json")[1])
    assert [shard["state"] for shard in told["shards"]] == ["done", "unreadable"]
    assert (told["state"], told["run"]["made"], told["shards"][0]["problem"]) == ("unreadable", 7, None)


def test_stores_are_configured_by_a_file_that_says_nothing_else(tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "store.yaml"
    with held(Layout(str(out)), STORAGE, run_id="r", lease_s=60):
        pass
    file.write_text("model:\n  source: ???\nstorage:\n  tries: 2\n")
    assert status(out, "--config", str(file))[0] == 0
    file.write_text("storage:\n  trys: 2\n  options: {s3: {key: '${oc.env:NO_SUCH_KEY}'}}\n")
    code, said = status(out, "--config", str(file))
    assert code == 2
    assert "storage.trys: no such setting; did you mean 'tries'?" in said
    assert "there is no environment variable NO_SUCH_KEY" in said


def test_a_run_that_found_nothing_to_do(tmp_path: Path) -> None:
    with held(Layout(str(tmp_path)), STORAGE, run_id="r", lease_s=60):
        pass
    code, said = status(tmp_path)
    assert code == 0
    assert "nothing to do" in said


def test_a_run_of_which_too_many_rows_failed(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    with held(layout, STORAGE, run_id="r", lease_s=60):
        beat_of(layout, "r", phase="done", to_do=4, made=1, failed=3, too_many_failed=True)
    code, said = status(tmp_path)
    assert code == 1
    assert "failed: more rows than run.max_failed_share" in said
    told = json.loads(status(tmp_path, "--json")[1])
    assert (told["state"], told["run"]["too_many_failed"], told["run"]["phase"]) == ("failed", True, "done")


def test_a_run_that_was_refused_while_it_planned(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    with held(layout, STORAGE, run_id="r", lease_s=60):
        beat_of(layout, "r", phase="planning")
    assert (rows_of(state_of(layout))["state"], status(tmp_path)[0]) == ("failed while planning", 1)


@pytest.mark.parametrize(
    ("phase", "failed", "code", "said_of_run"),
    [("done", 0, 0, "a1"), ("done", 9, 1, "a1"), ("stopped", 9, 1, "a1"), ("interrupted", 0, 0, "a1 (interrupted)")],
)
def test_what_is_known_of_the_last_run_outlives_one_that_found_nothing(
    tmp_path: Path, phase: str, failed: int, code: int, said_of_run: str
) -> None:
    layout = Layout(str(tmp_path))
    kinds = [{"stage": "load", "error_type": "ImageError", "count": failed}] if failed else []
    for run_id, made in (("a0", 5), ("a1", 7)):
        with held(layout, STORAGE, run_id=run_id, lease_s=60):
            told = {"phase": phase, "failures": kinds, "failed": failed, "too_many_failed": failed and phase == "done"}
            beat_of(layout, run_id, to_do=20, made=made, gpu_s=3600.0, cost=2.0, **told)
    for run_id in ("a2", "a3"):
        with held(layout, STORAGE, run_id=run_id, lease_s=60):
            pass
    rows = rows_of(state_of(layout))
    assert rows["run"] == said_of_run
    assert rows["clips"].startswith(f"7 made, {failed} failed, of 20")
    assert rows["GPU-hours"] == "1.00"
    assert ("failed at load (ImageError)" in rows) == bool(failed)
    assert rows["since then"].startswith("run a3 of ")
    assert "found nothing to do" in rows["since then"]
    got, said = status(tmp_path, "--json")
    told = json.loads(said)
    assert (got, told["state"], told["found_nothing"]) == (code, "failed" if code else "done", True)
    assert (told["run_id"], told["run"]["run_id"], told["run"]["made"]) == ("a3", "a1", 7)


def test_what_is_no_dataset_and_what_is_of_a_newer_version(tmp_path: Path) -> None:
    code, said = status(tmp_path)
    assert (code, said) == (
        1,
        (
            f"stillreel: {tmp_path} is no dataset of stillreel: no run has ever written there, "
            "or one that was just submitted has not begun\n"
        ),
    )
    layout = Layout(str(tmp_path))
    with held(layout, STORAGE, run_id="r", lease_s=60):
        beat_of(layout, "r", version=beats.VERSION + 1)
        with pytest.raises(RunError, match="is of a newer version of stillreel: use that one"):
            read_states(layout, STORAGE)
        STORAGE.put_bytes(layout.run("r").heartbeat, b"{")
        with pytest.raises(RunError, match=r"heartbeat\.json is damaged: nothing can be said"):
            read_states(layout, STORAGE)


def test_a_file_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root")
    code, said = status(tmp_path / "passwd")
    whole = f"stillreel: {tmp_path}/passwd is a file and no dataset: give the folder that `output` names\n"
    assert (code, said) == (1, whole)


def test_who_watches_outlives_a_store_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(str(tmp_path))
    with held(layout, STORAGE, run_id="r", lease_s=60):
        beat_of(layout, "r")
        running = read_states(layout, STORAGE)
        done = States({WHOLE: replace(state_of(layout), word="done")})
        answers: list[States | None] = [running, None, None, running, None, done]

        def answer(*_: object) -> States:
            if (state := answers.pop(0)) is None:
                raise StorageError("out/_lease could not be listed: no route")
            return state

        monkeypatch.setattr(states, "read_states", answer)  # which the command asks first
        monkeypatch.setattr("pipelines.status.read_states", answer)
        monkeypatch.setattr("pipelines.status.BEAT_S", 0.01)
        with pytest.raises(typer.Exit) as ended:
            status_command(str(tmp_path), watch=True)
    assert (ended.value.exit_code, answers) == (0, [])
    line = "stillreel: out/_lease could not be listed: no route; asking again every 0.01 s"
    assert capsys.readouterr().err.splitlines() == [line] * 2  # once for each time that it is away
    monkeypatch.setattr(states, "read_states", lambda *_: STORAGE.read_bytes(str(tmp_path / "none")))
    with pytest.raises(StorageError):  # the first time it may be the wrong place
        status_command(str(tmp_path), watch=True)


def test_it_asks_a_store_three_times(
    s3_server: S3Server, s3_storage: Storage, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(f"{s3_bucket}/out")
    with held(layout, s3_storage, run_id="r", lease_s=60):
        beat = Beat(run_id="r", phase="running", started_at=NOW, beaten_at=NOW)
        s3_storage.put_bytes(layout.run("r").heartbeat, beat.model_dump_json().encode())
        filesystem = type(s3_storage.filesystem(s3_bucket))
        asked: list[str] = []
        call, listing = filesystem._call_s3, filesystem.call_s3

        async def count(self: object, method: str, *arguments: object, **given: object) -> object:
            asked.append(method)
            return await call(self, method, *arguments, **given)

        def count_listing(self: object, method: str, **given: object) -> object:
            asked.append(method)
            return listing(self, method, **given)

        monkeypatch.setattr(filesystem, "_call_s3", count)
        monkeypatch.setattr(filesystem, "call_s3", count_listing)  # holds the first one as it was
        assert read_states(layout, s3_storage).word == "running"
        monkeypatch.undo()
    assert sorted(asked) == ["get_object", "get_object", "list_objects_v2"]


def test_json_of_a_run_without_a_beat(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    with held(layout, STORAGE, run_id="r", lease_s=60):
        told = json.loads(to_json(read_states(layout, STORAGE), layout))
    assert (told["state"], told["run"], told["run_id"]) == ("running", None, "r")


def share_of_run(layout: Layout, shard: str, *, beat: dict[str, Any] | None = None, ago_s: float = 0) -> None:
    """What a run of this share has left, that began so many seconds ago and has released its lease."""
    share, run_id = Shard.parse(shard), f"r{shard.partition('/')[0]}"
    with held(layout, STORAGE, run_id=run_id, lease_s=60, shard=share):
        if beat is not None:
            beat_of(layout, run_id, **beat)
    uri = layout.lease_generation(1, share)
    then = (NOW - timedelta(seconds=ago_s)).isoformat()
    STORAGE.put_bytes(uri, json.dumps(json.loads(STORAGE.read_bytes(uri)) | {"renewed_at": then}).encode())


def test_shards_are_shown_each_and_together(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    share_of_run(layout, "1/1", beat={"phase": "done", "made": 7}, ago_s=1000)
    share_of_run(layout, "1/2", beat={"phase": "broke off", "made": 7}, ago_s=900)
    kinds = [{"stage": "load", "error_type": "ImageError", "count": 1}]
    counts: dict[str, Any] = {"to_do": 50, "made": 49, "failed": 1, "gpu_s": 3600.0, "cost": 2.0, "failures": kinds}
    share_of_run(layout, "1/4", beat={"phase": "done"} | counts)
    share_of_run(layout, "3/4")
    assert status(tmp_path)[0] == 4  # 2/4 and 4/4 were never begun, and none runs
    with held(layout, STORAGE, run_id="r4", lease_s=60, shard=Shard(4, 4)):
        beat_of(layout, "r4", to_do=100, made=30, failed=10, recent_s=60.0, recent_ended=20, gpu_s=3600.0, cost=1.0)
        code, said = status(tmp_path)
        words = " ".join(said.split())
        assert code == 3
        for part in (
            "4 shards", "state running", "79 made, 11 failed, of 150; 0 were there", "20.0 clips/min of late, ETA 3",
            "failed at load (ImageError) 1", "GPU-hours 2.00", "3.00 USD", "1/4 done 49 1 50", "2/4 missing",
            "4/4 running 30 10 100 20.0 3 min",
        ):  # fmt: skip
            assert part in words, (part, said)
        told = json.loads(status(tmp_path, "--json")[1])
        assert [shard["state"] for shard in told["shards"]] == ["done", "missing", "done", "running"]
        assert [shard["shard"] for shard in told["shards"]] == ["1/4", "2/4", "3/4", "4/4"]
        assert (told["state"], told["run"]["made"], told["run"]["failed"]) == ("running", 79, 11)
        assert told["shards"][3]["run"]["clips_per_s"] == told["run"]["clips_per_s"] == 20 / 60
    assert status(tmp_path)[0] == 1  # released, and its last sign of life says "running"


@pytest.mark.parametrize("failed", [0, 9])
def test_what_is_known_of_shards_outlives_runs_that_found_nothing(tmp_path: Path, failed: int) -> None:
    layout = Layout(str(tmp_path))
    first = "20260101T000000Z-aaaaaa"
    for index in (1, 2):
        share = Shard(index, 2)
        beat = {"phase": "done", "to_do": 9, "made": 7, "failed": failed * (index - 1)}
        with held(layout, STORAGE, run_id=run_name(first, share), lease_s=60, shard=share):
            beat_of(layout, run_name(first, share), too_many_failed=bool(beat["failed"]), **beat)
    with held(layout, STORAGE, run_id=run_name("20260102T000000Z-aaaaaa", Shard(2, 2)), lease_s=60, shard=Shard(2, 2)):
        pass
    code, said = status(tmp_path)
    assert (code, "14 made" in said, "since then" in said) == (int(failed > 0), True, False)
    assert f" found nothing to do, after {run_name(first, Shard(2, 2))}\n" in said
    told = json.loads(status(tmp_path, "--json")[1])
    assert [shard["found_nothing"] for shard in told["shards"]] == [False, True]
    assert told["shards"][1]["run"]["made"] == 7
    with held(layout, STORAGE, run_id="20260103T000000Z-aaaaaa", lease_s=60):  # of the whole
        pass
    code, said = status(tmp_path)
    assert (code, "14 made" in said) == (int(failed > 0), True)
    assert "run 20260103T000000Z-aaaaaa of" in said
    told = json.loads(status(tmp_path, "--json")[1])
    assert told["found_nothing_since"]["run_id"] == "20260103T000000Z-aaaaaa"


def test_the_run_of_a_shard_is_told_in_full_on_a_narrow_screen(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    run_id = run_name("20260101T000000Z-aaaaaa", Shard(1, 16))
    with held(layout, STORAGE, run_id=run_id, lease_s=60, shard=Shard(1, 16)):
        beat_of(layout, run_id, phase="interrupted", to_do=1_000_000, made=999_999)
    out = io.StringIO()
    print_status(read_states(layout, STORAGE), layout, Screen(file=out, width=80))
    assert f"1/16: {run_id} of " in out.getvalue()
    cut = [line for line in out.getvalue().splitlines() if "…" in line]
    assert all(line.split()[0] == "dataset" for line in cut), cut  # whose folder is as long as this machine's are


@pytest.mark.parametrize(
    ("words", "together"),
    [
        (["done", "done"], "done"),
        (["done", None], "missing"),
        (["running", None], "running"),
        (["running", "stale"], "stale"),
        (["failed", "stale", "running", None], "failed"),
    ],
)
def test_the_worst_of_all_shards_is_the_exit_code(words: list[Any], together: str, tmp_path: Path) -> None:
    with held(Layout(str(tmp_path)), STORAGE, run_id="r", lease_s=60):
        one = state_of(Layout(str(tmp_path)))
    found = [None if word is None else replace(one, word=word) for word in words]
    states = States(dict(zip(Shard(1, len(words)).division, found, strict=True)))
    assert states.word == together
    assert states.is_running == ("running" in words)
    assert together in EXIT_CODES


def test_a_run_that_withdrew_or_was_ended_is_told_as_such(tmp_path: Path) -> None:
    """Ended by another run before its first sign of life: it did not find nothing to do."""
    layout = Layout(str(tmp_path))
    share_of_run(layout, "1/2", beat={"phase": "done"})
    share_of_run(layout, "2/2")
    for change, word in (({"ended_by": "run x of y"}, "failed"), ({"withdrawn": True}, "missing")):
        uri = layout.lease_generation(1, Shard(2, 2))
        STORAGE.put_bytes(uri, json.dumps(json.loads(STORAGE.read_bytes(uri)) | change).encode())
        assert read_states(layout, STORAGE).word == word


def test_gpus_are_counted_while_they_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = GpuClock(CostSettings(gpu_hour=3.0, currency="EUR"))
    assert (clock.seconds(), clock.cost(), clock.lines(0)) == (0.0, 0.0, {})
    clock.start({"generate": Reserved(8, 1.0)}, {"H100": 8.0}, {"H100": 8.0, "L4": 1.0}, grows=False)
    now += 1800
    assert clock.seconds() == 8 * 1800
    clock.stop()
    now += 1000
    assert clock.lines(100) == {
        "GPU-hours": "4.00",
        "cost": "12.00 EUR, 120.00 per 1,000 clips",
        "GPU time went into": "making 0%, starting 100%, failing 0%, retrying 0%, idling 0%",
    }
    assert clock.described(0)["cost_per_1000_clips"] is None


def test_gpus_are_paid_for_while_they_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = GpuClock(CostSettings(gpu_hours={"L4": 1.0, "H100": 4.0}))
    clock.start({"generate": Reserved(8, 1.0)}, {}, {}, grows=True)
    now += 3600
    assert (clock.held, clock.seconds(), clock.cost()) == (0, 0, 0)
    clock.see({"L4": 2.0})
    now += 3600
    assert (clock.seconds(), clock.cost()) == (2 * 3600, 2.0)
    clock.see({"L4": 2.0, "H100": 100.0})  # no more than were asked for
    assert clock.held == 8
    clock.see({"H100": 1.0})
    now += 3600
    clock.stop()
    assert clock.cost() == 2.0 + 4.0
    unknown = GpuClock(CostSettings(gpu_hours={"L4": 1.0}))
    unknown.start({"generate": Reserved(1, 1.0)}, {}, {}, grows=True)
    unknown.see({"T4": 1.0})
    now += 1
    unknown.see({"L4": 1.0})
    assert unknown.cost() is None


def test_of_a_cluster_that_was_there_other_types_of_gpus_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = GpuClock(CostSettings(gpu_hours={"H100": 4.0}))
    clock.start({"generate": Reserved(2, 1.0)}, {"H100": 2.0}, {"H100": 2.0, "T4": 9.0}, grows=False)
    clock.see({"H100": 1.0, "T4": 9.0})
    now += 3600
    assert (clock.held, clock.cost()) == (1, 4.0)


def test_each_type_of_gpu_is_counted_for_itself_at_its_own_price(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    fixed = GpuClock(CostSettings(gpu_hours={"H100": 4.0, "L4": 1.0}))
    there = {"H100": 8.0, "L4": 20.0}
    fixed.start(
        {"generate": Reserved(8, 1.0), "finish": Reserved(8, 0.25)}, {"H100": 8.0, "L4": 2.0}, there, grows=False
    )
    now += 3600
    fixed.see({"L4": 20.0})  # no spare L4 stands in for an H100
    now += 3600
    assert (fixed.held, fixed.seconds(), fixed.cost()) == (2, 12 * 3600, 8 * 4.0 + 2 * 2 * 1.0)
    grown = GpuClock(CostSettings(gpu_hours={"H100": 4.0, "A100": 2.0}))
    grown.start({"generate": Reserved(8, 1.0)}, {"H100": 2.0}, {"H100": 2.0}, grows=True)
    grown.see({"H100": 2.0, "A100": 16.0})
    now += 3600
    assert (grown.held, grown.cost()) == (8, 2 * 4.0 + 6 * 2.0)


def test_a_type_without_a_price_is_named_where_others_have_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = GpuClock(CostSettings(gpu_hours={"H100": 2.5}))
    clock.start({"generate": Reserved(2, 1.0)}, {"L4": 2.0}, {"L4": 2.0}, grows=False)
    now += 3600
    assert clock.unpriced() == clock.described(1)["unpriced"] == ["L4"]
    assert clock.lines(1)["cost"] == "unknown: cost.gpu_hours has no price for L4"
    layout = Layout(str(tmp_path))
    with held(layout, STORAGE, run_id="r", lease_s=60):
        beat_of(layout, "r", gpu_s=clock.seconds(), cost=clock.cost(), unpriced=clock.unpriced())
        assert "cost unknown: cost.gpu_hours has no price for L4" in " ".join(status(tmp_path)[1].split())
    clock = GpuClock(CostSettings())  # who gives no price wants no cost
    clock.start({"generate": Reserved(2, 1.0)}, {"L4": 2.0}, {"L4": 2.0}, grows=False)
    now += 3600
    assert clock.unpriced() == []
    assert "cost" not in clock.lines(1)


def test_nodes_without_gpus_need_no_price(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = GpuClock(CostSettings(gpu_hours={"H100": 4.0}))
    head = {"NodeID": "a" * 8, "Alive": True, "NodeManagerAddress": "10.0.0.1", "Resources": {"CPU": 8.0}}
    one = {
        "NodeID": "b" * 8,
        "Alive": True,
        "NodeManagerAddress": "10.0.0.2",
        "Resources": {"CPU": 8.0, "GPU": 1.0, "accelerator_type:H100": 1.0},
    }
    clock.start({"generate": Reserved(1, 1.0)}, {}, gpus_of(nodes_of([head])), grows=True)
    now += 3600
    clock.see(gpus_of(nodes_of([head, one])))
    now += 3600
    assert clock.cost() == 4.0


def test_prices_by_accelerator() -> None:
    prices = CostSettings(gpu_hour=1.0, gpu_hours={"H100": 3.0})
    assert price_of(prices, {}) == 1.0
    assert price_of(prices, {"H100": 2, "L4": 2}) == 2.0
    assert price_of(CostSettings(gpu_hours={"H100": 3.0}), {"H100": 2, "L4": 2}) is None
    assert price_of(CostSettings(gpu_hours={"H100": 3.0}), {"H100": 2, "L4": 0}) == 3.0
    assert price_of(CostSettings(), {"H100": 2}) is None


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        (
            {"gpu_hour": -1},
            "cost.gpu_hour: a price is a number from 0 on, and not -1: give what an hour of",
        ),
        ({"gpu_hours": {"H100": -0.5}}, "cost.gpu_hours.H100: a price is a number from 0 on, and not -0.5: give"),
        ({"gpu_hour": float("inf")}, "cost.gpu_hour: a price is a number from 0 on, and not inf: give"),
        (
            {"gpu_hours": {"NVIDIA H100": 2}},
            "cost.gpu_hours: Ray has no accelerator type as in entry 1; did you mean 'H100'?",
        ),
    ],
)
def test_a_price_that_is_none_is_refused(cost: dict[str, Any], said: str, tmp_path: Path) -> None:
    config = write_null_config(tmp_path / "job.yaml", tmp_path, tmp_path / "out", cost=cost)
    done = in_process("plan", "--config", config)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.slow
def test_a_whole_run_tells_how_it_is(head: Head, tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 3)
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "pictures", tmp_path / "out")
    done = in_process("run", "--config", config, f"ray.address={head.address}")
    assert done.returncode == 0, done.stderr
    told = json.loads(status(tmp_path / "out", "--json")[1])
    assert (told["state"], told["run"]["made"], told["run"]["to_do"], told["lease_released"]) == ("done", 3, 3, True)
    assert in_process("run", "--config", config, f"ray.address={head.address}").returncode == 0
    code, said = status(tmp_path / "out")
    assert code == 0
    assert "nothing to do" in said
    assert len(list((tmp_path / "out/_runs").iterdir())) == 1
