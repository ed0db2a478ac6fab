"""What SVD may be told: the sections `model` and `generation`."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from actors.checkpoints.sources import is_file
from actors.contracts import Value
from actors.generators.base import Memory
from actors.generators.checkpoints import CheckpointSettings
from actors.generators.parameters import SAME_FOR_ALL, Parameters
from actors.generators.svd.memory import memory_ways
from actors.node_cache import cache_folder
from actors.secrets import public_uri
from actors.settings import NO_EFFECT, ImageSettings, Section
from actors.storage import Storage
from actors.svd import loras
from actors.svd.checkpoint import check_is_svd, revision_of, unet_shapes

Tier = Literal["exact", "fast", "few_step"]


class FastSettings(Section):
    """The shortcuts of `model.tier: fast`: less time, and other pixels."""

    cache_interval: int = Field(
        2, ge=1, description="one in so many steps computes the UNet's deep features, the others reuse them; 1: all do"
    )
    guided_share: float = Field(
        1.0, ge=0, le=1, description="guidance only on this share of the steps, those in the middle; 1: on all of them"
    )
    fp8: bool = Field(
        False, description="8-bit floats in the UNet's large linear layers; needs model.precision=bf16 and torchao"
    )


# The section with every shortcut off: all that the checkpoint asks for.
NO_SHORTCUTS = FastSettings(cache_interval=1, guided_share=1.0, fp8=False)


def shortcuts_of(tier: Tier, fast: FastSettings) -> FastSettings:
    """The shortcuts that are taken: the section counts in the tier `fast` alone."""
    return fast if tier == "fast" else NO_SHORTCUTS


def describe_tier(tier: Tier, fast: FastSettings) -> str:
    """How a clip's record says it: `exact`, `few_step`, or `fast(cache_interval=2, ...)` with what is switched on."""
    if tier != "fast":
        return tier
    values = fast.model_dump()
    taken = [f"{name}={values[name]}" for name, off in NO_SHORTCUTS.model_dump().items() if values[name] != off]
    return f"fast({', '.join(taken)})"


