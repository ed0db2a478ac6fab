"""The dataset's layout, frozen: readers, and datasets that exist, rely on it. Nobody else knows these names."""

import re
from pathlib import Path

from actors.generators import GENERATORS
from actors.records import clip_schema
from actors.storage import Storage
from pipelines.dataset import card
from pipelines.dataset.layout import (
    Layout,
    RunFolder,
    index_file_number,
    lease_number,
    part_of,
    run_name,
    run_of_work_file,
)
from pipelines.dataset.shard import Shard

ROOT = Path(__file__).parents[2]


def test_every_place_is_where_it_always_was() -> None:
    layout = Layout("s3://b/out")
    run = layout.run("20260101T000000Z-abcdef")
    assert [layout.card, layout.metadata(7), layout.video(7, "ab.mp4"), layout.failures_of(123456)] == [
        "s3://b/out/README.md",
        "s3://b/out/data/part-00007/metadata.parquet",
        "s3://b/out/data/part-00007/ab.mp4",
        "s3://b/out/failures/part-123456.parquet",
    ]
    assert [layout.index_file("clips", 2), layout.known_file("ab")] == [
        "s3://b/out/_index/clips-00002.parquet",
        "s3://b/out/_index/sources/ab.parquet",
    ]
    assert layout.orphan("r", layout.video(7, "ab.mp4")) == "s3://b/out/_orphans/r/data/part-00007/ab.mp4"
    assert re.fullmatch(
        r"s3://b/out/_orphans/r/failures/part-00007-dropped-[0-9a-f]{6}\.parquet",
        layout.dropped_rows("r", layout.failures_of(7)),
    )
    assert [
        layout.lease_generation(3),
        run.config,
        run.summary,
        run.log("ray.log"),
        run.work_file(2),
        run.profile("k.txt"),
        layout.lease_generation(3, Shard(3, 16)),
        layout.run(run_name("20260101T000000Z-abcdef", Shard(3, 16))).uri,
    ] == [
        "s3://b/out/_lease/00000003.json",
        "s3://b/out/_runs/20260101T000000Z-abcdef/config.yaml",
        "s3://b/out/_runs/20260101T000000Z-abcdef/summary.json",
        "s3://b/out/_runs/20260101T000000Z-abcdef/ray.log",
        "s3://b/out/_runs/20260101T000000Z-abcdef/rows/work-00002.parquet",
        "s3://b/out/_runs/20260101T000000Z-abcdef/profile/k.txt",
        "s3://b/out/_lease/shard-003-of-016/00000003.json",
        "s3://b/out/_runs/20260101T000000Z-abcdef-shard-003-of-016",
    ]


def test_names_are_read_back() -> None:
    layout = Layout("/out")
    assert [part_of(uri) for uri in (layout.metadata(7), layout.failures_of(123456), layout.part(0))] == [7, 123456, 0]
    assert lease_number(layout.lease_generation(12)) == 12
    assert lease_number("/out/_lease/notes.txt") is None
    names = ("clips-00002.parquet", "clips-2.parquet", "failures-00002.parquet", "clips-00002.parquet.tmp")
    assert [index_file_number("clips", name) for name in names] == [2, None, None, None]
    assert run_of_work_file(layout.run("r").work_file(1)) == RunFolder("/out/_runs/r")
    assert run_of_work_file("/out/_runs/r/other/work-00001.parquet") is None


def test_only_the_layout_puts_paths_of_the_dataset_together() -> None:
    names = re.compile(r"""["'/](_runs|_lease|_index|_orphans|failures|metadata\.parquet|summary\.json|part-)""")
    for path in sorted((ROOT / "pipelines").rglob("*.py")) + sorted((ROOT / "actors").rglob("*.py")):
        code = re.sub(r'"""[\s\S]*?"""|#.*', "", path.read_text())  # docstrings and comments may name them
        found = set(names.findall(code)) if path.name not in ("layout.py", "card.py") else set()
        # `summary.json`, each beat, and `status --json` have a list of failures.
        if path.name in ("report.py", "heartbeat.py", "totals.py"):
            found.discard("failures")
        assert not found, f"{path}: {found}"


def test_the_card_claims_no_interpolation_of_clips_that_have_none(tmp_path: Path) -> None:
    card.write(Layout(str(tmp_path)), Storage())
    said = " ".join((tmp_path / "README.md").read_text().split())
    assert said.count("RIFE model") == 1
    assert "Where the column `interpolation_model` names a RIFE model" in said
    assert "interpolation_model" in clip_schema(GENERATORS["svd"]).names
