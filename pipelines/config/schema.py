"""The configuration tree. Its sections `model` and `generation` are those of the generator that it names."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, Field, PrivateAttr, SerializeAsAny, ValidationError, create_model, field_validator

from actors import video
from actors.clip_rates import clip_rates
from actors.contracts import Value
from actors.errors import ConfigError, VideoError
from actors.generators import DEFAULT_GENERATOR, GENERATORS
from actors.generators.base import AnyModel
from actors.generators.parameters import Parameters
from actors.settings import ImageSettings, InterpolationSettings, Section, StorageSettings, VideoSettings
from actors.storage import Storage
from pipelines.config.mistakes import PathTo, got, listed, lower_first, nearest, sentence
from pipelines.config.sections import CostSettings, RaySettings, RunSettings, WorkerSettings
from pipelines.manifest.columns import ManifestColumns
from pipelines.manifest.templates import problem_of


def _name_of_generator(value: object) -> object:
    """YAML reads a bare `null` as nothing."""
    return "null" if value is None else value


class Config(Section):
    """Everything a run may be told. Of the class that `config_class` gives for its generator."""

    manifest: str | list[str] = Field(
        description="what to animate: a manifest, folder, glob or image, or a list of them"
    )
    output: str = Field(description="folder or URI of the video dataset")
    columns: ManifestColumns = Field(ManifestColumns(), description="how the manifest is read")
    storage: StorageSettings = Field(StorageSettings(), description="how files and objects are reached")
    image: ImageSettings = Field(ImageSettings(), description="how an image becomes the picture that is animated")
    generator: Annotated[str, BeforeValidator(_name_of_generator)] = Field(
        DEFAULT_GENERATOR, description=f"what makes the frames: {' | '.join(GENERATORS)}"
    )
    model: SerializeAsAny[AnyModel] = Field(description="the generator's model, and how it is held")
    generation: SerializeAsAny[Parameters] = Field(Parameters(), description="parameters of the clips")
    variants: list[dict[str, list[Any]]] = Field(
        [], description="several clips per image: parameter -> value or list of values"
    )
    interpolation: InterpolationSettings = Field(InterpolationSettings(), description="frames in between (RIFE)")
    video: VideoSettings = Field(VideoSettings(), description="the video file")
    workers: WorkerSettings = Field(WorkerSettings(), description="the stages' share of the cluster")
    run: RunSettings = Field(RunSettings(), description="how a run behaves")
    cost: CostSettings = Field(CostSettings(), description="what GPUs cost")
    ray: RaySettings = Field(RaySettings(), description="which Ray cluster")
    # What stood in place of values that were looked up elsewhere (`${oc.env:NAME}`), as it may be saved.
    _looked_up: dict[PathTo, str] = PrivateAttr(default_factory=dict)

    @field_validator("generator")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in GENERATORS:
            raise ValueError(f"there is no such generator{nearest(name, list(GENERATORS))}; one of {_listed()}")
        return name

    @field_validator("variants", mode="before")
    @classmethod
    def _check_variants(cls, variants: object) -> object:
        parameters = cast("type[Parameters]", cls.model_fields["generation"].annotation)
        return [_checked_variant(one, parameters) for one in variants] if isinstance(variants, list) else variants

    @property
    def sources(self) -> list[str]:
        """The manifest as a list."""
        return [self.manifest] if isinstance(self.manifest, str) else list(self.manifest)

    @property
    def needs_gpu(self) -> bool:
        """Whether any stage reserves a GPU."""
        interpolates = self.interpolation.weights is not None
        return self.workers.generate.num_gpus > 0 or (interpolates and self.workers.finish.num_gpus > 0)

    @property
    def looked_up(self) -> dict[PathTo, str]:
        """Settings whose values come from elsewhere, such as `${oc.env:NAME}`: their places, and what stands there."""
        return self._looked_up

    def parameters_of_all(self) -> dict[str, Value]:
        """The parameters that are the same for all clips of a run."""
        return self.generation.model_dump(exclude=set(self.generation.varying()))


@cache
def config_class(generator: str) -> type[Config]:
    """The tree with the sections of a generator."""
    kind = GENERATORS[generator]
    needs_model = any(field.is_required() for field in kind.Model.model_fields.values())
    described = {name: Config.model_fields[name].description for name in ("model", "generation")}
    model = (
        Field(description=described["model"]) if needs_model else Field(kind.Model(), description=described["model"])
    )
    generation = Field(kind.Parameters(), description=described["generation"])
    made: type[Config] = create_model(
        "Config",
        __base__=Config,
        __module__=__name__,
        model=(kind.Model, model),
        generation=(kind.Parameters, generation),
    )
    return made


def cross_check(config: Config) -> Iterator[tuple[PathTo, str]]:
    """Mistakes that only show when several settings, or a table of the encoder, are looked at together."""
    for problem in video.check(config.video):
        yield ("video",), problem
    if config.video.c2pa is not None and (ending := video.extension(config.video.codec)) != ".mp4":
        yield (
            ("video", "c2pa"),
            f"{config.video.codec} makes {ending} files, which cannot be signed: set it to null, or take another codec",
        )
    if not config.sources:
        yield ("manifest",), "the list is empty: name at least one manifest, folder or image"
    if config.interpolation.target_fps is not None and config.video.fps is not None:
        yield (
            ("video", "fps"),
            "would be ignored, because interpolation.target_fps sets the file's rate: remove one of them",
        )
    if config.interpolation.weights is None and config.workers.finish.accelerator_types:
        yield (
            ("workers", "finish", "accelerator_types"),
            "would be ignored, because without interpolation.weights that stage takes no GPU: remove it",
        )
    yield from _rates_that_do_not_fit(config)
    yield from _templates_that_are_none(config)
    for path, problem in config.model.mistakes():
        yield ("model", *path), problem
    for problem in Storage.check_options(config.storage.options):
        yield ("storage", "options"), problem


def settled(config: Config, storage: Storage) -> Config:
    """The configuration with the model's own values where it leaves them to the model.

    Raises:
        ConfigError: the model cannot make such clips, or the rates do not fit together.
        CheckpointError, StorageError: there is no such model.
    """
    generation, image = config.model.settled(config.generation, config.image, storage)
    if (generation, image) == (config.generation, config.image):
        return config
    config = config.model_copy(update={"generation": generation, "image": image})
    if mistakes := [sentence(path, text, {}) for path, text in _rates_that_do_not_fit(config)]:
        raise ConfigError(listed(mistakes))
    return config


def _rates_that_do_not_fit(config: Config) -> Iterator[tuple[PathTo, str]]:
    """Of the clips' frame rates that the configuration itself gives; those of a manifest's rows are theirs."""
    given = [value for variant in config.variants for value in variant.get("fps", ())]
    usual = cast("int | None", config.generation.fps)  # None until it is settled
    in_general = [] if usual is None or (given and all("fps" in variant for variant in config.variants)) else [usual]
    for path, rates in ((("generation", "fps"), in_general), (("variants",), dict.fromkeys(given))):
        for fps in rates:
            try:
                clip_rates(fps, config.interpolation, config.video)
            except VideoError as error:
                yield path, f"{error}: change one of them"


def _templates_that_are_none(config: Config) -> Iterator[tuple[PathTo, str]]:
    for name in config.generation.templates():
        given: list[tuple[PathTo, Any]] = [(("generation", name), getattr(config.generation, name))]
        given += [(("variants",), text) for variant in config.variants for text in variant.get(name, ())]
        for path, text in given:
            if text is not None and (problem := problem_of(text)):
                yield path, problem


def _listed() -> str:
    return ", ".join(GENERATORS)


def _checked_variant(variant: object, parameters: type[Parameters]) -> dict[str, list[Any]]:
    """Parameter -> values, each of the type and in the range that `generation` asks for."""
    if not isinstance(variant, Mapping) or not variant:
        raise ValueError("a variant names parameters and their values, e.g. {seed: [1, 2]}")
    return {str(name): _checked_values(str(name), values, parameters) for name, values in variant.items()}


def _checked_values(name: str, values: object, parameters: type[Parameters]) -> list[Any]:
    names = parameters.varying()
    if name not in names:
        raise ValueError(f"{name} cannot vary{nearest(name, names)}; one of {', '.join(names)}")
    if values == []:
        raise ValueError(f"{name}: the list is empty, so no clip would be made")
    given: Sequence[object] = values if isinstance(values, list) else [values]
    try:
        return [parameters.checked(name, value) for value in given]
    except ValidationError as error:
        detail = error.errors()[0]
        raise ValueError(f"{name}: {lower_first(detail['msg'])}{got(detail['input'])}") from None