class SvdModelSettings(CheckpointSettings):
    """Which SVD checkpoint, and how it is held."""

    # Switches of diffusers that people know, and that do nothing, or raise, in its Stable Video Diffusion pipeline.
    refused: ClassVar[Mapping[str, str]] = {
        "attention_slicing": "does nothing for SVD, whose attention never holds its matrix: leave it out",
        "fuse_qkv_projections": "is always so here: leave it out",
        "vae_slicing": "SVD's decoder sees a clip as a whole: set model.decode_chunk_frames instead",
        "vae_tiling": "SVD's decoder has no tiles: set model.decode_chunk_frames instead",
        "xformers": "the attention is PyTorch's own, which is as fast: leave it out",
    }

    source: str = Field(
        description="Hugging Face id, local folder or fsspec URI of a checkpoint in diffusers layout; or path or URI "
        "of one file in the original layout (svd_xt.safetensors)",
        json_schema_extra=NO_EFFECT,
    )
    tier: Tier = Field(
        "exact",
        description="exact: all that the checkpoint asks for; fast: with the shortcuts of model.fast; few_step: "
        "a checkpoint distilled for few steps",
    )
    precision: Literal["fp32", "fp16", "bf16"] = Field(
        "fp16", description="of the UNet and the VAE decoder; on a GPU, convolutions in fp32 are TF32"
    )
    memory: Literal["resident", "offload", "sequential"] = Field(
        "resident",
        description="what waits on the CPU: nothing, networks not at work, or all weights but one layer's",
        json_schema_extra=NO_EFFECT,
    )
    feed_forward_pieces: int = Field(
        1,
        ge=1,
        description="the UNet's feed-forward layers take their tokens in so many pieces, to save memory",
        json_schema_extra=NO_EFFECT,
    )
    decode_chunk_frames: int | None = Field(
        None, ge=1, description="decode so many frames at a time; null decodes whole clips (other values change pixels)"
    )

    fast: FastSettings = Field(FastSettings(), description="the shortcuts of tier: fast")

    @model_validator(mode="after")
    def _can_be_compiled(self) -> "SvdModelSettings":
        if self.compile is True and self.memory == "sequential":
            raise ValueError(
                "compile=true needs weights that stay in one place: set compile to auto, or memory to offload"
            )
        return self

    def identifying(self) -> dict[str, Any]:
        """As in `Section`; the content counts too, by its revision. The shortcuts count where they are taken."""
        tier = describe_tier(self.tier, self.fast)
        return {name: value for name, value in super().identifying().items() if name != "fast"} | {"tier": tier}

    def revision_of_content(self, storage: Storage) -> str:
        """As in `ModelSection`."""
        check_is_svd(self.source, storage)
        revision = revision_of(self.source, **self.which, storage=storage)
        return revision + loras.revision_of(
            self.loras, lambda: unet_shapes(self.source, variant=self.variant, storage=storage), storage
        )

    def memory_needs(self, parameters: Any, image: ImageSettings, storage: Storage) -> Memory:  # noqa: ARG002 - nothing is read
        """As in `ModelSection`."""
        ways = memory_ways(
            (image.width, image.height),
            parameters.num_frames,
            first=self.memory,
            chunk_frames=self.decode_chunk_frames,
            precision=self.precision,
            tightens=not (self.tier == "fast" and self.fast.fp8),  # 8-bit weights stay where they were made
        )
        return Memory(ways)

    def mistakes(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """As in `ModelSection`."""
        yield from self.doubled_loras()
        if self.tier != "fast":
            if self.fast != FastSettings():
                yield ("fast",), f"would be ignored, because model.tier is {self.tier}: set model.tier=fast"
            return
        if self.fast == NO_SHORTCUTS:
            yield ("fast",), "no shortcut is switched on: set one, or model.tier=exact"
        if self.fast.fp8 and self.precision != "bf16":
            yield ("fast", "fp8"), f"needs model.precision=bf16, which is {self.precision}"
        if self.fast.fp8 and self.memory != "resident":
            yield ("fast", "fp8"), f"needs model.memory=resident, which is {self.memory}"

    def notes(self, storage: Storage) -> list[str]:
        """As in `ModelSection`."""
        lines = loras.described(self.loras, storage)
        if is_file(self.source):
            cache = cache_folder(self.cache_dir)
            lines.insert(
                0, f"model.source is one file in SVD's original layout: each node converts it once, into {cache}"
            )
        return lines

    def described(self) -> dict[str, Value]:
        """As in `ModelSection`."""
        return {
            "model": public_uri(self.source),
            "precision": self.precision,
            "tier": describe_tier(self.tier, self.fast),
        }


class SvdParameters(Parameters):
    """Parameters of SVD's clips; ranges beside those that training saw are allowed, and some are of use."""

    num_frames: int = Field(25, ge=2, description="frames that SVD makes", json_schema_extra=SAME_FOR_ALL)
    num_inference_steps: int = Field(25, ge=1, description="denoising steps", json_schema_extra=SAME_FOR_ALL)
    fps: int = Field(7, ge=1, le=1000, description="frame rate the model is conditioned on")
    motion_bucket_id: int = Field(127, ge=0, le=1023, description="amount of motion, 1..255 in training")
    noise_aug_strength: float = Field(0.02, ge=0, le=10, description="noise added to the image before encoding")
    min_guidance_scale: float = Field(1.0, ge=0, description="guidance of the first frame")
    max_guidance_scale: float = Field(3.0, ge=0, description="guidance of the last frame")

    @property
    def is_guided(self) -> bool:
        """Without a scale above 1 there is no guidance at all, as in the stock pipeline (where min <= max)."""
        return max(self.min_guidance_scale, self.max_guidance_scale) > 1
