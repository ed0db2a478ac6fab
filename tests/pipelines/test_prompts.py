"""Prompts: the configuration's, a row's own, and those that are made of a row's columns."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import ConfigError, ManifestError
from pipelines.config import Config, load_config
from pipelines.job import Job
from pipelines.manifest.templates import problem_of
from tests.actors.test_hosting import checkpoint


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "model", "WanImageToVideoPipeline")


def config_for(folder: Path, model: Path, manifest: Path, *overrides: str) -> Config:
    settings = [f"manifest={manifest}", f"output={folder}/out", f"model.source={model}", "generator=diffusers"]
    return load_config([], [*settings, *overrides])


def planned(config: Config) -> list[dict[str, Any]]:
    """The rows of the plan's work files."""
    plan = Job.to_run(config).plan(None, with_work=True)
    rows = [row for file in plan.work for row in pq.read_table(file.uri).to_pylist()]
    return sorted(rows, key=lambda row: str(row["image_uri"]))


def table(folder: Path, **columns: list[Any] | pa.Array) -> Path:
    path = folder / "manifest.parquet"
    uris = [f"{folder}/{row}.png" for row in range(len(next(iter(columns.values()))))]
    pq.write_table(pa.table({"image_uri": uris, **columns}), path)
    return path


def test_a_template_takes_the_rows_own_columns(model: Path, tmp_path: Path) -> None:
    manifest = table(tmp_path, caption=["a cat", "ein Hünd 🐕"], n=[1, 2], score=[0.5, 1.0])
    rows = planned(config_for(tmp_path, model, manifest, "generation.prompt='{caption} no. {n} ({score}), {{slowly}}'"))
    assert [row["prompt"] for row in rows] == ["a cat no. 1 (0.5), {slowly}", "ein Hünd 🐕 no. 2 (1), {slowly}"]
    assert {row["caption"] for row in rows} == {"a cat", "ein Hünd 🐕"}  # which travels on as well


def test_a_rows_own_prompt_goes_before_the_template(model: Path, tmp_path: Path) -> None:
    manifest = table(
        tmp_path,
        caption=["a cat", "a dog", ""],
        prompt=[None, "it {jumps}", "it runs"],
        negative_prompt=["", "x", None],
    )
    rows = planned(
        config_for(
            tmp_path, model, manifest, "generation.prompt='{caption} turns'", "generation.negative_prompt=blurry"
        )
    )
    assert [row["prompt"] for row in rows] == ["a cat turns", "it {jumps}", "it runs"]
    assert [row["negative_prompt"] for row in rows] == ["blurry", "x", "blurry"]
    assert not any(row["problem"] for row in rows)  # the last takes no template


def test_an_empty_value_is_a_failure_of_that_row(model: Path, tmp_path: Path) -> None:
    manifest = table(tmp_path, caption=["a cat", " ", None])
    rows = planned(config_for(tmp_path, model, manifest, "generation.prompt='{caption} turns'"))
    assert [row["problem"] for row in rows] == [
        "",
        f"{manifest}, row 2: prompt: a column that it names is empty (caption)",
        f"{manifest}, row 3: prompt: a column that it names is empty (caption)",
    ]


def test_variants_are_templates_too(model: Path, tmp_path: Path) -> None:
    manifest = table(tmp_path, caption=["a cat", "a dog"])
    rows = planned(
        config_for(tmp_path, model, manifest, "variants=[{prompt: ['{caption} turns', '{caption} runs', 'rain']}]")
    )
    assert {row["prompt"] for row in rows} == {"a cat turns", "a cat runs", "a dog turns", "a dog runs", "rain"}
    assert len({row["clip_id"] for row in rows}) == 6


def test_the_prompt_is_part_of_the_clip_id_and_not_how_it_came_about(model: Path, tmp_path: Path) -> None:
    manifest = table(tmp_path, caption=["a cat"])
    (one,) = planned(config_for(tmp_path, model, manifest, "generation.prompt='{caption} turns'"))
    (same,) = planned(config_for(tmp_path, model, manifest, "generation.prompt='a cat turns'"))
    (other,) = planned(config_for(tmp_path, model, manifest, "generation.prompt='a cat'"))
    assert one["clip_id"] == same["clip_id"] != other["clip_id"]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (
            "{captoin} turns",
            r"generation\.prompt names \{captoin\}, and .* has no such column; did you mean \{caption\}\?",
        ),
        ("{caption} {kinds}", r"generation\.prompt names \{kinds\}, which holds no texts or numbers: it is list"),
    ],
)
def test_a_column_that_is_not_there_is_an_error_when_planning(
    prompt: str, words: str, model: Path, tmp_path: Path
) -> None:
    manifest = table(tmp_path, caption=["a cat"], kinds=[["x"]])
    with pytest.raises(ManifestError, match=words):
        planned(config_for(tmp_path, model, manifest, f"generation.prompt='{prompt}'"))


