"""What a run will take: the arithmetic, and what it is read from."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.generators import GENERATORS
from actors.records import clip_schema
from actors.storage import Storage
from pipelines.config import Config, load_config
from pipelines.dataset.layout import Layout
from pipelines.dataset.speeds import History, PastRun, Seconds
from pipelines.money.estimate import estimated, estimated_or_unknown, span
from pipelines.money.history import read_history, settings_of
from pipelines.planning.planner import Plan
from pipelines.pools import Pools
from tests.clusters import Head
from tests.jobs import in_process, write_null_config, write_pictures

STORAGE = Storage()
H100 = "NVIDIA H100 80GB HBM3"
FOUR_GPUS = Pools(4, 1.0, 1, 0.0)


@pytest.fixture(scope="module", autouse=True)
def svd_xt(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What an estimate reads of SVD-XT."""
    folder = tmp_path_factory.mktemp("svd-xt")
    unet = {"block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2}
    (folder / "unet").mkdir()
    (folder / "unet/config.json").write_text(json.dumps(unet))
    CHECKPOINT.append(folder)


CHECKPOINT: list[Path] = []


def config_of(*overrides: str) -> Config:
    """SVD-XT as it was measured, and two settings more."""
    source = f"model.source={CHECKPOINT[-1]}"
    return load_config(
        ["conf/svd_xt.yaml"], ["manifest=m.csv", "output=out", source, "model.revision=null", *overrides]
    )


def null_config(*overrides: str) -> Config:
    settings = ["generation.num_frames=25", "image.width=1024", "image.height=576", *overrides]
    return load_config(["conf/null.yaml"], ["manifest=m.csv", "output=out", *settings])


def plan_of(clips: int, *seconds: Seconds, runs: list[PastRun] | None = None) -> Plan:
    return Plan(to_do=clips, history=History(list(seconds), runs or []))


def past(made: int, elapsed_s: float, making_s: float, actors: int = 1, **steps: float) -> PastRun:
    return PastRun(
        settings="s",
        made=made,
        elapsed_s=elapsed_s,
        making_s=making_s,
        actors={"generate": actors, "finish": 1},
        gpu_types={},
        mean_stage_s=steps or {"generate_s": 0.01, "encode_s": 0.02},
    )


def test_of_the_datasets_own_clips() -> None:
    config = config_of("cost.gpu_hour=2", "cost.gpu_hours={H100: 3}")
    plan = plan_of(3600, Seconds(10.0, 1.0, 4096, H100), Seconds(20.0, 1.0, 7, "NVIDIA L4"))
    told = estimated(plan, config, FOUR_GPUS, {"H100": 4.0})
    assert (told.time_s, told.gpus, told.gpu_hours, told.cost) == (9000.0, 4.0, 10.0, 30.0)
    assert told.lines() == {
        "estimate": f"from 4,096 clips of this dataset ({H100}): 10.00 s a clip to generate, 1.00 s to finish",
        "would take": "2.5 hours on 4 GPUs, without the start: no run of these settings yet",
        "GPU-hours, estimated": "10.00",
        "cost, estimated": "30.00 USD, 8.33 per 1,000 clips",
    }
    on_l4 = estimated(plan, config, FOUR_GPUS, {"L4": 4.0})
    assert (on_l4.time_s, on_l4.cost) == (18_000.0, 40.0)
    here = estimated(plan, config)  # no cluster is known: one GPU, of the kind that made most
    assert (here.on, here.time_s, here.cost) == ("1 GPU", 36_000.0, 30.0)


def test_rows_that_the_manifest_spoils_take_no_time() -> None:
    plan = plan_of(100, Seconds(10.0, 1.0, 5, H100))
    plan.spoilt = 90
    assert estimated(plan, config_of(), FOUR_GPUS, {}).time_s == 25.0


@pytest.mark.parametrize(
    ("types", "overrides", "seconds"),
    [
        ({"H100": 4.0}, (), 9.5),
        ({"H200": 4.0}, (), 9.03),
        ({"H100": 2.0, "H200": 2.0}, (), 2 / (1 / 9.5 + 1 / 9.03)),
        ({"H100": 4.0}, ("generation.num_inference_steps=50",), 50 * 0.354 + 0.65),
        ({"H100": 4.0}, ("generation.num_frames=50",), 19.0),
        ({"H100": 4.0}, ("image.width=512", "image.height=288"), 9.5 / 4),
        ({"H100": 4.0}, ("generation.max_guidance_scale=1",), 25 * 0.354 / 2 + 0.65),
        (None, ("cost.gpu_hours={H200: 3}",), 9.03),
        (None, (), 9.5),
    ],
)
def test_of_a_measured_table(types: dict[str, float] | None, overrides: tuple[str, ...], seconds: float) -> None:
    told = estimated(plan_of(10), config_of(*overrides), FOUR_GPUS if types else None, types)
    assert told.seconds is not None
    assert told.seconds.generate_s == pytest.approx(seconds)
    assert told.source.startswith("from a measured table: H")


def test_gpus_that_only_finish_have_a_price_and_no_say() -> None:
    config = config_of("cost.gpu_hours={H100: 3, T4: 1}")
    told = estimated(plan_of(3600), config, Pools(1, 1.0, 1, 1.0), {"H100": 1.0, "T4": 1.0}, {"H100": 1.0})
    assert told.source == "from a measured table: H100"
    assert told.gpu_hours is not None
    assert told.cost == pytest.approx(told.gpu_hours * 2)


def test_of_a_table_with_interpolation(rife_weights: Path) -> None:
    config = config_of(f"interpolation.weights={rife_weights}", "interpolation.factor=3")
    told = estimated(plan_of(10), config, Pools(1, 0.5, 1, 0.5), {"H100": 1.0})
    assert told.seconds is not None
    assert told.seconds.finish_s == pytest.approx((73 - 25) / 543 * 2)


@pytest.mark.parametrize(
    ("types", "overrides"),
    [
        ({"L4": 4.0}, ()),
        ({}, ()),  # of no known type
        ({"H100": 2.0, "L4": 2.0}, ()),
        ({"H100": 4.0}, ("model.precision=fp32",)),
        ({"H100": 4.0}, ("model.tier=fast",)),
        ({"H100": 4.0}, ("model.memory=sequential",)),
        ({"H100": 4.0}, ("model.source=checkpoints/svd-demo",)),
        ({"H100": 4.0}, ("model.source=nowhere/at-all.safetensors",)),
        (None, ("workers.generate.num_gpus=0", "workers.finish.num_gpus=0")),
    ],
)
def test_what_nobody_has_measured_is_unknown(types: dict[str, float] | None, overrides: tuple[str, ...]) -> None:
    told = estimated(plan_of(10), config_of(*overrides), None if types is None else FOUR_GPUS, types)
    assert told.lines() == {"estimate": "unknown: no clip of these settings yet"}
    assert (told.gpu_hours, told.cost) == (None, None)


def test_of_earlier_runs_on_as_many_actors() -> None:
    seconds = Seconds(0.01, 0.02, 300, "cpu")
    waited_for_machines = past(101, 40_010.0, 10.0)
    runs = [waited_for_machines, past(101, 20.0, 10.0), past(201, 31.0, 20.0)]
    told = estimated(plan_of(1000, seconds, runs=runs), null_config())
    assert told.time_s == pytest.approx(11 + 1000 * 40 / 400)
    assert told.lacks == ""
    assert told.lines()["would take"] == "111 s on 1 actor to generate and 1 actor to finish"


def test_of_runs_on_other_numbers_of_actors() -> None:
    slow = {"generate_s": 10.0, "encode_s": 0.1}
    seconds = Seconds(10.0, 0.1, 300, H100)
    busy = past(101, 1300.0, 1050.0, 1, **slow)  # which waited for the generator: 10.5 s from clip to clip
    told = estimated(plan_of(100, seconds, runs=[busy]), config_of(), Pools(4, 1.0, 1, 0.0), {})
    assert told.time_s == pytest.approx(250 + 100 * 10.5 / 4)
    starved = past(101, 2300.0, 2000.0, 1, **slow)  # which waited for something else, such as images
    told = estimated(plan_of(100, seconds, runs=[starved]), config_of(), Pools(4, 1.0, 1, 0.0), {})
    assert told.time_s == pytest.approx(300 + 100 * 20)


def test_of_runs_on_other_numbers_of_gpus_of_the_same_types() -> None:
    seconds = Seconds(10.0, 0.1, 300, H100)
    busy = past(101, 1300.0, 1050.0, 1, generate_s=10.0, encode_s=0.1)
    on = [busy.model_copy(update={"gpu_types": types}) for types in ({"H100": 1.0}, {"H100": 1.0, "L4": 1.0})]
    told = estimated(plan_of(100, seconds, runs=on), config_of(), FOUR_GPUS, {"H100": 4.0})
    assert told.lacks == ""
    assert told.time_s == pytest.approx(250 + 100 * 10.5 / 4)
    on_l4 = estimated(plan_of(100, seconds, runs=on), config_of(), FOUR_GPUS, {"L4": 4.0})
    assert on_l4.time_s is None


def test_no_estimate_ends_a_run(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("pipelines.money.estimate._pace", lambda *_: 1 / 0)
    plan = plan_of(10, Seconds(10.0, 1.0, 5, H100))
    told = estimated_or_unknown(plan, config_of(), FOUR_GPUS, {"H100": 4.0}, {"H100": 4.0})
    assert told.lines() == {"estimate": "unknown: the estimate failed"}
    assert caplog.messages == ["what this run takes is not known: the estimate failed (ZeroDivisionError)"]


@pytest.mark.parametrize(
    ("cost", "note"),
    [
        ("{}", ""),
        ("{H100: 2, L4: 1}", ""),
        (
            "{L4: 1}",
            "no cost is told: cost.gpu_hours has no price for H100, which this cluster has; add it there, or set",
        ),
        ("{H10: 1}", "has no price for H100, which this cluster has: H100 is meant by H10?"),
    ],
)
def test_prices_that_leave_out_a_gpu_of_the_cluster_are_told(cost: str, note: str) -> None:
    told = estimated(plan_of(10), config_of(f"cost.gpu_hours={cost}"), FOUR_GPUS, {"H100": 4.0})
    assert note in told.note
    assert bool(note) == bool(told.note)
    with_usual = estimated(plan_of(1), config_of(f"cost.gpu_hours={cost}", "cost.gpu_hour=1"), FOUR_GPUS, {"H100": 4.0})
    assert bool(with_usual.note) == ("H10:" in cost)


def test_a_missing_price_is_told_where_no_clip_is_known_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = ("cost.gpu_hours={H100: 2.5}", "generation.num_frames=3")
    told = estimated(plan_of(10), config_of(*cost), FOUR_GPUS, {"UNHEARD": 4.0})
    assert told.seconds is None
    assert told.note.startswith("no cost is told: cost.gpu_hours has no price for UNHEARD, which this cluster has; add")

    def fail(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr("pipelines.money.estimate.estimated", fail)
    assert estimated_or_unknown(plan_of(10), config_of(*cost), FOUR_GPUS, {"UNHEARD": 4.0}, {}).note == told.note


def test_lengths_of_time() -> None:
    assert [span(seconds) for seconds in (0.4, 119, 600, 9000, 400_000)] == [
        "0 s", "119 s", "10.0 minutes", "2.5 hours", "4.6 days",
    ]  # fmt: skip


def write_part(layout: Layout, number: int, *rows: dict[str, Any]) -> None:
    schema = clip_schema(GENERATORS["null"])
    usual: dict[str, Any] = {
        "generator": "null", "model_revision": "", "generated_frames": 25, "codec": "h264", "interpolation_factor": 1.0,
        "width": 1024, "height": 576, "device": "cpu", "generate_s": 1.0, "finish_s": 2.0,
        "created_at": datetime.now(UTC),
    }  # fmt: skip
    path = Path(layout.metadata(number))
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([usual | row for row in rows], schema=schema), path)


def write_summary(layout: Layout, run_id: str, **values: Any) -> None:
    usual = past(11, 30.0, 20.0).model_dump() | {"status": "done"}
    STORAGE.put_bytes(layout.run(run_id).summary, json.dumps(usual | values).encode())


def test_it_reads_rows_of_the_same_settings_alone(tmp_path: Path) -> None:
    layout, config = Layout(str(tmp_path)), null_config()
    others: list[dict[str, Any]] = [
        {"generated_frames": 26}, {"codec": "h265"}, {"width": 512}, {"interpolation_factor": 2.0},
        {"model_revision": "other"}, {"generate_s": None},
    ]  # fmt: skip
    write_part(layout, 0, *({"generate_s": 99.0} | other for other in others))
    write_part(layout, 1, {}, {"width": 576, "height": 1024, "generate_s": 3.0}, {"device": H100})
    (tmp_path / "data/part-00002").mkdir()
    (tmp_path / "data/part-00003").mkdir()
    (tmp_path / "data/part-00003/metadata.parquet").write_bytes(b"damaged")
    assert read_history(config, layout, STORAGE, ("", "")).clips == [
        Seconds(2.0, 2.0, 2, "cpu"),
        Seconds(1.0, 2.0, 1, H100),
    ]


def test_it_reads_the_last_few_parts_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, config = Layout(str(tmp_path)), null_config()
    settings = settings_of(config, ("", ""))
    for number in range(20):
        write_part(layout, number, {"generate_s": float(number)})
        write_summary(layout, f"2026{number:04d}", settings=settings, elapsed_s=100.0 + number)
    write_summary(layout, "20270001", settings="other")
    write_summary(layout, "20270002", settings=settings, made=1)  # of one clip there is no pace
    STORAGE.put_bytes(layout.run("20270003").summary, b'{"run_id": "of an older version"}')
    STORAGE.put_bytes(layout.run("20270004").config, b"under way")
    read: list[str] = []
    plainly = Storage.read_bytes

    def counted(self: Storage, uri: str, max_bytes: int | None = None) -> bytes:
        read.append(uri)
        return plainly(self, uri, max_bytes)

    monkeypatch.setattr(Storage, "read_bytes", counted)
    history = read_history(config, layout, STORAGE, ("", ""))
    assert history.clips == [Seconds(sum(range(12, 20)) / 8, 2.0, 8, "cpu")]
    assert [run.elapsed_s for run in history.runs] == [119.0, 118.0, 117.0, 116.0]
    assert len(read) == 16


@pytest.mark.parametrize(
    "values",
    [
        {"actors": {"generate": 0, "finish": 1}},
        {"actors": {"generate": -1, "finish": 1}},
        {"elapsed_s": float("nan")},
        {"making_s": float("inf")},
        {"mean_stage_s": {"generate_s": -1.0}},
    ],
)
def test_a_summary_of_other_hands_is_passed_over(tmp_path: Path, values: dict[str, Any]) -> None:
    layout, config = Layout(str(tmp_path)), null_config()
    write_summary(layout, "1", settings=settings_of(config, ("", "")))
    write_summary(layout, "2", settings=settings_of(config, ("", "")), **values)
    assert len(read_history(config, layout, STORAGE, ("", "")).runs) == 1


@pytest.mark.parametrize(
    "columns",
    [
        {"generated_frames": ["x"]},
        {"generated_frames": [[25]]},
        {"width": ["1024"], "height": [None]},
        {"device": [1], "generate_s": ["long"], "finish_s": [2.0]},
        {"device": ["cpu"], "generate_s": [{"a": 1}], "finish_s": [2.0]},
    ],
)
def test_a_part_with_columns_of_other_types_is_passed_over(tmp_path: Path, columns: dict[str, list[Any]]) -> None:
    layout = Layout(str(tmp_path))
    write_part(layout, 0, {})
    path = Path(layout.metadata(1))
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(columns), path)
    assert read_history(null_config(), layout, STORAGE, ("", "")).clips == [Seconds(1.0, 2.0, 1, "cpu")]


def test_an_empty_dataset_has_no_history(tmp_path: Path) -> None:
    assert read_history(null_config(), Layout(str(tmp_path / "none")), STORAGE, ("", "")) == History()


def test_what_changes_no_speed_is_the_same_setting() -> None:
    def of(*overrides: str) -> str:
        return settings_of(config_of(*overrides), ("r", ""))

    same = ("model.cache_dir=/tmp/c", "generation.seed=3", "run.flush_s=3", "workers.generate.actors=7")
    assert {of(one) for one in same} == {of()}
    other = ("model.compile=false", "generation.num_frames=14", "video.preset=slow", "workers.generate.num_gpus=0.5")
    assert len({of(one) for one in (*other, *same)}) == 5


@pytest.mark.slow
def test_a_second_run_is_estimated_from_the_first(head: Head, tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 16)
    config = write_null_config(tmp_path / "job.yaml", tmp_path / "pictures", tmp_path / "out")
    arguments = ["--config", config, f"ray.address={head.address}"]
    assert "unknown: no clip of these settings yet" in in_process("plan", *arguments).stdout
    assert in_process("run", *arguments, "columns.limit=8").returncode == 0
    assert "from 8 clips of this dataset (cpu): 0.0" in in_process("plan", *arguments).stdout
    done = in_process("run", *arguments, "run.profile=1")
    assert "from 8 clips of this dataset (cpu): 0.0" in done.stdout
    assert "this generator uses no PyTorch" in next((tmp_path / "out").rglob("warnings.log")).read_text()
    summaries = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").rglob("summary.json"))]
    assert [summary["estimated_s"] is None for summary in summaries] == [True, False]
    assert summaries[1]["actors"] == {"generate": 1, "finish": 1}
    assert summaries[1]["estimated_s"] == pytest.approx(summaries[1]["elapsed_s"], rel=2)
