"""Sources that grow, each written with the tool that people use: the next day's plan is what is new, and no more."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import fsspec
import lance
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from actors.storage import Storage
from pipelines.config import load_config
from pipelines.dataset.layout import Layout
from pipelines.planning.holdings import read_holdings
from pipelines.planning.planner import make_plan
from tests.clusters import Head
from tests.hub_datasets import hub
from tests.jobs import in_process, write_null_config, write_pictures
from tests.pipelines.test_embedded_images import picture
from tests.pipelines.test_plan import commit
from tests.pipelines.test_tars import tar_of

LOCAL = Storage()


def day(manifest: object, folder: Path, *overrides: str, storage: Storage = LOCAL) -> tuple[int, int]:
    """A run that makes all it plans: how many clips it made, and how many of those wanted were there already."""
    config = load_config([], [f"manifest={manifest}", f"output={folder}/out", "model.source=none", *overrides])
    layout = Layout(config.output)
    runs = len(list((folder / "out").glob("_runs/*")))
    plan = make_plan(config, storage, read_holdings(layout, LOCAL), ("rev", ""), run=layout.run(f"r{runs}"))
    commit(config, plan)
    assert not plan.problems.counts
    return plan.to_do, plan.already_there


def days(
    manifest: object, folder: Path, appends: Sequence[Callable[[], object]], storage: Storage = LOCAL
) -> list[int]:
    """What each day made, the first before anything was appended; what is there is never made again."""
    made = [day(manifest, folder, storage=storage)[0]]
    for append in appends:
        append()
        new, there = day(manifest, folder, storage=storage)
        assert there <= sum(made)
        made.append(new)
    return made


def test_a_folder_that_fills_up(tmp_path: Path) -> None:
    """Images of a day each, in new folders and old ones; some are cleared away again, which is no error."""
    photos = tmp_path / "photos"

    def put(*names: str) -> None:
        for name in names:
            (photos / name).parent.mkdir(parents=True, exist_ok=True)
            (photos / name).write_bytes(b"x")

    put("day1/a.jpg", "day1/b.jpg")
    appends = [
        lambda: put("day2/a.jpg", "day1/aa.jpg"),
        (photos / "day1/a.jpg").unlink,
        lambda: put("c.png"),
    ]
    assert days(photos, tmp_path, appends) == [2, 2, 0, 1]


def test_a_bucket_prefix_that_fills_up(tmp_path: Path, s3_bucket: str, s3_storage: Storage) -> None:
    """More than a page of a listing; keys that come before those that were there, and after."""

    def put(*names: str) -> None:
        for name in names:
            s3_storage.put_bytes(f"{s3_bucket}/photos/{name}", b"x")

    put(*(f"m/{number:02d}.jpg" for number in range(25)))
    appends = [
        lambda: put("a/0.jpg", "z/0.jpg", "m/07b.jpg"),
        lambda: s3_storage.remove(f"{s3_bucket}/photos/m/03.jpg"),
        lambda: put("z/1.jpg"),
    ]
    assert days(f"{s3_bucket}/photos/", tmp_path, appends, s3_storage) == [25, 3, 0, 1]


def test_shards_of_webdataset_that_are_added(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()

    def write(first: int, count: int) -> None:
        with webdataset.ShardWriter(f"{shards}/%05d.tar", maxcount=2, start_shard=first // 2, verbose=0) as writer:
            for number in range(first, first + count):
                writer.write({"__key__": f"{number:06d}", "png": picture(number, 4), "txt": f"caption {number}"})

    write(0, 4)
    appends = [lambda: write(4, 3), (shards / "00000.tar").unlink, lambda: write(8, 1)]
    assert days(shards, tmp_path, appends) == [4, 3, 0, 1]


def test_what_img2dataset_adds(tmp_path: Path) -> None:
    """Its incremental mode writes the shards that are missing: tar, list and statistics under one number."""
    output = tmp_path / "laion"

    def shard(number: int, count: int) -> None:
        keys = [f"{number:05d}{row:04d}" for row in range(count)]
        members = [
            (f"{key}.{what}", data)
            for key in keys
            for what, data in (
                ("jpg", picture(int(key), 4)),
                ("json", json.dumps({"key": key, "status": "success"}).encode()),
                ("txt", b"a cat"),
            )
        ]
        tar_of(output / f"{number:05d}.tar", members)
        pq.write_table(
            pa.table({"key": keys, "url": keys, "status": ["success"] * count}), output / f"{number:05d}.parquet"
        )
        (output / f"{number:05d}_stats.json").write_text(json.dumps({"count": count, "successes": count}))

    output.mkdir()
    shard(0, 3)
    shard(1, 2)
    assert days(output, tmp_path, [lambda: shard(2, 4), lambda: None, lambda: shard(3, 1)]) == [5, 4, 0, 1]


def test_a_dataset_of_the_hub_that_gets_new_files(tmp_path: Path) -> None:
    """Images in Parquet, as `datasets` pushes them; the commit after it has a file more."""
    served = tmp_path / "hub"
    (served / "data").mkdir(parents=True)

    def push(number: int, count: int) -> None:
        images = [{"bytes": picture(10 * number + row, 4), "path": f"{number}-{row}.png"} for row in range(count)]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        pq.write_table(pa.table({"image": pa.array(images, kind)}), served / f"data/train-{number:05d}.parquet")

        fsspec.get_filesystem_class("hf").clear_instance_cache()  # the next day is another process

    push(0, 3)
    with hub(served, "org/name") as server:
        storage = Storage({"hf": {"endpoint": server.endpoint}})
        made = days("hf://datasets/org/name/data", tmp_path, [lambda: push(1, 2), lambda: push(2, 4)], storage)
    assert made == [3, 2, 4]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_runs_of_two_days_over_a_table_with_images(tmp_path: Path, head: Head) -> None:
    """The command line, workers and all: the second day makes what was appended to a Lance table of images."""
    table = tmp_path / "t.lance"
    photos = [path.read_bytes() for path in write_pictures(tmp_path / "photos", 5)]

    def append(first: int, count: int) -> None:
        data = {"image": photos[first : first + count], "asset": [f"photo {n}" for n in range(first, first + count)]}
        lance.write_dataset(pa.table(data), table, mode="append" if table.exists() else "create")

    config = write_null_config(tmp_path / "job.yaml", table, tmp_path / "out", columns={"identity": "asset"})
    for first, count in ((0, 3), (3, 2)):
        append(first, count)
        lance.dataset(table).optimize.compact_files()  # which moves every image
        done = in_process("run", "--config", config, f"ray.address={head.address}")
        assert done.returncode == 0, done.stdout + done.stderr
    clips = pq.read_table(tmp_path / "out/data/part-00000/metadata.parquet").to_pylist()
    assert sorted(clip["asset"] for clip in clips) == [f"photo {number}" for number in range(5)]
    assert len(list((tmp_path / "out").rglob("*.mp4"))) == 5
