"""What a clip of a pipeline of diffusers may be told: the section `generation`."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

from actors.generators.parameters import SAME_FOR_ALL, TEMPLATE, Parameters

# Long captions have some hundred words, and text encoders read no more.
_MAX_PROMPT = 10_000


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
