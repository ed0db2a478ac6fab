"""`stillreel verify`: what it names, what it leaves to a run that writes, and what a repair mends."""

import errno
import json
import os
import random
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import BusyError, ConfigError, RunError, StorageError
from actors.storage import Storage
from benchmarks.damages.dataset import clip_id, make_dataset, new_row, store_video, write_work
from benchmarks.damages.kills import DAMAGES, kill_after_each_change
from benchmarks.damages.kinds import CASES
from benchmarks.damages.trial import try_damages
from pipelines.dataset.beats import Beat
from pipelines.dataset.layout import Layout, new_run_id
from pipelines.dataset.lease import held
from pipelines.dataset.recover import recover
from pipelines.dataset.shard import Shard
from pipelines.dataset.states import read_states
from pipelines.planning.holdings import read_holdings
from pipelines.upkeep import kinds
from pipelines.upkeep.extending import extend_before_run
from pipelines.upkeep.moving import Mover
from pipelines.upkeep.repairing import repair
from pipelines.upkeep.schemas import Columns
from pipelines.upkeep.whole import Whole, look_at
from tests.jobs import in_process

STORAGE = Storage()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("datasets") / "dataset"
    make_dataset(root, (3, 3, 3, 3), failures=1)
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path / "dataset")
    return tmp_path / "dataset"


def names(whole: Whole) -> dict[str, int]:
    return {kind.name: whole.findings.counts[kind] for kind in whole.findings.kinds}


def seen(root: Path, *, deep: bool = False) -> dict[str, int]:
    return names(look_at(Layout(str(root)), STORAGE, deep=deep))


def part(root: Path, number: int = 0) -> Path:
    return Path(Layout(str(root)).part(number))


def test_the_command_names_mends_and_is_then_clean(root: Path) -> None:
    first, second, *_ = sorted(part(root).glob("*.mp4"))
    first.unlink()
    second.write_bytes(b"x")
    (root / "data/notes.txt").write_text("mine")
    found = in_process("verify", root)
    assert found.returncode == 1
    assert "listed videos that are not there (1): --repair takes the rows out; the next run makes" in found.stdout
    assert str(first) in found.stdout
    assert found.stdout.endswith("3 findings, of which --repair mends 3; what is in the videos was not read (--deep)\n")
    assert " kB of videos" in found.stdout
    mended = in_process("verify", root, "--repair")
    assert mended.returncode == 0, mended.stdout
    assert mended.stdout.endswith("clean; what is in the videos was not read (--deep)\n")
    assert "mended (2): rows were taken out of the records" in mended.stdout
    told = json.loads(in_process("verify", root, "--deep", "--json").stdout)
    assert (told["clean"], told["clips"], told["findings"]) == (True, 10, {})
    (orphans,) = (root / "_orphans").iterdir()
    kept = sorted(str(path.relative_to(orphans)) for path in orphans.rglob("*") if path.is_file())
    moved = {name for name in kept if "dropped" not in name}
    assert moved == {f"data/part-00000/{second.name}", "data/notes.txt"}
    dropped = pq.read_table([orphans / name for name in kept if "dropped" in name])["clip_id"].to_pylist()
    assert sorted(dropped) == sorted([first.stem, second.stem])


def test_damage_that_only_reading_shows_is_mended_by_a_repair_that_reads(root: Path) -> None:
    first, *_ = sorted(part(root).glob("*.mp4"))
    data = bytearray(first.read_bytes())
    data[-1] ^= 1
    first.write_bytes(data)
    found = in_process("verify", root, "--deep")
    assert "videos of another sha256 than recorded (1): --deep --repair moves them into _orphans/ and" in found.stdout
    assert found.stdout.endswith("1 finding, of which --deep --repair mends 1\n")
    shallow = in_process("verify", root, "--repair")
    assert shallow.stdout.endswith("clean; what is in the videos was not read (--deep)\n")
    assert first.exists()
    told = json.loads(in_process("verify", root, "--deep", "--json").stdout)
    assert (told["deep"], told["findings"]["other_content"]["options"]) == (True, "--deep --repair")
    mended = in_process("verify", root, "--deep", "--repair")
    assert (mended.returncode, mended.stdout.splitlines()[-1], first.exists()) == (0, "clean", False)


