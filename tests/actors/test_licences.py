"""What is known of a model's licence, and where from: the settings, the table, a card in a folder or on the Hub."""

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from huggingface_hub import constants

from actors.generators.base import AnyModel, ModelSection
from actors.generators.checkpoints import CheckpointSettings
from actors.generators.svd.settings import SvdModelSettings
from actors.licences.cards import CardLicence, licence_in
from actors.licences.finding import ModelPlace, find_licence
from actors.licences.known import known_licence
from actors.licences.licence import MAX_CHARACTERS, UNKNOWN, Licence, one_line
from actors.storage import Storage
from tests.hub_models import COMMIT, MODEL, Hub

STORAGE = Storage()
CARD = (
    "---\r\ntags:\r\n- video\r\nlicense: other\r\nlicense_name: own-licence\r\nlicense_link: LICENSE.md\r\n---\r\n# A"
)


def found(source: str | Path, **settings: str) -> Licence:
    """As a job of SVD finds it."""
    licence = SvdModelSettings(source=str(source), **settings).licence(STORAGE)
    assert licence is not None
    return licence


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with a model that has a card, an empty cache of it, and waits that take no time."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/README.md").write_text(CARD)
    with Hub(tmp_path / "model").serving() as hub:
        hub.stand_in(tmp_path / "hub", monkeypatch)
        yield hub


@pytest.mark.parametrize(
    ("model", "name", "words"),
    [
        ("stabilityai/stable-video-diffusion-img2vid-xt", "stable-video-diffusion-community", "was not read"),
        ("Wan-AI/Wan2.2-TI2V-5B-Diffusers", "apache-2.0", "claim nothing"),
        ("wan-ai/wan2.1-I2V-14B-480P-Diffusers", "apache-2.0", "claim nothing"),
        ("zai-org/CogVideoX-5b-I2V", "CogVideoX's own licence", "has to register"),
        ("THUDM/CogVideoX-2b", "apache-2.0", ""),
        (
            "hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_i2v",
            "HunyuanVideo-1.5's own licence",
            "any other AI",
        ),
        ("Lightricks/LTX-2", "LTX-2's own licence of 2026-08-11", "fall under it"),
        ("Lightricks/LTX-2.3", "LTX-2's own licence of 2026-08-11", "fall under it"),
    ],
)
def test_the_table_knows_models_by_their_ids(model: str, name: str, words: str) -> None:
    known = known_licence(model)
    assert known is not None
    assert (known.name, known.read_at) == (name, f"https://huggingface.co/{model}")
    assert words in known.outputs
    assert "read 2026-11" in known.known_from
    assert found(model) == known


@pytest.mark.parametrize(
    "model",
    [
        "someone/Wan2.2-TI2V-5B-Diffusers",
        "Lightricks/LTX-Video",
        "Lightricks/LTX-20",
        "tencent/HunyuanVideo-I2V",
        "stabilityai/stable-video-diffusion-img2vid-xt-1-1",
    ],
)
def test_the_table_claims_nothing_of_others(model: str) -> None:
    assert known_licence(model) is None


def test_what_the_settings_say_counts_and_nothing_is_asked(hub: Hub) -> None:
    licence = found(MODEL, license="bought from them")
    assert licence == Licence("bought from them", "as model.license says")
    assert hub.asked == []


