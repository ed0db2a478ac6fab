"""The configuration: every mistake at once, each with its origin and the nearest valid name."""

import re
from fractions import Fraction
from pathlib import Path

import pytest
import yaml

from actors.errors import ConfigError
from actors.generators.svd.settings import SvdModelSettings, describe_tier
from pipelines.config import load_config, to_yaml
from pipelines.config.schema import config_class

CONF = Path(__file__).parents[2] / "conf"
MINIMAL = ["manifest=a.csv", "output=out", "model.source=model"]


def mistakes(files: list[str], overrides: list[str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(files, overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", ["demo", "null", "svd", "svd_xt"])
def test_shipped_configs_are_valid_and_show_every_option(name: str) -> None:
    required = [] if name in ("demo", "null") else ["manifest=m.parquet", "output=out"]
    config = load_config([str(CONF / f"{name}.yaml")], required)
    written = yaml.safe_load((CONF / f"{name}.yaml").read_text())

    def names(tree: object, prefix: str = "") -> set[str]:
        if not isinstance(tree, dict) or prefix == "storage.options.":
            return {prefix.removesuffix(".")}
        return {prefix.removesuffix(".")} | {n for k, v in tree.items() for n in names(v, f"{prefix}{k}.")}

    assert names(written) == names(config.model_dump(mode="json"))


HOSTED = sorted(path.stem for path in CONF.glob("*.yaml") if "generator: diffusers" in path.read_text())


@pytest.mark.parametrize("name", HOSTED)
def test_configs_of_diffusers_models_show_every_option_of_theirs(name: str) -> None:
    required = ["manifest=m.parquet", "output=out"]
    written = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    if written["model"]["source"] == "???":
        required.append("model.source=folder")
    if written["model"]["loras"] == "???":
        with pytest.raises(ConfigError, match=r"model\.loras: is required: set it"):
            load_config([str(CONF / f"{name}.yaml")], required)
        required.append("model.loras=[{source: steps.safetensors}]")
    config = load_config([str(CONF / f"{name}.yaml")], required).model_dump(mode="json")
    for section in ("model", "generation"):
        assert written[section].keys() == config[section].keys()
    assert written["model"]["fast"].keys() == config["model"]["fast"].keys()
    assert len(HOSTED) == 7
    header = (CONF / f"{name}.yaml").read_text().partition("\nmanifest")[0]
    (prompt,) = re.findall(r"generation\.prompt='([^']*)'", header)
    assert load_config([str(CONF / f"{name}.yaml")], [*required, f"generation.prompt={prompt}"])


def test_gpu_configs_ask_for_the_frames_of_their_model() -> None:
    overrides = ["manifest=m.parquet", "output=out"]
    assert load_config([str(CONF / "svd.yaml")], overrides).generation.num_frames == 14
    assert load_config([str(CONF / "svd_xt.yaml")], overrides).generation.num_frames == 25


def test_later_files_and_overrides_win(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "manifest: a.csv\noutput: out\nmodel: {source: m}\ngeneration: {fps: 5, seed: 1}\n"
    )
    (tmp_path / "b.yaml").write_text("generation: {fps: 6}\n")
    config = load_config([str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")], ["generation.seed=9"])
    assert (config.generation.fps, config.generation.seed) == (6, 9)


def test_all_mistakes_are_reported_at_once_with_origin_and_nearest_name(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("manifest: a.csv\nmodel:\n  source: m\n  precison: fp16\ngeneration:\n  num_frames: lots\n")
    text = mistakes([str(file)], ["image.widht=512", "image.fit=squeeze", "oops", "workers.generate={actors:1}"])
    assert text.startswith("7 mistakes in the configuration:")
    assert f"model.precison: no such setting; did you mean 'precision'? ({file}:4)" in text
    assert f"({file}:6)" in text
    assert "image.widht: no such setting; did you mean 'width'? (override 'image.widht')" in text
    assert "workers.generate.actors:1: no such setting; between braces a blank follows the colon: {actors: ...}" in text
    assert "image.fit: input should be 'crop', 'pad' or 'stretch' (override 'image.fit')" in text
    assert "override number 3: an override looks like key=value" in text
    assert "output: is required" in text


def test_switches_of_diffusers_that_do_nothing_are_refused_with_the_reason() -> None:
    text = mistakes([], [*MINIMAL, "model.attention_slicing=true", "model.vae_tiling=true"])
    assert "model.attention_slicing: does nothing for SVD" in text
    assert "set model.decode_chunk_frames instead" in text


def test_weights_that_come_and_go_cannot_be_compiled() -> None:
    text = mistakes([], [*MINIMAL, "model.compile=true", "model.memory=sequential"])
    assert "compile=true needs weights that stay in one place" in text


def test_missing_marker_counts_as_missing() -> None:
    text = mistakes([str(CONF / "svd_xt.yaml")], [])
    assert "manifest: is required" in text
    assert "output: is required" in text


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1,\n")
    text = mistakes([str(tmp_path / "none.yaml"), str(broken)], MINIMAL)
    assert "none.yaml: no such file" in text
    assert mistakes([str(tmp_path / "none.yaml")], []).startswith("1 mistake")  # not also all that is then missing
    assert "broken.yaml: not valid YAML" in text


def test_missing_package_is_explained() -> None:
    text = mistakes([], [*MINIMAL, "manifest=${package_dir:no_such_package}"])
    assert "no_such_package" in text
    assert "pip install" in text


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["interpolation.factor=2"], "weights is null"),
        (["interpolation.weights=w.pkl"], "factor 1 makes no new frames"),
        (
            ["interpolation.weights=w.pkl", "interpolation.factor=2", "interpolation.target_fps=24"],
            "factor or target_fps",
        ),
        (
            ["interpolation.weights=w.pkl", "interpolation.factor=null", "interpolation.target_fps=24", "video.fps=25"],
            "would be ignored",
        ),
        (["video.codec=ffv1", "video.crf=20"], "crf"),
        (["video.preset=warp"], "preset"),
        (
            ["video.codec=ffv1", "video.c2pa={certificate: a, key: b}"],
            "video.c2pa: ffv1 makes .mkv files, which cannot be signed: set it to null, or take another codec",
        ),
        (["video.c2pa={certificate: a}"], "video.c2pa.key: is required"),
        (["workers.generate.num_gpus=0.3"], "1/n"),
        (["image.width=100"], "multiple of 8"),
        (["image.width=512", "image.height=576"], "orientation=portrait"),
        (["variants=[{num_frames: 3}]"], "cannot vary"),
        (["variants=[{seed: -1}]"], "seed: input should be greater than or equal to 0"),
        (["variants=[{seed: []}]"], "seed: the list is empty"),
        (["variants=[{fps: soon}]"], "fps: input should be a valid integer"),
        (["manifest=[]"], "empty"),
        (["image.width=64", "image=[1]"], "image: a section and a single value cannot stand for each other"),
        (
            ["interpolation.weights=w.pkl", "interpolation.factor=null", "interpolation.target_fps=5"],
            "generation.fps: fps 7 is above interpolation.target_fps 5: change one of them",
        ),
        (
            ["interpolation={weights: w.pkl, factor: null, target_fps: 24}", "variants=[{fps: [7, 30]}]"],
            "variants: fps 30 is above interpolation.target_fps 24: change one of them (override 'variants')",
        ),
        (
            [
                "interpolation={weights: w.pkl, factor: null, target_fps: 24}",
                "variants=[{fps: 7}, {seed: 1}]",
                "generation.fps=25",
            ],
            "generation.fps: fps 25 is above interpolation.target_fps 24",
        ),
        (
            ["interpolation={weights: w.pkl, factor: 40}", "video.codec=av1"],
            "generation.fps: fps 7 times interpolation.factor 40 is 280 frames a second, and av1 takes 1/1000 to 240",
        ),
        (
            ["variants=[{fps: [24, 1000]}]", "video.codec=av1"],
            "variants: fps 1000 times interpolation.factor 1 is 1000",
        ),
        (["video.fps=1001", "video.codec=ffv1"], "video.fps is 1001 frames a second, and ffv1 takes 1/1000 to 1000"),
        (["video.fps=1e-4"], "video.fps: expected a frame rate from 1/1000 to 10000"),
        (["video.fps=20000"], "video.fps: expected a frame rate from 1/1000 to 10000"),
        (["video.fps=1e999999999"], "video.fps: expected a number, or a fraction such as 30000/1001"),
        (["video.fps=inf"], "video.fps: expected a number, or a fraction such as 30000/1001"),
        (["video.fps=30/0"], "video.fps: expected a number, or a fraction such as 30000/1001"),
        (["storage.options={s4: {key: x}}"], "s4"),
        (["model.fast.cache_interval=3"], "model.fast: would be ignored, because model.tier is exact"),
        (
            ["model.tier=few_step", "model.fast.fp8=true"],
            "model.fast: would be ignored, because model.tier is few_step",
        ),
        (["model.tier=fast", "model.fast.cache_interval=1"], "model.fast: no shortcut is switched on"),
        (["model.tier=fast", "model.fast.fp8=true"], "model.fast.fp8: needs model.precision=bf16, which is fp16"),
        (
            ["model.tier=fast", "model.fast.guided_share=1.5"],
            "model.fast.guided_share: input should be less than or equal to 1",
        ),
        (["model.tier=quick"], "model.tier: input should be 'exact', 'fast' or 'few_step'"),
    ],
)
def test_settings_that_contradict_or_would_be_ignored(overrides: list[str], expected: str) -> None:
    assert expected in mistakes([], [*MINIMAL, *overrides])


def test_tiers_are_described_by_what_is_switched_on() -> None:
    def described(*overrides: str) -> str:
        config = load_config([], [*MINIMAL, *overrides])
        assert isinstance(config.model, SvdModelSettings)
        return describe_tier(config.model.tier, config.model.fast)

    assert described() == "exact"
    assert described("model.tier=few_step") == "few_step"
    assert described("model.tier=fast") == "fast(cache_interval=2)"
    every = (
        "model.fast.cache_interval=3",
        "model.fast.guided_share=0.5",
        "model.fast.fp8=true",
        "model.precision=bf16",
    )
    assert described("model.tier=fast", *every) == "fast(cache_interval=3, guided_share=0.5, fp8=True)"


def test_one_mistake_is_one_line() -> None:
    assert mistakes([], [*MINIMAL, "manifest=5"]).startswith("1 mistake in the configuration:")


def test_variants_have_the_types_of_the_parameters() -> None:
    config = load_config([], [*MINIMAL, "variants=[{fps: '7', noise_aug_strength: [0, 1]}]"])
    assert config.variants == [{"fps": [7], "noise_aug_strength": [0.0, 1.0]}]
    assert isinstance(config.variants[0]["noise_aug_strength"][0], float)


def test_secrets_are_not_saved() -> None:
    options = "storage.options={s3: {key: AKIA, secret: hush, client_kwargs: {endpoint_url: 'http://x'}}}"
    text = to_yaml(load_config([], [*MINIMAL, options]))
    assert "hush" not in text
    assert "AKIA" not in text
    assert "http://x" in text


def test_variants_that_give_every_rate_leave_the_general_one_unused() -> None:
    rates = ["interpolation={weights: w.pkl, factor: null, target_fps: 24}", "generation.fps=30"]
    assert load_config([], [*MINIMAL, *rates, "variants=[{fps: [7, 24]}]"]).generation.fps == 30


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("23.976023976", Fraction(24000, 1001)),
        ("23.976", Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("2997/100", Fraction(30000, 1001)),
        ("47.952", Fraction(48000, 1001)),
        ("59.94", Fraction(60000, 1001)),
        ("119.88", Fraction(120000, 1001)),
        ("24", Fraction(24)),
        ("30", Fraction(30)),
        ("23.95", Fraction(479, 20)),
        ("12.5", Fraction(25, 2)),
        ("16.3333333333", Fraction(49, 3)),
        ("0.001", Fraction(1, 1000)),
    ],
)
def test_rates_become_those_that_files_can_have(written: str, expected: Fraction) -> None:
    config = load_config([], [*MINIMAL, f"video.fps={written}"])
    assert config.video.fps == expected
    assert config_class("svd").model_validate(yaml.safe_load(to_yaml(config))) == config


def test_a_factor_becomes_the_fraction_that_was_meant() -> None:
    config = load_config([], [*MINIMAL, "interpolation.weights=w.pkl", "interpolation.factor=2.3333333333"])
    assert config.interpolation.factor == Fraction(7, 3)


def test_rates_are_exact_and_survive_saving() -> None:
    config = load_config(
        [],
        [*MINIMAL, "interpolation.weights=w.pkl", "interpolation.factor=null", "interpolation.target_fps=30000/1001"],
    )
    assert config.interpolation.target_fps == Fraction(30000, 1001)
    assert config_class("svd").model_validate(yaml.safe_load(to_yaml(config))) == config