def test_json_tells_each_kind_with_examples(root: Path) -> None:
    for path in part(root).glob("*.mp4"):
        path.unlink()
    told = json.loads(in_process("verify", root, "--json").stdout)["findings"]["video_gone"]
    assert (told["count"], told["mended_by"]) == (3, "repair")
    assert {one["clip_id"] for one in told["examples"]} == set(
        pq.read_table(part(root) / "metadata.parquet")["clip_id"].to_pylist()
    )


def test_what_is_no_dataset_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    for arguments in (["verify"], ["verify", "--repair"], ["compact"]):
        done = in_process(*arguments, tmp_path)
        assert done.returncode == 2
        assert "is no dataset of stillreel" in done.stderr
    assert not list(tmp_path.iterdir())


def test_what_a_run_is_doing_is_its_own(root: Path) -> None:
    """Stored and not listed; lost and about to be made again; half an upload. The same without the run is named."""
    video = store_video(root, 900, 1)
    lost = min(part(root, 2).glob("*.mp4"))
    lost.unlink()
    (part(root, 1) / f".{clip_id(901)}.mp4.{'0' * 32}.tmp").write_bytes(b"half")
    write_work(root / "_runs/r/rows/work-00000.parquet", [new_row(900, 1), new_row(901, 1), new_row(lost.stem, 2)])
    layout = Layout(str(root))
    with held(layout, STORAGE, run_id="r", lease_s=60):
        whole = look_at(layout, STORAGE, deep=False)
        assert (names(whole), whole.of_runs, whole.writers.runs) == ({}, 3, ["r"])
        with pytest.raises(BusyError, match="is being written by run r"):
            repair(layout, STORAGE, deep=False)
        refused = in_process("verify", root, "--repair")
        assert refused.returncode == 75
        unexplained = store_video(root, 902, 1)
        assert seen(root) == {"unlisted": 1}
        unexplained.unlink()
    assert seen(root) == {"video_gone": 1, "unlisted": 1, "left_uploads": 1, "left_work": 1}
    after, _ = repair(layout, STORAGE, deep=True)
    assert names(after) == {}
    (row,) = (
        row for row in pq.read_table(part(root, 1) / "metadata.parquet").to_pylist() if row["clip_id"] == video.stem
    )
    assert row["caption"] == f"of {row['image_uri']}"  # from the work file


def test_what_a_shard_is_doing_is_its_own_and_what_it_left_is_recovered(root: Path) -> None:
    layout, shard = Layout(str(root)), Shard(2, 4)
    run_id = new_run_id(shard)
    store_video(root, 900, 1)
    write_work(Path(layout.run(run_id).work_file(0)), [new_row(900, 1), new_row(901, 1)])
    with held(layout, STORAGE, run_id=run_id, lease_s=60, shard=shard):
        whole = look_at(layout, STORAGE, deep=False)
        assert (names(whole), whole.writers.runs) == ({}, [run_id])
        with pytest.raises(RunError, match="is being written by run"):
            repair(layout, STORAGE, deep=False)
    assert seen(root) == {"unlisted": 1, "left_work": 1}
    with pytest.raises(RunError, match=r"verify .* --repair"):
        recover(layout, STORAGE, lambda: None, Shard(1, 3))
    after, _ = repair(layout, STORAGE, deep=True)
    assert names(after) == {}
    recover(layout, STORAGE, lambda: None, Shard(1, 3))


def test_a_clip_made_again_in_its_place_is_taken_in_from_its_run(root: Path) -> None:
    """Lost, made again with other bytes, and its run was killed: the row is to be that of the new video."""
    video = min(part(root).glob("*.mp4"))
    metadata = part(root) / "metadata.parquet"
    table = pq.read_table(metadata)
    sizes = [size + 1 for size in table["bytes"].to_pylist()]
    pq.write_table(table.set_column(table.column_names.index("bytes"), "bytes", pa.array(sizes)), metadata)
    write_work(root / "_runs/r/rows/work-00000.parquet", [new_row(path.stem, 0) for path in part(root).glob("*.mp4")])
    (root / "_runs/r/config.yaml").write_text("generator: 'null'\nmodel: {}\n")
    after, _ = repair(Layout(str(root)), STORAGE, deep=True)
    assert names(after) == {}
    rows = {row["clip_id"]: row["bytes"] for row in pq.read_table(metadata).to_pylist()}
    assert (len(rows), rows[video.stem]) == (3, video.stat().st_size)


