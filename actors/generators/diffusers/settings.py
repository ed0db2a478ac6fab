"""What a pipeline of diffusers may be told: the sections `model` and `generation`."""

import difflib
import json
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from actors.contracts import Value
from actors.errors import ConfigError
from actors.generators.checkpoints import CheckpointSettings, LoraSettings
from actors.generators.parameters import SAME_FOR_ALL, TEMPLATE, Parameters
from actors.hosting import shortcuts, sizes
from actors.hosting.classes import KINDS
from actors.hosting.index import Hosted, look
from actors.secrets import shown
from actors.settings import NO_EFFECT, ImageSettings, Section
from actors.storage import Storage
from actors.svd import lora_files
from actors.svd.checkpoint import check_whole, revision_of

Tier = Literal["exact", "fast"]
# Long captions have some hundred words, and text encoders read no more.
_MAX_PROMPT = 10_000


class FastSettings(Section):
    """The shortcuts of `model.tier: fast`: less time, and other pixels."""

    cache: Literal["first_block", "taylorseer"] | None = Field(
        None, description="steps reuse features: where the first block changes little, or extrapolated; null: none do"
    )
    threshold: float = Field(
        0.05, gt=0, le=1, description="with first_block: a relative change below which the other blocks are left out"
    )
    interval: int = Field(5, ge=2, description="with taylorseer: one in so many steps computes everything")
    weights: Literal["int8", "fp8"] | None = Field(
        None, description="the transformer's linear layers in 8 bits; needs torchao; null: as model.precision"
    )


