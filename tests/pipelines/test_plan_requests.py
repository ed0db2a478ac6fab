"""How many requests a plan asks of a store, counted by a proxy before a real one."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.storage import Storage
from pipelines.config import Config
from pipelines.dataset.commit import Committer
from pipelines.dataset.layout import Layout
from pipelines.job import Job
from pipelines.planning import planner
from pipelines.planning.planner import Plan
from tests.faulty_proxy import FaultyProxy, faulty_proxy
from tests.pipelines.test_plan import CLIP_SCHEMA, REVISIONS, config_for, fake_ending
from tests.servers import LISTING_PAGE, S3Server

pytestmark = pytest.mark.slow

PARTS, CLIPS = 8, 9  # with its records a part has 10 files: half a page of the listing, as of 1,000 on S3


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def storage(s3_server: S3Server, proxy: FaultyProxy) -> Storage:
    """By the proxy."""
    return Storage({"s3": s3_server.options(client_kwargs={"endpoint_url": proxy.endpoint})})


def config_of(bucket: str) -> Config:
    return config_for(f"{bucket}/manifest", f"{bucket}/out")  # type: ignore[arg-type]


def job_of(bucket: str, storage: Storage) -> Job:
    return Job(config_of(bucket), storage, Layout(f"{bucket}/out"), REVISIONS, "r")


def write_rows(bucket: str, storage: Storage, number: int, rows: range) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"image_uri": [f"{bucket}/images/{row}.jpg" for row in rows]}), sink)
    storage.put_bytes(f"{bucket}/manifest/{number:02d}.parquet", sink.getvalue().to_pybytes())


def commit(plan: Plan, layout: Layout, storage: Storage) -> None:
    committer = Committer(layout, storage, CLIP_SCHEMA, plan.extras, plan.rows_per_part, lambda: None)
    committer.begin(plan.work)
    for file in plan.work:
        for row in pq.read_table(pa.BufferReader(storage.read_bytes(file.uri))).to_pylist():
            committer.add(fake_ending(row))
            storage.put_bytes(layout.video(row["part"], f"{row['clip_id']}.mp4"), b"video")
    committer.flush()


def asked(proxy: FaultyProxy, job: Job) -> tuple[Plan, int]:
    """A plan that writes nothing, and its requests."""
    before = proxy.counts.total()
    plan = job.plan(None, with_work=False)
    return plan, proxy.counts.total() - before


def test_a_plan_asks_at_most_twice_a_part_and_half_as_often_with_an_index(
    s3_bucket: str, s3_storage: Storage, storage: Storage, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "PART_CLIPS", CLIPS)
    assert LISTING_PAGE == 2 * (CLIPS + 1)
    write_rows(s3_bucket, s3_storage, 0, range(PARTS * CLIPS))
    direct, job = job_of(s3_bucket, s3_storage), job_of(s3_bucket, storage)
    commit(direct.plan(None, with_work=True), direct.layout, s3_storage)
    plan, cold = asked(proxy, job)
    assert (plan.already_there, plan.to_do) == (PARTS * CLIPS, 0)
    direct.plan(None, with_work=True)
    plan, warm = asked(proxy, job)
    assert (plan.already_there, plan.to_do) == (PARTS * CLIPS, 0)
    # Listing the data takes half a request a part, reading its records one. What comes once, whatever the number of
    # parts: listing its folders, failures and index, reading the index, of the manifest its folder and first file, and
    # whether it is one of three kinds of table.
    assert cold <= 1.5 * PARTS + 17
    assert warm <= 0.5 * PARTS + 21
    gone = next(iter(s3_storage.walk(direct.layout.part(3))))
    s3_storage.remove(gone)
    plan, once_more = asked(proxy, job)
    assert (plan.lost, plan.to_do) == (1, 1)
    # That part's records and its names once more, the manifest's file; and, as there is something to do, the last eight
    # parts and the runs, for the estimate.
    assert once_more <= warm + 2 + 4 + 9


def test_a_manifest_of_many_files_is_listed_once_and_none_is_asked_for(
    s3_bucket: str, s3_storage: Storage, storage: Storage, proxy: FaultyProxy
) -> None:
    files = 10
    for number in range(files):
        write_rows(s3_bucket, s3_storage, number, range(number, number + 1))
    direct, job = job_of(s3_bucket, s3_storage), job_of(s3_bucket, storage)
    commit(direct.plan(None, with_work=True), direct.layout, s3_storage)
    direct.plan(None, with_work=True)
    plan, known = asked(proxy, job)
    assert plan.already_there == files
    assert known < 23
    write_rows(s3_bucket, s3_storage, files, range(files, files + 1))
    plan, more = asked(proxy, job)
    assert (plan.already_there, plan.to_do) == (files, 1)
    assert more <= known + 8  # of the new file; and of earlier runs, for the estimate


def test_images_of_a_prefix_are_listed_once(
    s3_bucket: str, s3_storage: Storage, storage: Storage, proxy: FaultyProxy, tmp_path: Path
) -> None:
    images = 3 * LISTING_PAGE
    for number in range(images):
        s3_storage.put_bytes(f"{s3_bucket}/images/{number}.jpg", b"x")
    config = config_for(f"{s3_bucket}/images", tmp_path / "out")  # type: ignore[arg-type]
    job = Job(config, storage, Layout(config.output), REVISIONS, "r")
    plan, requests = asked(proxy, job)
    assert plan.wanted == images
    assert requests <= images // LISTING_PAGE + 8  # whether it is a folder, a dataset, or a table
