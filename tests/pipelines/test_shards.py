"""Several runs that write one dataset at once, each a share of it: who may, what each takes, who takes in what."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.contracts import Ending, Failed, Made, Row
from actors.errors import RunError, StorageError
from actors.generators.svd.generator import SvdGenerator
from actors.records import clip_schema
from actors.storage import Storage
from benchmarks.damages.dataset import make_dataset
from pipelines.config import Config, load_config
from pipelines.dataset import lease as leases
from pipelines.dataset import recover as recover_module
from pipelines.dataset.commit import Committer
from pipelines.dataset.generations import Generations
from pipelines.dataset.layout import Layout, RunFolder, part_of, run_name
from pipelines.dataset.lease import Lease, held
from pipelines.dataset.records import SomeRecords, read_columns
from pipelines.dataset.recover import recover
from pipelines.dataset.shard import WHOLE, Shard
from pipelines.dataset.states import read_states
from pipelines.dataset.work import read_work
from pipelines.planning import holdings as holdings_module
from pipelines.planning import planner
from pipelines.planning.holdings import read_holdings
from pipelines.planning.planner import Plan, Retry, make_plan
from pipelines.upkeep.compacting import compact
from tests.jobs import in_process, write_null_config

STORAGE = Storage()
LEASE_S = 60.0
CLIP_SCHEMA = clip_schema(SvdGenerator)
Fails = Callable[[str], bool]


def nothing(_: str) -> bool:
    return False


def everything(_: str) -> bool:
    return True


def test_a_division_shares_all_rows_and_parts_out_once() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, 1000, np.uint64)
    for count in (1, 2, 3, 16, 999):
        division = Shard(1, count).division
        assert np.array_equal(np.sum([shard.takes(hashes) for shard in division], axis=0), np.ones(1000))
        assert all(sum(shard.owns(part) for shard in division) == 1 for part in range(50))
    clip_id = f"{int(hashes[0]):016x}" + "f" * 48
    assert Shard(int(hashes[0]) % 16 + 1, 16).takes(np.array([int(clip_id[:16], 16)], np.uint64)).all()


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", 3, "a/b", "1/1000", "-1/4", "1/4/2", "", True, ["1/2"]])
def test_what_is_no_shard_is_refused_in_a_sentence(text: object, tmp_path: Path) -> None:
    config = write_null_config(tmp_path / "job.yaml", tmp_path, tmp_path / "out", run={"shard": text})
    done = in_process("plan", "--config", config)
    assert done.returncode == 2
    assert "run.shard: is K/N, the K-th of N shards with 1 <= K <= N <= 999, such as 3/16; or null" in done.stderr


def test_names_say_the_shard() -> None:
    layout, shard = Layout("s3://b/out"), Shard(3, 16)
    assert layout.lease_generation(7, shard) == "s3://b/out/_lease/shard-003-of-016/00000007.json"
    assert layout.share_leased(layout.lease_generation(7, shard)) == shard
    assert layout.share_leased(layout.lease_generation(7)) == WHOLE
    for foreign in ("shard-003-of-016/a.json", "shard-020-of-016/00000001.json", "old/00000001.json", "x/shard-1-of-2"):
        assert layout.share_leased(f"s3://b/out/_lease/{foreign}") is None
    run = layout.run(run_name("20260101T000000Z-abcdef", shard))
    assert run == RunFolder("s3://b/out/_runs/20260101T000000Z-abcdef-shard-003-of-016")
    assert run.shard == shard
    assert layout.run(run_name("20260101T000000Z-abcdef", WHOLE)).shard == WHOLE


def lease(output: object, shard: str, *, break_lease: bool = False) -> AbstractContextManager[Lease]:
    run_id, share = f"run of {shard}", Shard.parse(shard)
    layout = Layout(str(output))
    return held(layout, STORAGE, run_id=run_id, lease_s=LEASE_S, break_lease=break_lease, shard=share)


def entries(output: Path, shard: str) -> dict[int, dict[str, Any]]:
    folder = Path(Layout(str(output)).lease_of(Shard.parse(shard)))
    return {int(path.stem): json.loads(path.read_text()) for path in folder.glob("*.json")}


def age(output: Path, shard: str, seconds: float) -> None:
    """As if the holder of the lease were another machine's, and had last renewed it so long ago."""
    ((number, entry),) = entries(output, shard).items()
    then = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
    uri = Layout(str(output)).lease_generation(number, Shard.parse(shard))
    STORAGE.put_bytes(uri, json.dumps(entry | {"process": None, "renewed_at": then, "since": then}).encode())


