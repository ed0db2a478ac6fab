"""A manifest's file that has not changed is not opened again; what a plan says is the same as if it were."""

import hashlib
import io
import random
import tarfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors import stamps
from actors.errors import ManifestError
from actors.storage import Storage
from pipelines.config import Config
from pipelines.dataset.layout import Layout
from pipelines.job import Job
from pipelines.manifest import formats
from pipelines.manifest.formats import Opener
from pipelines.planning import known_files, planner
from pipelines.planning.holdings import read_holdings
from pipelines.planning.planner import Plan, Retry
from tests.jobs import write_pictures
from tests.pipelines.test_plan import REVISIONS, STORAGE, commit, config_for, work_rows

# Beside what a plan says of the manifest and the dataset: where its work files lie.
_NOT_COMPARED = ("work", "history")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What changed a moment ago counts as settled, and a part has 4 clips."""
    monkeypatch.setattr(stamps, "YOUNG_NS", 0)
    monkeypatch.setattr(planner, "PART_CLIPS", 4)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the manifest's files that were opened."""
    found: list[str] = []
    real = Opener.__call__

    def noting(opener: Opener, uri: str) -> Any:
        found.append(uri.rpartition("/")[2])
        return real(opener, uri)

    monkeypatch.setattr(Opener, "__call__", noting)
    return found


def write_rows(folder: Path, name: str, rows: range, **columns: list[object]) -> None:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"image_uri": [f"/images/{row}.jpg" for row in rows], **columns}), folder / name)


def run_plan(config: Config, retry: Retry | None = None) -> Plan:
    """As a run plans: what was found is kept."""
    return Job(config, STORAGE, Layout(config.output), REVISIONS, "r").plan(retry, with_work=True)


def told(plan: Plan) -> dict[str, Any]:
    return {one.name: getattr(plan, one.name) for one in fields(plan) if one.name not in _NOT_COMPARED}


def without_caches(config: Config, retry: Retry | None = None) -> dict[str, Any]:
    found = read_holdings(Layout(config.output), STORAGE)
    return told(planner.make_plan(config, STORAGE, found, REVISIONS, retry=retry))


@pytest.fixture
def grown(tmp_path: Path) -> Config:
    """A manifest of three files, of which one clip has failed, and a plan that has read it."""
    for number in range(3):
        write_rows(tmp_path / "m", f"{number}.parquet", range(3 * number, 3 * number + 3))
    config = config_for(tmp_path / "m", tmp_path / "out")
    commit(config, run_plan(config), frozenset({"/images/4.jpg"}))
    run_plan(config)
    return config


def test_only_what_is_new_is_opened_and_the_first_file_for_its_columns(
    grown: Config, opened: list[str], tmp_path: Path
) -> None:
    write_rows(tmp_path / "m", "3.parquet", range(7, 11))
    plan = run_plan(grown)
    assert opened == ["0.parquet", "3.parquet"]
    assert (plan.wanted, plan.already_there, plan.failed_before, plan.duplicates, plan.to_do) == (13, 8, 1, 2, 2)
    assert told(plan) == without_caches(grown)


def test_a_file_that_was_written_anew_is_opened(grown: Config, opened: list[str], tmp_path: Path) -> None:
    write_rows(tmp_path / "m", "1.parquet", range(20, 23))
    plan = run_plan(grown)
    assert (opened, plan.to_do, plan.already_there) == (["0.parquet", "1.parquet"], 3, 6)


def test_a_file_is_opened_where_one_of_its_clips_is_to_be_made(
    grown: Config, opened: list[str], tmp_path: Path
) -> None:
    metadata = pq.read_table(tmp_path / "out/data/part-00001/metadata.parquet").to_pylist()
    gone = next(row for row in metadata if row["image_uri"] == "/images/7.jpg")
    (tmp_path / "out/data/part-00001" / gone["file_name"]).unlink()
    plan = run_plan(grown)
    assert (opened, plan.lost, plan.to_do) == (["0.parquet", "2.parquet"], 1, 1)
    opened.clear()
    plan = run_plan(grown, Retry())
    assert (opened, plan.to_do) == (["0.parquet", "1.parquet"], 1)
    assert told(plan) == without_caches(grown, Retry())