def test_a_list_of_pictures_has_no_columns(model: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.png\n")
    with pytest.raises(ManifestError, match=r"names \{caption\}, and .*list\.txt has no such column"):
        planned(config_for(tmp_path, model, tmp_path / "list.txt", "generation.prompt='{caption} turns'"))


@pytest.mark.parametrize("text", ["{", "{caption", "a } b", "{}", "{caption!r}", "{caption:>3}", "{caption:{n}}"])
def test_braces_that_make_no_template_are_a_mistake_of_the_configuration(
    text: str, model: Path, tmp_path: Path
) -> None:
    assert problem_of(text)
    (tmp_path / "c.yaml").write_text(f"generation: {{prompt: '{text}'}}\ngenerator: diffusers\n")
    settings = [f"manifest={tmp_path}/m.csv", f"output={tmp_path}/out", f"model.source={model}"]
    with pytest.raises(ConfigError, match=r"generation\.prompt: (is no template|braces hold the name)"):
        load_config([str(tmp_path / "c.yaml")], settings)


def test_a_column_that_is_not_kept_can_be_named(model: Path, tmp_path: Path) -> None:
    manifest = table(tmp_path, caption=["a cat"], other=[1])
    (row,) = planned(
        config_for(tmp_path, model, manifest, "generation.prompt='{caption} turns'", "columns.passthrough=[other]")
    )
    assert row["prompt"] == "a cat turns"
    assert "caption" not in row


def test_files_that_lack_a_column_fail_their_rows_alone(model: Path, tmp_path: Path) -> None:
    lines = [f'{{"image_uri": "{tmp_path}/a.png", "caption": "a cat"}}', f'{{"image_uri": "{tmp_path}/b.png"}}']
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    rows = planned(config_for(tmp_path, model, tmp_path / "m.jsonl", "generation.prompt='{caption} turns'"))
    assert [bool(row["problem"]) for row in rows] == [False, True]


def test_a_prompt_of_a_book_is_refused_and_a_files_facts_are_those_of_its_templates(
    model: Path, tmp_path: Path
) -> None:
    manifest = table(tmp_path, caption=["a cat", "x" * 20_000])
    config = config_for(tmp_path, model, manifest, "generation.prompt='{caption} turns'")
    assert "at most 10000 characters" in planned(config)[1]["problem"]
    again = planned(config_for(tmp_path, model, manifest, "generation.prompt='{caption} runs'"))
    assert again[0]["prompt"] == "a cat runs"  # and not what an earlier plan has kept of the same file


def test_numbers_of_a_csv_file_and_its_empty_cells(model: Path, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"image_uri,caption,prompt,guidance_scale\n{tmp_path}/a.png,cat,,3.5\n")
    (row,) = planned(config_for(tmp_path, model, tmp_path / "m.csv", "generation.prompt='{caption} {guidance_scale}'"))
    assert (row["prompt"], row["guidance_scale"]) == ("cat 3.5", 3.5)


def test_a_template_may_be_made_of_the_column_of_its_own_name(model: Path, tmp_path: Path) -> None:
    manifest = table(tmp_path, prompt=["a dog", ""])
    rows = planned(config_for(tmp_path, model, manifest, "generation.prompt={prompt}, at night"))
    assert rows[0]["prompt"] == "a dog, at night"
    assert rows[1]["problem"].endswith("prompt: a column that it names is empty (prompt)")
    table(tmp_path, prompt=["a dog"])
    both = planned(
        config_for(tmp_path, model, manifest, "variants=[{prompt: ['{prompt}, at night', '{prompt}, at dawn']}]")
    )
    assert {row["prompt"] for row in both} == {"a dog, at night", "a dog, at dawn"}


def test_logins_and_signatures_of_a_url_come_into_no_prompt(model: Path, tmp_path: Path) -> None:
    uri = "https://user:word@example.com/a.png?X-Amz-Signature=abcdef"
    pq.write_table(pa.table({"image_uri": [uri]}), tmp_path / "m.parquet")
    settings = ("generation.prompt=from {image_uri}", "storage.schemes=[https]")
    (row,) = planned(config_for(tmp_path, model, tmp_path / "m.parquet", *settings))
    assert row["prompt"] == "from https://example.com/a.png"


def test_a_template_that_no_clip_takes_fails_none(model: Path, tmp_path: Path) -> None:
    manifest = table(tmp_path, caption=["", "a cat"])
    settings = ("generation.prompt={caption}", "variants=[{prompt: [rain, snow]}]")
    rows = planned(config_for(tmp_path, model, manifest, *settings))
    assert [row["problem"] for row in rows] == [""] * 4


@pytest.mark.parametrize("text", ["{caption}, slowly", "a cat: slow pan", "yes", "2024", "[a]", "it's", '"quoted"'])
def test_a_prompt_on_the_command_line_is_a_text_whatever_it_looks_like(text: str, model: Path, tmp_path: Path) -> None:
    config = config_for(tmp_path, model, tmp_path / "m.csv", f"generation.prompt={text}")
    assert config.generation.model_dump()["prompt"] == text.strip('"')
    none = config_for(tmp_path, model, tmp_path / "m.csv", "generation.negative_prompt=null")
    assert none.generation.model_dump()["negative_prompt"] is None
