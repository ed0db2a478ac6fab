"""Models whose licences were read: what these are called, and what they say of what is made with the model.

Only what was read stands here, with the date. What is not here is asked of the model's own card. Licences change: that
is why `plan` and the dataset's card tell everybody to read them.
"""

import re
from dataclasses import dataclass

from actors.licences.licence import Licence

_READ = "2026-11"


@dataclass(frozen=True, slots=True)
class _Known:
    """`models` matches ids of the Hugging Face Hub, in whatever case."""

    models: str
    name: str
    outputs: str


_TABLE = (
    _Known(
        r"stabilityai/stable-video-diffusion-img2vid(-xt)?",
        "stable-video-diffusion-community",
        "its own text was not read; Stability AI's Community License, as others quote it, forbids to make other "
        "foundation models with what it makes",
    ),
    _Known(r"Wan-AI/Wan2\.[12]-.+", "apache-2.0", "its authors claim nothing on what it makes"),
    _Known(r"(THUDM|zai-org)/CogVideoX-2b(-.+)?", "apache-2.0", ""),
    _Known(
        r"(THUDM|zai-org)/CogVideoX-5b(-.+)?",
        "CogVideoX's own licence",
        "free for research; who uses it for business has to register",
    ),
    _Known(
        r"(tencent|hunyuanvideo-community)/HunyuanVideo-1\.5(-.+)?",
        "HunyuanVideo-1.5's own licence",
        "not for the European Union, the United Kingdom and South Korea; what it makes may not be used to improve any "
        "other AI model (5(b))",
    ),
    _Known(
        r"Lightricks/LTX-2([.-].+)?",
        "LTX-2's own licence of 2026-08-11",
        "models that are trained on what it makes fall under it; who takes in 10 million dollars or more has to pay; "
        "marks in what it makes have to stay",
    ),
)


def known_licence(model: str) -> Licence | None:
    """That of an id of the Hugging Face Hub, such as `Wan-AI/Wan2.2-TI2V-5B-Diffusers`; None of one not listed."""
    for one in _TABLE:
        if re.fullmatch(one.models, model, re.IGNORECASE):
            origin = f"stillreel's table of models, read {_READ}"
            return Licence(one.name, origin, one.outputs, f"https://huggingface.co/{model}")
    return None