def test_shards_of_a_division_go_together(tmp_path: Path) -> None:
    with ExitStack() as stack:
        held_ones = [stack.enter_context(lease(tmp_path, f"{index}/16")) for index in (1, 3, 16)]
        for one in held_ones:
            one.check()
        with (
            pytest.raises(RunError, match=r"is being written by run run of 3/16 .*Wait for that run"),
            lease(tmp_path, "3/16"),
        ):
            pass
        assert [len(entries(tmp_path, f"{index}/16")) for index in (1, 3, 16)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("holder", "other", "said"),
    [
        ("1/1", "3/16", "That is the whole dataset, beside which shard 3/16 cannot be written"),
        ("3/16", "1/1", "That is shard 3/16, beside which the whole dataset cannot be written"),
        ("2/4", "3/16", "That is shard 2/4, beside which shard 3/16 cannot be written"),
    ],
)
def test_all_others_exclude_each_other(holder: str, other: str, said: str, tmp_path: Path) -> None:
    with lease(tmp_path, holder) as first:
        age(tmp_path, holder, LEASE_S / 2)
        refusal = rf"is being written by run run of {holder} of .*{said}. Wait for"
        with pytest.raises(RunError, match=refusal), lease(tmp_path, other):
            pass
        first.check()
        assert entries(tmp_path, other) == {}  # who is refused leaves nothing
    with lease(tmp_path, other) as second:
        second.check()


def test_a_lease_that_is_over_is_ended_by_any_division(tmp_path: Path) -> None:
    """Its holder stood still, without noticing how long: its machine was suspended, say."""
    with lease(tmp_path, "2/4") as old, lease(tmp_path, "1/4") as its_sibling:
        age(tmp_path, "2/4", 1000)
        its_sibling.release()
        with lease(tmp_path, "1/1") as whole:
            with pytest.raises(RunError, match=r"lease on .* is lost: run run of 1/1 of \S+ has taken it over"):
                old.check()
            old.release()
            whole.check()
            assert {number: entry["released"] for number, entry in entries(tmp_path, "2/4").items()} == {2: True}
            assert list(entries(tmp_path, "1/4")) == [1]  # was released, and stays as it was


def test_breaking_takes_over_whatever_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_RACE_WAIT_S", 0.05)
    with lease(tmp_path, "1/4") as one, lease(tmp_path, "2/4") as two:
        (tmp_path / "_lease/00000004.json").write_text("{")
        (tmp_path / "_lease/shard-003-of-004").mkdir()
        (tmp_path / "_lease/shard-003-of-004/00000001.json").write_text("no lease")
        with pytest.raises(RunError, match="not a lease that this version can read"), lease(tmp_path, "1/3"):
            pass
        with lease(tmp_path, "1/3", break_lease=True) as new:
            new.check()
            for old in (one, two):
                with pytest.raises(RunError, match=r"run run of 1/3 of \S+ has taken it over"):
                    old.check()
            with pytest.raises(RunError, match="beside which shard 4/4"), lease(tmp_path, "4/4"):
                pass
        with lease(tmp_path, "1/1") as whole:
            whole.check()


