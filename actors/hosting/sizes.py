"""The sizes and lengths of clips that a checkpoint can make; others are refused with the nearest that it can.

What diffusers does with others: Wan and Kandinsky floor the number of frames and warn; LTX-Video gives 1 frame where 8
were asked for, CogVideoX 16 where 13 were, and both say nothing.
"""

import math
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

from actors.errors import CheckpointError
from actors.hosting.classes import Size
from actors.hosting.index import Hosted

# Framepack's windows, in latents (`latent_window_size`).
_WINDOW = 9


def pixel_multiple(hosted: Hosted) -> int:
    """Width and height are multiples of this: what the VAE shrinks, times the transformer's patches."""
    return math.lcm(pixels_per_token(hosted), hosted.kind.multiple(hosted.transformer))


def pixels_per_token(hosted: Hosted) -> int:
    """Pixels in a row of the image for one token of the transformer."""
    patch = hosted.transformer.get("patch_size", 1)
    patch = patch[-1] if isinstance(patch, list) and patch else patch
    patch = patch if isinstance(patch, int) else 1
    return _positive(spatial_scale(hosted) * patch, hosted)


def spatial_scale(hosted: Hosted) -> int:
    """Pixels in a row of the image for one of the latents."""
    vae = hosted.vae
    for name in ("scale_factor_spatial", "spatial_compression_ratio"):
        if isinstance(given := vae.get(name), int):
            return given
    if isinstance(scaling := vae.get("spatio_temporal_scaling"), list):  # of LTX
        return int(vae.get("patch_size", 4) * 2 ** sum(scaling))
    if isinstance(down := vae.get("temperal_downsample"), list):  # of Wan
        return int(2 ** len(down))
    if isinstance(blocks := vae.get("block_out_channels"), list):
        return int(2 ** (len(blocks) - 1))
    return 8


def temporal_scale(hosted: Hosted) -> int:
    """Frames for one of the latents, after the first."""
    vae = hosted.vae
    for name in ("scale_factor_temporal", "temporal_compression_ratio"):
        if isinstance(given := vae.get(name), int):
            return given
    if isinstance(scaling := vae.get("spatio_temporal_scaling"), list):
        return int(vae.get("patch_size_t", 1) * 2 ** sum(scaling))
    if isinstance(down := vae.get("temperal_downsample"), list):
        return int(2 ** sum(down))
    return 4


def frame_step(hosted: Hosted, extra: dict[str, Any]) -> int:
    """Clips have one frame more than a multiple of this."""
    scale = _positive(temporal_scale(hosted), hosted)
    return scale * (_window(extra) if hosted.kind.has_sections else hosted.kind.latents)


def window_frames(hosted: Hosted) -> int:
    """Frames of a window of FramePack's usual length."""
    return _WINDOW * temporal_scale(hosted)


def asked_frames(hosted: Hosted, num_frames: int, extra: dict[str, Any]) -> int:
    """What the call is to be asked for, so that it makes `num_frames`.

    Framepack makes so many windows as cover what it is asked for, and each but the first overlaps the one before.
    """
    if not hosted.kind.has_sections:
        return num_frames + hosted.kind.lost(hosted.transformer)
    sections = (num_frames - 1) // frame_step(hosted, extra)
    return sections * ((_window(extra) - 1) * temporal_scale(hosted) + 1)


def nearest_frames(hosted: Hosted, num_frames: int, extra: dict[str, Any]) -> int:
    """The number of frames, which is this one where a clip can have that."""
    step, least = frame_step(hosted, extra), hosted.kind.least_frames
    return max(math.ceil((least - 1) / step), round((num_frames - 1) / step)) * step + 1


def usual_size(hosted: Hosted) -> Size:
    """Width and height that the class itself makes where nothing is said, the longer side first."""
    kind, call = hosted.kind, hosted.call
    if kind.size is not None:
        width, height = kind.size(hosted.transformer, hosted.vae)
    else:
        width, height = call.default("width") or 1024, call.default("height") or 576
    step = pixel_multiple(hosted)
    if not kind.sizes(hosted.transformer, hosted.vae):
        width, height = (max(step, side // step * step) for side in (width, height))
    return max(width, height), min(width, height)


def problems_of_sizes(hosted: Hosted, sizes: list[Size]) -> Iterator[str]:
    """What is wrong with the sizes of the clips that can come: a sentence each."""
    step, possible = pixel_multiple(hosted), hosted.kind.sizes(hosted.transformer, hosted.vae)
    looked_at = list(dict.fromkeys(sizes)) if possible else sizes[:1]  # of a free size upright has the same problem
    for width, height in looked_at:
        if possible and (width, height) not in possible:
            near = min(possible, key=partial(_distance, (width, height)))
            upright = "portrait" if near[0] < near[1] else "landscape"
            yield (
                f"{width}x{height} is no size of this checkpoint's clips, which has {len(possible)} of its own; "
                f"{_settings(near)} image.orientation={upright}"
            )
        elif not possible and (width % step or height % step):
            near = min(
                product(_around(width, step), _around(height, step)), key=lambda one: _distance(one, (width, height))
            )
            yield f"{width}x{height}: both sides are multiples of {step} with this checkpoint; {_settings(near)}"


def _positive(number: int, hosted: Hosted) -> int:
    if number < 1:
        raise CheckpointError(f"{hosted.pipeline}: the config.json of transformer or vae is damaged: copy it again")
    return number


def _settings(size: Size) -> str:
    """How the nearest size is asked for."""
    return f"nearest is image.width={max(size)} image.height={min(size)}"


def _around(side: int, step: int) -> tuple[int, int]:
    return max(step, side // step * step), (side // step + 1) * step


def _distance(one: Size, other: Size) -> float:
    return abs(math.log(one[0] / other[0])) + abs(math.log(one[1] / other[1]))


def _window(extra: dict[str, Any]) -> int:
    window = extra.get("latent_window_size", _WINDOW)
    return window if isinstance(window, int) and window > 1 else _WINDOW
