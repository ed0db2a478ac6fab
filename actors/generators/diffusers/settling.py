"""What a clip's parameters come to with a checkpoint: its own values in the place of null, and what it cannot make."""

import difflib
from collections.abc import Iterator
from typing import Any

from actors.generators.diffusers.parameters import DiffusersParameters
from actors.hosting import sizes
from actors.hosting.index import Hosted


def with_defaults(parameters: DiffusersParameters, hosted: Hosted) -> DiffusersParameters:
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


def problems_of(parameters: DiffusersParameters, hosted: Hosted) -> Iterator[str]:
    """What is wrong with settled parameters: a sentence each, with its place."""
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
    assert parameters.num_frames is not None, "`with_defaults` has been there"
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
