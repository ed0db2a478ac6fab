"""What surrounds a stage: items in and out of Arrow, the contract, tries; shown with stages of five lines."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from actors.contracts import Failed, Generated, Item, Loaded, Made, Place, Planned, Row, Stage, Unstarted
from actors.generators import GENERATORS
from actors.records import work_schema
from actors.runner.actor import StageInActor, run_task
from actors.runner.contract import ContractError, check_chain
from actors.runner.feed import as_group
from actors.runner.packing import endings, pack, planned, unpack
from actors.runner.runner import Runner
from actors.tries.guard import Guard
from actors.tries.ledger import Answer, LocalLedger

WORK = {
    "clip_id": "ab" * 32,
    "part": 2,
    "attempts": 1,
    "image_uri": "a.png",
    "image_license": None,
    "image_file": "m.parquet",
    "image_column": "image",
    "image_group": 8,
    "image_row": 5,
    "image_fallback": None,
    "problem": "",
    "seed": 1,
}
WORK_SCHEMA = work_schema(GENERATORS["null"])
ROW = Row("ab" * 32, 2, 1, "a.png", {"seed": 1})
FRAMES = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)


class Brightness(Stage[Generated, Generated]):
    name, columns = "score", pa.schema([pa.field("brightness", pa.float64())])

    def __call__(self, clip: Generated) -> Generated:
        return replace(clip, row=clip.row.with_columns(brightness=float(clip.frames_FHWC.mean())))


class Picture(Stage[Planned, Loaded]):
    name = "load"

    def __call__(self, work: Planned) -> Loaded:
        if work.place is None:
            raise OSError("caf\udce9.png is away")
        return Loaded(work.row, np.zeros((work.place.group, work.place.row, 3), np.uint8))


class Still(Stage[Loaded, Generated]):
    name = "generate"

    def __call__(self, image: Loaded) -> Generated:
        return Generated(image.row, np.stack([image.image_HWC] * 2))


class End(Stage[Generated, Made]):
    name = "finish"

    def __call__(self, clip: Generated) -> Made:
        return Made(clip.row.with_columns())


def guard(ledger: LocalLedger | None = None) -> Guard:
    return Guard(ledger or LocalLedger(max_deaths=3))


def as_batch(items: list[Any], kind: type[Item]) -> dict[str, Any]:
    """Items as Ray Data hands several over that were packed one by one."""
    packed = [pack(item, kind) for item in items]
    batch: dict[str, Any] = {}
    for name in packed[0]:
        batch[name] = np.empty(len(items), object)
        batch[name][:] = [column[name][0] for column in packed]
    return batch


def work_group(*changes: dict[str, Any]) -> dict[str, Any]:
    """Rows of a work file as `feed` gives them."""
    rows = [dict.fromkeys(WORK_SCHEMA.names) | WORK | change for change in changes]
    return as_group(pa.Table.from_pylist(rows, WORK_SCHEMA).to_pylist())


def test_a_new_stage_gives_its_column_and_its_seconds() -> None:
    made = Runner(Brightness(), guard())(Generated(ROW, FRAMES))
    assert isinstance(made, Generated)
    assert made.row.columns["brightness"] == FRAMES.mean()
    assert made.row.columns.keys() == {"brightness", "score_s"}
    check_chain([Picture, Still, Brightness, End])


def test_stages_that_do_not_fit_are_refused_before_anything_runs() -> None:
    class Again(Brightness):
        name = "again"

    with pytest.raises(ContractError, match="load gives Loaded, and score after it takes Generated"):
        check_chain([Picture, Brightness])
    with pytest.raises(ContractError, match="both score and again give the column brightness"):
        check_chain([Brightness, Again])


class Nothing(Brightness):
    def __call__(self, clip: Generated) -> Generated:
        return None  # type: ignore[return-value]


class Silent(Brightness):
    def __call__(self, clip: Generated) -> Generated:
        return clip


class Talkative(Brightness):
    def __call__(self, clip: Generated) -> Generated:
        return replace(clip, row=clip.row.with_columns(brightness=1.0, contrast=2.0))


class Stranger(Brightness):
    def __call__(self, clip: Generated) -> Generated:
        return Generated(replace(clip.row, clip_id="cd" * 32).with_columns(brightness=1.0), clip.frames_FHWC)


@pytest.mark.parametrize(
    ("stage", "error"),
    [
        (Nothing, "score gave NoneType, and not one Generated"),
        (Silent, "score did not give the column brightness"),
        (Talkative, "score gave the column contrast, which it does not declare"),
        (Stranger, "score gave another row than it was called with"),
    ],
)
def test_a_stage_that_breaks_its_contract_fails_the_row_and_says_so(stage: type[Brightness], error: str) -> None:
    assert Runner(stage(), guard())(Generated(ROW, FRAMES)) == Failed(ROW, "score", "ContractError", error)


def test_an_item_is_unpacked_as_it_was() -> None:
    text = 'names\nwith "quotes", ü, \udcff and \x00'
    numbers = {"large": 2**63 - 1, "small": 5e-324, "none": None, "numpy": np.int64(7)}
    item = Generated(Row(text, 1, 2, text, {"prompt": text}, numbers), FRAMES)  # type: ignore[arg-type]
    (same,) = unpack(pack(item, Generated), Generated)
    assert same.row == item.row
    assert isinstance(same, Generated)
    np.testing.assert_array_equal(same.frames_FHWC, FRAMES)
    with pytest.raises(ContractError, match="a Loaded was expected, and a Generated came"):
        list(unpack(pack(item, Generated), Loaded))


@pytest.mark.parametrize("item", [Failed(ROW, "load", "ImageError", "zero bytes"), Unstarted(ROW)])
def test_a_row_that_came_to_its_end_passes_every_stage(item: Failed | Unstarted) -> None:
    batch = pack(item, Loaded)
    assert batch["image_HWC"].shape == (1, 0, 0, 3)  # one schema for all rows
    for stage, kind in ((Still, Generated), (End, Made)):
        (batch,) = StageInActor(stage, stage.name, guard())(batch)
        assert list(unpack(batch, kind)) == [item]
    assert list(endings(batch["item"])) == ([item] if isinstance(item, Failed) else [])


def test_a_row_that_the_manifest_spoils_has_failed_before_any_stage() -> None:
    problem = "row 3 of m.csv has no URI"
    assert planned(WORK) == Planned(ROW, Place("m.parquet", "image", 8, 5))
    assert planned(WORK | {"image_file": None}) == Planned(ROW)
    assert planned(WORK | {"image_file": None, "image_fallback": "b.png"}) == Planned(ROW, None, "b.png")
    assert planned(WORK | {"image_license": "cc0"}).image_license == "cc0"  # type: ignore[union-attr] # not Failed
    assert planned(WORK | {"problem": problem}) == Failed(ROW, "manifest", "ManifestError", problem)


def test_a_task_gives_one_row_at_a_time_in_order_and_a_failure_is_its_own() -> None:
    group = work_group({"clip_id": "a"}, {"clip_id": "b", "image_file": None}, {"clip_id": "c", "image_group": 4})
    batches = run_task(group, make=Picture, guard=guard())
    assert isinstance(batches, Iterator)  # the first image need not wait for the others
    items = [item for batch in batches for item in unpack(batch, Loaded)]
    assert [item.row.clip_id for item in items] == ["a", "b", "c"]
    assert [item.image_HWC.shape for item in items if isinstance(item, Loaded)] == [(8, 5, 3), (4, 5, 3)]
    assert isinstance(items[1], Failed)
    assert (items[1].stage, items[1].error) == ("load", "caf\\udce9.png is away")  # text that can be stored


def test_rows_of_a_task_are_begun_with_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = LocalLedger(max_deaths=3)
    group = work_group(*({"clip_id": name} for name in "abc"), {"clip_id": "d", "problem": "no URI"})
    asked: list[list[str]] = []
    together = ledger.begin_together

    def once(keys: list[str], stage: str) -> list[Answer] | None:
        asked.append(keys)
        answers = together(keys, stage)
        monkeypatch.setattr(ledger, "begin", pytest.fail)
        return answers

    monkeypatch.setattr(ledger, "begin_together", once)
    batches = run_task(group, make=Picture, guard=guard(ledger))
    kinds = [type(item) for batch in batches for item in unpack(batch, Loaded)]
    assert kinds == [Loaded, Loaded, Loaded, Failed]
    assert asked == [["a", "b", "c"]]


def test_a_failed_row_goes_round_the_stage_and_its_neighbours_do_not_notice() -> None:
    class Unlucky(Still):
        def __call__(self, image: Loaded) -> Generated:
            if image.row.parameters["seed"] == 13:
                raise RuntimeError("unlucky seed")
            return super().__call__(image)

    row = {seed: replace(ROW, clip_id=str(seed), parameters={"seed": seed}) for seed in (1, 13, 2)}
    items = [Loaded(row[1], FRAMES[0]), Loaded(row[13], FRAMES[0]), Loaded(row[2], FRAMES[0].swapaxes(0, 1))]
    failed = Failed(replace(ROW, clip_id="bad"), "load", "ImageError", "zero bytes")
    stage = StageInActor(Unlucky, "generate", guard())
    made = [item for batch in stage(as_batch([*items, failed], Loaded)) for item in unpack(batch, Generated)]
    assert [item.row.clip_id for item in made] == ["1", "13", "2", "bad"]
    assert [type(item) for item in made] == [Generated, Failed, Generated, Failed]
    assert made[1] == Failed(row[13], "generate", "RuntimeError", "unlucky seed")
    assert [item.frames_FHWC.shape for item in made if isinstance(item, Generated)] == [(2, 4, 5, 3), (2, 5, 4, 3)]


def test_a_whole_batch_is_made_before_its_first_row_is_given_out() -> None:
    """Ray calls the stage one at a time, but runs the generators that it returns at the same time."""
    ledger = LocalLedger(max_deaths=3)
    stage = StageInActor(Still, "generate", guard(ledger))
    batches = stage(as_batch([Loaded(replace(ROW, clip_id=name), FRAMES[0]) for name in "ab"], Loaded))
    assert ledger.in_flight() == ["a", "b"]
    assert [item.row.clip_id for batch in batches for item in unpack(batch, Generated)] == ["a", "b"]


def test_a_row_that_a_run_that_winds_down_does_not_begin_has_no_ending() -> None:
    ledger = LocalLedger(max_deaths=3)
    ledger.wind_down()
    (batch,) = run_task(work_group({}), make=Picture, guard=guard(ledger))
    (item,) = unpack(batch, Loaded)
    assert isinstance(item, Unstarted)
    assert item.row.clip_id == ROW.clip_id
