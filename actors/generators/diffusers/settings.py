"""How a pipeline of diffusers is held: the section `model`."""

import difflib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr

from actors.checkpoints import lora_files
from actors.checkpoints.checkpoint import headers_of, revision_of
from actors.contracts import Value
from actors.errors import ConfigError
from actors.generators.base import Memory
from actors.generators.checkpoints import CheckpointSettings, LoraSettings
from actors.generators.diffusers.parameters import DiffusersParameters
from actors.generators.diffusers.settling import problems_of, with_defaults
from actors.hosting import shortcuts, sizes
from actors.hosting.classes import KINDS
from actors.hosting.index import Hosted, look
from actors.hosting.memory import Clip, Held, memory_ways
from actors.hosting.weights import parts_of
from actors.secrets import public_uri
from actors.settings import NO_EFFECT, ImageSettings, Section
from actors.storage import Storage

Tier = Literal["exact", "fast"]


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

    _read: Hosted | None = PrivateAttr(None)

    def opened(self, storage: Storage) -> Self:
        """As in `ModelSection`: the checkpoint's small files are read once."""
        opened = self.model_copy()
        opened._read = self.hosted(storage)  # noqa: SLF001 - of the same class
        return opened

    def hosted(self, storage: Storage) -> Hosted:
        """What the checkpoint is. Raises CheckpointError, ConfigError and StorageError."""
        return self._read or look(self.source, revision=self.revision, cache_dir=self.cache_dir, storage=storage)

    def revision_of_content(self, storage: Storage) -> str:
        """As in `ModelSection`."""
        hosted = self.hosted(storage)
        revision = revision_of(
            self.source,
            **self.which,
            storage=storage,
            wanted=hosted.wanted_files,
            whole=True,
        )
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
        parameters = with_defaults(parameters, hosted)
        problems = [
            *([f"image.{next(iter(given))} is set and the other side is not: set both"] if len(given) == 1 else []),
            *problems_of(parameters, hosted),
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

    def memory_needs(self, parameters: DiffusersParameters, image: ImageSettings, storage: Storage) -> Memory:
        """As in `ModelSection`; the headers of the weights' files are read. Raises as `settled` and `locate` do."""
        hosted = self.hosted(storage)
        files = headers_of(
            self.source,
            **self.which,
            storage=storage,
            wanted=hosted.wanted_files,
        )
        if files is None:
            return Memory([], f"{self.source} is on the Hub, and not in this machine's cache")
        parts = parts_of(files, hosted, precision=self.precision, in_8_bits=self.taken.weights is not None)
        parameters, image = self.settled(parameters, image, storage)
        assert parameters.num_frames is not None, "settled"
        is_guided = parameters.guidance_scale is None or parameters.guidance_scale > 1
        clip = Clip(image.width, image.height, parameters.num_frames, is_guided)
        tightens = self.taken.weights is None  # 8-bit weights stay where they were made
        ways = memory_ways(hosted, Held(parts, self.precision, self.memory, tightens, self.vae_tiling), clip)
        return Memory(ways, "" if ways else "its transformer's config.json tells no width that is known here")

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
        return lines + [f"LoRA {public_uri(lora.source)}: scale {lora.scale:g}" for lora in self.loras]

    def described(self) -> dict[str, Value]:
        """As in `ModelSection`."""
        return {
            "model": public_uri(self.source),
            "precision": self.precision,
            "tier": self.described_tier,
            "attention": self.attention or "native",
        }
