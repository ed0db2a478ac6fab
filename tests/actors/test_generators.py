"""Generators: what one class of parameters gives the whole job, text included; and the one that has no model."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import Field

from actors.contracts import Generated, Loaded, Made, Pixels, Row
from actors.errors import ConfigError
from actors.generators import GENERATORS
from actors.generators.base import Animation, Generator, ModelSection
from actors.generators.null import NullGenerator, NullParameters
from actors.generators.parameters import SAME_FOR_ALL, Parameters
from actors.records import clip_schema, work_schema
from actors.runner.contract import ContractError
from actors.settings import ImageSettings
from actors.stages.generate import Generate
from actors.storage import Storage
from pipelines.config import Config, load_config
from pipelines.dataset.commit import Committer
from pipelines.dataset.layout import Layout
from pipelines.dataset.work import WorkFile
from pipelines.planning.holdings import read_holdings
from pipelines.planning.planner import Plan, make_plan


class PromptedParameters(Parameters):
    """What a model of words would have."""

    num_steps: int = Field(4, ge=1, json_schema_extra=SAME_FOR_ALL)
    prompt: str = Field("", max_length=20)
    style: Literal["photo", "paint"] = Field("photo")
    is_loop: bool = Field(False)
    strength: float = Field(0.5, ge=0, le=1)


class PromptedGenerator(Generator[ModelSection, PromptedParameters]):
    """As many frames as the prompt has letters."""

    name = "prompted"
    Parameters: ClassVar[type[PromptedParameters]] = PromptedParameters
    Model: ClassVar[type[ModelSection]] = ModelSection

    def __init__(self, model: ModelSection, parameters: PromptedParameters, storage: Storage) -> None:
        self.num_steps = parameters.num_steps

    def animate(self, image_HWC: Pixels, parameters: PromptedParameters) -> Animation:
        return Animation(np.stack([image_HWC] * len(parameters.prompt)))


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GENERATORS, PromptedGenerator.name, PromptedGenerator)


def config_for(folder: Path, *overrides: str) -> Config:
    paths = [f"manifest={folder}/m.parquet", f"output={folder}/out"]
    return load_config([], [*paths, "generator=prompted", *overrides])


def plan_of(folder: Path, *overrides: str, **columns: list[Any]) -> tuple[Plan, list[dict[str, Any]]]:
    size = len(next(iter(columns.values()))) if columns else 1
    images = [f"/images/{number}.jpg" for number in range(size)]
    pq.write_table(pa.table({"image_uri": images, **columns}), folder / "m.parquet")
    config, layout = config_for(folder, *overrides), Layout(f"{folder}/out")
    plan = make_plan(config, Storage(), read_holdings(layout, Storage()), ("", ""), run=layout.run("r"))
    return plan, [row for file in plan.work for row in pq.read_table(file.uri).to_pylist()]


def test_one_class_gives_the_columns_of_rows_and_records() -> None:
    assert PromptedParameters.varying() == ["seed", "fps", "prompt", "style", "is_loop", "strength"]
    types = {field.name: str(field.type) for field in work_schema(PromptedGenerator)}
    assert (types["prompt"], types["style"], types["is_loop"], types["strength"]) == (
        "string",
        "string",
        "bool",
        "double",
    )
    assert {"prompt", "style", "is_loop", "strength", "num_steps"} <= set(clip_schema(PromptedGenerator).names)


def test_rows_override_parameters_within_their_ranges(tmp_path: Path) -> None:
    plan, rows = plan_of(
        tmp_path,
        "generation.prompt=a tree",
        prompt=["a boat", None, "x" * 21, "a\0b"],
        style=["paint", None, "photo", "etching"],
        strength=[0.25, None, 0.5, 2.0],
        is_loop=["true", None, "0", "maybe"],
    )
    assert [row["prompt"] for row in rows] == ["a boat", "a tree", "a tree", "a\0b"]
    assert [row["style"] for row in rows] == ["paint", "photo", "photo", "photo"]
    assert [row["strength"] for row in rows] == [0.25, 0.5, 0.5, 0.5]
    assert [row["is_loop"] for row in rows] == [True, False, False, False]
    assert [row["problem"] for row in rows[:2]] == ["", ""]
    assert "prompt: string should have at most 20 characters" in rows[2]["problem"]
    for said in ("style: input should be 'photo' or 'paint'", "strength must be a number from 0 to 1", "must be bool"):
        assert said in rows[3]["problem"]
    assert plan.notes == ["columns of the manifest override the configuration: prompt, style, is_loop, strength"]


class WideParameters(Parameters):
    """With a name that `generate` has already."""

    width: int = 3


class WideGenerator(NullGenerator):
    """As `null`."""

    name = "wide"
    Parameters: ClassVar[type[Any]] = WideParameters


def test_a_parameter_cannot_have_the_name_of_a_stages_column() -> None:
    with pytest.raises(ContractError, match="generator wide: a stage gives a column width; rename the parameter"):
        clip_schema(WideGenerator)


def test_a_parameter_of_one_generator_is_a_column_like_any_other_for_the_others(tmp_path: Path) -> None:
    plan, rows = plan_of(tmp_path, "generator=null", prompt=["a boat"], seed=[3])
    assert plan.extras.names == ["prompt"]
    assert (rows[0]["prompt"], rows[0]["seed"]) == ("a boat", 3)


def test_every_parameter_is_part_of_the_id(tmp_path: Path) -> None:
    changes = ("num_frames=3", "num_steps=5", "fps=8", "seed=1", "prompt=a", "style=paint", "is_loop=true")
    ids = [plan_of(tmp_path, *change)[1][0]["clip_id"] for change in [(), *([f"generation.{c}"] for c in changes)]]
    ids.append(plan_of(tmp_path, "generation.strength=0.75")[1][0]["clip_id"])
    ids.append(plan_of(tmp_path, "generator=null")[1][0]["clip_id"])
    assert len(set(ids)) == len(changes) + 3


def test_text_may_vary(tmp_path: Path) -> None:
    _, rows = plan_of(tmp_path, "variants=[{prompt: [a boat, a tree], style: [photo, paint]}]")
    assert sorted((row["prompt"], row["style"]) for row in rows) == [
        ("a boat", "paint"),
        ("a boat", "photo"),
        ("a tree", "paint"),
        ("a tree", "photo"),
    ]
    with pytest.raises(ConfigError, match="style: input should be 'photo' or 'paint'"):
        config_for(tmp_path, "variants=[{style: etching}]")
    with pytest.raises(ConfigError, match="num_steps cannot vary; one of seed, fps, prompt"):
        config_for(tmp_path, "variants=[{num_steps: [1, 2]}]")


def test_a_dataset_is_of_one_generator(tmp_path: Path) -> None:
    _, (work,) = plan_of(tmp_path)
    schema = clip_schema(PromptedGenerator)
    layout, extras = Layout(f"{tmp_path}/out"), pa.schema([])
    committer = Committer(layout, Storage(), schema, extras, {0: 1}, lambda: None)
    committer.begin([WorkFile(layout.run("r").work_file(0), 1)])
    row = Row(work["clip_id"], 0, 0, "/images/0.jpg", {})
    columns = dict.fromkeys(set(schema.names) - {"clip_id", "image_uri"})
    committer.add(Made(row.with_columns(**columns | {"generator": "prompted", "file_name": "a.mp4"})))
    Storage().put_bytes(layout.video(0, "a.mp4"), b"video")
    committer.flush()
    assert plan_of(tmp_path)[0].already_there == 1
    with pytest.raises(ConfigError, match=r"made by prompted.* than those of null: .*or set generator=prompted"):
        plan_of(tmp_path, "generator=null")


def test_a_generator_that_is_none_is_named_with_those_that_are() -> None:
    with pytest.raises(
        ConfigError, match=r"there is no such generator; did you mean 'null'\?; one of svd, diffusers, null"
    ):
        load_config([], ["manifest=m.csv", "output=out", "model.source=m", "generator=nul"])


def test_a_parameter_that_no_column_can_hold_is_a_bug_that_is_found_at_once() -> None:
    class Listed(Parameters):
        names: list[str]

    with pytest.raises(TypeError, match=r"Listed\.names must be a bool, int, float, str or a Literal of strings"):
        Listed.columns()


def test_each_clip_is_made_with_its_own_parameters() -> None:
    parameters = PromptedParameters(num_steps=7)
    image = ImageSettings(width=16, height=8)
    generate = Generate(PromptedGenerator, ModelSection(), parameters, "", image, Storage())
    picture = np.zeros((8, 16, 3), np.uint8)
    for prompt in ("abc", "abcdef"):
        made = generate(Loaded(Row("a", 0, 0, "a.png", {"prompt": prompt}), picture))
        assert isinstance(made, Generated)
        assert made.frames_FHWC.shape[0] == len(prompt)
        assert made.row.columns["generator"] == "prompted"


def test_the_generator_without_a_model_moves_the_picture_by_a_pixel_a_frame() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
    parameters = NullParameters(num_frames=8)
    frames_FHWC = NullGenerator(ModelSection(), parameters, Storage()).animate(picture, parameters).frames_FHWC
    np.testing.assert_array_equal(frames_FHWC[0], picture)
    np.testing.assert_array_equal(frames_FHWC[1][:, 1:], picture[:, :-1])
    np.testing.assert_array_equal(frames_FHWC[6], picture)  # once round
    assert frames_FHWC.shape == (8, 4, 6, 3)
