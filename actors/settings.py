"""The settings that workers need, as frozen, strict sections of the one configuration tree (`pipelines.config`).

Each section is defined beside nothing else so that a worker can unpickle it without importing the driver's code.
`description` is what `conf/*.yaml` and the error messages of the configuration say about a field.
"""

import re
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, field_validator, model_validator


class Section(BaseModel):
    """A frozen section of the configuration; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _to_fraction(value: object) -> object:
    """`25`, `29.97`, `"30000/1001"` or a Fraction, as an exact Fraction (29.97 is taken as 2997/100)."""
    if isinstance(value, Fraction):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("expected a number, or a fraction such as 30000/1001")
    try:
        return Fraction(str(value).strip())
    except (ValueError, ZeroDivisionError):
        raise ValueError("expected a number, or a fraction such as 30000/1001") from None


Rational = Annotated[Fraction, BeforeValidator(_to_fraction), PlainSerializer(str)]


class StorageSettings(Section):
    """How files and objects are reached."""

    options: dict[str, dict[str, Any]] = Field(
        {}, description="fsspec options per scheme, e.g. {s3: {client_kwargs: {endpoint_url: ...}}}"
    )
    attempts: int = Field(5, ge=1, description="how often a request is tried when the store or the network fails")
    schemes: list[str] | None = Field(
        None,
        min_length=1,
        description="schemes that image URIs of the manifest may have, e.g. [s3, https], `file` for paths of this "
        "machine; null: those of manifest and output",
    )

    @field_validator("schemes")
    @classmethod
    def _are_names(cls, schemes: list[str] | None) -> list[str] | None:
        for scheme in schemes or []:
            if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
                raise ValueError(f"{scheme!r} is no scheme: write it in lower case and without ://, e.g. s3 or file")
        return schemes


class ImageSettings(Section):
    """How an image becomes the picture that is animated."""

    width: int = Field(1024, ge=8, multiple_of=8, description="width of a landscape clip, pixels")
    height: int = Field(576, ge=8, multiple_of=8, description="height of a landscape clip, pixels")
    orientation: Literal["auto", "landscape", "portrait"] = Field(
        "auto", description="auto turns width and height round for an image that is higher than wide"
    )
    fit: Literal["crop", "pad", "stretch"] = Field("crop", description="how an image of another shape fills the clip")
    pad_color: tuple[int, int, int] = Field((0, 0, 0), description="RGB, 0..255, of the bars that `fit: pad` adds")
    max_megapixels: float = Field(100.0, gt=0, description="an image with more is refused before it is decoded")
    max_megabytes: float = Field(100.0, gt=0, description="a larger image file is refused before it is read")

    @property
    def max_bytes(self) -> int:
        """`max_megabytes` as a number of bytes."""
        return int(self.max_megabytes * 10**6)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of the clips that can come, pixels."""
        landscape, portrait = (self.width, self.height), (self.height, self.width)
        return {"landscape": [landscape], "portrait": [portrait]}.get(self.orientation, [landscape, portrait])

    @model_validator(mode="after")
    def _is_landscape(self) -> "ImageSettings":
        if self.width < self.height:
            raise ValueError("width must be at least height: for upright clips set orientation=portrait")
        if any(not 0 <= channel <= 255 for channel in self.pad_color):
            raise ValueError("pad_color: three numbers from 0 to 255")
        return self


Tier = Literal["exact", "fast", "few_step"]
Compile = Literal["auto", True, False]  # not on and off, which YAML reads as true and false


