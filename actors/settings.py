"""The settings that workers need, as frozen, strict sections of the one configuration tree (`pipelines.config`).

Each section is defined beside nothing else so that a worker can unpickle it without importing the driver's code.
`description` is what `conf/*.yaml` and the error messages of the configuration say about a field.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    field_validator,
    model_validator,
)

from actors.rates import to_fraction, to_rate
from actors.secrets import MASK, hidden

# The mark (`json_schema_extra`) of a setting that changes no clip's pixels: it is no part of the clip_id.
NO_EFFECT: dict[str, Any] = {"changes_clips": False}

_MAX_LEVEL = 255  # of a colour
# Options of a store that may be seen; whatever else stands there could be a secret.
_OPEN_OPTIONS = frozenset(
    {"endpoint_url", "region_name", "anon", "requester_pays", "user-agent", "allow_redirects", "encoded", "trust_env"}
)


class Section(BaseModel):
    """A frozen section of the configuration; an unknown name is an error. What is printed of it holds no secrets."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What pydantic prints."""
        for name, value in super().__repr_args__():
            yield name, hidden_in(value)

    def identifying(self) -> dict[str, Any]:
        """What of this section changes a clip, as JSON: all settings but those that are marked as without effect.

        A section leaves out, too, what has no effect beside its other settings.
        """
        without = {name for name, field in type(self).model_fields.items() if field.json_schema_extra == NO_EFFECT}
        return self.model_dump(mode="json", exclude=without)


Rational = Annotated[Fraction, BeforeValidator(to_fraction), PlainSerializer(str)]
Rate = Annotated[Fraction, BeforeValidator(to_rate), PlainSerializer(str)]


class StorageSettings(Section):
    """How files and objects are reached."""

    options: dict[str, dict[str, Any]] = Field(
        {},
        description="fsspec options per scheme, e.g. {s3: {client_kwargs: {endpoint_url: ...}}} or "
        "{https: {headers: {User-Agent: ...}}}",
    )
    tries: int = Field(5, ge=1, description="how often a request is tried when the store or the network fails")
    schemes: list[str] | None = Field(
        None,
        min_length=1,
        description="schemes that image URIs of the manifest may have, e.g. [s3, https], `file` for paths of this "
        "machine; null: those of manifest and output",
    )
    prefixes: list[str] = Field(
        [],
        description="where images of a manifest may lie beside its own bucket or host, e.g. [s3://photos/2026]; a "
        "manifest of this machine needs none",
    )
    private_networks: bool = Field(
        False, description="true: web images may come from private networks, such as http://10.0.0.5/"
    )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What pydantic prints: of the options only their names."""
        for name, value in super().__repr_args__():
            yield name, masked_options(self.options) if name == "options" else value

    @field_validator("schemes")
    @classmethod
    def _are_names(cls, schemes: list[str] | None) -> list[str] | None:
        for scheme in schemes or []:
            if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
                raise ValueError("a scheme is written in lower case and without ://, e.g. s3 or file")
        return schemes

    @field_validator("prefixes")
    @classmethod
    def _are_places(cls, prefixes: list[str]) -> list[str]:
        for prefix in prefixes:
            if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://|/", prefix):
                raise ValueError("a prefix is a URI or an absolute path, e.g. s3://photos/2026 or https://example.com/")
        return prefixes


def masked_options(options: Any, name: str = "") -> Any:
    """A store's options with `***` for each value that is not known to be harmless."""
    if isinstance(options, dict):
        return {key: masked_options(value, str(key)) for key, value in options.items()}
    return hidden_in(options) if name.lower() in _OPEN_OPTIONS else MASK


def hidden_in(value: Any) -> Any:
    """A value of the configuration without the secrets in its texts."""
    if isinstance(value, str):
        return hidden(value)
    if isinstance(value, dict):
        return {key: hidden_in(one) for key, one in value.items()}
    return [hidden_in(one) for one in value] if isinstance(value, list) else value


