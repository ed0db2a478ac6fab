"""Images in the manifest itself: planned without a look at them, and read from where they are, once."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from actors.contracts import Failed, Loaded, Place
from actors.embedded import EmbeddedImages
from actors.errors import ImageError, ManifestError
from actors.generators.svd.generator import SvdGenerator
from actors.records import work_schema
from actors.runner.actor import run_task
from actors.runner.feed import feed, groups
from actors.runner.packing import unpack
from actors.settings import ImageSettings
from actors.stages.load import Load
from actors.storage import Storage
from actors.tries.guard import Guard
from actors.tries.ledger import LocalLedger
from pipelines.config import load_config
from pipelines.dataset.layout import Layout
from pipelines.planning.holdings import read_holdings
from pipelines.planning.planner import Plan, make_plan
from tests.faulty_proxy import FaultyProxy, faulty_proxy
from tests.servers import S3Server

LOCAL = Storage()
FOUR_VARIANTS = "variants=[{seed: [1, 2, 3, 4]}]"
HUGGING_FACE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(number: int, size: int = 100) -> bytes:
    """A PNG of noise, of about `3 * size ** 2` bytes."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 255, (size, size, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def table_of(pictures: Sequence[bytes | None], **columns: list[Any]) -> pa.Table:
    structs = [None if data is None else {"bytes": data, "path": "0.png"} for data in pictures]
    return pa.table({"image": pa.array(structs, HUGGING_FACE), **columns})


def plan_of(manifest: str, folder: Path, *overrides: str, storage: Storage = LOCAL) -> Plan:
    config = load_config([], [f"manifest={manifest}", f"output={folder}/out", "model.source=none", *overrides])
    layout = Layout(config.output)
    return make_plan(config, storage, read_holdings(layout, LOCAL), ("rev", ""), run=layout.run("r"))


def work_rows(plan: Plan) -> list[dict[str, Any]]:
    return [row for file in plan.work for row in pq.read_table(file.uri).to_pylist()]


def fed(plan: Plan, storage: Storage = LOCAL) -> Iterator[dict[str, list[str]]]:
    """The groups of a plan's rows, as Ray Data gets them."""
    return feed({"uri": [file.uri for file in plan.work]}, columns=work_schema(SvdGenerator).names, storage=storage)


def loaded(plan: Plan, storage: Storage = LOCAL) -> list[Loaded | Failed]:
    """All rows of a plan through `feed` and `Load`, as Ray Data calls them."""
    guard = Guard(LocalLedger(max_deaths=3))
    make = partial(Load, ImageSettings(width=96, height=64), storage)
    batches = chain.from_iterable(run_task(group, make=make, guard=guard) for group in fed(plan, storage))
    items = [item for batch in batches for item in unpack(batch, Loaded)]
    return [item for item in items if isinstance(item, Loaded | Failed)]


@pytest.fixture
def counted(s3_server: S3Server) -> Any:
    """The store behind a proxy that counts, and access to it."""
    with faulty_proxy(s3_server.endpoint) as proxy:
        yield proxy, Storage({"s3": replace(s3_server, endpoint=proxy.endpoint).options()})


@pytest.mark.parametrize("row_group", [8, 64])
def test_a_store_is_read_once_and_nothing_is_copied(
    row_group: int, tmp_path: Path, s3_bucket: str, counted: tuple[FaultyProxy, Storage]
) -> None:
    proxy, storage = counted
    table = table_of(
        [picture(number, 150) for number in range(64)], label=[f"a picture, number {n}" for n in range(64)]
    )
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=row_group)
    size = (tmp_path / "m.parquet").stat().st_size
    storage.put_file(f"{s3_bucket}/m.parquet", tmp_path / "m.parquet")

    proxy.bytes_answered = 0
    plan = plan_of(f"{s3_bucket}/m.parquet", tmp_path, FOUR_VARIANTS, storage=storage)
    assert plan.to_do == 256
    assert proxy.bytes_answered < 0.05 * size
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file()) < 0.02 * size

    proxy.bytes_answered = 0
    rows = loaded(plan, storage)
    assert 0.95 * size < proxy.bytes_answered <= 1.2 * size
    assert sorted(item.row.clip_id for item in rows) == sorted(row["clip_id"] for row in work_rows(plan))
    assert {type(item) for item in rows} == {Loaded}
    assert len({item.row.columns["image_sha256"] for item in rows}) == 64