def test_content_that_came_and_went_is_not_taken_for_what_a_listing_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a store, where a version is of a content: somebody writes another file after the listing, and undoes it."""

    def version_of(uri: str, *_: object) -> str:
        return hashlib.sha256(Path(uri).read_bytes()).hexdigest()

    monkeypatch.setattr(formats, "version_of_file", version_of)
    for name in ("0.parquet", "1.parquet"):
        write_rows(tmp_path / "m", name, range(3))
    config = config_for(tmp_path / "m", tmp_path / "out")
    commit(config, run_plan(config))
    write_rows(tmp_path / "m", "1.parquet", range(3, 6))
    real, good = Opener.__call__, (tmp_path / "m/1.parquet").read_bytes()

    def changed_before(opener: Opener, uri: str) -> Any:
        if uri.endswith("1.parquet"):
            write_rows(tmp_path / "m", "1.parquet", range(3))
        return real(opener, uri)

    with monkeypatch.context() as patch:
        patch.setattr(Opener, "__call__", changed_before)
        assert run_plan(config).to_do == 0
    (tmp_path / "m/1.parquet").write_bytes(good)
    assert run_plan(config).to_do == 3


def test_what_a_run_has_not_made_is_planned_again(tmp_path: Path, opened: list[str]) -> None:
    for number in range(2):
        write_rows(tmp_path / "m", f"{number}.parquet", range(3 * number, 3 * number + 3))
    config = config_for(tmp_path / "m", tmp_path / "out")
    assert run_plan(config).to_do == run_plan(config).to_do == 6
    assert opened == ["0.parquet", "1.parquet"] * 2


@pytest.mark.parametrize(
    "settings",
    [
        ["variants=[{seed: [1, 2]}]"],
        ["generation.fps=8"],
        ["image.width=640"],
        ["columns.base=/elsewhere"],
        ["storage.schemes=[s3]"],
    ],
)
def test_other_settings_know_nothing_of_a_file(
    settings: list[str], grown: Config, opened: list[str], tmp_path: Path
) -> None:
    config = config_for(tmp_path / "m", tmp_path / "out", *settings)
    plan = run_plan(config)
    assert opened == ["0.parquet", "1.parquet", "2.parquet"]
    assert told(plan) == without_caches(config)


def test_a_limit_reads_what_it_needs(grown: Config, opened: list[str], tmp_path: Path) -> None:
    plan = run_plan(config_for(tmp_path / "m", tmp_path / "out", "columns.limit=4"))
    assert (plan.wanted, opened) == (4, ["0.parquet", "1.parquet"])


def test_a_file_of_other_columns_is_refused_as_ever(tmp_path: Path) -> None:
    for row in range(2):
        write_rows(tmp_path / "m", f"{row}.parquet", range(row, row + 1), caption=["a"])
    config = config_for(tmp_path / "m", tmp_path / "out")
    commit(config, run_plan(config))
    run_plan(config)
    write_rows(tmp_path / "m", "0.parquet", range(1))
    with pytest.raises(ManifestError, match=r"column caption is in .*/1.parquet and not in .*/0.parquet"):
        run_plan(config)


def test_what_is_kept_may_be_damaged_or_gone(grown: Config, opened: list[str], tmp_path: Path) -> None:
    kept = tmp_path / "out/_index/sources"
    expected = without_caches(grown)
    for end in (None, 0, 5, -9):
        for path in kept.iterdir():
            data = path.read_bytes()
            path.unlink() if end is None else path.write_bytes(data[:end])
        opened.clear()
        assert told(run_plan(grown)) == expected
        assert opened == ["0.parquet", "1.parquet", "2.parquet"]
        opened.clear()
        assert told(run_plan(grown)) == expected
        assert opened == ["0.parquet"]


def test_young_files_are_read_again(tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "YOUNG_NS", 10**12)
    write_rows(tmp_path / "m", "0.parquet", range(3))
    write_rows(tmp_path / "m", "1.parquet", range(3, 6))
    config = config_for(tmp_path / "m", tmp_path / "out")
    commit(config, run_plan(config))
    opened.clear()
    assert run_plan(config).already_there == 6
    assert opened == ["0.parquet", "1.parquet"]


def test_rows_that_cannot_be_used_are_counted_as_if_they_were_read(tmp_path: Path, opened: list[str]) -> None:
    for number in range(4):
        write_rows(tmp_path / "m", f"{number}.parquet", range(3 * number, 3 * number + 3), fps=[7, -number, 500])
    config = config_for(tmp_path / "m", tmp_path / "out", "video.codec=av1")
    bad = frozenset(f"/images/{row}.jpg" for row in range(12) if row % 3)
    commit(config, run_plan(config), bad)
    opened.clear()
    plan = run_plan(config)
    assert opened == ["0.parquet"]
    assert plan.problems.counts.total() > 4
    assert told(plan) == without_caches(config)


def write_tar(path: Path, *members: str) -> None:
    with tarfile.open(path, "w") as tar:
        for name in members:
            data = f"{path.name} {name}".encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("identity", ["uri", "content"])
def test_tars_are_counted_as_if_they_were_read(identity: str, tmp_path: Path, opened: list[str]) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    write_tar(folder / "0.tar", "a.json", "b.json")  # whose downloads have all failed
    write_tar(folder / "1.tar", "c.jpg", "c.txt", "d.jpg", "d.txt", "e.txt")
    write_tar(folder / "2.tar", "f.jpg", "f.txt", "f.cls", "g.jpg", "g.mask.jpg", "h.txt")
    write_tar(folder / "3.tar", "i.jpg", "i.wav")
    config = config_for(folder, tmp_path / "out", f"columns.identity={identity}")
    commit(config, run_plan(config))
    expected = without_caches(config)
    assert any("samples that have no picture and were left out: 4" in note for note in expected["notes"])
    opened.clear()
    assert told(run_plan(config)) == expected
    assert opened == ["0.tar", "1.tar"]
    write_tar(folder / "0.tar", "z.jpg", "z.txt")
    assert told(run_plan(config)) == without_caches(config)


def test_partitions_are_noted_as_if_they_were_read(tmp_path: Path, opened: list[str]) -> None:
    for label in ("cat", "dog"):
        write_rows((tmp_path / "m"), "x", range(0))
        (tmp_path / "m/x").unlink()
        write_rows(tmp_path / f"m/label={label}", "a.parquet", range(len(label), len(label) + 1))
    config = config_for(tmp_path / "m", tmp_path / "out")
    commit(config, run_plan(config))
    opened.clear()
    assert told(run_plan(config)) == without_caches(config)
    assert opened[0] == "a.parquet"


def test_images_that_lie_elsewhere_are_fetched_for_their_content_each_time(tmp_path: Path, opened: list[str]) -> None:
    pictures = write_pictures(tmp_path / "images", 2)
    for number in range(2):
        (tmp_path / f"{number}.csv").write_text(f"uri\n{pictures[number]}\n")
    config = config_for(f"{tmp_path}/*.csv", tmp_path / "out", "columns.identity=content")  # type: ignore[arg-type]
    commit(config, run_plan(config))
    pictures[1].write_bytes(pictures[1].read_bytes() + b"x")
    plan = run_plan(config)
    assert (plan.already_there, plan.to_do) == (1, 1)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "txt"])
def test_lists_of_text_are_known_too(ending: str, tmp_path: Path, opened: list[str]) -> None:
    forms: dict[str, Callable[[int], str]] = {
        "csv": lambda row: f"uri\n/{row}.jpg\n",
        "jsonl": lambda row: f'{{"uri": "/{row}.jpg"}}\n',
        "txt": lambda row: f"/{row}.jpg\n",
    }
    (tmp_path / "m").mkdir()
    for row in range(3):
        (tmp_path / f"m/{row}.{ending}").write_text(forms[ending](row))
    config = config_for(f"{tmp_path}/m/*.{ending}", tmp_path / "out")  # type: ignore[arg-type]
    commit(config, run_plan(config))
    opened.clear()
    assert run_plan(config).already_there == 3
    assert opened == [f"0.{ending}"]


def test_what_many_runs_have_kept_is_merged_and_forgotten_in_time(
    grown: Config, opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_files, "_MOST_FILES", 4)
    kept = tmp_path / "out/_index/sources"
    for number in range(3, 13):
        write_rows(tmp_path / "m", f"{number}.parquet", range(number, number + 1))
        run_plan(grown)
        assert len(list(kept.iterdir())) <= 4
    commit(grown, run_plan(grown))
    opened.clear()
    assert told(run_plan(grown)) == without_caches(grown)
    other = config_for(tmp_path / "m", tmp_path / "out", "generation.fps=9")
    run_plan(other)
    later = known_files._today() + 100
    monkeypatch.setattr(known_files, "_today", lambda: later)
    monkeypatch.setattr(known_files, "_MOST_FILES", 1)
    write_rows(tmp_path / "m", "90.parquet", range(90, 91))
    for number in range(8, 13):
        (tmp_path / f"m/{number}.parquet").unlink()
    run_plan(grown)
    (merged,) = kept.iterdir()
    table = pq.read_table(merged)
    assert table.num_rows == 9  # 0 to 7, and 90
    opened.clear()
    commit(grown, run_plan(grown))
    opened.clear()
    assert run_plan(grown).to_do == 0
    assert opened == ["0.parquet"]


def test_nothing_is_written_where_nothing_is_new(grown: Config, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/_index").rglob("*.parquet")}
    run_plan(grown)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out/_index").rglob("*.parquet")} == before


@pytest.mark.parametrize("kind", ["folder", "table"])
def test_images_that_are_gone_since_are_no_error(kind: str, tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "images", 4)
    (tmp_path / "m.csv").write_text("\n".join(["uri", *map(str, pictures)]))
    manifest = tmp_path / "images" if kind == "folder" else tmp_path / "m.csv"
    config = config_for(manifest, tmp_path / "out")
    commit(config, run_plan(config))
    for picture in pictures[:2]:
        picture.unlink()
    plan = run_plan(config)
    assert (plan.already_there, plan.to_do, plan.problems.counts.total()) == (2 if kind == "folder" else 4, 0, 0)
    assert [note for note in plan.notes if "gone" in note] == []


def test_images_known_by_their_content_that_are_gone_since_are_no_error(tmp_path: Path) -> None:
    """Their rows ask for what they asked for; one of which no clip was made is a problem."""
    pictures = write_pictures(tmp_path / "images", 4)
    (tmp_path / "m.csv").write_text("\n".join(["uri", *map(str, pictures)]))
    config = config_for(tmp_path / "m.csv", tmp_path / "out", "columns.identity=content")
    commit(config, run_plan(config), frozenset({str(pictures[3])}))
    before = pictures[1].read_bytes()
    pictures[1].write_bytes(pictures[2].read_bytes() + b"x")
    commit(config, run_plan(config))  # of another content since
    for picture in pictures:
        picture.unlink()
    plan = run_plan(config)
    assert (plan.already_there, plan.to_do, plan.problems.counts.total()) == (3, 1, 1)
    assert work_rows(plan)[0]["image_uri"] == str(pictures[3])
    pictures[1].write_bytes(before)
    assert run_plan(config).already_there == 3
    slower = ("columns.identity=content", "generation.fps=6")
    other = run_plan(config_for(tmp_path / "m.csv", tmp_path / "out", *slower))
    assert (other.to_do, other.spoilt) == (4, 1)


def test_shards_plan_the_same_with_and_without_what_is_kept(grown: Config, tmp_path: Path, opened: list[str]) -> None:
    write_rows(tmp_path / "m", "3.parquet", range(7, 15))
    for shard in ("1/3", "2/3", "3/3"):
        config = config_for(tmp_path / "m", tmp_path / "out", f"run.shard={shard}")
        opened.clear()
        assert told(run_plan(config)) == without_caches(config)
        assert opened[:2] == ["0.parquet", "3.parquet"]


def test_caches_change_no_plan(tmp_path: Path, opened: list[str]) -> None:
    """Files, rows, failures, videos and parts come and go by chance."""
    chance = random.Random(11)
    folder, out = tmp_path / "m", tmp_path / "out"
    write_rows(folder, "00.parquet", range(3), fps=[7, 7, 7])
    config = config_for(folder, out, "video.codec=av1")
    skipped = 0
    for number in range(40):
        retry = Retry() if chance.random() < 0.25 else None
        expected = without_caches(config, retry)
        opened.clear()
        plan = run_plan(config, retry)
        skipped += len(list(folder.iterdir())) - len(opened)
        assert told(plan) == expected, number
        if plan.to_do and chance.random() < 0.7:
            commit(config, plan, frozenset(f"/images/{row}.jpg" for row in range(60) if chance.random() < 0.2))
        _change(folder, out, chance)
    assert skipped > 40


def _change(folder: Path, out: Path, chance: random.Random) -> None:
    videos = sorted(out.glob("data/*/*.mp4"))
    match chance.randrange(6):
        case 0 | 1:
            start, count = chance.randrange(50), chance.randrange(1, 4)
            rates: list[object] = [chance.choice([7, 8, 500, -1]) for _ in range(count)]
            write_rows(folder, f"{chance.randrange(12):02d}.parquet", range(start, start + count), fps=rates)
        case 2 if len(files := sorted(folder.iterdir())) > 1:
            chance.choice(files).unlink()
        case 3 if videos:
            chance.choice(videos).unlink()
        case 4 if videos:
            metadata = chance.choice(videos).with_name("metadata.parquet")
            pq.write_table(pq.read_table(metadata).slice(1), metadata)


def test_a_folder_of_images_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / "images/a", 2)
    write_pictures(tmp_path / "images/b", 2)
    listed: list[str] = []
    real = Storage._call

    def noting(storage: Storage, done: str, uri: str, operation: Callable[[Any, str], Any]) -> Any:
        if done == "listed":
            listed.append(uri)
        return real(storage, done, uri, operation)

    monkeypatch.setattr(Storage, "_call", noting)
    assert run_plan(config_for(tmp_path / "images", tmp_path / "out")).wanted == 4
    assert [listed.count(str(tmp_path / f"images/{name}")) for name in "ab"] == [1, 1]