class ImageSettings(Section):
    """How an image becomes the picture that is animated."""

    width: int = Field(1024, ge=8, multiple_of=8, description="width of a landscape clip, pixels")
    height: int = Field(576, ge=8, multiple_of=8, description="height of a landscape clip, pixels")
    orientation: Literal["auto", "landscape", "portrait"] = Field(
        "auto", description="auto turns width and height round for an image that is higher than wide"
    )
    fit: Literal["crop", "pad", "stretch"] = Field("crop", description="how an image of another shape fills the clip")
    pad_color: tuple[int, int, int] = Field((0, 0, 0), description="RGB, 0..255, of the bars that `fit: pad` adds")
    max_megapixels: float = Field(
        100.0, gt=0, description="an image with more is refused before it is decoded", json_schema_extra=NO_EFFECT
    )
    max_megabytes: float = Field(
        100.0, gt=0, description="a larger image file is refused before it is read", json_schema_extra=NO_EFFECT
    )

    def identifying(self) -> dict[str, Any]:
        """As in `Section`."""
        return {
            name: value for name, value in super().identifying().items() if name != "pad_color" or self.fit == "pad"
        }

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
        if any(not 0 <= channel <= _MAX_LEVEL for channel in self.pad_color):
            raise ValueError("pad_color: three numbers from 0 to 255")
        return self


Compile = Literal["auto", True, False]  # not on and off, which YAML reads as true and false


class InterpolationSettings(Section):
    """Frames between the generated ones (RIFE)."""

    # Their content counts, not their place.
    weights: str | None = Field(
        None,
        description="RIFE weights: .pkl, .pth, .safetensors, ncnn .param, or their folder; null: none",
        json_schema_extra=NO_EFFECT,
    )
    factor: Rational | None = Field(Fraction(1), ge=1, description="N frames become (N-1)*factor + 1")
    target_fps: Rate | None = Field(None, description="instead of factor: frame rate of the file, e.g. 24 or 29.97")
    loop: bool = Field(False, description="also interpolate from the last frame back to the first")
    # Pairs of unrelated photographs differ by 0.19 and more, a pan of 16 pixels by 0.12 at most.
    scene_cut_threshold: float | None = Field(
        0.15, gt=0, le=1, description="mean absolute difference, 0..1, above which frames are repeated; null: never"
    )
    precision: Literal["fp32", "fp16"] = Field("fp16", description="of the network; the sampling grid is fp32")
    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto", description="auto takes CUDA where there is one", json_schema_extra=NO_EFFECT
    )
    # An H100 makes 545 new frames a second with it and 543 without, and a worker starts a minute later.
    compile: bool = Field(
        False,
        description="torch.compile for the network: was no faster on an H100",
        json_schema_extra=NO_EFFECT,
    )
    pairs_per_batch: int = Field(8, ge=1, description="frame pairs per network call", json_schema_extra=NO_EFFECT)

    def identifying(self) -> dict[str, Any]:
        """As in `Section`: nothing where there is no interpolation."""
        return super().identifying() if self.weights is not None else {}

    @model_validator(mode="after")
    def _one_rate(self) -> "InterpolationSettings":
        if (self.factor is None) == (self.target_fps is None):
            raise ValueError("give factor or target_fps; set the other one to null")
        if self.weights is None and (self.factor != 1 or self.loop):
            raise ValueError("weights is null, so factor must be 1 and loop false")
        if self.weights is not None and self.factor == 1 and not self.loop:
            raise ValueError("factor 1 makes no new frames: set weights to null, or factor to 2 or more")
        return self


class C2paSettings(Section):
    """With what each clip is signed."""

    certificate: str = Field(
        description="file or URI of the certificate in PEM, followed by those that vouch for it, without the root's"
    )
    key: Annotated[SecretStr, PlainSerializer(lambda _: MASK, when_used="json")] = Field(
        description="file or URI of its private key in PEM, or that text itself: ${oc.env:NAME}"
    )
    algorithm: Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"] = Field(
        "es256", description="of the signature; it has to fit the key"
    )
    timestamp_url: str | None = Field(
        None, description="URL of a time stamping service (RFC 3161), which is asked for each clip; null: none"
    )


class VideoSettings(Section):
    """The video file."""

    codec: Literal["h264", "h265", "av1", "vp9", "ffv1"] = Field("h264", description="ffv1 is lossless, in .mkv")
    fps: Rate | None = Field(
        None, description="frame rate of the file; null: the clip's fps times the interpolation factor"
    )
    crf: int | None = Field(None, ge=0, le=63, description="quality, lower is better; null: the codec's usual value")
    preset: str | None = Field(None, description="speed of the encoder; null: the codec's usual value")
    pixel_format: str | None = Field(None, description="null: yuv420p, and bgr0 for ffv1")
    threads: int = Field(2, ge=1, le=64, description="encoder threads; part of what makes a file reproducible")
    # The pixels are the same with these two and without: a dataset stays what it is.
    ai_mark: bool = Field(
        True, description="each file says in standard metadata that it is made by AI", json_schema_extra=NO_EFFECT
    )
    c2pa: C2paSettings | None = Field(
        None, description="sign each file (C2PA); null: do not", json_schema_extra=NO_EFFECT
    )