def test_a_card_on_the_hub_is_asked_for_once_and_known_without_a_network(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Licence("own-licence", "its card on the Hugging Face Hub says so", read_at="LICENSE.md")
    assert found(MODEL, revision=COMMIT) == expected
    assert {path for path in hub.asked if MODEL in path} == {f"/{MODEL}/resolve/{COMMIT}/README.md"}
    hub.asked.clear()
    assert found(MODEL, revision=COMMIT) == expected
    assert hub.asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert found(MODEL, revision=COMMIT) == expected


@pytest.mark.parametrize(
    "trouble",
    ["none", "offline", "gated", "missing", pytest.param("failing", marks=pytest.mark.slow), "closed", "empty"],
)
def test_a_hub_that_does_not_tell_fails_no_run(trouble: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    card = hub.folder / "README.md"
    if trouble == "none":
        card.unlink()
    elif trouble == "empty":
        card.write_text("---\nlicense: ' '\n---\n")
    elif trouble == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif trouble == "closed":
        hub.answers.extend([0] * 100)
    else:
        hub.refusal = {"gated": (403, "GatedRepo"), "missing": (404, "RepoNotFound"), "failing": (503, "")}[trouble]
    licence = found(MODEL, revision=COMMIT)
    assert licence.name == UNKNOWN
    assert "set model.license" in licence.note
    assert len(hub.asked) < 20


def test_a_folder_tells_by_its_card(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(CARD)
    assert found(tmp_path) == Licence("own-licence", "the README.md in its folder says so", read_at="LICENSE.md")
    fsspec.filesystem("memory").put(f"{tmp_path}/", "memory://of-licences/", recursive=True)
    assert find_licence(ModelPlace("memory://of-licences", "folder"), STORAGE).name == "own-licence"


def test_or_by_the_model_that_it_was_saved_from(tmp_path: Path) -> None:
    index = {"_name_or_path": "Wan-AI/Wan2.2-TI2V-5B-Diffusers"}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    licence = found(tmp_path)
    assert (licence.name, licence.read_at) == ("apache-2.0", f"https://huggingface.co/{index['_name_or_path']}")
    assert licence.known_from.startswith("its model_index.json names Wan-AI/Wan2.2-TI2V-5B-Diffusers, which is in")
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")  # of what has become of it
    assert found(tmp_path).name == "mit"


@pytest.mark.parametrize("index", ["", "[]", "{", '{"_name_or_path": 5}', '{"_name_or_path": "/models/wan"}'])
def test_a_folder_that_does_not_tell(index: str, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(index)
    assert found(tmp_path) == Licence(UNKNOWN, "no README.md in its folder tells")
    (tmp_path / "README.md").mkdir()
    assert found(tmp_path).name == UNKNOWN
    named_so = tmp_path / "Wan-AI/Wan2.2-TI2V-5B-Diffusers"  # the name of a folder is no proof
    named_so.mkdir(parents=True)
    assert found(named_so).name == UNKNOWN


def test_a_single_file_does_not_tell(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(CARD)
    (tmp_path / "svd.safetensors").write_bytes(b"x")
    assert found(tmp_path / "svd.safetensors") == Licence(UNKNOWN, "a single file does not tell")


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: mit\n---\n", CardLicence("mit")),
        ("\ufeff---\nlicense: mit\nlicense_name: x\n---", CardLicence("mit")),
        ("---\nlicense_name: x\nlicense_link: https://x.y/z\n---", CardLicence("x", "https://x.y/z")),
        ("---\nlicense: other\n---\n", CardLicence("other")),
        ("---\nlicense:\n- mit\n- apache-2.0\n---\n", CardLicence("mit, apache-2.0")),
        ("---\nlicense: mit\nmodel-index: [{: }]\n  - broken\n---\n", CardLicence("mit")),
        ("---\nlicense: [&a [*a]]\n---\n", None),
        ("---\nlicense: {a: b}\n---\n", None),
        ("---\nlicense: 'mit\n---\n", None),
        ("---\nlicense: mit\n", None),
        ("# Licence\nlicense: mit\n", None),
        ("---\ntags: [license]\n---\nlicense: mit\n", None),
        ("", None),
    ],
)
def test_cards(card: str, expected: CardLicence | None) -> None:
    assert licence_in(card) == expected


def test_texts_of_others_are_one_line_of_bounded_length(tmp_path: Path) -> None:
    assert one_line(" CC-BY\n 4.0\x1b[31m ") == r"CC-BY 4.0\x1b[31m"
    assert one_line(" \n") == ""
    assert one_line("https://me:secret@x.y/licence?X-Amz-Signature=abc") == "https://x.y/licence"
    long = one_line("word " * 100_000)
    assert len(long) == MAX_CHARACTERS
    assert long.endswith("...")
    (tmp_path / "README.md").write_text(f"---\nlicense: \"{'x' * 9_000}\\e[31m\"\nlicense_link: 'a\n\n  b'\n---\n")
    licence = found(tmp_path)
    assert (len(licence.name), licence.read_at) == (MAX_CHARACTERS, "a b")
    assert licence.note.isprintable()


def test_sections_without_a_setting_of_their_own_have_it_by_inheritance() -> None:
    class Other(CheckpointSettings):
        pass

    known = Other(source="Wan-AI/Wan2.2-I2V-A14B-Diffusers").licence(STORAGE)
    assert known is not None
    assert known.name != UNKNOWN
    silent = ModelSection().licence(STORAGE)
    assert silent is not None
    assert (silent.name, silent.known_from) == (UNKNOWN, "its generator does not say where it comes from")
    settled = Other(source="a/b").with_licence(Licence("mit", "x"))
    assert (settled.license, settled.licence_name) == ("mit", "mit")
    assert "license" not in settled.identifying()
    assert (ModelSection().licence_name, AnyModel().licence_name) == (UNKNOWN, "")
    assert AnyModel().licence(STORAGE) is None
    assert "license" not in AnyModel.model_fields