def test_nothing_of_a_newer_version_is_touched(root: Path) -> None:
    CASES["rows of a newer version"].damage(root, random.Random(0))
    with pytest.raises(RunError, match="was written by a newer version of stillreel"):
        repair(Layout(str(root)), STORAGE, deep=False)
    with pytest.raises(ConfigError, match="was written by a newer version of stillreel, which has the columns c2pa"):
        read_holdings(Layout(str(root)), STORAGE)


def test_a_column_that_a_curator_adds_is_none_of_a_newer_version(root: Path) -> None:
    for path in root.glob("data/*/metadata.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.append_column("score", pa.array([0.5] * table.num_rows)), path)
    holdings = read_holdings(Layout(str(root)), STORAGE)
    assert holdings.extras is not None
    assert (holdings.extras.names, holdings.older, len(holdings.done)) == (["caption", "score"], [], 12)


def test_older_parts_are_extended_before_a_run_writes(root: Path) -> None:
    layout = Layout(str(root))
    for number in (1, 3):
        path = part(root, number) / "metadata.parquet"
        pq.write_table(pq.read_table(path).drop_columns(["fit", "stillreel_version"]), path)
    older = read_holdings(layout, STORAGE).older
    assert sorted(older) == [1, 3]
    assert seen(root) == {"older_schema": 2}
    columns = Columns.of("null", pa.schema([pa.field("caption", pa.string())]))
    mover = Mover(layout, STORAGE, "r", lambda: None)
    with pytest.raises(RunError, match=r"2 parts of .* lack columns, and a shard may not .*verify .* --repair"):
        extend_before_run(older, columns, mover, is_shard=True)
    path = part(root, 1) / "metadata.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("score", pa.array([0.5] * table.num_rows)), path)
    with pytest.raises(RunError, match="do not fit this version: `stillreel verify"):
        extend_before_run(older, columns, mover, is_shard=False)
    assert pq.read_table(path)["score"].to_pylist() == [0.5] * table.num_rows
    pq.write_table(table, path)
    assert extend_before_run(older, columns, mover, is_shard=False) == 2
    assert seen(root, deep=True) == {}
    assert len({str(pq.read_schema(path).remove_metadata()) for path in root.glob("data/*/metadata.parquet")}) == 1


@pytest.mark.parametrize("value", [None, "cat"])
def test_a_clip_id_that_is_none_ends_a_plan_in_one_sentence(value: str | None, root: Path) -> None:
    path = part(root) / "metadata.parquet"
    table = pq.read_table(path)
    ids = [value, *table["clip_id"].to_pylist()[1:]]
    pq.write_table(table.set_column(0, "clip_id", pa.array(ids)), path)
    with pytest.raises(StorageError, match=r"a clip_id that is none .*: `stillreel verify OUTPUT --repair` mends"):
        read_holdings(Layout(str(root)), STORAGE)
    before = table.drop_columns("created_at")
    after, _ = repair(Layout(str(root)), STORAGE, deep=True)
    assert names(after) == {}
    assert pq.read_table(path).drop_columns("created_at").equals(before)


def test_a_table_of_somebody_elses_ends_a_plan_in_one_sentence(root: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), part(root) / "metadata.parquet")
    with pytest.raises(StorageError, match=r"is not a Parquet file of records \(it has no column clip_id\)"):
        read_holdings(Layout(str(root)), STORAGE)


def test_most_videos_gone_is_a_copy_that_is_not_finished(tmp_path: Path, template: Path) -> None:
    shutil.copytree(template, tmp_path / "half", ignore=shutil.ignore_patterns("*.mp4"))
    assert seen(tmp_path / "half") == {"half_a_copy": 12}
    after, _ = repair(Layout(str(tmp_path / "half")), STORAGE, deep=False)
    assert names(after) == {"half_a_copy": 12}
    assert after.num_rows == 12  # no row was taken out


def test_videos_without_records_are_listed_from_their_own(tmp_path: Path, template: Path) -> None:
    shutil.copytree(template, tmp_path / "half", ignore=shutil.ignore_patterns("*.parquet", "_*"))
    after, _ = repair(Layout(str(tmp_path / "half")), STORAGE, deep=True)
    assert (names(after), after.num_rows) == ({}, 12)


def test_a_part_that_was_renamed_is_one_again_and_keeps_its_columns(root: Path) -> None:
    before = pq.read_table(part(root, 2) / "metadata.parquet").sort_by("clip_id")
    part(root, 2).rename(root / "data/backup of 2")
    after, _ = repair(Layout(str(root)), STORAGE, deep=True)
    assert names(after) == {}
    assert pq.read_table(part(root, 2) / "metadata.parquet").sort_by("clip_id").equals(before)


