"""Which ways to be faster, or to take less memory, a checkpoint's networks have in diffusers: read in its source."""

import re
from collections.abc import Iterator

from actors.hosting.index import Hosted
from actors.hosting.source_text import bases_of, constant_of, constants_of, has_method, mentions

# The layers of a transformer's blocks, by name.
BLOCK = re.compile(r"\w*blocks\.\d+\.")
Refusal = tuple[tuple[str, ...], str]


# Attention backends that take a mask, in diffusers' `attention_dispatch`.
_TAKE_MASKS = ("native", "_native_cudnn", "_native_efficient", "_native_math", "_native_npu", "flex", "xformers")


def refusals(
    hosted: Hosted, *, cache: str | None, compiled: bool, attention: str | None, tiled: bool, has_loras: bool
) -> Iterator[Refusal]:
    """What is asked for and cannot be had: where in the section `model`, and a clause.

    Args:
        cache: `model.fast.cache`.
        compiled: whether compiling was asked for by name.
        attention: `model.attention`.
        has_loras: whether there are any in `model.loras`.
        tiled: `model.vae_tiling`.
    """
    network, pipeline = hosted.transformer_class, hosted.pipeline
    if cache is not None and not can_cache(hosted, cache):
        other = [name for name in ("first_block", "taylorseer") if can_cache(hosted, name)]
        instead = f"set it to {other[0]}" if other else "set model.tier=exact, or fast.cache=null"
        yield ("fast", "cache"), f"{pipeline} has no way to reuse features by {cache}: {instead}"
    if compiled and not can_compile(hosted):
        why = "sees texts of every length, each of which would be compiled anew"
        why = why if hosted.kind.compiles is False else "has no list of repeated blocks to compile"
        yield ("compile",), f"{network or pipeline} {why}: set it to auto or false"
    taken = hosted.kind.attention
    if attention not in (None, "native") and (taken == "none" or (taken == "masked" and attention not in _TAKE_MASKS)):
        said = "takes no backend: set it to null"
        if taken == "masked":
            said = f"always has a mask, which that backend does not take: set it to {', '.join(_TAKE_MASKS)}, or null"
        yield ("attention",), f"the attention of {pipeline} {said}"
    if has_loras and not takes_loras(hosted):
        yield ("loras",), f"{pipeline} of diffusers takes no LoRAs: remove them"
    vae = str(hosted.vae.get("_class_name", ""))
    if tiled and not (has_method(vae, "enable_tiling") or "AutoencoderMixin" in bases_of(vae, "models")):
        yield ("vae_tiling",), f"{vae or pipeline} has no tiles: set it to false"


def can_cache(hosted: Hosted, cache: str) -> bool:
    """Whether steps can reuse features of others: by FirstBlockCache or TaylorSeer of diffusers."""
    tells_passes = mentions(hosted.pipeline, "cache_context")  # with guidance and without: each keeps its own
    can = tells_passes and "CacheMixin" in bases_of(hosted.transformer_class, "models")
    return can and (cache != "first_block" or hosted.kind.first_block)


def can_compile(hosted: Hosted) -> bool:
    """Whether the transformer says which of its blocks repeat, and these can be compiled once."""
    return hosted.kind.compiles and bool(constant_of(hosted.transformer_class, "_repeated_blocks"))


def takes_loras(hosted: Hosted) -> bool:
    """Whether the pipeline has a loader for LoRAs."""
    return any("LoraLoaderMixin" in base for base in bases_of(hosted.pipeline, "pipelines"))


def attention_backends() -> list[str]:
    """The names of diffusers' attention backends; those with `_hub` fetch their kernels when they are first used."""
    return sorted(constants_of("AttentionBackendName", "models"))