def test_one_row_group_is_one_task_and_its_variants_come_together(tmp_path: Path) -> None:
    pq.write_table(table_of([picture(number) for number in range(6)]), tmp_path / "m.parquet", row_group_size=3)
    plan = plan_of(f"{tmp_path}/m.parquet", tmp_path, FOUR_VARIANTS)
    found = list(groups(iter(work_rows(plan))))
    assert [[row["image_row"] for row in group] for group in found] == [[0] * 4 + [1] * 4 + [2] * 4] * 2
    assert [{row["image_group"] for row in group} for group in found] == [{0}, {1}]


def test_images_with_a_uri_of_their_own_are_loaded_by_eights() -> None:
    rows = [{"image_file": None, "n": number} for number in range(20)]
    assert [len(group) for group in groups(iter(rows))] == [8, 8, 4]
    assert [row for group in groups(iter(rows)) for row in group] == rows


def test_of_a_web_server_a_whole_file_is_one_group() -> None:
    rows = [{"image_file": "https://h/m.parquet", "image_column": "image", "image_group": n // 3} for n in range(9)]
    assert [len(group) for group in groups(iter(rows))] == [9]


def test_a_row_without_an_image_falls_back_to_its_path_where_that_may_be_fetched(tmp_path: Path) -> None:
    (tmp_path / "side.png").write_bytes(picture(9))
    structs = [
        {"bytes": picture(0), "path": "side.png"},
        {"bytes": None, "path": "side.png"},
        {"bytes": b"", "path": None},
        {"bytes": None, "path": "s3://elsewhere/0.png"},
        None,
    ]
    pq.write_table(pa.table({"image": pa.array(structs, HUGGING_FACE)}), tmp_path / "m.parquet")
    rows = loaded(plan_of(f"{tmp_path}/m.parquet", tmp_path))
    first, second, *others = rows
    assert [item.row.image_uri for item in (first, second)] == [f"{tmp_path}/m.parquet#row=1", f"{tmp_path}/side.png"]
    assert [item.row.columns["image_width"] for item in (first, second)] == [100, 100]
    assert first.row.columns["image_sha256"] != second.row.columns["image_sha256"]
    assert [item.error for item in others if isinstance(item, Failed)] == [
        f"there is no image in row {number} of row group 1 in {tmp_path}/m.parquet, and no URI that may be fetched"
        for number in (3, 4, 5)
    ]


@pytest.mark.parametrize(
    ("overrides", "num_images"),
    [
        ([], 4),  # a file's rows, whatever it calls its images
        (["columns.identity=content"], 3),
        (["columns.identity=asset"], 2),
        (["columns.uri_column=asset", "columns.bytes_column=image"], 2),
    ],
)
def test_identity_decides_which_rows_are_one_image(overrides: list[str], num_images: int, tmp_path: Path) -> None:
    pictures = [picture(0), picture(1), picture(0), picture(2)]
    pq.write_table(table_of(pictures, asset=["x", "y", "y", "x"]), tmp_path / "m.parquet")
    plan = plan_of(f"{tmp_path}/m.parquet", tmp_path, *overrides)
    assert (plan.images, plan.to_do, plan.duplicates) == (4, num_images, 4 - num_images)


def test_content_is_the_identity_of_images_elsewhere_too(tmp_path: Path) -> None:
    for name, number in (("a.png", 0), ("b.png", 1), ("c.png", 0)):
        (tmp_path / name).write_bytes(picture(number))
    (tmp_path / "m.txt").write_text("a.png\nb.png\nc.png\nnone.png\n")
    plan = plan_of(f"{tmp_path}/m.txt", tmp_path, "columns.identity=content")
    assert (plan.to_do, plan.duplicates) == (3, 1)
    said = [row["problem"] for row in work_rows(plan) if row["problem"]]
    assert said == [f"{tmp_path}/m.txt, row 4: the image cannot be read: {tmp_path}/none.png does not exist"]
    pq.write_table(table_of([picture(1)]), tmp_path / "n.parquet")
    embedded = plan_of(f"{tmp_path}/n.parquet", tmp_path / "other", "columns.identity=content")
    assert work_rows(embedded)[0]["clip_id"] == work_rows(plan)[1]["clip_id"]


def test_an_identity_is_there_for_each_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"uri": ["/a.jpg", "/b.jpg"], "n": [1, None], "x": [0.5, 1]}), tmp_path / "m.parquet")
    plan = plan_of(f"{tmp_path}/m.parquet", tmp_path, "columns.identity=n")
    assert [row["problem"] for row in work_rows(plan)] == ["", f"{tmp_path}/m.parquet, row 2: no identity: n is empty"]
    with pytest.raises(ManifestError, match=r"columns.identity is x, which must be text or whole numbers"):
        plan_of(f"{tmp_path}/m.parquet", tmp_path, "columns.identity=x")
    with pytest.raises(ManifestError, match=r"columns.identity is m, but there is no such column"):
        plan_of(f"{tmp_path}/m.parquet", tmp_path, "columns.identity=m")
    (tmp_path / "m.txt").write_text("/a.jpg\n")
    with pytest.raises(ManifestError, match=r"columns.identity is n, but a manifest of text has no columns"):
        plan_of(f"{tmp_path}/m.txt", tmp_path, "columns.identity=n")


