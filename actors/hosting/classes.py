"""The image-to-video classes of diffusers: what neither a call's arguments nor the networks' configurations say.

A class that is not here is hosted all the same, by its call alone. Read in diffusers 0.42.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Config = Mapping[str, Any]
Size = tuple[int, int]  # width and height, pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is peculiar to a class.

    Attributes:
        fps: of its frames, where its call takes no rate; from the index of the checkpoint.
        size: of its clips, where its call has no default; from the configurations of transformer and VAE.
        multiple: of width and height, beside what VAE and patches ask for; from the configuration of the transformer.
        least_frames: fewer make no clip, though the call takes them.
        sizes: all that it can make, where it is not free; nothing: it is.
        full: components that stay fp32 whatever `model.precision` is, as in the authors' own examples.
        always: arguments of its call that are always these.
        latents: clips have one latent more than a multiple of so many.
        lost: frames that it makes fewer than it is asked for; from the configuration of the transformer.
        has_sections: it makes frames in windows of `latent_window_size` latents: see `actors.hosting.sizes`.
        takes_size: whether its call takes height and width; else they are those of the image.
        first_block: whether FirstBlockCache knows its blocks.
        compiles: whether its blocks always see texts of one length: each other length would be compiled anew.
        attention: which backends its attention takes: any; those that take a mask, which it always has; or none.
        has_sound: it makes sound, too.
        needs: packages that it imports and diffusers does not ask for.
    """

    fps: Callable[[Config], int] = lambda _index: 16
    size: Callable[[Config, Config], Size] | None = None
    multiple: Callable[[Config], int] = lambda _transformer: 1
    least_frames: int = 2
    sizes: Callable[[Config, Config], list[Size]] = lambda _transformer, _vae: []
    full: tuple[str, ...] = ()
    always: Mapping[str, Any] = field(default_factory=dict)
    latents: int = 1
    lost: Callable[[Config], int] = lambda _transformer: 0
    has_sections: bool = False
    takes_size: bool = True
    first_block: bool = True
    compiles: bool = True
    attention: Literal["any", "masked", "none"] = "any"
    has_sound: bool = False
    needs: tuple[str, ...] = ()


def _cogvideox_sizes(transformer: Config, vae: Config) -> list[Size]:
    """CogVideoX has learned its positions for one size, CogVideoX 1.5 turns them."""
    if not transformer.get("use_learned_positional_embeddings"):
        return []
    return [_cogvideox_size(transformer, vae)]


def _cogvideox_size(transformer: Config, vae: Config) -> Size:
    scale = 2 ** (len(vae.get("block_out_channels", (0, 0, 0, 0))) - 1)
    return transformer.get("sample_width", 90) * scale, transformer.get("sample_height", 60) * scale


def _hunyuan_lost(transformer: Config) -> int:
    """The first HunyuanVideo-I2V, of 33 channels, cuts off the frames of the image's latent."""
    return 4 if transformer.get("image_condition_type") == "latent_concat" else 0


def _hunyuan15_sizes(transformer: Config, vae: Config) -> list[Size]:
    """Sizes of at most as many patches as a square of the target, which it takes for an image of that very shape."""
    patch, target = vae.get("spatial_compression_ratio", 16), transformer.get("target_size", 640)
    known = list(_staircase(round((target / patch) ** 2), patch))
    return [size for size in known if _hunyuan15_chosen(size, known) == size]


def _hunyuan15_chosen(image: Size, known: list[Size]) -> Size:
    """The one of the nearest shape that is no farther from a square; it compares with shapes of five digits."""
    shape = image[1] / image[0]
    shapes = {size: round(size[1] / size[0], 5) for size in known}
    inner = {size: one for size, one in shapes.items() if (one <= shape if shape >= 1 else one >= shape)}
    return min(inner, key=lambda size: abs(inner[size] - shape), default=image)