def test_a_part_removed_on_purpose_is_made_again_and_its_number_is_free(root: Path) -> None:
    shutil.rmtree(part(root, 3))
    Path(Layout(str(root)).failures_of(3)).unlink()
    assert seen(root) == {}
    holdings = read_holdings(Layout(str(root)), STORAGE)
    assert (len(holdings.done), max(holdings.part_sizes)) == (9, 2)


def test_a_dataset_that_is_moved_is_the_same(root: Path) -> None:
    target = root.parent / "else" / "moved"
    target.parent.mkdir()
    root.rename(target)
    assert seen(target, deep=True) == {}
    assert len(read_holdings(Layout(str(target)), STORAGE).done) == 12


def test_a_copy_made_while_a_run_writes_is_free_when_the_lease_is_over(root: Path, tmp_path: Path) -> None:
    with held(Layout(str(root)), STORAGE, run_id="r", lease_s=60):
        shutil.copytree(root, tmp_path / "copy")
        copy = Layout(str(tmp_path / "copy"))
        with (
            pytest.raises(RunError, match=r"is being written by run r .*its lease ends at .* unless it is renewed"),
            held(copy, STORAGE, run_id="s", lease_s=60),
        ):
            pass
        (lease,) = (tmp_path / "copy/_lease").iterdir()
        entry = json.loads(lease.read_text())
        lease.write_text(json.dumps(entry | {"renewed_at": "2026-01-01T00:00:00Z"}))  # nobody renews that of the copy
        with held(copy, STORAGE, run_id="s", lease_s=60):
            pass


def test_a_place_that_is_mounted_read_only_is_one_sentence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("actors.storage.write_local", refuse)
    with pytest.raises(StorageError, match="could not be created: it is mounted read-only; mount it for writing"):
        repair(Layout(str(root)), STORAGE, deep=False)
    assert seen(root, deep=True) == {}
    assert len(read_holdings(Layout(str(root)), STORAGE).done) == 12


def test_a_link_that_is_listed_keeps_what_it_leads_to(root: Path) -> None:
    video = min(part(root).glob("*.mp4"))
    (root / "data/blobs").mkdir()
    video.rename(root / "data/blobs/x.mp4")
    video.symlink_to("../blobs/x.mp4")
    assert seen(root, deep=True) == {}


def list_again(root: Path, of: int, to: int) -> tuple[Path, Path]:
    """A clip of one part is listed by another as well; where its video is, and where that other's is to be."""
    table, more = (pq.read_table(part(root, number) / "metadata.parquet") for number in (to, of))
    pq.write_table(pa.concat_tables([table, more.slice(0, 1)]), part(root, to) / "metadata.parquet")
    name = more["file_name"][0].as_py()
    return part(root, of) / name, part(root, to) / name


@pytest.mark.parametrize("steps", [1, 2])
def test_of_a_clip_listed_twice_the_file_stays_and_not_the_link_to_it(steps: int, root: Path) -> None:
    video, other = list_again(root, 0, 1)  # the larger part has the link
    between = root / "_links/one.mp4" if steps == 2 else video
    if steps == 2:
        between.parent.mkdir()
        between.symlink_to(video)
    other.symlink_to(os.path.relpath(between, other.parent))
    whole, _ = repair(Layout(str(root)), STORAGE, deep=True)
    assert names(whole) == {}
    assert video.is_file()
    assert not os.path.lexists(other)
    assert len(read_holdings(Layout(str(root)), STORAGE).done) == 12


def test_what_a_listed_link_leads_to_is_not_moved_away(root: Path) -> None:
    video, other = list_again(root, 0, 1)
    video.write_bytes(video.read_bytes() + b"more")  # no longer what its row says
    table = pq.read_table(part(root, 1) / "metadata.parquet")
    sizes = [*table["bytes"].to_pylist()[:-1], video.stat().st_size]
    place = table.column_names.index("bytes")
    table = table.set_column(place, table.schema.field("bytes"), pa.array(sizes, table.schema.field("bytes").type))
    pq.write_table(table, part(root, 1) / "metadata.parquet")
    other.symlink_to(video)
    whole, _ = repair(Layout(str(root)), STORAGE, deep=False)
    assert names(whole) == {}
    assert other.is_file()
    assert len(read_holdings(Layout(str(root)), STORAGE).done) == 12