def damaged(path: Path) -> None:
    """Where a page of the second row group begins."""
    data = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data[start : start + 10] = b"\xff" * 10
    path.write_bytes(data)


def shortened(path: Path) -> None:
    """By its second row group."""
    pq.write_table(pq.ParquetFile(path).read_row_group(0), path)


@pytest.mark.parametrize(("spoil", "said"), [(damaged, "is damaged"), (shortened, "has changed since it was planned")])
def test_what_happens_to_a_row_group_stays_with_its_rows(
    spoil: Callable[[Path], None], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(table_of([picture(number) for number in range(60)]), path, row_group_size=20)
    plan = plan_of(str(path), tmp_path)
    spoil(path)
    opened: list[str] = []
    open_exact = Storage.open_exact

    def noting(self: Storage, uri: str) -> io.RawIOBase | io.BufferedReader:
        opened.append(uri)
        return open_exact(self, uri)

    monkeypatch.setattr(Storage, "open_exact", noting)
    rows = loaded(plan)
    failed = [item for item in rows if isinstance(item, Failed)]
    assert {item.error_type for item in failed} == {"ImageError"}
    assert all(said in item.error for item in failed)
    assert len(rows) - len(failed) == (40 if spoil is damaged else 20)
    assert len(opened) == 3  # not once for each row that cannot be had


def test_an_image_before_the_last_one_is_found_again(tmp_path: Path) -> None:
    pictures = [picture(number, 10) for number in range(5)]
    pq.write_table(pa.table({"jpg": pictures}), tmp_path / "m.parquet")
    images = EmbeddedImages(LOCAL)
    place = Place(f"{tmp_path}/m.parquet", "jpg", 0, 0)
    assert [images.read(replace(place, row=row)) for row in (3, 1, 4, 4, 0)] == [pictures[n] for n in (3, 1, 4, 4, 0)]
    with pytest.raises(ImageError, match="has changed since it was planned"):
        images.read(replace(place, row=5))
    assert images.read(place) == pictures[0]


def test_a_group_travels_as_lines_of_json(tmp_path: Path) -> None:
    plan = plan_of(str(write_list(tmp_path, 9)), tmp_path)
    first, second = fed(plan)
    assert [len(group["rows"][0].split("\n")) for group in (first, second)] == [8, 1]
    assert json.loads(second["rows"][0])["image_uri"] == "/images/8.jpg"


def write_list(folder: Path, count: int) -> Path:
    (folder / "m.txt").write_text("".join(f"/images/{number}.jpg\n" for number in range(count)))
    return folder / "m.txt"