def test_of_two_that_see_each_other_both_withdraw_and_one_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_RACE_WAIT_S", 0.05)
    add, waiting = Generations.add, threading.Barrier(2)
    met: list[str] = []

    def add_at_once(self: Generations, number: int, entry: Any) -> bool:
        is_first = entry.run_id not in met
        if is_first:
            met.append(entry.run_id)
            waiting.wait(30)  # both have looked around before either writes,
        added = add(self, number, entry)
        if is_first:
            waiting.wait(30)  # and have written before either looks again
        return added

    monkeypatch.setattr(Generations, "add", add_at_once)
    goes_on = threading.Barrier(2)
    ended: dict[str, str] = {}

    def race(shard: str) -> None:
        try:
            with lease(tmp_path, shard) as one:
                ended[shard] = "went on"
                goes_on.wait(60)
                one.check()
        except RunError as refusal:
            ended[shard] = str(refusal)
            goes_on.wait(60)

    threads = [threading.Thread(target=race, args=(shard,)) for shard in ("1/1", "1/2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(met) == ["run of 1/1", "run of 1/2"]
    assert list(ended.values()).count("went on") == 1, ended
    assert all("went on" in said or "is being written by run" in said for said in ended.values())


def test_a_claim_that_cannot_look_around_is_withdrawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the other division would wait until it expires."""
    looked: list[object] = []

    def fail_after_the_claim(own: Generations, broken: object, claim: object) -> None:
        looked.append(claim)
        if claim is not None:
            raise StorageError("the store is down")

    with monkeypatch.context() as patch:
        patch.setattr(leases, "_rival", fail_after_the_claim)
        with pytest.raises(StorageError), lease(tmp_path, "1/2"):
            pass
    assert looked[0] is None
    ((_, entry),) = entries(tmp_path, "1/2").items()
    assert (entry["released"], entry["withdrawn"]) == (True, True)
    with lease(tmp_path, "1/1") as whole:
        whole.check()


def race_all(output: Path, rounds: int, shards: list[str]) -> list[set[str]]:
    """Who held a lease at the same time, round by round."""
    barrier = threading.Barrier(len(shards))
    together: list[set[str]] = [set() for _ in range(rounds)]
    errors: list[BaseException] = []

    def racer(shard: str) -> None:
        try:
            for number in range(rounds):
                barrier.wait(60)
                with ExitStack() as until_all_have_tried:
                    try:
                        one = until_all_have_tried.enter_context(lease(output / str(number), shard))
                        together[number].add(shard)
                    except RunError as refusal:
                        if "is being written by run run of" not in str(refusal):
                            raise
                        one = None
                    barrier.wait(60)
                    if one is not None:
                        one.check()
                    barrier.wait(60)
        except BaseException as error:  # noqa: BLE001 - the test raises what a thread raised
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=racer, args=(shard,)) for shard in shards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return together


def test_racing_divisions_never_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_RACE_WAIT_S", 0.1)
    for together in race_all(tmp_path, 8, ["1/1", "1/2", "2/2", "1/3", "2/3", "3/3"]):
        assert together, "nobody went on"
        assert len({Shard.parse(shard).count for shard in together}) == 1, together


def config_for(manifest: Path, output: Path, shard: str | None, *overrides: str) -> Config:
    return load_config(
        [],
        [f"manifest={manifest}", f"output={output}", "model.source=none", f"run.shard={shard or 'null'}", *overrides],
    )


def plan_of(config: Config, *, retry: Retry | None = None, storage: Storage = STORAGE) -> Plan:
    layout = Layout(config.output)
    run = layout.run(run_name("r", config.run.share))
    holdings = read_holdings(layout, storage, beside_others=not config.run.share.is_whole)
    return make_plan(config, storage, holdings, ("rev", "weights"), run=run, retry=retry)


def write_manifest(path: Path, rows: int) -> Path:
    pq.write_table(pa.table({"image_uri": [f"/images/{row}.jpg" for row in range(rows)]}), path)
    return path


def work_rows(plan: Plan, storage: Storage = STORAGE) -> list[dict[str, Any]]:
    names = ["clip_id", "part", "attempts", "image_uri", "seed", "fps"]
    return [row for file in plan.work for row in read_work(file.uri, names, storage).to_pylist()]


def ending(work: dict[str, Any], *, fails: bool) -> Ending:
    row = Row(work["clip_id"], work["part"], work["attempts"], work["image_uri"], {})
    if fails:
        return Failed(row, "load", "ImageError", "broken")
    known = {name: work.get(name) for name in CLIP_SCHEMA.names} | {"file_name": f"{row.clip_id}.mp4"}
    return Made(row.with_columns(**known))


def make(config: Config, plan: Plan, fails: Fails = nothing) -> None:
    """Every row of the plan ends, and its work files go."""
    layout = Layout(config.output)
    committer = Committer(layout, STORAGE, CLIP_SCHEMA, plan.extras, plan.rows_per_part, lambda: None)
    committer.begin(plan.work)
    for row in work_rows(plan):
        if not fails(row["image_uri"]):
            STORAGE.put_bytes(layout.video(row["part"], f"{row['clip_id']}.mp4"), b"video")
        committer.add(ending(row, fails=fails(row["image_uri"])))
    committer.flush()
    for file in plan.work:
        STORAGE.remove(file.uri)


def contents(output: Path) -> tuple[Counter[str], Counter[str]]:
    """How often each image has a clip, and how often a failure; a part has been written by nobody but its owner."""
    clips, failures = Counter[str](), Counter[str]()
    for path in output.glob("data/*/metadata.parquet"):
        clips.update(pq.read_table(path)["image_uri"].to_pylist())
    for path in output.glob("failures/*.parquet"):
        failures.update(pq.read_table(path)["image_uri"].to_pylist())
    return clips, failures


def test_shards_then_all_of_it_then_another_division_lose_and_double_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "PART_CLIPS", 7)
    output, manifest = tmp_path / "out", tmp_path / "m.parquet"
    all_rows = write_manifest(manifest, 60)

    def all_shards(count: int, fails: Fails = nothing, retry: Retry | None = None) -> list[Plan]:
        plans = []
        for shard in Shard(1, count).division:
            config = config_for(all_rows, output, str(shard))
            plan = plan_of(config, retry=retry)
            assert all(shard.owns(part) for part in plan.rows_per_part)
            make(config, plan, fails)
            plans.append(plan)
        return plans

    plans = all_shards(4, lambda uri: uri.endswith(("3.jpg", "4.jpg")))
    assert [plan.wanted for plan in plans] == [60] * 4
    assert sum(plan.mine for plan in plans) == sum(plan.to_do for plan in plans) == 60
    assert min(plan.to_do for plan in plans) > 5
    clips, failures = contents(output)
    assert (len(clips), len(failures)) == (48, 12)

    videos = sorted(output.glob("data/*/*.mp4"))
    for video in videos[::4]:
        video.unlink()
    write_manifest(manifest, 90)
    whole = plan_of(config_for(all_rows, output, None), retry=Retry())
    assert whole.to_do == 12
    make(config_for(all_rows, output, None), whole, lambda uri: uri.endswith("3.jpg"))
    assert list(map(len, contents(output))) == [54, 6]

    plans = all_shards(3, lambda uri: uri.endswith("5.jpg"))
    assert sum(plan.lost for plan in plans) == 12
    assert sum(plan.failed_before for plan in plans) == 6
    assert sum(plan.to_do for plan in plans) == 42
    clips, failures = contents(output)
    assert set(clips.values()) | set(failures.values()) == {1}
    assert len(clips) + len(failures) == 90
    assert not clips.keys() & failures.keys()

    retried = all_shards(3, retry=Retry())
    assert sum(plan.to_do for plan in retried) == len(failures)
    assert min(plan.to_do for plan in retried) > 0
    assert [plan.to_do for plan in all_shards(5)] == [0] * 5
    clips, failures = contents(output)
    assert (len(clips), set(clips.values()), len(failures)) == (90, {1}, 0)
    assert max(pq.read_metadata(path).num_rows for path in output.glob("data/*/metadata.parquet")) <= 7


def test_new_rows_go_where_there_is_room_among_ones_own_parts(tmp_path: Path) -> None:
    sizes = {0: 512, 1: 500, 3: 512, 5: 510, 6: 1}
    parts = planner._PartAllocator(sizes, Shard(2, 4))
    assert Counter(parts.take() for _ in range(2 + 12 + 512)) == {1: 12, 5: 2, 9: 512}
    parts = planner._PartAllocator({}, Shard(3, 4))
    assert [parts.take(), parts.take()] == [2, 2]
    parts = planner._PartAllocator(sizes, WHOLE)
    assert Counter(parts.take() for _ in range(600)) == {1: 12, 5: 2, 6: 511, 7: 75}


@pytest.mark.parametrize(("shard", "new"), [("1/4", 12), ("2/4", 9), ("3/4", 10), ("4/4", 11), ("1/1", 9)])
def test_a_number_that_a_merged_part_had_is_not_used_again(shard: str, new: int) -> None:
    """The lower parts were merged into others; of the first shard none is left."""
    parts = planner._PartAllocator({6: 512, 8: 512}, Shard.parse(shard))
    assert parts.take() == new


def test_after_compact_a_shard_begins_above_all_parts(tmp_path: Path) -> None:
    make_dataset(tmp_path / "out", (3, 2, 2, 1))
    compact(Layout(str(tmp_path / "out")), STORAGE, dry_run=False)
    sizes = read_holdings(Layout(str(tmp_path / "out")), STORAGE).part_sizes
    assert list(sizes) == [3]
    assert [planner._PartAllocator(sizes, shard).take() for shard in Shard(1, 3).division] == [3, 4, 5]


@pytest.mark.parametrize("moment", [1, 2, 3])
@pytest.mark.parametrize("direction", ["failed rows are made", "lost clips fail"])
def test_a_row_that_another_shard_moves_is_not_taken_for_a_new_one(
    moment: int, direction: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While this run looks through the dataset: right before it reads the failures, the clips, the failures again."""
    output, manifest = tmp_path / "out", write_manifest(tmp_path / "m.parquet", 30)
    whole, owner, other = (config_for(manifest, output, shard) for shard in (None, "1/3", "2/3"))
    make(whole, plan_of(whole), lambda uri: "1" in uri)
    retry = Retry() if direction == "failed rows are made" else None
    if retry is None:
        for video in output.glob("data/*/*.mp4"):
            video.unlink()
    moved = plan_of(owner, retry=retry)
    assert moved.to_do > 10
    reads: list[str] = []

    def move_and_read(uri: str, *asked: Any) -> SomeRecords | None:
        reads.append(uri)
        if len(reads) == moment:
            make(owner, moved, nothing if retry else everything)
        return read_columns(uri, *asked)

    monkeypatch.setattr(holdings_module, "read_columns", move_and_read)
    assert plan_of(other).to_do == 0
    assert [uri.partition("/out/")[2].partition("/")[0] for uri in reads] == ["failures", "data", "failures"]


def test_two_shards_write_at_once_to_s3(s3_storage: Storage, s3_bucket: str, tmp_path: Path) -> None:
    output, manifest = f"{s3_bucket}/out", write_manifest(tmp_path / "m.parquet", 24)
    layout = Layout(output)
    configs = {
        shard: load_config([], [f"manifest={manifest}", f"output={output}", "model.source=none", f"run.shard={shard}"])
        for shard in Shard(1, 2).division
    }
    with ExitStack() as stack:
        writers = {}
        for shard, config in configs.items():
            one = stack.enter_context(held(layout, s3_storage, run_id=f"r{shard.index}", lease_s=LEASE_S, shard=shard))
            plan = plan_of(config, storage=s3_storage)
            writer = Committer(layout, s3_storage, CLIP_SCHEMA, plan.extras, plan.rows_per_part, one.check)
            writer.begin(plan.work)
            writers[shard] = writer, work_rows(plan, s3_storage)
        with pytest.raises(RunError, match="beside which the whole dataset cannot be written"):
            stack.enter_context(held(layout, s3_storage, run_id="w", lease_s=LEASE_S))
        for turn in range(2):
            for writer, rows in writers.values():
                for row in rows[turn::2]:
                    s3_storage.put_bytes(layout.video(row["part"], f"{row['clip_id']}.mp4"), b"video")
                    writer.add(ending(row, fails=row["image_uri"].endswith("3.jpg")))
                writer.flush()
        assert read_states(layout, s3_storage).word == "running"
    numbers = {part_of(uri) for uri in s3_storage.list_folders(layout.data)}
    assert numbers == {0, 1}
    whole = load_config([], [f"manifest={manifest}", f"output={output}", "model.source=none"])
    with held(layout, s3_storage, run_id="w", lease_s=LEASE_S):
        found = plan_of(whole, storage=s3_storage)
    assert (found.already_there, found.failed_before, found.duplicates, found.to_do) == (21, 3, 0, 0)


def left_work(output: Path, shard: str, rows: int) -> Plan:
    """What a run of this share leaves that ends right after its plan."""
    config = config_for(write_manifest(output.with_suffix(".parquet"), rows), output, None if shard == "1/1" else shard)
    return plan_of(config)


def test_who_takes_in_what_is_left(tmp_path: Path) -> None:
    output = tmp_path / "out"
    layout = Layout(str(output))
    left_work(output, "1/4", 40)
    left_work(output, "2/4", 40)
    work = sorted(path.parent.parent.name for path in output.rglob("work-*.parquet"))
    assert work == ["r-shard-001-of-004", "r-shard-002-of-004"]
    recover(layout, STORAGE, lambda: None, Shard(3, 4))  # they may be at work
    assert len(list(output.rglob("work-*.parquet"))) == 2
    recover(layout, STORAGE, lambda: None, Shard(2, 4))
    assert [path.parent.parent.name for path in output.rglob("work-*.parquet")] == ["r-shard-001-of-004"]
    said = (
        r"r-shard-001-of-004, a run of shard 1/4, did not come to its end, and run.shard=1/3 cannot continue it: run "
        r"the same command with run.shard=1/4, or without it, or `python -m pipelines verify \S+ --repair`, and then "
        r"this one"
    )
    with pytest.raises(RunError, match=said):
        recover(layout, STORAGE, lambda: None, Shard(1, 3))
    recover(layout, STORAGE, lambda: None)
    assert not list(output.rglob("work-*.parquet"))
    left_work(output, "1/1", 10)
    with pytest.raises(RunError, match=r"a run of the whole dataset, did .* same command without run.shard, or"):
        recover(layout, STORAGE, lambda: None, Shard(1, 3))


@pytest.mark.parametrize("next_one", ["2/4", "1/1"])
def test_what_another_shard_has_made_is_not_taken_in(
    next_one: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed shard had clips because they failed in its parts, and somebody has removed these records since."""
    monkeypatch.setattr(planner, "PART_CLIPS", 10)
    monkeypatch.setattr(recover_module, "record_in_bytes", lambda data, uri: json.loads(data))
    output, manifest = tmp_path / "out", write_manifest(tmp_path / "m.parquet", 40)
    config = config_for(manifest, output, None)
    make(config, plan_of(config), everything)  # in parts 0 to 3
    killed = plan_of(config_for(manifest, output, "2/4"), retry=Retry())
    layout, rows = Layout(str(output)), work_rows(killed)
    assert {row["part"] for row in rows} == {1}
    for row in rows:
        record = {name: row[name] for name in ("clip_id", "image_uri")} | {"file_name": f"{row['clip_id']}.mp4"}
        record |= {"generator": "svd"}
        STORAGE.put_bytes(layout.video(1, f"{row['clip_id']}.mp4"), json.dumps(record).encode())
    Path(layout.failures_of(1)).unlink()
    for shard in ("1/4", "3/4", "4/4"):
        own = config_for(manifest, output, shard)
        make(own, plan_of(own))
    others = contents(output)[0].total()
    assert 0 < others < 10
    recover(layout, STORAGE, lambda: None, Shard.parse(next_one))
    clips, failures = contents(output)
    assert clips.total() == len(clips) == 10  # each once, and those that belong to the killed shard by their hash
    assert not clips.keys() & failures.keys()
    assert plan_of(config_for(manifest, output, next_one)).to_do == 0


def test_a_clip_that_a_killed_run_was_moving_is_tidied_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, manifest = tmp_path / "out", write_manifest(tmp_path / "m.parquet", 12)
    config = config_for(manifest, output, None)
    make(config, plan_of(config), lambda uri: "1" in uri)  # 1, 10 and 11
    for video in output.glob("data/*/*.mp4"):
        video.unlink()
    put = Committer._put

    def crash_after(self: Committer, stored: Any, table: pa.Table) -> None:
        put(self, stored, table)
        raise KeyboardInterrupt

    for retry, fails in ((None, True), (Retry(), False)):
        plan = plan_of(config, retry=retry)
        with monkeypatch.context() as patch:
            patch.setattr(Committer, "_put", crash_after)
            with pytest.raises(KeyboardInterrupt):
                make(config, plan, everything if fails else nothing)
        clips, failures = contents(output)
        assert clips.keys() & failures.keys()
        recover(Layout(str(output)), STORAGE, lambda: None)
        clips, failures = contents(output)
        assert not clips.keys() & failures.keys()
        assert len(clips) + len(failures) == 12
        assert (len(failures) == 12) is fails


def test_a_plan_says_how_much_is_the_shards(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        (tmp_path / "pictures" / f"{number}.png").write_bytes(b"x")
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "pictures", tmp_path / "out")
    plans = [in_process("plan", "--config", config, f"run.shard={index}/4") for index in (1, 2, 3, 4)]
    shares = []
    for index, done in enumerate(plans, 1):
        assert done.returncode == 0, done.stderr
        said = " ".join(done.stdout.split())
        assert "clips wanted 40 " in said
        shares.append(int(said.partition(f"of these, shard {index}/4 takes ")[2].split()[0]))
        assert f"to do {shares[-1]}" in said
    assert sum(shares) == 40
    assert "takes" not in in_process("plan", "--config", config).stdout
    noted = in_process("plan", "--config", config, "run.shard=1/4", "ray.address=x:1", "workers.generate.num_gpus=1",
                       "workers.generate.actors=auto")  # fmt: skip
    assert "note: shard 1/4 takes all GPUs of its Ray cluster (workers.generate.actors=auto): give" in noted.stdout