def _as_text(value: object) -> object:
    """A mapping as canonical JSON; such a text as it is."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("should be a mapping of names to values, e.g. {guidance_scale_2: 3.0}") from None
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError("should be a mapping of names to values, e.g. {guidance_scale_2: 3.0}")
    return json.dumps(dict(value), sort_keys=True, allow_nan=False)


Extra = Annotated[str, BeforeValidator(_as_text), PlainSerializer(json.loads, when_used="json")]


class DiffusersParameters(Parameters):
    """Parameters of a pipeline's clips. What is null becomes the pipeline's own value before anything is planned."""

    num_frames: int | None = Field(  # type: ignore[assignment] # null only until it is settled
        None, ge=2, description="frames that the model makes; null: the model's own", json_schema_extra=SAME_FOR_ALL
    )
    fps: int | None = Field(  # type: ignore[assignment] # null only until it is settled
        None, ge=1, le=1000, description="frame rate of the generated frames; null: the model's own"
    )
    num_inference_steps: int | None = Field(
        None, ge=1, description="denoising steps; null: the model's own", json_schema_extra=SAME_FOR_ALL
    )
    guidance_scale: float | None = Field(
        None, ge=0, le=100, description="how closely the clip follows the prompt; null: the model's own"
    )
    prompt: str = Field(
        "",
        max_length=_MAX_PROMPT,
        description="what is to happen; {caption} stands for the row's column of that name",
        json_schema_extra=TEMPLATE,
    )
    negative_prompt: str | None = Field(
        None,
        max_length=_MAX_PROMPT,
        description="what is not to be seen, written alike; null: the model's own",
        json_schema_extra=TEMPLATE,
    )
    extra: Extra = Field(
        "{}",
        description="whatever else the pipeline's call takes, e.g. {guidance_scale_2: 3.0}",
        json_schema_extra=SAME_FOR_ALL,
    )

    @property
    def extras(self) -> dict[str, Any]:
        """`extra` as a mapping."""
        content: dict[str, Any] = json.loads(self.extra)
        return content


class HostedLoraSettings(LoraSettings):
    """The same, of a model that may have two transformers."""

    network: Literal["transformer", "transformer_2"] = Field(
        "transformer", description="which it is for: Wan 2.2 A14B has a second one, for the last steps"
    )


class DiffusersModelSettings(CheckpointSettings):
    """Which checkpoint, and how its pipeline is held."""

    # Switches of diffusers that people know, and that have another name or none here.
    refused: ClassVar[Mapping[str, str]] = {
        "trust_remote_code": "code that comes with a checkpoint is never run: leave it out",
        "torch_dtype": "is called precision here",
        "xformers": "is model.attention=xformers here",
        "attention_slicing": "is of no use where attention never holds its matrix: leave it out",
    }

    loras: list[HostedLoraSettings] = Field(  # type: ignore[assignment] # a list of more than the base's
        [],
        description="LoRAs that are merged into the transformer, e.g. [{source: FILE, scale: 0.8}]",
        json_schema_extra=NO_EFFECT,
    )
    tier: Tier = Field(
        "exact", description="exact: all that the checkpoint asks for; fast: with the shortcuts of model.fast"
    )
    precision: Literal["fp32", "fp16", "bf16"] = Field(
        "bf16", description="of the networks, but for those that the model's authors keep in fp32"
    )
    memory: Literal["resident", "offload", "group"] = Field(
        "resident",
        description="what waits on the CPU: nothing, networks not at work, or all layers not at work",
        json_schema_extra=NO_EFFECT,
    )
    attention: str | None = Field(
        None, description="diffusers' attention backend, e.g. _flash_3_hub or sage; null: PyTorch's own"
    )
    vae_tiling: bool = Field(False, description="encode and decode in tiles: less memory, and other pixels at edges")
    fast: FastSettings = Field(FastSettings(), description="the shortcuts of tier: fast")

    def identifying(self) -> dict[str, Any]:
        """As in `Section`; the shortcuts count where they are taken."""
        settings = super().identifying()
        del settings["fast"]
        return settings | {"tier": self.described_tier, "attention": self.attention or "native"}

    @property
    def taken(self) -> FastSettings:
        """Those that are taken."""
        return self.fast if self.tier == "fast" else FastSettings()

    @property
    def described_tier(self) -> str:
        """How a clip's record says it: `exact`, or `fast(...)` with what is switched on."""
        taken = self.taken
        parts = []
        if taken.cache == "first_block":
            parts.append(f"cache=first_block, threshold={taken.threshold!r}")
        elif taken.cache == "taylorseer":
            parts.append(f"cache=taylorseer, interval={taken.interval}")
        if taken.weights is not None:
            parts.append(f"weights={taken.weights}")
        return f"fast({', '.join(parts)})" if parts else "exact"

    def hosted(self, storage: Storage) -> Hosted:
        """What the checkpoint is. Raises CheckpointError, ConfigError and StorageError."""
        return look(self.source, revision=self.revision, cache_dir=self.cache_dir, storage=storage)

    def revision_of_content(self, storage: Storage) -> str:
        """As in `ModelSection`."""
        hosted = self.hosted(storage)
        revision = revision_of(
            self.source,
            revision=self.revision,
            variant=self.variant,
            cache_dir=self.cache_dir,
            storage=storage,
            wanted=hosted.wanted_files,
        )
        check_whole(self.source, self.variant, hosted.wanted_files, storage)
        return revision + lora_files.revision_unread(self.loras, storage)

    def settled(
        self, parameters: DiffusersParameters, image: ImageSettings, storage: Storage
    ) -> tuple[DiffusersParameters, ImageSettings]:
        """As in `ModelSection`: sizes, lengths and all defaults are the checkpoint's."""
        hosted = self.hosted(storage)
        given = {"width", "height"} & image.model_fields_set
        if not given:
            width, height = sizes.usual_size(hosted)
            changes: dict[str, Any] = {"width": width, "height": height}
            fixed = hosted.kind.sizes(hosted.transformer, hosted.vae)
            if fixed and (height, width) not in fixed and "orientation" not in image.model_fields_set:
                changes["orientation"] = "landscape"
            image = image.model_copy(update=changes)
        parameters = _with_defaults(parameters, hosted)
        problems = [
            *([f"image.{next(iter(given))} is set and the other side is not: set both"] if len(given) == 1 else []),
            *_problems_of_parameters(parameters, hosted),
            *(f"image: {said}" for said in sizes.problems_of_sizes(hosted, image.sizes)),
            *(f"{'.'.join(('model', *path))}: {said}" for path, said in self._refusals(hosted)),
            *(
                f"it needs the package {name}: pip install {name}"
                for name in self._needed(hosted)
                if not find_spec(name)
            ),
        ]
        if problems:
            raise ConfigError(
                "\n  - ".join([f"{hosted.pipeline} cannot make what the configuration asks for:", *problems])
            )
        return parameters, image

    def _needed(self, hosted: Hosted) -> list[str]:
        """Packages that not everybody has: diffusers reads LoRAs with PEFT, and Qwen's processor wants torchvision."""
        sees = any("VLProcessor" in str(value) for value in hosted.index.values())
        needed = [*hosted.kind.needs, *(["peft"] if self.loras else []), *(["torchvision"] if sees else [])]
        return list(dict.fromkeys(needed))

    def _refusals(self, hosted: Hosted) -> Iterator[shortcuts.Refusal]:
        yield from shortcuts.refusals(
            hosted,
            cache=self.taken.cache,
            compiled=self.compile is True,
            attention=self.attention,
            tiled=self.vae_tiling,
            has_loras=bool(self.loras),
        )
        if "transformer_2" not in hosted.components:
            for number, lora in enumerate(self.loras):
                if lora.network == "transformer_2":
                    yield ("loras", str(number), "network"), f"{hosted.pipeline} has one transformer here: leave it out"

    def mistakes(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """As in `ModelSection`."""
        yield from self.doubled_loras()
        if self.tier != "fast" and self.fast != FastSettings():
            yield ("fast",), f"would be ignored, because model.tier is {self.tier}: set model.tier=fast"
        if self.tier == "fast" and self.described_tier == "exact":
            yield ("fast",), "no shortcut is switched on: set fast.cache or fast.weights, or model.tier=exact"
        if self.memory != "resident":
            if self.device == "cpu":
                yield ("memory",), f"{self.memory} would be ignored, because model.device is cpu: remove it"
            if self.compile is True:
                yield ("compile",), "needs model.memory=resident: set it to auto"
            if self.taken.weights is not None:
                yield ("fast", "weights"), "needs model.memory=resident, because 8-bit weights stay where they are made"
        if self.taken.weights is not None and self.precision != "bf16":
            yield ("fast", "weights"), f"needs model.precision=bf16, which is {self.precision}"
        if self.attention is not None and self.attention not in (known := shortcuts.attention_backends()):
            near = difflib.get_close_matches(self.attention, known, n=1, cutoff=0.3)
            said = f"; did you mean {near[0]!r}?" if near else ""
            yield ("attention",), f"diffusers has no such backend{said}; it has {', '.join(known)}"

    def notes(self, storage: Storage) -> list[str]:
        """As in `ModelSection`."""
        hosted = self.hosted(storage)
        lines = [f"model.source is made by {hosted.pipeline} of diffusers"]
        if hosted.pipeline not in KINDS:
            lines.append(f"{hosted.pipeline} was not tried with stillreel: make a few clips first and look at them")
        if hosted.kind.has_sound:
            lines.append(f"{hosted.pipeline} makes sound, too, which is dropped: clips have frames alone")
        if self.attention is not None and self.attention.endswith("_hub"):
            lines.append(f"model.attention={self.attention} fetches code from the Hugging Face Hub, and runs it")
        if "cosmos_guardrail" in hosted.kind.needs:
            lines.append(f"{hosted.pipeline} fetches its guardrail from the Hub, which is gated: workers need HF_TOKEN")
        return lines + [f"LoRA {shown(lora.source)}: scale {lora.scale:g}" for lora in self.loras]

    def described(self) -> dict[str, Value]:
        """As in `ModelSection`."""
        return {
            "model": shown(self.source),
            "precision": self.precision,
            "tier": self.described_tier,
            "attention": self.attention or "native",
        }


def _with_defaults(parameters: DiffusersParameters, hosted: Hosted) -> DiffusersParameters:
    """With the checkpoint's own values in the place of null."""
    call = hosted.call
    own: dict[str, Any] = {
        "num_inference_steps": call.default("num_inference_steps") or 50,
        "fps": (round(call.default(call.rate) or 0) if call.rate else 0) or hosted.kind.fps(hosted.index),
        "guidance_scale": None if (scale := call.default("guidance_scale")) is None else float(scale),
        "negative_prompt": call.default("negative_prompt"),
    }
    frames = call.default(call.frames) if call.frames else None
    own["num_frames"] = sizes.nearest_frames(hosted, frames or 5 * own["fps"], parameters.extras)
    return parameters.model_copy(
        update={name: value for name, value in own.items() if getattr(parameters, name) is None}
    )


# Where the job takes what people might look for among `extra`.
_ELSEWHERE = {
    "image": "the manifest",
    "prompt": "generation.prompt",
    "negative_prompt": "generation.negative_prompt",
    "width": "image.width",
    "height": "image.height",
    "num_frames": "generation.num_frames",
    "frames": "generation.num_frames",
    "num_inference_steps": "generation.num_inference_steps",
    "guidance_scale": "generation.guidance_scale",
    "fps": "generation.fps",
    "frame_rate": "generation.fps",
    "generator": "generation.seed",
}


def _kind_of(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text"}
    return names[type(value)]


def _problems_of_parameters(parameters: DiffusersParameters, hosted: Hosted) -> Iterator[str]:
    call, extras = hosted.call, parameters.extras
    for name, value in extras.items():
        if name in call.free:
            usual = call.default(name)
            kinds = (int, float) if isinstance(usual, int | float) and not isinstance(usual, bool) else (type(usual),)
            if isinstance(usual, int | float | str) and value is not None and not isinstance(value, kinds):
                yield f"generation.extra: {name} is to be {_kind_of(usual)}, such as {usual!r}"
        elif name in _ELSEWHERE:
            yield f"generation.extra: {name} comes from {_ELSEWHERE[name]}: leave it out here"
        else:
            near = difflib.get_close_matches(name, call.free, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(call.free) or 'nothing else'}"
            yield f"generation.extra: the pipeline's call takes no {name} beside what has a setting of its own{hint}"
    assert parameters.num_frames is not None, "`_with_defaults` has been there"
    if "guidance_scale_2" in extras and hosted.index.get("boundary_ratio") is None:
        yield "generation.extra: guidance_scale_2 is for checkpoints with two transformers, and this has one: remove it"
    nearest = sizes.nearest_frames(hosted, parameters.num_frames, extras)
    if nearest != parameters.num_frames:
        step, least = sizes.frame_step(hosted, extras), hosted.kind.least_frames
        from_on = f", from {least} on" if parameters.num_frames < least else ""
        yield (
            f"generation.num_frames: {parameters.num_frames} is not one more than a multiple of {step}{from_on}, as "
            f"all clips of this checkpoint are: nearest is {nearest}"
        )
    if parameters.guidance_scale is not None and "guidance_scale" not in call:
        yield "generation.guidance_scale: the pipeline's call takes none: set it to null"
    for name in ("prompt", "negative_prompt"):
        if getattr(parameters, name) and name not in call:
            yield f"generation.{name}: the pipeline's call takes none: remove it"
