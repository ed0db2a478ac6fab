"""Licences in a job: which column of a manifest has them, what is planned and recorded, and the card."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import ConfigError
from actors.generators.null import NullGenerator
from actors.licences.licence import MAX_CHARACTERS, Licence
from actors.records import clip_schema
from actors.storage import Storage
from benchmarks.damages.dataset import make_dataset
from pipelines.config import Config, load_config
from pipelines.dataset import card
from pipelines.dataset.card_licences import MOST, Licences, section, with_section
from pipelines.dataset.layout import Layout
from pipelines.job import Job
from pipelines.manifest.licences import licences
from pipelines.manifest.reader import ManifestReader
from pipelines.planning.holdings import read_holdings
from pipelines.run import plan_only
from pipelines.upkeep.extending import extend_before_run
from pipelines.upkeep.moving import Mover
from pipelines.upkeep.schemas import Columns
from tests.jobs import ROOT, write_pictures
from tests.pipelines.test_golden import made_without_ray
from tests.pipelines.test_manifest import read, refusal, rows, write

STORAGE = Storage()
RESERVED = tuple(clip_schema(NullGenerator).names)
WAN = Licence("apache-2.0", "a table", "nothing is claimed", "https://x.y/wan")


def licences_of(reader: ManifestReader) -> list[str | None]:
    found: list[str | None] = rows(reader)["image_license"].to_pylist()
    return found


@pytest.mark.parametrize(
    "name",
    ["license", "License", "LICENCE", "image_license", "imageLicence", "license_name", "license-type", "license url"],
)
def test_the_column_is_found_by_its_name(name: str, tmp_path: Path) -> None:
    reader = read(write(tmp_path / "m.csv", f"uri,{name}\n/a.png, CC BY  4.0 \n/b.png,\n"), reserved=RESERVED)
    assert licences_of(reader) == ["CC BY 4.0", None]
    if name == "image_license":
        assert (reader.extras.names, reader.notes) == ([], [])
    else:
        assert [kept.removeprefix("source_") for kept in reader.extras.names] == [name]
        assert f"column {name} of the manifest has the images' licences" in reader.notes[-1]


def test_of_several_the_first_name_counts_or_the_one_that_is_set(tmp_path: Path) -> None:
    columns = {"uri": ["/a.png"], "license_url": ["https://x.y"], "license": ["cc0"], "rights": ["mine"]}
    manifest = write(tmp_path / "m.parquet", columns)
    assert licences_of(read(manifest)) == ["cc0"]
    reader = read(manifest, license_column="rights")
    assert licences_of(reader) == ["mine"]
    assert reader.extras.names == ["license_url", "license", "rights"]
    assert reader.notes == []
    assert read(manifest, passthrough=["rights"]).extras.names == ["rights"]
    assert "image_license" not in read(write(tmp_path / "n.parquet", {"uri": ["/a.png"]})).schema.names


def test_what_cannot_be_the_column_is_refused_where_it_is_named(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.parquet", {"uri": ["/a.png"], "license": [["cc0"]], "n": [0.5]})
    reader = read(manifest)  # lists stay what they were: a column like any other
    assert (reader.extras.names, "image_license" in reader.schema.names) == (["license", "n"], False)
    assert refusal(manifest, license_column="n").endswith("is n, which must be text or whole numbers: it is double")
    assert "columns.license_column is licens, but there is no such column (perhaps license)" in refusal(
        manifest, license_column="licens"
    )
    assert refusal(write(tmp_path / "m.txt", "/a.png\n"), license_column="license").endswith("has no such column")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a\n\tb", "\x1b[31mred", "  ", ""], ["a b", r"\x1b[31mred", None, None]),
        (["w" * 10_000, "https://x.y/l?sig=secret"], ["w" * (MAX_CHARACTERS - 3) + "...", "https://x.y/l"]),
        (pa.array(["cc0", None, "cc0"]).dictionary_encode(), ["cc0", None, "cc0"]),
        (pa.array(["cc0"], pa.large_string()), ["cc0"]),
        (pa.array([3, None]), ["3", None]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_values_become_one_line_of_text(values: Any, expected: list[str | None], tmp_path: Path) -> None:
    names = [f"/{number}.png" for number in range(len(values))]
    manifest = write(tmp_path / "m.parquet", {"uri": names, "license": values})
    reader = read(manifest, passthrough=["uri"])
    assert licences_of(reader) == expected
    assert reader.problems.counts.total() == 0


def test_text_that_is_none_is_replaced() -> None:
    damaged = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff"))
    assert licences(damaged).to_pylist() == ["a\ufffd"]


def test_parts_may_lack_it_or_have_another_type(tmp_path: Path) -> None:
    columns: list[dict[str, list[Any]]] = [{"license": ["cc0"]}, {}, {"license": [1.5]}, {"license": [7]}]
    for number, column in enumerate(columns):
        write(tmp_path / f"m/{number}.parquet", {"uri": [f"/{number}.png"], "caption": ["x"], **column})
    assert licences_of(read(tmp_path / "m", passthrough=["caption"])) == ["cc0", None, None, "7"]


def test_folders_may_be_called_after_licences(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos/license=cc0", 1)
    write_pictures(tmp_path / "photos/license=by%2Fsa", 1)
    reader = read(tmp_path / "photos")
    assert sorted(filter(None, licences_of(reader))) == ["by/sa", "cc0"]
    assert reader.extras.names == ["license"]


def config_of(folder: Path, *overrides: str) -> Config:
    """Of a job without a model, whose manifest gives one of two images a licence."""
    pictures = write_pictures(folder / "images", 2)
    lines = [{"uri": str(pictures[0]), "license": "CC0"}, {"uri": str(pictures[1]), "license": None}]
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    paths = [f"manifest={folder}/m.jsonl", f"output={folder}/out", "generation.num_frames=2", "image.width=64"]
    return load_config([str(ROOT / "conf/null.yaml")], [*paths, "image.height=32", *overrides])


def test_without_a_model_there_is_no_licence_of_it(tmp_path: Path) -> None:
    records = made_without_ray(config_of(tmp_path))
    assert {(record["image_license"], record["model_license"]) for record in records} == {("CC0", ""), (None, "")}
    assert {name for record in records for name in record} >= set(clip_schema(NullGenerator).names) - {"created_at"}
    plan = plan_only(config_of(tmp_path), None)
    assert [note for note in plan.notes if "licence of the model" in note] == []
    assert plan.image_licences == ["CC0", None]
    with pytest.raises(ConfigError, match=r"model\.license.*no such setting"):
        config_of(tmp_path, "model.license=mit")


def of_svd(folder: Path, checkpoint: Path, *overrides: str) -> Config:
    pictures = write_pictures(folder / "images", 1)
    settings = [f"manifest={pictures[0]}", f"output={folder}/out", f"model.source={checkpoint}", *overrides]
    return load_config([str(ROOT / "conf/demo.yaml")], settings)


def test_the_licence_is_settled_once_said_by_the_plan_and_saved_with_the_run(
    svd_checkpoint: Path, tmp_path: Path
) -> None:
    job = Job.of(of_svd(tmp_path, svd_checkpoint))
    assert job.config.model.licence_name == "unknown"
    plan = plan_only(of_svd(tmp_path, svd_checkpoint), None)
    assert plan.notes[0] == (
        "licence of the model: unknown (no README.md in its folder tells); find it, read it before you publish the "
        "clips or train on them, and set model.license"
    )
    demo = Job.of(of_svd(tmp_path, ROOT / "checkpoints/svd-demo"))
    assert demo.config.model.licence_name == demo.config.model.model_dump()["license"] == "apache-2.0"
    bought = Job.of(of_svd(tmp_path, svd_checkpoint, "model.license='bought in 2026'"))
    assert bought.licence is not None
    assert bought.licence.note == (
        "licence of the model: bought in 2026 (as model.license says); read it before you publish the clips or train "
        "on them"
    )
    assert bought.revisions == job.revisions
    assert bought.config.model.identifying() == job.config.model.identifying()
    for wrong in ("''", "x" * 300, "5"):
        with pytest.raises(ConfigError, match=r"model\.license"):
            of_svd(tmp_path, svd_checkpoint, f"model.license={wrong}")


def test_a_dataset_of_the_last_version_gets_the_columns(tmp_path: Path) -> None:
    make_dataset(tmp_path / "out")
    layout = Layout(str(tmp_path / "out"))
    for path in (tmp_path / "out").glob("data/*/metadata.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["model_license", "image_license"]), path)
    older = read_holdings(layout, STORAGE).older
    columns = Columns.of("null", pa.schema([("caption", pa.string())]))
    assert extend_before_run(older, columns, Mover(layout, STORAGE, "r", lambda: None), is_shard=False) == 4
    assert read_holdings(layout, STORAGE).older == []
    for path in (tmp_path / "out").glob("data/*/metadata.parquet"):
        table = pq.read_table(path, columns=["model_license", "image_license"])
        assert table.schema.types == [pa.string()] * 2
        assert {*table["model_license"].to_pylist(), *table["image_license"].to_pylist()} == {None}


def test_what_was_a_column_of_the_manifest_becomes_the_datasets_own(tmp_path: Path) -> None:
    """A manifest and its dataset had `image_license` before there was a column of that name."""
    make_dataset(tmp_path / "out")
    for path in (tmp_path / "out").glob("data/*/metadata.parquet"):
        table = pq.read_table(path).drop_columns(["model_license"])
        place = table.column_names.index("image_license")
        pq.write_table(table.set_column(place, "image_license", pa.array(["old"] * table.num_rows)), path)
    holdings = read_holdings(Layout(str(tmp_path / "out")), STORAGE)
    assert holdings.extras is not None
    assert holdings.extras.names == ["caption"]
    manifest = write(tmp_path / "m.parquet", {"uri": ["/a.png"], "caption": ["a"], "image_license": ["new"]})
    plan = plan_only(config_of(tmp_path, f"manifest={manifest}"), None)
    assert (plan.to_do, plan.extras.names, plan.image_licences) == (1, ["caption"], ["new"])


def test_records_of_a_dataset_are_a_manifest(tmp_path: Path) -> None:
    make_dataset(tmp_path / "clips")
    plan = plan_only(config_of(tmp_path, f"manifest={tmp_path}/clips/data/*/metadata.parquet"), None)
    assert plan.image_licences == ["cc0-1.0"]
    assert "source_model_license" in plan.extras.names
    assert "image_license" not in plan.extras.names
    assert "source_image_license" not in plan.extras.names


def test_each_run_adds_to_the_card_what_is_new_and_nothing_else_changes(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    path = tmp_path / "README.md"
    card.write(layout, STORAGE, Licences("Wan-AI/Wan", WAN, ["cc0", None]))
    first = path.read_text()
    assert (
        "Of the models (column `model_license`):\n\n"
        "- `apache-2.0`, of `Wan-AI/Wan` (a table); nothing is claimed; read it: `https://x.y/wan`\n\n"
        "Of the images, as the manifests have them (column `image_license`):\n\n- `cc0`\n- none is given\n\n"
    ) in first
    assert "no legal advice" in first
    card.write(layout, STORAGE, Licences("Wan-AI/Wan", WAN, ["cc0"]))
    assert path.read_text() == first
    path.write_text(first.replace("# Video clips made from still images", "# Mine") + "\n## Thanks\n")
    card.write(layout, STORAGE, Licences("own", Licence("unknown", "x"), ["by"]))
    added = path.read_text()
    assert added.count("## Licences") == 1
    assert "# Mine" in added
    assert added.endswith("\n## Thanks\n")
    for line in (
        "- `apache-2.0`, of `Wan-AI/Wan`",
        "- `unknown`, of `own` (x)\n",
        "- `cc0`\n- none is given\n- `by`\n",
    ):
        assert line in added


def test_a_card_without_the_section_stays_and_one_of_an_earlier_version_gets_it(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    path = tmp_path / "README.md"
    path.write_text("# All mine\n")
    card.write(layout, STORAGE, Licences("m", WAN))
    assert path.read_text() == "# All mine\n"
    path.write_bytes(b"# \xff\n")
    card.write(layout, STORAGE, Licences("m", WAN))
    assert path.read_bytes() == b"# \xff\n"
    path.write_text("# Clips\n\nThe clips inherit the licences of the images and of the checkpoints that made them.\n")
    card.write(layout, STORAGE, Licences("m", WAN))
    assert path.read_text() == "# Clips\n\n" + section(Licences("m", WAN))


def test_the_card_holds_so_many_and_no_markup_of_others() -> None:
    evil = "`<!-- end of licences -->\n# Free for all"
    names = [evil, *map(str, range(30))]
    made = section(Licences("a`b\n", Licence(evil, "c"), names[: MOST + 1]))
    lines = made.splitlines()
    assert "- `'<!-- end of licences --> # Free for all`" in lines
    assert "- `'<!-- end of licences --> # Free for all`, of `a'b` (c)" in lines
    assert sum(line.startswith("- `") for line in lines) == MOST + 1
    assert lines.count("- and others") == 1
    assert with_section(made, Licences("", None, ["more"])) == made
    assert with_section("a\n" + made + "b", Licences()) == "a\n" + made + "b"


def test_a_card_that_another_run_has_just_changed_is_left_to_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(str(tmp_path))
    card.write(layout, STORAGE)

    before = (tmp_path / "README.md").read_bytes()
    (tmp_path / "README.md").write_bytes(before + b"x")
    monkeypatch.setattr(Storage, "version", lambda *_: "another")
    card.write(layout, STORAGE, Licences("m", WAN))
    assert (tmp_path / "README.md").read_bytes() == before + b"x"