@pytest.mark.parametrize("through", [True, False])
def test_of_two_links_of_a_clip_no_link_loses_its_way(through: bool, root: Path) -> None:
    """One leads to the blob, the other as well, or to the first one."""
    video, other = list_again(root, 0, 1)
    (root / "data/blobs").mkdir()
    video.rename(root / "data/blobs/x.mp4")
    video.symlink_to("../blobs/x.mp4")
    other.symlink_to(video if through else root / "data/blobs/x.mp4")
    whole, _ = repair(Layout(str(root)), STORAGE, deep=False)
    assert names(whole) == {}
    assert (root / "data/blobs/x.mp4").is_file()
    assert len(read_holdings(Layout(str(root)), STORAGE).done) == 12


def test_a_folder_into_which_listed_links_lead_stays(root: Path) -> None:
    shutil.copytree(part(root), root / "data/old part 0")
    for video in part(root).glob("*.mp4"):
        video.unlink()
        video.symlink_to(f"../old part 0/{video.name}")
    repair(Layout(str(root)), STORAGE, deep=False)
    assert all(video.is_file() for video in part(root).glob("*.mp4"))
    assert len(read_holdings(Layout(str(root)), STORAGE).done) == 12


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES)[::8])
def test_damages_are_named_and_mended(name: str, template: Path, tmp_path: Path) -> None:
    assert try_damages(template, tmp_path / "trial", [name], "test", None).faults == []


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_nothing(template: Path, tmp_path: Path) -> None:
    def mend(layout: Layout, storage: Storage) -> object:
        return repair(layout, storage, deep=True)

    ends = list(kill_after_each_change(template, tmp_path, DAMAGES, mend, step=4))
    assert len(ends) > 2
    assert [faults for _, faults in ends if faults] == []


@pytest.mark.slow
def test_a_dataset_on_a_store_is_mended_alike(
    template: Path, tmp_path: Path, s3_bucket: str, s3_storage: Storage
) -> None:
    for name in ("part named backup", "rows copied to another part"):
        shutil.copytree(template, tmp_path / name)
        CASES[name].damage(tmp_path / name, random.Random(1))
        layout = Layout(f"{s3_bucket}/{name.replace(' ', '-')}")
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        for path in files:
            s3_storage.put_bytes(f"{layout.root}/{path.relative_to(tmp_path / name)}", path.read_bytes())
        assert set(CASES[name].names) <= set(names(look_at(layout, s3_storage, deep=False)))
        after, _ = repair(layout, s3_storage, deep=True)
        assert (names(after), after.num_rows) == ({}, 12)
        assert look_at(layout, s3_storage, deep=False).findings.counts[kinds.FOREIGN] == 0


def test_status_tells_of_the_run_before_a_repair(root: Path) -> None:
    layout = Layout(str(root))
    now = datetime.now(UTC)
    with held(layout, STORAGE, run_id="20260101T000000Z-aaaaaa", lease_s=60):
        beat = Beat(
            run_id="20260101T000000Z-aaaaaa", phase="interrupted", started_at=now, beaten_at=now, to_do=9, made=3
        )
        STORAGE.put_bytes(layout.run(beat.run_id).heartbeat, beat.model_dump_json().encode())
    repair(layout, STORAGE, deep=False)
    states = read_states(layout, STORAGE)
    assert (states.word, [state.beat for state in states.known]) == ("failed", [beat])


def test_status_tells_of_all_shards_before_a_repair(root: Path) -> None:
    layout = Layout(str(root))
    now = datetime.now(UTC)
    shutil.rmtree(root / "_runs", ignore_errors=True)
    for shard, phase in ((Shard(2, 3), "stopped"), (Shard(1, 3), "done")):
        run_id = new_run_id(shard)
        with held(layout, STORAGE, run_id=run_id, lease_s=60, shard=shard):
            beat = Beat.model_validate(
                {"run_id": run_id, "phase": phase, "started_at": now, "beaten_at": now, "to_do": 9, "made": 3}
            )
            STORAGE.put_bytes(layout.run(run_id).heartbeat, beat.model_dump_json().encode())
    before = read_states(layout, STORAGE)
    repair(layout, STORAGE, deep=False)
    after = read_states(layout, STORAGE)
    words = [None if state is None else state.word for state in after.by_shard.values()]
    assert (after.word, words) == ("failed", ["done", "failed", None])
    assert list(after.by_shard) == list(before.by_shard)
