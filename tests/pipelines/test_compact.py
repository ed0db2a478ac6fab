"""`stillreel compact`: small parts become one, no video changes, and nothing is lost at any moment."""

import hashlib
import shutil
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import BusyError, RunError, StorageError
from actors.storage import Storage
from benchmarks.damages.dataset import clip_id, make_dataset, new_row, store_video, write_work
from benchmarks.damages.kills import kill_after_each_change
from pipelines.dataset.layout import PART_CLIPS, Layout
from pipelines.dataset.lease import Lease, held
from pipelines.planning.holdings import read_holdings
from pipelines.upkeep import kinds
from pipelines.upkeep.compacting import compact, plan_merges
from pipelines.upkeep.whole import look_at
from tests.jobs import in_process

STORAGE = Storage()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small") / "dataset"
    make_dataset(root, (3, 0, 2, 1), failures=1)
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path / "dataset")
    return tmp_path / "dataset"


def contents(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.mp4")}


def test_the_largest_take_in_the_smaller_and_the_last_keeps_its_number() -> None:
    merges = plan_merges({0: 500, 1: 10, 2: 512, 3: 2, 4: 0, 5: 300, 6: 212, 7: 5})
    assert merges.into == {7: [0, 3], 5: [6]}
    assert merges.empty == [4]
    assert (merges.parts, merges.parts_after, merges.rows) == (8, 4, 714)


@pytest.mark.parametrize(
    ("sizes", "into", "empty"),
    [
        ({}, {}, []),
        ({0: 0}, {}, []),
        ({0: 3}, {}, []),
        ({0: 300, 1: 300}, {}, []),
        ({0: 3, 9: 0}, {9: [0]}, []),
        ({0: PART_CLIPS + 40, 1: PART_CLIPS}, {}, []),
        ({0: 0, 1: 5}, {}, [0]),
    ],
)
def test_what_cannot_be_joined_stays(sizes: dict[int, int], into: dict[int, list[int]], empty: list[int]) -> None:
    merges = plan_merges(sizes)
    assert (merges.into, merges.empty) == (into, empty)


def test_parts_that_are_links_stay() -> None:
    assert plan_merges({0: 5, 1: 5, 2: 5}, links=[1]).into == {2: [0]}


def test_the_command_merges_and_changes_no_video(root: Path) -> None:
    before, layout = contents(root), Layout(str(root))
    clips, failed = (
        read_holdings(layout, STORAGE).done.tolist(),
        read_holdings(layout, STORAGE).failed.hashes.tolist(),
    )
    dry = in_process("compact", root, "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, f"{root}: 4 parts would become 1; 8 rows would move\n")
    assert len(list((root / "data").iterdir())) == 3
    done = in_process("compact", root)
    assert (done.returncode, done.stdout) == (0, f"{root}: 4 parts became 1; 8 rows moved\n")
    assert contents(root) == before
    assert [path.name for path in (root / "data").iterdir()] == ["part-00003"]
    assert [path.name for path in (root / "failures").iterdir()] == ["part-00003.parquet"]
    holdings = read_holdings(layout, STORAGE)
    assert (holdings.done.tolist(), holdings.failed.hashes.tolist(), holdings.part_sizes) == (clips, failed, {3: 10})
    assert look_at(layout, STORAGE, deep=True).findings.is_clean
    assert not (root / "_orphans").exists()
    again = in_process("compact", root)
    assert again.stdout == f"{root}: 1 part, of which none can become one with another\n"


def test_what_is_not_whole_is_mended_first(root: Path) -> None:
    next(root.rglob("*.mp4")).unlink()
    done = in_process("compact", root)
    assert done.returncode == 1
    assert "is not whole (1 listed videos that are not there): first `stillreel verify" in done.stderr


def test_no_part_is_merged_while_a_run_writes_or_has_left_work(root: Path) -> None:
    layout = Layout(str(root))
    with (
        held(layout, STORAGE, run_id="r", lease_s=60),
        pytest.raises(BusyError, match=r"is being written by run r.* until its lease has ended, and call this again"),
    ):
        compact(layout, STORAGE, dry_run=False)
    store_video(root, 900, 0)
    write_work(root / "_runs/r/rows/work-00000.parquet", [new_row(900, 0)])
    with pytest.raises(RunError, match="is not whole"):
        compact(layout, STORAGE, dry_run=False)


def test_videos_that_are_links_stay_links(root: Path) -> None:
    video = next(iter(sorted((root / "data/part-00000").glob("*.mp4"))))
    shutil.move(video, root.parent / "disk.mp4")
    video.symlink_to("../../../disk.mp4")
    compact(Layout(str(root)), STORAGE, dry_run=False)
    moved = root / "data/part-00003" / video.name
    assert (moved.is_symlink(), moved.resolve()) == (True, root.parent / "disk.mp4")
    assert look_at(Layout(str(root)), STORAGE, deep=True).findings.is_clean


@pytest.mark.slow
def test_what_a_successor_writes_stays_wherever_compact_stood_still(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands still for longer than its lease, right after a look at that, and wakes up when others have written."""
    check, looks, number, was_there, output = Lease.check, 0, 0, True, tmp_path

    def check_and_stand_still(lease: Lease) -> None:
        nonlocal looks
        check(lease)
        looks += 1
        if looks == number:
            list_another(output, 0)

    monkeypatch.setattr(Lease, "check", check_and_stand_still)
    while was_there:
        looks, number, output = 0, number + 1, tmp_path / str(number)
        shutil.copytree(template, output)
        with suppress(StorageError):
            compact(Layout(str(output)), STORAGE, dry_run=False)
        was_there = looks >= number
        whole = look_at(Layout(str(output)), STORAGE, deep=True)
        assert whole.num_rows >= 6 + was_there, (number, whole.findings)
        assert whole.findings.counts[kinds.VIDEO_GONE] == 0
        compact(Layout(str(output)), STORAGE, dry_run=False)
        assert look_at(Layout(str(output)), STORAGE, deep=True).num_rows == 6 + was_there
    assert number > 8


def list_another(root: Path, part: int) -> None:
    """A run stores a clip and lists it."""
    uri, row = Path(Layout(str(root)).metadata(part)), store_video(root, 900, part)
    example = pq.read_table(next(root.glob("data/*/metadata.parquet"))).slice(0, 1).to_pylist()[0]
    content = row.read_bytes()
    known = {"clip_id": clip_id(900), "file_name": row.name, "bytes": len(content)}
    record = example | known | {"sha256": hashlib.sha256(content).hexdigest()}
    schema = pq.read_schema(next(root.glob("data/*/metadata.parquet")))
    old = [pq.read_table(uri)] if uri.exists() else []
    pq.write_table(pa.concat_tables([*old, pa.Table.from_pylist([record], schema=schema)]), uri)


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_each_clip_listed(template: Path, tmp_path: Path) -> None:
    def merge(layout: Layout, storage: Storage) -> object:
        return compact(layout, storage, dry_run=False)

    ends = list(kill_after_each_change(template, tmp_path, (), merge, step=2))
    assert len(ends) > 4
    assert [faults for _, faults in ends if faults] == []


@pytest.mark.slow
def test_parts_on_a_store_are_merged_alike(template: Path, s3_bucket: str, s3_storage: Storage) -> None:
    layout = Layout(f"{s3_bucket}/out")
    for path in template.rglob("*"):
        if path.is_file():
            s3_storage.put_bytes(f"{layout.root}/{path.relative_to(template)}", path.read_bytes())
    assert compact(layout, s3_storage, dry_run=False).parts_after == 1
    whole = look_at(layout, s3_storage, deep=True)
    assert (whole.findings.is_clean, whole.num_rows, len(whole.sizes)) == (True, 6, 1)
    assert pq.read_schema(s3_storage.open(layout.metadata(3))).names[0] == "clip_id"