class ModelSettings(Section):
    """Which SVD checkpoint, and how it is held."""

    source: str = Field(description="Hugging Face id, local folder, or fsspec URI of a checkpoint in diffusers layout")
    revision: str | None = Field(None, description="commit of a Hugging Face id; not for folders and URIs")
    variant: str | None = Field(None, description="file variant, e.g. fp16; null reads the plain files")
    tier: Tier = Field(
        "exact",
        description="exact: all that the checkpoint asks for; fast: with the shortcuts of the section fast; few_step: "
        "a checkpoint distilled for few steps",
    )
    precision: Literal["fp32", "fp16", "bf16"] = Field(
        "fp16", description="of the UNet and the VAE decoder; on a GPU, convolutions in fp32 are TF32"
    )
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="auto takes CUDA where there is one")
    cache_dir: str | None = Field(
        None, description="where remote checkpoints and compiled networks are kept, once per node"
    )
    compile: Compile = Field(
        "auto", description="torch.compile of UNet and decoder; auto: on CUDA, unless `memory` is sequential"
    )
    memory: Literal["resident", "offload", "sequential"] = Field(
        "resident",
        description="what waits on the CPU: nothing, networks not at work, or all weights but one layer's",
    )
    feed_forward_pieces: int = Field(
        1, ge=1, description="the UNet's feed-forward layers take their tokens in so many pieces, to save memory"
    )
    decode_chunk_frames: int | None = Field(
        None, ge=1, description="decode so many frames at a time; null decodes whole clips (other values change pixels)"
    )

    @model_validator(mode="after")
    def _can_be_compiled(self) -> "ModelSettings":
        if self.compile is True and self.memory == "sequential":
            raise ValueError(
                "compile=true needs weights that stay in one place: set compile to auto, or memory to offload"
            )
        return self


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


class GenerationSettings(Section):
    """Parameters of the clips; a manifest column or a variant of the same name overrides all but the first two."""

    num_frames: int = Field(25, ge=2, description="frames that SVD makes")
    num_inference_steps: int = Field(25, ge=1, description="denoising steps")
    fps: int = Field(7, ge=1, le=1000, description="frame rate the model is conditioned on")
    motion_bucket_id: int = Field(127, ge=0, le=1023, description="amount of motion, 1..255 in training")
    noise_aug_strength: float = Field(0.02, ge=0, le=10, description="noise added to the image before encoding")
    min_guidance_scale: float = Field(1.0, ge=0, description="guidance of the first frame")
    max_guidance_scale: float = Field(3.0, ge=0, description="guidance of the last frame")
    seed: int | None = Field(None, ge=0, lt=2**63, description="null derives one from each clip_id")


class InterpolationSettings(Section):
    """Frames between the generated ones (RIFE)."""

    weights: str | None = Field(None, description="RIFE weights: .pkl, .safetensors or ncnn .param; null: none")
    factor: Rational | None = Field(Fraction(1), ge=1, description="N frames become (N-1)*factor + 1")
    target_fps: Rational | None = Field(None, gt=0, description="instead of factor: frame rate of the file")
    loop: bool = Field(False, description="also interpolate from the last frame back to the first")
    # Pairs of unrelated photographs differ by 0.19 and more, a pan of 16 pixels by 0.12 at most.
    scene_cut_threshold: float | None = Field(
        0.15, gt=0, le=1, description="mean absolute difference, 0..1, above which frames are repeated; null: never"
    )
    precision: Literal["fp32", "fp16"] = Field("fp16", description="of the network; the sampling grid is fp32")
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="auto takes CUDA where there is one")
    compile: Compile = Field("auto", description="torch.compile for the network: faster after a minute; auto: on CUDA")
    pairs_per_batch: int = Field(8, ge=1, description="frame pairs per network call")

    @model_validator(mode="after")
    def _one_rate(self) -> "InterpolationSettings":
        if (self.factor is None) == (self.target_fps is None):
            raise ValueError("give factor or target_fps; set the other one to null")
        if self.weights is None and (self.factor != 1 or self.loop):
            raise ValueError("weights is null, so factor must be 1 and loop false")
        if self.weights is not None and self.factor == 1 and not self.loop:
            raise ValueError("factor 1 makes no new frames: set weights to null, or factor to 2 or more")
        return self


class VideoSettings(Section):
    """The video file."""

    codec: Literal["h264", "h265", "av1", "vp9", "ffv1"] = Field("h264", description="ffv1 is lossless, in .mkv")
    fps: Rational | None = Field(
        None, gt=0, description="frame rate of the file; null: the clip's fps times the interpolation factor"
    )
    crf: int | None = Field(None, ge=0, le=63, description="quality, lower is better; null: the codec's usual value")
    preset: str | None = Field(None, description="speed of the encoder; null: the codec's usual value")
    pixel_format: str | None = Field(None, description="null: yuv420p, and bgr0 for ffv1")
    threads: int = Field(2, ge=1, le=64, description="encoder threads; part of what makes a file reproducible")