def _staircase(patches: int, patch: int) -> Iterator[Size]:
    """From the widest to the highest; none has one side more than four times as long as the other."""
    wide, high = patches, 1
    while wide:
        if max(wide, high) <= 4 * min(wide, high):
            yield wide * patch, high * patch
        if wide * (high + 1) <= patches:
            high += 1
        else:
            wide -= 1


def _hunyuan15_size(transformer: Config, vae: Config) -> Size:
    """The one nearest to 16:9."""
    return min(_hunyuan15_sizes(transformer, vae), key=lambda size: abs(size[0] / size[1] - 16 / 9))


def _wan_size(_transformer: Config, vae: Config) -> Size:
    """Wan2.2-TI2V-5B, whose VAE shrinks by 16, was trained for 1280x704."""
    return (1280, 704) if vae.get("scale_factor_spatial") == 16 else (832, 480)  # noqa: PLR2004


def _at(fps: int) -> Callable[[Config], int]:
    return lambda _index: fps


def _wan_fps(index: Config) -> int:
    """Wan2.2-TI2V-5B was trained at 24."""
    return 24 if index.get("expand_timesteps") else 16


def _of_32(_transformer: Config) -> int:
    return 32


def _kandinsky_multiple(transformer: Config) -> int:
    """Its sparse attention takes squares of eight patches."""
    return 128 if transformer.get("attention_type") == "nabla" else 1


# The guardrail, without which their licence lets nobody run them: it fetches gated models from the Hub.
_COSMOS_NEEDS = ("cosmos_guardrail", "torchvision")
_WAN = Kind(fps=_wan_fps, size=_wan_size, full=("vae", "image_encoder"))

KINDS: dict[str, Kind] = {
    "WanImageToVideoPipeline": _WAN,
    "LTXImageToVideoPipeline": Kind(fps=_at(25), attention="masked"),
    "LTX2ImageToVideoPipeline": Kind(
        fps=_at(24), multiple=_of_32, has_sound=True, first_block=False, attention="masked", needs=("av",)
    ),
    "CogVideoXImageToVideoPipeline": Kind(
        fps=_at(8), size=_cogvideox_size, sizes=_cogvideox_sizes, latents=2, attention="none"
    ),
    "HunyuanVideoImageToVideoPipeline": Kind(fps=_at(24), lost=_hunyuan_lost, attention="masked"),
    "HunyuanVideoFramepackPipeline": Kind(fps=_at(30), has_sections=True, attention="masked"),
    "HunyuanVideo15ImageToVideoPipeline": Kind(
        fps=_at(24),
        size=_hunyuan15_size,
        sizes=_hunyuan15_sizes,
        takes_size=False,
        first_block=False,
        attention="masked",
    ),
    "Kandinsky5I2VPipeline": Kind(fps=_at(24), multiple=_kandinsky_multiple, least_frames=17, compiles=False),
    "SkyReelsV2ImageToVideoPipeline": Kind(fps=_at(24), full=("vae", "image_encoder"), first_block=False),
    "Cosmos2_5_PredictBasePipeline": Kind(first_block=False, needs=_COSMOS_NEEDS),
    "Cosmos2VideoToWorldPipeline": Kind(first_block=False, needs=_COSMOS_NEEDS),
    "SanaImageToVideoPipeline": Kind(multiple=_of_32, always={"use_resolution_binning": False}, first_block=False),
}

# Classes whose checkpoints hold all that the image class needs -> that class, and what the index has to say for it.
SAVED_AS: dict[str, tuple[str, str | None]] = {
    "WanPipeline": ("WanImageToVideoPipeline", "expand_timesteps"),  # Wan2.2-TI2V-5B; other text models take no image
    "LTXPipeline": ("LTXImageToVideoPipeline", None),
    "LTX2Pipeline": ("LTX2ImageToVideoPipeline", None),
}


def kind_of(pipeline: str) -> Kind:
    """What is peculiar to a class; of an unknown one, nothing."""
    return KINDS.get(pipeline, Kind())
